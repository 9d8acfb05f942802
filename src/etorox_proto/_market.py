"""Market events: what the exchange's items mean.

Knows the wire spelling of the documented events, public and private form, with every quirk; their exact types; and
the rows that a `fields` selector asks for. Knows nothing of connections. `ExchangeConnection` builds one decoder for
each subscription; the simulator and tests use `encode_event`.

An item is decoded once, straight into its Struct: prices and volumes become `Decimal` from the literal digits, never
through a float. Whatever does not fit a documented form still reaches the user: a documented event with fields that
are new gets them in `extra`, anything else becomes `UnknownEvent`. Only a number that
no `Decimal` or int can hold breaks a stream.

Source: the exchange's streaming documentation, events of the public and private channels.
"""

from __future__ import annotations

import datetime
import keyword
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import msgspec

__all__ = [
    "FIELD_TYPES",
    "MarketEvent",
    "OrderCanceled",
    "OrderCompleted",
    "OrderCreated",
    "OrderUpdated",
    "Row",
    "TradeCompleted",
    "UnknownEvent",
    "encode_event",
    "event_decoder",
    "event_fields",
    "read_event",
    "row_decoder",
    "row_reader",
    "row_type",
]

Side = Literal["bid", "ask"]
Buffer = bytes | bytearray | memoryview | msgspec.Raw


_NOTHING: Mapping[str, Any] = MappingProxyType({})


class _Event(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    gc=False,  # what comes from JSON is in no cycle, and a tenth of the time would go into looking for one
    tag_field="name",
    forbid_unknown_fields=True,
    repr_omit_defaults=True,
):
    """What all documented events share.

    Attributes:
        market: the instrument id, such as `btcusd`.
        snapshot_id: orders the event against the order-book snapshots of the HTTP API.
        extra: fields that the documentation does not know, as plain JSON values; usually empty.
    """

    market: str
    snapshot_id: int | None = None
    # A wire name that no exchange would use: `extra` is filled by `_decode_slowly` alone.
    extra: Mapping[str, Any] = msgspec.field(default=_NOTHING, name="(extra)")

    name: ClassVar[str]


class _Order(_Event, frozen=True, kw_only=True, gc=False):
    """What the events of orders share. `strategy`, `tif` and `expiration_date` are in the private forms only."""

    id: str
    side: Side
    volume: Decimal
    price: Decimal
    state: str
    strategy: str | None = None
    tif: str | None = None
    expiration_date: datetime.datetime | None = None

    @property
    def is_private(self) -> bool:
        """Whether this is the form that only the order's owner receives."""
        return self.strategy is not None


class _UpdatedOrder(_Order, frozen=True, kw_only=True, gc=False):
    updated_at: datetime.datetime

    @property
    def at(self) -> datetime.datetime:
        """When it happened, UTC."""
        return self.updated_at


class OrderCreated(_UpdatedOrder, frozen=True, kw_only=True, gc=False, tag="order_created"):
    """An order was placed."""

    name: ClassVar[str] = "order_created"


class OrderUpdated(_UpdatedOrder, frozen=True, kw_only=True, gc=False, tag="order_updated"):
    """An order was filled in part: `delta` is the (negative) change of `volume`. On the wire delta is a string."""

    name: ClassVar[str] = "order_updated"

    delta: Decimal


class OrderCanceled(_Order, frozen=True, kw_only=True, gc=False, tag="order_canceled"):
    """An order was cancelled: the event is spelled with one l, its state `cancelled` with two.

    The public form names its time `update_at` and tells `origin_volume`; the private form says `updated_at`.
    `at` is the time in either form.
    """

    name: ClassVar[str] = "order_canceled"

    delta: Decimal
    origin_volume: Decimal | None = None
    update_at: datetime.datetime | None = None
    updated_at: datetime.datetime | None = None

    @property
    def at(self) -> datetime.datetime | None:
        """When it happened, UTC."""
        return self.update_at if self.updated_at is None else self.updated_at


class OrderCompleted(_UpdatedOrder, frozen=True, kw_only=True, gc=False, tag="order_completed"):
    """An order was filled to the end. The private form has `strategy` and no `delta`."""

    name: ClassVar[str] = "order_completed"

    delta: Decimal | None = None


