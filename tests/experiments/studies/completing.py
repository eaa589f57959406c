"""Summaries of which a test gives a part: the rest is filled with something of its type."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import inspect

Kind = TypeVar("Kind")


def completed(kind: type[Kind], value: Any) -> Kind:
    """Return a partial plain `value` as `kind`, required fields without a value filled."""
    return msgspec.convert(_filled(inspect.type_info(kind), value), kind)


def _filled(info: Any, value: Any) -> Any:
    if isinstance(info, inspect.Metadata):
        return _filled(info.type, value)
    if isinstance(info, inspect.UnionType):
        inner = [each for each in info.types if not isinstance(each, inspect.NoneType)]
        return None if value in (..., None) else _filled(inner[0], value)
    if isinstance(info, inspect.StructType):
        given = {} if value is ... else value
        required = [field for field in info.fields if field.required]
        known = {field.encode_name: field.type for field in info.fields}
        missing = {field.encode_name: ... for field in required if field.encode_name not in given}
        return {
            name: _filled(known[name], each) if name in known else each
            for name, each in {**given, **missing}.items()
        }
    if isinstance(info, inspect.DictType):
        given = {} if value is ... else value
        return {name: _filled(info.value_type, each) for name, each in given.items()}
    if isinstance(info, inspect.ListType):
        items = [...] * 3 if value is ... else value
        return [_filled(info.item_type, each) for each in items]
    if isinstance(info, inspect.TupleType):
        return [_filled(item, ...) for item in info.item_types] if value is ... else value
    return _plain(info) if value is ... else value


def _plain(info: Any) -> Any:
    return "" if isinstance(info, inspect.StrType) else 1
