"""Comparable forms of whatever a machine shows, and how much memory it holds.

Values are compared by what they print, objects by their parts, none by identity.
"""

from __future__ import annotations

import dataclasses
import enum
import gc
import types
from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec

__all__ = ["held", "look", "picture"]

_DEEPEST = 8


def picture(value: Any, depth: int = _DEEPEST) -> Any:
    """A comparable form: equal for values that look alike, whichever objects they are."""
    if depth == 0 or isinstance(value, enum.Enum):
        return repr(value) if depth else "..."
    if isinstance(value, Mapping):
        return "mapping", *((picture(key, depth - 1), picture(each, depth - 1)) for key, each in value.items())
    if isinstance(value, list | tuple | deque):
        return tuple(picture(each, depth - 1) for each in value)
    kind = type(value).__name__
    if isinstance(value, BaseException):
        return kind, str(value), picture(vars(value), depth - 1)
    if isinstance(value, msgspec.msgpack.Ext):
        return kind, value.code, bytes(value.data)
    if isinstance(value, msgspec.Struct):
        return kind, *((name, picture(getattr(value, name), depth - 1)) for name in value.__struct_fields__)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return kind, *((each.name, picture(getattr(value, each.name), depth - 1)) for each in dataclasses.fields(value))
    text = repr(value)
    # Nothing but `object.__repr__` would end so.
    return (kind, picture(getattr(value, "__dict__", {}), depth - 1)) if text.endswith(f"{id(value):x}>") else text


def look(machine: Any) -> Any:
    """All that anyone can see of a machine: its public properties and attributes, by name."""
    names = [name for name in dir(machine) if not name.startswith("_")]
    values = [(name, getattr(machine, name)) for name in names]
    return [(name, picture(value)) for name, value in values if not callable(value)]


# What is shared by all, and is no memory of this machine.
_SHARED = (type, types.ModuleType, types.CodeType, types.BuiltinFunctionType, types.GetSetDescriptorType)


def held(machine: object) -> int:
    """How many bytes a machine holds: the sizes of all objects that can be reached from it, but for code and types."""
    seen: set[int] = set()
    waiting, total = [machine], 0
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, _SHARED):
            continue
        seen.add(id(each))
        if isinstance(each, types.FunctionType):
            # Its globals are everyone's.
            waiting += [each.__closure__, each.__defaults__, each.__kwdefaults__]
            continue
        total += each.__sizeof__()
        waiting += gc.get_referents(each)
    return total
