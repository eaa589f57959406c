"""The API reference: every name of every package's `__all__`, from signature and docstring.

`make api` (`python docs/reference.py`) writes `docs/api/`, always the same of the same source.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs" / "api"
MODULES = (
    "robustkit.data",
    "robustkit.data.detection",
    "robustkit.models",
    "robustkit.models.blueprint",
    "robustkit.training",
    "robustkit.attacks",
    "robustkit.evaluation",
    "robustkit.repair",
    "robustkit.explain",
    "robustkit.compute",
    "robustkit.jobs",
    "robustkit.runs",
    "robustkit.stats",
    "robustkit.errors",
    "robustkit.extensions",
    "evolution",
    "evolution.runner",
    "evolution.benchmark",
    "adaptation.detectors",
    "adaptation.attacks",
    "adaptation.recipes",
    "adaptation.training",
    "adaptation.evaluation",
    "adaptation.shift",
)
NOTE = "Written by `make api` from the docstrings: change them, not this page.\n"
WIDE = 88


def pages() -> dict[str, str]:
    """The pages by file name."""
    modules = [importlib.import_module(name) for name in MODULES]
    rows = [
        f"| [{module.__name__}]({module.__name__}.md) | {_cell(_summary(module))} |"
        for module in modules
    ]
    index = ["# API reference", NOTE, "| package | what it is |", "|---|---|", *rows]
    made = {"index.md": "\n".join(index) + "\n"}
    for module in modules:
        made[f"{module.__name__}.md"] = "\n".join(_page(module))
    return made


def public(module: ModuleType) -> list[str]:
    """What others may import: `__all__`, or in a single file what it defines without underscore."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__)
    return sorted(
        name
        for name, thing in vars(module).items()
        if not name.startswith("_") and getattr(thing, "__module__", None) == module.__name__
    )


def _page(module: ModuleType) -> Iterator[str]:
    yield f"# {module.__name__}\n\n{NOTE}\n{_prose(module)}\n"
    named = {name: getattr(module, name) for name in public(module)}
    rows = [
        f"| [{name}](#{name.lower()}) | {_cell(_brief(each))} |" for name, each in named.items()
    ]
    yield "\n".join(["| name | |", "|---|---|", *rows]) + "\n"
    for name, each in named.items():
        yield f"## {name}\n"
        yield from _entry(name, each)


def _entry(name: str, thing: Any) -> Iterator[str]:
    if inspect.ismodule(thing):
        yield f"Module `{thing.__name__}`: {_prose(thing)}\n"
    elif inspect.isclass(thing):
        yield from _class(name, thing)
    elif inspect.isfunction(thing):
        yield f"```python\n{_signature(name, thing)}\n```\n\n{_prose(thing)}\n"
    else:
        yield f"{_value(thing)}\n"
    if getattr(thing, "__module__", "").split(".")[0] in ("robustkit", "evolution", "adaptation"):
        file = inspect.getsourcefile(inspect.unwrap(thing)) if callable(thing) else None
        if file is not None:
            path = Path(file).resolve().relative_to(ROOT)
            yield f"Source: [{path}](../../{path})\n"


def _class(name: str, kind: type) -> Iterator[str]:
    bases = [base.__name__ for base in kind.__bases__ if base not in (object, Exception)]
    told = f"({', '.join(bases)})" if bases else ""
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    shown = [field for field in fields if not field.name.startswith("_")]
    if fields or kind.__init__ is object.__init__ or issubclass(kind, Exception):  # type: ignore[misc]
        yield f"```python\nclass {name}{told}\n```\n"
    else:
        yield f"```python\nclass {_signature(name, kind.__init__)}\n```\n"
    yield f"{_prose(kind)}\n"
    if shown:
        helps = any("help" in field.metadata for field in shown)
        rows = [_field(field, helps) for field in shown]
        head = ["field", "type", "default", *(["meaning"] if helps else [])]
        yield "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *rows]) + "\n"
    for member, value in vars(kind).items():
        if member.startswith("_") and member != "__call__":
            continue
        if isinstance(value, property):
            yield f"`.{member}` {_prose(value)}\n"
        elif isinstance(value, classmethod | staticmethod | FunctionType):
            function = value if isinstance(value, FunctionType) else value.__func__
            if function.__doc__:
                called = _signature(f"{name}.{member}", function)
                yield f"```python\n{called}\n```\n\n{_prose(function)}\n"


def _field(field: dataclasses.Field[Any], helps: bool) -> str:
    default = "" if field.default is dataclasses.MISSING else f"`{_repr(field.default)}`"
    if field.default_factory is not dataclasses.MISSING:
        default = f"`{_repr(field.default_factory())}`"
    cells = [f"`{field.name}`", f"`{_type(field.type)}`", default]
    if helps:
        cells.append(str(field.metadata.get("help", "")))
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _signature(name: str, function: Callable[..., Any]) -> str:
    found = inspect.signature(function)
    parts, kinds = [], inspect.Parameter
    marks: dict[Any, str] = {kinds.VAR_POSITIONAL: "*", kinds.VAR_KEYWORD: "**"}
    star = False
    for each in found.parameters.values():
        if each.name in ("self", "cls"):
            continue
        mark = marks.get(each.kind, "")
        if each.kind is kinds.KEYWORD_ONLY and not star:
            parts.append("*")
        star = star or each.kind in (kinds.KEYWORD_ONLY, kinds.VAR_POSITIONAL)
        text = mark + each.name
        if each.annotation is not each.empty:
            text += f": {_type(each.annotation)}"
        if each.default is not each.empty:
            text += f" = {_repr(each.default)}"
        parts.append(text)
    end = ""
    if found.return_annotation is not found.empty:
        end = f" -> {_type(found.return_annotation)}"
    line = f"{name}({', '.join(parts)}){end}"
    if len(line) <= WIDE:
        return line
    inside = "".join(f"    {part},\n" for part in parts)
    return f"{name}(\n{inside}){end}"


def _type(annotation: Any) -> str:
    if isinstance(annotation, str):
        return annotation
    return getattr(annotation, "__name__", None) or str(annotation)


def _repr(value: Any) -> str:
    """A value as source would write it: no addresses, and functions by their names."""
    if isinstance(value, FunctionType | type):
        return "…" if "lambda" in value.__name__ else value.__name__
    if isinstance(value, float) and value:
        levels = value * 255  # radii are told in levels
        if 0 < value < 1 and abs(levels - round(levels)) < 1e-9:
            return f"{round(levels)} / 255"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _value(thing: Any) -> str:
    """A constant: a registry by its names, anything else as it is."""
    if isinstance(thing, dict):
        return f"By name: {', '.join(f'`{name}`' for name in thing)}."
    if isinstance(thing, tuple | list):
        return f"One of {', '.join(f'`{_repr(each)}`' for each in thing)}."
    shown = _repr(thing)
    return f"`{shown}`"


def _prose(thing: Any) -> str:
    """A docstring, its examples fenced."""
    text = inspect.cleandoc(thing.__doc__ or "")
    paragraphs = [
        f"```python\n{each}\n```" if each.startswith(">>>") else each for each in text.split("\n\n")
    ]
    return "\n\n".join(paragraphs)


def _brief(thing: Any) -> str:
    if callable(thing) or inspect.ismodule(thing):
        return _summary(thing)
    return "by name" if isinstance(thing, dict) else "constant"


def _summary(thing: Any) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((thing.__doc__ or "").strip().split("\n\n")[0].split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Write the pages, and nothing else into their folder."""
    OUT.mkdir(exist_ok=True)
    made = pages()
    for old in OUT.glob("*.md"):
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        (OUT / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
