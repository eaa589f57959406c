"""Hyper-parameters as the user writes them: `pgd?steps=40&alpha=2/255`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from robustkit.errors import AttackError, did_you_mean
from robustkit.reading import parse_real

Value = str | int | float | bool | None
_NAMES = (
    "layer",
    "feature_layer_cfg",
    "hook_cfg",
)  # what is text though it may look like a number, such as "features.10"
_WORDS = {"true": True, "false": False, "none": None, "null": None}


def split_spec(spec: str) -> tuple[str, dict[str, Value]]:
    """Return name and hyper-parameters of "NAME?OPTION=VALUE&…" (a comma does for an `&`).

    Values become whole numbers, numbers (also fractions such as 8/255), truth values, nothing, or
    stay text. What stands between commas without an `=` belongs to the value before it, as in
    "components=di,ti". Raises `AttackError` for any other part without an `=`.

    >>> split_spec("pgd?steps=40&alpha=2/255")
    ('pgd', {'steps': 40, 'alpha': 0.00784313725490196})
    >>> split_spec("mifgsm?components=di,ti,steps=20")
    ('mifgsm', {'components': 'di,ti', 'steps': 20})
    """
    name, mark, written = spec.partition("?")
    parameters: dict[str, Value] = {}
    for part in _parts(written) if mark else ():
        option, equals, value = part.partition("=")
        if not (option and equals and value):
            raise AttackError(f"{spec}: expected NAME?OPTION=VALUE&…, not '{part}' after the '?'")
        if option in parameters:
            raise AttackError(f"{spec}: option '{option}' is given twice")
        named = option.rpartition(".")[2] in _NAMES
        parameters[option] = value if named else _value(value)
    return name, parameters


def names_in(value: Any) -> Any:
    """Return the names in "di,ti" or "di+ti" or a list as a tuple; anything else unchanged.

    >>> names_in("di+ti")
    ('di', 'ti')
    """
    if isinstance(value, str):
        return tuple(re.split("[,+]", value))
    return tuple(value) if isinstance(value, list) else value


def _parts(written: str) -> list[str]:
    """Return each "OPTION=VALUE"; a part behind a comma without "=" belongs to the value before."""
    parts: list[str] = []
    for between in written.split("&"):
        first, *others = between.split(",")
        parts.append(first)
        for part in others:
            if "=" in part or not part:
                parts.append(part)
            else:
                parts[-1] += f",{part}"
    return parts


def check_parameters(
    name: str, given: Mapping[str, Any], kinds: Mapping[str, tuple[type, ...]]
) -> None:
    """Raise `AttackError` for a parameter that `kinds` lacks or whose value has none of its types.

    A whole number will do for a real one, a truth value for neither. No types allow anything.
    """
    for parameter, value in given.items():
        if parameter not in kinds:
            hint = did_you_mean(parameter, kinds) if kinds else " (it has none)"
            raise AttackError(f"attack {name}: unknown parameter '{parameter}'{hint}")
        allowed = kinds[parameter]
        fits = type(value) in allowed or (type(value) is int and float in allowed)
        if allowed and not fits:
            wanted = " or ".join(_WORDING[item] for item in allowed)
            raise AttackError(f"attack {name}: {parameter} must be {wanted}, not {value!r}")


_WORDING: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    type(None): "none",
    tuple: "several names joined by ',' or '+'",
}


def _value(text: str) -> Value:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if re.fullmatch(r"[+-]?[0-9]{1,100}", text):
        return int(text)
    try:
        return parse_real(text)
    except ValueError:
        return text
