"""The committed API reference is what the source says now."""

from __future__ import annotations

from importlib import import_module
from inspect import isclass, isfunction

from docs import reference


def test_the_pages_are_current() -> None:
    """`make api` writes them."""
    made = reference.pages()
    kept = {file.name: file.read_text(encoding="utf-8") for file in reference.OUT.glob("*.md")}
    assert kept.keys() == made.keys()
    assert [name for name in made if kept[name] != made[name]] == []


def test_every_public_name_says_what_it_is() -> None:
    modules = [import_module(name) for name in reference.MODULES]
    named = {
        f"{each.__name__}.{name}": getattr(each, name)
        for each in modules
        for name in reference.public(each)
    }
    assert len(named) > 200
    code = {name: each for name, each in named.items() if isclass(each) or isfunction(each)}
    assert [name for name, each in code.items() if not each.__doc__] == []
