"""JSON of anyone's: values within bounds, and of the kinds that its reader expects."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from robustkit.errors import RobustkitError
from robustkit.reading.files import LIMIT, read_bounded
from robustkit.reading.text import printable

Json = dict[str, Any]
"""A JSON or YAML object, as it is written or as it was read."""

Kind = TypeVar("Kind")

DEEPEST = 64
"""How many lists and objects may lie in each other."""
_STEP = re.compile(r"\.[^.\[]+|\[[0-9]+\]|\[\.\.\.\]")


def read_json(
    path: Path | str,
    *,
    error: type[RobustkitError],
    limit: int = LIMIT,
    follow: bool = True,
) -> Any:
    """Return the value of a JSON file; raises `error` as `read_bounded` and `parse_json` do."""
    content = read_bounded(path, error=error, limit=limit, follow=follow)
    return parse_json(content.removeprefix(b"\xef\xbb\xbf"), str(path), error=error)


def parse_json(text: bytes | str, where: str, *, error: type[RobustkitError]) -> Any:
    """Return the value of a JSON text.

    Raises `error`, which begins with `where`, for what is not JSON: also for NaN and infinities,
    numbers that no float holds, text that is not UTF-8, and values nested more than 64 deep.
    """
    try:
        value = msgspec.json.decode(text)
    except msgspec.MsgspecError as failure:
        raise error(f"{where}: not JSON ({failure})") from None
    except UnicodeEncodeError:
        raise error(f"{where}: not JSON (a character that UTF-8 lacks)") from None
    except RecursionError:
        raise error(f"{where}: {_too_deep()}") from None
    except MemoryError:
        raise error(f"{where}: more than there is memory for") from None
    check_depth(value, where, error=error)
    return value


def check_depth(value: Any, where: str, *, error: type[RobustkitError]) -> None:
    """Raise `error` where lists and objects lie in each other more than 64 deep."""
    level = [value]
    for _ in range(DEEPEST + 1):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(v for v in item.values() if isinstance(v, dict | list))
            elif isinstance(item, list):
                inner.extend(v for v in item if isinstance(v, dict | list))
        if not inner:
            return
        level = inner
    raise error(f"{where}: {_too_deep()}")


def check_kind(value: Any, kind: type[Kind], where: str, *, error: type[RobustkitError]) -> Kind:
    """Return plain `value` as `kind`: a dataclass, a `TypedDict`, or what such hold.

    Whoever draws or computes gets only what has passed here. Keys that `kind` lacks are left out;
    `Annotated[float, msgspec.Meta(ge=0, le=1)]` bounds a number. Raises `error`, which begins with
    `where` and names the entry, for one that is missing, of another type, or out of its range.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as failure:
        message = _with_keys(value, kind, str(failure))
    raise error(f"{where}: {_with_place_first(message)}")


def _with_keys(value: Any, kind: Any, message: str) -> str:
    """Return the message with the keys of tables, which msgspec leaves out: `$[...].x` is `$.a.x`.

    Found by halves: in which of them does the same go wrong?
    """
    what, at, position = message.partition(" - at `$")
    steps = _STEP.findall(position.rstrip("`"))
    if "[...]" not in steps or "".join(steps) != position.rstrip("`"):
        return message
    path: list[Any] = []
    for step in steps:
        if step != "[...]":
            path.append(int(step[1:-1]) if step.startswith("[") else step[1:])
            continue
        keys = list(_at(value, path))
        while len(keys) > 1:
            half = keys[: len(keys) // 2]
            fails = _fails_alike(_only(value, path, half), kind, message)
            keys = half if fails else keys[len(half) :]
        value = _only(value, path, keys)
        path.append(keys[0])
    if not _fails_alike(value, kind, message):
        return message
    shown = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return f"{what}{at}{''.join(shown)}`"


def _fails_alike(value: Any, kind: Any, message: str) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as failure:
        return str(failure) == message
    return False


def _at(value: Any, path: list[Any]) -> Any:
    for step in path:
        value = value[step]
    return value


def _only(value: Any, path: list[Any], keys: list[Any]) -> Any:
    """Return a copy in which the table at `path` has these keys alone."""
    if not path:
        return {key: value[key] for key in keys}
    copied = value.copy()
    copied[path[0]] = _only(value[path[0]], path[1:], keys)
    return copied


def _with_place_first(message: str) -> str:
    """Return msgspec's message with the place first: `nets[0].clean: expected float, got str`."""
    what, at, position = message.partition(" - at `")
    what = printable(what.replace("`", "'"))
    what = what[:1].lower() + what[1:]
    if not at:
        return what
    return f"{printable(position.rstrip('`').removeprefix('$').removeprefix('.'))}: {what}"


def _too_deep() -> str:
    return f"lists and objects are nested more than {DEEPEST} deep"
