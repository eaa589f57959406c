"""Text of anyone's on a terminal: no control characters, no turned letters, one line."""

from __future__ import annotations

import unicodedata

# Control characters, format characters (which turn, hide or join letters), lone surrogates (bytes
# that are no UTF-8), and separators of lines and paragraphs.
_UNFIT = ("Cc", "Cf", "Cs", "Zl", "Zp")
_JOINERS = "\u200c\u200d\u00ad"  # which words and signs of some scripts need


def printable(text: object) -> str:
    """Return `text` in one line, with whatever a terminal would act on spelt out.

    >>> printable("a\\x1b[2Jb\\ncafé")
    'a\\\\x1b[2Jb\\\\ncafé'
    """
    told = str(text)
    if is_printable(told):
        return told
    return "".join(each if _is_fit(each) else _spelt(each) for each in told)


def is_printable(text: str) -> bool:
    """Return whether `text` is one line of characters that only show."""
    return text.isprintable() or all(map(_is_fit, text))


def _is_fit(character: str) -> bool:
    return character in _JOINERS or unicodedata.category(character) not in _UNFIT


def _spelt(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
