"""What a user types to name data or a model: HEAD?key=value&key=value."""

from __future__ import annotations

from robustkit.errors import RobustkitError

_SHOWN = 200  # characters of a text that a message repeats


def split_options(text: str, error: type[RobustkitError]) -> tuple[str, dict[str, str]]:
    """Return the part before the first `?`, and the options behind it.

    Raises `error` for an option without a value, or given twice.

    >>> split_options("folder:photos?size=224&interpolation=bicubic", RobustkitError)
    ('folder:photos', {'size': '224', 'interpolation': 'bicubic'})
    """
    head, mark, query = text.partition("?")
    options: dict[str, str] = {}
    for given in query.split("&") if mark else ():
        key, equals, value = given.partition("=")
        if not (key and equals and value):
            raise error(
                f"{shortened(text)}: expected key=value between '&', not '{shortened(given)}'"
            )
        if key in options:
            raise error(f"{shortened(text)}: the option '{key}' is given twice")
        options[key] = value
    return head, options


def shortened(text: str) -> str:
    """Return `text`, its end left out where it is too long for a message."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