class TradeCompleted(_Event, frozen=True, kw_only=True, gc=False, tag="trade_completed"):
    """Two orders traded.

    The public form has `tid` and `amount` (on the wire a string with 18 decimals); the private form, one for each
    order concerned, has `id`, `volume`, `side`, `state`, `order_id` and `execution_type` (`taker` or `maker`).
    `trade_id` and `quantity` are those values in either form.
    """

    name: ClassVar[str] = "trade_completed"

    price: Decimal
    created_at: datetime.datetime
    tid: str | None = None
    amount: Decimal | None = None
    id: str | None = None
    volume: Decimal | None = None
    side: Side | None = None
    state: str | None = None
    order_id: str | None = None
    execution_type: str | None = None

    @property
    def is_private(self) -> bool:
        """Whether this is the form that only the owners of the two orders receive."""
        return self.order_id is not None

    @property
    def at(self) -> datetime.datetime:
        """When it happened, UTC."""
        return self.created_at

    @property
    def trade_id(self) -> str | None:
        """The trade's id: `tid` in the public form, `id` in the private one."""
        return self.tid if self.id is None else self.id

    @property
    def quantity(self) -> Decimal | None:
        """How much was traded: `amount` in the public form, `volume` in the private one."""
        return self.amount if self.volume is None else self.volume


class UnknownEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An item of no documented form: a new event name, a documented one whose fields do not fit, or no object at all.

    Attributes:
        name: the event's name if the item is an object that has one as a string.
        data: the whole item as plain JSON values; numbers with a fraction or exponent are `Decimal`.
    """

    name: str | None
    data: Any


MarketEvent = OrderCreated | OrderUpdated | OrderCanceled | OrderCompleted | TradeCompleted | UnknownEvent

_DOCUMENTED: tuple[type[_Event], ...] = (
    OrderCreated,
    OrderUpdated,
    OrderCanceled,
    OrderCompleted,
    TradeCompleted,
)
_BY_NAME: dict[str, Any] = {event.name: event for event in _DOCUMENTED}

# The documented fields and the types that rows give them. A field that is not here arrives as a plain JSON value.
FIELD_TYPES: Mapping[str, Any] = MappingProxyType(
    {
        **dict.fromkeys(
            ("execution_type", "id", "market", "name", "order_id", "side", "state", "strategy", "tid", "tif"),
            str,
        ),
        **dict.fromkeys(("amount", "delta", "origin_volume", "price", "volume"), Decimal),
        **dict.fromkeys(("created_at", "expiration_date", "update_at", "updated_at"), datetime.datetime),
        "snapshot_id": int,
    }
)


class Row(msgspec.Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True):
    """An item of a subscription with `fields`: one attribute for each requested field, in that order.

    Each subscription has a subclass of its own. A field that the event lacks is None.
    """

    fields: ClassVar[tuple[str, ...]] = ()


_plain = msgspec.json.Decoder(float_hook=Decimal)
_documented: msgspec.json.Decoder[MarketEvent] = msgspec.json.Decoder(
    OrderCreated | OrderUpdated | OrderCanceled | OrderCompleted | TradeCompleted,
    # `snapshot_id` is a decimal string; lax decoding makes an int of it and leaves the other fields as exact as before.
    strict=False,
)
read_event = _documented.decode
"""Makes an event of an item's JSON if the documentation knows its form; else it raises."""
_encoder = msgspec.json.Encoder(decimal_format="number")


def event_decoder() -> Callable[[Buffer], MarketEvent]:
    """The decoder for items of a subscription without `fields`.

    Returns:
        A function from the item's JSON bytes to its event. It raises nothing on JSON that is well formed and whose
        numbers Python can hold: no exponents or runs of digits far beyond any price.
    """

    def decode_event(item: Buffer) -> MarketEvent:
        try:
            return read_event(item)
        except msgspec.ValidationError:
            return _decode_slowly(item)

    return decode_event


