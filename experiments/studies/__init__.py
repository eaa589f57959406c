"""Published results, one study a folder, run again; their claims beside our values.

Every sub-package with a module `study` registers itself. A published value is printed beside ours
with its source and never copied into our column. What a publication leaves open is configuration
here: the shape of a result is compared, not its setting.
"""

from importlib import import_module
from pkgutil import iter_modules

from experiments.studies.base import EXPERIMENTS, SCALES, Study, find

for _module in iter_modules(__path__):
    if _module.ispkg:
        import_module(f"{__name__}.{_module.name}.study")

__all__ = ["EXPERIMENTS", "SCALES", "Study", "find"]
