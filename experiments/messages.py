"""What jsonargparse and argparse say of mistakes, in this house's words."""

from __future__ import annotations

import re
from collections.abc import Callable


def tidy(message: str) -> str:
    """jsonargparse's and argparse's messages as one short line that begins with the option."""
    message = " ".join(message.split())
    for pattern, replacement in WORDINGS:
        message = re.sub(pattern, replacement, message)
    return message


# Whatever a later jsonargparse words otherwise simply stays as it is.
WORDINGS: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r'^Parser key "([^"]+)":', lambda match: f"--{match[1].replace('_', '-')}:"),
    (r"^argument (--\S+):", r"\1:"),
    (r"Does not validate .* Subtypes: \[([^]]*)\].* Given value: (.*)", r"expected \1, not '\2'"),
    (r"Expected an? (.*)\. Got value: (.*)", r"expected \1, not '\2'"),
    (r"invalid real(?:_or_none)? value: (.*)", r"expected a number or a fraction, not \1"),
    (r"invalid radii value: (.*)", r"expected numbers or fractions between commas, not \1"),
    (r"NoneType", "null"),
    (r"<class '(\w+)'>", r"\1"),
)
