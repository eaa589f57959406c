"""Hand-made networks for small images; importing this package fills the registry `ZOO`."""

from robustkit.models.zoo import small
from robustkit.models.zoo.registry import ZOO, find, register

__all__ = ["ZOO", "find", "register", "small"]
