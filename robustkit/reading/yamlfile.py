"""YAML of anyone's: plain values, within bounds of size, depth, aliases and scalars."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from robustkit.errors import RobustkitError
from robustkit.reading.files import read_text
from robustkit.reading.text import printable

LARGEST = 256 * 2**10
"""Bytes of a YAML file: a run's configuration has some 3 KB."""
DEEPEST = 32
"""How many lists and mappings may lie in each other."""
MOST = 10_000
"""Values a file may mean, each alias counted as all that it repeats."""
LONGEST_NUMBER = 100
"""Characters of a number."""

_TAG = "tag:yaml.org,2002:"
_TEXT = ("timestamp", "value")  # what YAML 1.1 makes of 2020-01-02 and of a lone =
_PLAIN = {_TAG + name for name in ("null", "bool", "int", "float", "str", "seq", "map", "merge")}


class _Unfit(Exception):  # noqa: N818 - a message on its way to the caller's error
    """What a file holds that this reader refuses."""


class _PlainLoader(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, but for dates, which stay text, and for sets and binaries."""


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag.removeprefix(_TAG) not in _TEXT]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(path: Path | str, *, error: type[RobustkitError], follow: bool = True) -> Any:
    """Return the value of the YAML file at `path`; raises `error` as `read_text`, `parse_yaml`."""
    text = read_text(path, error=error, limit=LARGEST, follow=follow)
    return parse_yaml(text, str(path), error=error)


def parse_yaml(text: str, where: str, *, error: type[RobustkitError]) -> Any:
    """Return the value of a YAML text: null, truth values, numbers, text, lists and mappings.

    What looks like a date is text. Raises `error`, which begins with `where` and names the line,
    for what is not YAML, for other tags, numbers of more than 100 characters, aliases that lie in
    what they name, more than 10,000 values, and values nested more than 32 deep.
    """
    try:
        return _constructed(text, where, error)
    except yaml.MarkedYAMLError as failure:
        at = "" if failure.problem_mark is None else f"line {failure.problem_mark.line + 1}: "
        raise error(f"{where}: not YAML ({at}{printable(failure.problem)})") from None
    except yaml.YAMLError as failure:
        raise error(f"{where}: not YAML ({printable(' '.join(str(failure).split()))})") from None


def check_yaml(text: str, where: str, *, error: type[RobustkitError]) -> None:
    """Raise `error` for a text that no reader of YAML should be handed, whatever it makes of it.

    That is what `parse_yaml` refuses, but for what is no YAML at all: to most readers it is text.
    """
    with suppress(yaml.YAMLError):
        _constructed(text, where, error)


def _constructed(text: str, where: str, error: type[RobustkitError]) -> Any:
    loader = _PlainLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node, 0, {}, set())
        return loader.construct_document(node)
    except _Unfit as failure:
        raise error(f"{where}: {failure}") from None
    except RecursionError:
        raise error(f"{where}: {_too_deep()}") from None
    except (ValueError, LookupError, TypeError, ArithmeticError) as failure:
        # PyYAML's own constructors, of a number or truth value that a tag only claims.
        reason = printable(" ".join(str(failure).split()))
        raise error(f"{where}: a value is not what its tag says ({reason})") from None
    finally:
        loader.dispose()


def _check(node: Any, depth: int, sizes: dict[int, int], above: set[int]) -> int:
    """Return how many values a node means; raises `_Unfit` for what is out of bounds."""
    if id(node) in above:
        raise _Unfit(f"{_line(node)}an alias lies in what it names")
    if id(node) in sizes:
        return sizes[id(node)]
    if depth > DEEPEST:
        raise _Unfit(_line(node) + _too_deep())
    if node.tag not in _PLAIN:
        tag = printable(node.tag.replace(_TAG, "!!"))
        raise _Unfit(f"{_line(node)}the tag {tag} is none of plain values")
    size = 1
    if isinstance(node, yaml.ScalarNode):
        number = node.tag in (_TAG + "int", _TAG + "float")
        if number and len(node.value) > LONGEST_NUMBER:
            raise _Unfit(f"{_line(node)}a number of {len(node.value):,} characters")
        if node.value.encode(errors="ignore").decode() != node.value:
            raise _Unfit(f"{_line(node)}a character that UTF-8 lacks")
    else:
        above.add(id(node))
        for item in node.value:
            for part in item if isinstance(item, tuple) else (item,):
                size += _check(part, depth + 1, sizes, above)
                if size > MOST:
                    raise _Unfit(f"{_line(node)}more than {MOST:,} values, aliases counted")
        above.discard(id(node))
    sizes[id(node)] = size
    return size


def _line(node: Any) -> str:
    return f"line {node.start_mark.line + 1}: "


def _too_deep() -> str:
    return f"lists and mappings are nested more than {DEEPEST} deep"
