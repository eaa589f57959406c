"""What a user types for a model, taken apart: SCHEME:NAME?key=value&key=value."""

from __future__ import annotations

from pathlib import Path

from robustkit.errors import ModelError
from robustkit.models.sources.base import SOURCES, Spec
from robustkit.models.sources.factory import FACTORY
from robustkit.specs import split_options

FILE, ZOO_NAME = "file", "zoo"
SUFFIX = ".safetensors"
# Options about preprocessing that any source takes, unless it has one of that name itself.
PREPROCESSING = ("mean", "std", "input_size", "interpolation", "channel_order")


def parse(text: str) -> Spec:
    """The parts of a spec; raises `ModelError` for options that are none or stand twice.

    >>> parse("torchvision:resnet50?weights=DEFAULT").options
    {'weights': 'DEFAULT'}
    >>> parse("my_nets.resnet:make?width=16").scheme
    'factory'
    """
    if is_file(text):
        return Spec(text, FILE, text, {})
    whole, options = split_options(text, ModelError)
    scheme, colon, name = whole.partition(":")
    if not colon and whole.endswith(".py"):
        raise ModelError(f"{text}: which function of it? write {whole}:FUNCTION")
    if not colon:
        scheme, name = ZOO_NAME, whole
    elif scheme not in SOURCES or scheme == FACTORY:
        scheme, name = FACTORY, whole
    if not name:
        raise ModelError(f"'{text}': a name is missing behind {scheme}:")
    return Spec(text, scheme, name, options)


def names_untrained(text: str) -> bool:
    """`untrained` of the parts of a spec."""
    return untrained(parse(text))


def untrained(spec: Spec) -> bool:
    """Whether a spec names an architecture alone: of the zoo, torchvision or timm, and no weights.

    Of a user's function nobody can tell before it is called.
    """
    if spec.options.get("weights", "none") != "none":
        return False
    if spec.scheme == "timm":
        return spec.options.get("pretrained", "false").lower() == "false"
    if spec.scheme == "torchvision":  # which says what it thinks of other options
        return not spec.options.keys() - {"weights", *PREPROCESSING}
    return spec.scheme == ZOO_NAME


def is_file(text: str) -> bool:
    """Whether a spec is the path of a model file, and not a name with options."""
    return text.endswith(SUFFIX) and ("?" not in text or Path(text).exists())