def row_type(fields: Sequence[str]) -> type[Row]:
    """The Struct type of the rows of one subscription.

    Args:
        fields: the selector, in its order; each name must be usable as an attribute.

    Raises:
        ValueError: a name is no Python identifier, is a keyword, or begins with an underscore.
    """
    for field in fields:
        if not field.isidentifier() or keyword.iskeyword(field) or field.startswith("_") or field == "fields":
            raise ValueError(f"the field {field!r} cannot be the name of an attribute")
    members = [(field, FIELD_TYPES.get(field, Any) | None, None) for field in fields]
    row: Any = msgspec.defstruct(
        "Row", members, bases=(Row,), namespace={"fields": tuple(fields)}, frozen=True, gc=False, module=__name__
    )
    rows: type[Row] = row
    return rows


def row_reader(rows: type[Row]) -> Callable[[Buffer], Row]:
    """Makes a row of an item's JSON if it is such a row; else it raises."""
    return msgspec.json.Decoder(rows, strict=False, float_hook=Decimal).decode


def row_decoder(rows: type[Row]) -> Callable[[Buffer], Row | UnknownEvent]:
    """The decoder for items of a subscription with `fields`.

    Args:
        rows: what `row_type` made of the selector.

    Returns:
        A function from the item's JSON bytes to its row. A short row has None at its end; what is no such row (too
        long, or a value of another type) becomes an `UnknownEvent` and so is not lost.
    """
    decode = row_reader(rows)

    def decode_row(item: Buffer) -> Row | UnknownEvent:
        try:
            return decode(item)
        except msgspec.ValidationError:
            return _unknown(_plain.decode(item))

    return decode_row


def event_fields(event: MarketEvent) -> dict[str, Any]:
    """The event as the exchange spells it: its fields by wire name, quirks included.

    Numbers are `Decimal` or int, times ISO 8601 text with milliseconds; fields that are None are left out.
    """
    if isinstance(event, UnknownEvent):
        return dict(event.data) if isinstance(event.data, dict) else {"name": event.name, "data": event.data}
    fields: dict[str, Any] = {"name": event.name}
    for field in type(event).__struct_fields__:
        value = getattr(event, field)
        if value is None or field == "extra":
            continue
        if isinstance(value, datetime.datetime):
            value = value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        fields[field] = value
    if isinstance(event, OrderUpdated):
        fields["delta"] = _digits(event.delta)
    elif isinstance(event, TradeCompleted) and event.amount is not None:
        fields["amount"] = _digits(event.amount, ".18f")
    if event.snapshot_id is not None:
        fields["snapshot_id"] = str(event.snapshot_id)
    fields.update(event.extra)
    return fields


def encode_event(event: MarketEvent, fields: Sequence[str] | None = None) -> bytes:
    """The item that the exchange would send for this event, as JSON.

    Args:
        event: the event.
        fields: a selector; the item is then the row of these fields, with `null` for what the event lacks.
    """
    spelled = event_fields(event)
    if fields is not None:
        return _encoder.encode([spelled.get(field) for field in fields])
    return _encoder.encode(spelled)


def _digits(number: Decimal, form: str = "f") -> str:
    """The number as text without an exponent, unless that would be absurdly long."""
    return format(number, form) if number.is_finite() and abs(number.adjusted()) < 100 else str(number)


def _unknown(data: Any) -> UnknownEvent:
    name = data.get("name") if isinstance(data, dict) else None
    return UnknownEvent(name=name if isinstance(name, str) else None, data=data)


def _decode_slowly(item: Buffer) -> MarketEvent:
    """Decode what no documented form fits as it is: separate the new fields, or give the data as they are."""
    data = _plain.decode(item)
    unknown = _unknown(data)
    documented = None if unknown.name is None else _BY_NAME.get(unknown.name)
    if documented is None:
        return unknown
    known = {"name", *documented.__struct_encode_fields__}
    try:
        event: MarketEvent = msgspec.convert({k: v for k, v in data.items() if k in known}, documented, strict=False)
    except msgspec.ValidationError:
        return unknown
    extra = {k: v for k, v in data.items() if k not in known}
    return msgspec.structs.replace(event, extra=MappingProxyType(extra))
