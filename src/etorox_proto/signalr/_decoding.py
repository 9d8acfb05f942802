"""What decoding with msgspec has in common, whatever the encoding: what can go wrong, in which words, and being strict.

Knows no encoding and no message. `_json` and `_messagepack` build on it, and whoever decodes what a peer sent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import msgspec

from etorox_proto.signalr._errors import RemoteProtocolError

__all__ = ["MALFORMED", "describe", "strict_types", "unknown_type"]

# What malformed input makes msgspec raise: values nested too deeply are a RecursionError, text that is not UTF-8 a
# UnicodeDecodeError (a ValueError), an exponent that no Decimal can hold an InvalidOperation (an ArithmeticError).
MALFORMED = (msgspec.MsgspecError, RecursionError, ValueError, ArithmeticError)


def describe(error: Exception) -> str:
    """What was wrong with a payload, in words that do not depend on the library's moods."""
    if isinstance(error, RecursionError):
        return "values nested too deeply"
    if isinstance(error, UnicodeError):
        return "text that is not UTF-8"
    if isinstance(error, ArithmeticError):
        return "a number out of range"
    return str(error)


def strict_types(types: Collection[type[msgspec.Struct]]) -> tuple[type[msgspec.Struct], ...]:
    """The same types of messages, refusing what they do not know."""
    return tuple(
        msgspec.defstruct(
            t.__name__, [], bases=(t,), forbid_unknown_fields=True, tag=t.__struct_config__.tag, frozen=True
        )
        for t in types
    )


def unknown_type(
    record: bytes,
    error: Exception,
    type_of: Callable[[bytes], Any],
    known: Collection[Any],
    *,
    encoding: str,
    strict: bool,
) -> int:
    """The type of a record that is no message known here, if that is all that is wrong with it.

    Args:
        record: what could not be decoded.
        error: why not.
        type_of: decodes nothing of it but its type; raises one of `MALFORMED` if it has none.
        known: the types that are known.
        encoding: its name, for the error.
        strict: whether an unknown type is an error as well.

    Raises:
        RemoteProtocolError: it is no hub message, or a broken one.
    """
    try:
        message_type: int | None = type_of(record).type
    except MALFORMED:
        message_type = None
    if message_type is None or message_type in known:
        raise RemoteProtocolError(f"a hub message in {encoding}", describe(error)) from None
    if strict:
        raise RemoteProtocolError("a hub message of type 1 to 9", f"type {message_type}") from None
    return message_type
