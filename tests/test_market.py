"""Market events: the documented examples both ways, exact numbers, quirks, and whatever else may come."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from etorox_proto import (
    MarketEvent,
    OrderCanceled,
    OrderCompleted,
    OrderCreated,
    OrderUpdated,
    Row,
    TradeCompleted,
    UnknownEvent,
    encode_event,
    event_decoder,
    event_fields,
    row_decoder,
    row_type,
)
from etorox_proto.signalr import encode_json
from etorox_proto.testing.strategies import market_events, plain_values, selectors

# Verbatim from the exchange's documentation.
PUBLIC_CREATED = (
    b'{"market":"btcusd","side":"bid","name":"order_created","volume":1,"price":1.4,"state":"wait",'
    b'"updated_at":"2020-08-03T10:16:17.631Z","id":"466e190f-55eb-457e-b4b7-8393f7f01a7b"}'
)
PRIVATE_CREATED = (
    b'{"market":"btcusd","side":"bid","id":"466e190f-55eb-457e-b4b7-8393f7f01a7b","name":"order_created","volume":1,'
    b'"strategy":"limit","price":1.4,"state":"wait","updated_at":"2020-08-03T10:16:17.631Z","tif":"gtc"}'
)
PUBLIC_UPDATED = (
    b'{"market":"btcusd","side":"ask","name":"order_updated","volume":89.6435,"price":2.1,"delta":"-1.5",'
    b'"state":"open","updated_at":"2020-08-03T10:23:55.879Z","id":"be84045a-2471-412f-b205-b38cf714fbd4"}'
)
PRIVATE_UPDATED = (
    b'{"market":"btcusd","side":"ask","name":"order_updated","strategy":"limit","volume":89.6435,"price":2.1,'
    b'"delta":"-1.5","state":"open","updated_at":"2020-08-03T10:23:55.879Z","tif":"gtd",'
    b'"expiration_date":"2020-09-03T10:23:55.879Z","id":"be84045a-2471-412f-b205-b38cf714fbd4"}'
)
PUBLIC_CANCELED = (
    b'{"origin_volume":1,"price":1.4,"id":"466e190f-55eb-457e-b4b7-8393f7f01a7b","volume":1,"delta":-1,'
    b'"market":"btcusd","name":"order_canceled","side":"bid","state":"cancelled",'
    b'"update_at":"2020-08-03T10:17:36.592Z"}'
)
PRIVATE_CANCELED = (
    b'{"price":1.4,"strategy":"limit","delta":-1,"volume":1,"market":"btcusd",'
    b'"id":"466e190f-55eb-457e-b4b7-8393f7f01a7b","side":"bid","name":"order_canceled","state":"cancelled",'
    b'"updated_at":"2020-08-03T10:17:36.592Z","tif":"gtc"}'
)
PUBLIC_COMPLETED = (
    b'{"id":"94b75864-8cbe-44e1-a638-98fc5b9e2804","market":"btcusd","side":"ask","name":"order_completed","volume":1,'
    b'"delta":-1,"price":0.5,"state":"completed","updated_at":"2020-08-03T10:18:37.578Z"}'
)
PRIVATE_COMPLETED = (
    b'{"id":"94b75864-8cbe-44e1-a638-98fc5b9e2804","market":"btcusd","side":"ask","name":"order_completed","volume":1,'
    b'"strategy":"limit","price":0.5,"state":"completed","updated_at":"2020-08-03T10:18:37.578Z"}'
)
PUBLIC_TRADE = (
    b'{"tid":"b1e4f403-d572-11ea-afd6-42010adc003c","price":2,"amount":"1.000000000000000000",'
    b'"created_at":"2020-08-03T10:18:37.578Z","name":"trade_completed","market":"btcusd"}'
)
PRIVATE_TRADE = (
    b'{"market":"btcusd","id":"b1e4f403-d572-11ea-afd6-42010adc003c","price":2,"volume":1,"side":"ask",'
    b'"name":"trade_completed","state":"completed","created_at":"2020-08-03T10:18:37.578Z",'
    b'"order_id":"94b75864-8cbe-44e1-a638-98fc5b9e2804","execution_type":"taker"}'
)
SAMPLE = (
    b'{"origin_volume":1.2,"price":1.43,"id":"0222057e-8fa4-4e3b-8bd3-8c95622dc4f5","volume":1.2,"delta":-1.2,'
    b'"market":"btcusd","name":"order_canceled","side":"bid","state":"cancelled",'
    b'"update_at":"2020-07-28T13:44:53.798Z","snapshot_id":"234989823423"}'
)

EXAMPLES: dict[str, tuple[bytes, type[Any], bool]] = {
    "public order_created": (PUBLIC_CREATED, OrderCreated, False),
    "private order_created": (PRIVATE_CREATED, OrderCreated, True),
    "public order_updated": (PUBLIC_UPDATED, OrderUpdated, False),
    "private order_updated": (PRIVATE_UPDATED, OrderUpdated, True),
    "public order_canceled": (PUBLIC_CANCELED, OrderCanceled, False),
    "private order_canceled": (PRIVATE_CANCELED, OrderCanceled, True),
    "public order_completed": (PUBLIC_COMPLETED, OrderCompleted, False),
    "private order_completed": (PRIVATE_COMPLETED, OrderCompleted, True),
    "public trade_completed": (PUBLIC_TRADE, TradeCompleted, False),
    "private trade_completed": (PRIVATE_TRADE, TradeCompleted, True),
    "order_canceled with a snapshot": (SAMPLE, OrderCanceled, False),
}

decode = event_decoder()


def utc(
    year: int, month: int, day: int, hour: int, minute: int, second: int, microsecond: int = 0
) -> datetime.datetime:
    return datetime.datetime(year, month, day, hour, minute, second, microsecond, tzinfo=datetime.UTC)


def altered(example: bytes, **members: Any) -> bytes:
    """The example with other members; those that are `...` are left out."""
    return msgspec.json.encode({k: v for k, v in {**json.loads(example), **members}.items() if v is not ...})


# ------------------------------------------------------------------------------------------- documented examples


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_documented_example_both_ways(name: str) -> None:
    wire, kind, is_private = EXAMPLES[name]
    event: Any = decode(wire)
    assert type(event) is kind
    said = json.loads(wire)
    assert (event.name, event.market, event.is_private) == (said["name"], "btcusd", is_private)
    assert dict(event.extra) == {}
    assert json.loads(encode_event(event)) == said
    assert decode(encode_event(event)) == event


def test_the_examples_field_by_field() -> None:
    order = "466e190f-55eb-457e-b4b7-8393f7f01a7b"
    at = utc(2020, 8, 3, 10, 16, 17, 631_000)
    created: dict[str, Any] = {
        "market": "btcusd",
        "id": order,
        "side": "bid",
        "volume": Decimal(1),
        "price": Decimal("1.4"),
    }
    assert decode(PRIVATE_CREATED) == OrderCreated(**created, state="wait", updated_at=at, strategy="limit", tif="gtc")
    updated = decode(PRIVATE_UPDATED)
    assert isinstance(updated, OrderUpdated)
    assert (updated.volume, updated.delta) == (Decimal("89.6435"), Decimal("-1.5"))
    assert (updated.tif, updated.expiration_date) == ("gtd", utc(2020, 9, 3, 10, 23, 55, 879_000))
    assert updated.at == updated.updated_at
    completed = decode(PUBLIC_COMPLETED)
    assert isinstance(completed, OrderCompleted)
    assert (completed.delta, completed.state, completed.at) == (Decimal(-1), "completed", completed.updated_at)
    public = decode(PUBLIC_CREATED)
    assert isinstance(public, OrderCreated)
    assert public.at == at


def test_the_spelling_of_order_canceled() -> None:
    public, private = decode(PUBLIC_CANCELED), decode(PRIVATE_CANCELED)
    assert isinstance(public, OrderCanceled)
    assert isinstance(private, OrderCanceled)
    at = utc(2020, 8, 3, 10, 17, 36, 592_000)
    assert (public.state, public.delta, public.origin_volume) == ("cancelled", Decimal(-1), Decimal(1))
    assert (public.at, public.update_at, public.updated_at) == (at, at, None)
    assert (private.at, private.update_at, private.updated_at) == (at, None, at)


def test_the_two_forms_of_a_trade() -> None:
    public, private = decode(PUBLIC_TRADE), decode(PRIVATE_TRADE)
    assert isinstance(public, TradeCompleted)
    assert isinstance(private, TradeCompleted)
    assert public.trade_id == private.trade_id == "b1e4f403-d572-11ea-afd6-42010adc003c"
    assert (public.tid, public.id, private.tid) == (public.trade_id, None, None)
    assert (str(public.quantity), str(private.quantity)) == ("1.000000000000000000", "1")
    assert (private.side, private.execution_type) == ("ask", "taker")
    assert public.at == private.at == utc(2020, 8, 3, 10, 18, 37, 578_000)


def test_an_event_is_frozen_and_its_repr_short() -> None:
    event: Any = decode(PUBLIC_TRADE)
    with pytest.raises(AttributeError):
        event.price = Decimal(3)
    assert "order_id" not in repr(event)
    assert "1.000000000000000000" in repr(event)


# ------------------------------------------------------------------------------------------------- exact numbers


@pytest.mark.parametrize(
    "digits",
    [
        "1",
        "1.0",
        "1.10",
        "0.1",
        "0.30000000000000004",
        "12345678901234567890.123456789012345678",
        "1E+2",
        "1e-18",
        "-0.0",
    ],
)
def test_numbers_are_the_literal_digits(digits: str) -> None:
    for wire in (
        PUBLIC_CREATED.replace(b'"price":1.4', b'"price":' + digits.encode()),
        altered(PUBLIC_CREATED, price=digits),
        altered(PUBLIC_CREATED, price=msgspec.Raw(digits.encode()), new=1),
    ):
        event = decode(wire)
        assert isinstance(event, OrderCreated)
        assert str(event.price) == str(Decimal(digits))
        assert b'"price":' + str(Decimal(digits)).encode() in encode_event(event)


def test_new_fields_are_exact_too() -> None:
    event = decode(altered(PUBLIC_CREATED, fee=msgspec.Raw(b"0.10"), big=2**70))
    assert isinstance(event, OrderCreated)
    assert str(event.extra["fee"]) == "0.10"
    assert event.extra["big"] == 2**70


@pytest.mark.parametrize("number", [234_989_823_423, 4_222_124_650_664_933, 2**53 + 1, 2**63 + 1])
def test_snapshot_ids_are_integers_of_any_size(number: int) -> None:
    for value in (str(number), number):
        event = decode(altered(SAMPLE, snapshot_id=value))
        assert isinstance(event, OrderCanceled)
        assert event.snapshot_id == number
        assert json.loads(encode_event(event))["snapshot_id"] == str(number)


def test_amounts_are_spelled_with_18_decimals() -> None:
    for amount in ("1.000000000000000000", "0.000000000000000001", "123456789012345678901234567890.5"):
        event = decode(altered(PUBLIC_TRADE, amount=amount))
        assert isinstance(event, TradeCompleted)
        assert Decimal(json.loads(encode_event(event))["amount"]) == event.amount


def test_a_number_in_place_of_a_quoted_one_is_read() -> None:
    event = decode(altered(PUBLIC_UPDATED, delta=msgspec.Raw(b"-1.50")))
    assert isinstance(event, OrderUpdated)
    assert str(event.delta) == "-1.50"
    assert json.loads(encode_event(event))["delta"] == "-1.50"


# ------------------------------------------------------------------------------------------- what is not documented


@pytest.mark.parametrize("name", EXAMPLES)
def test_new_fields_come_as_extra_and_go_back_as_they_came(name: str) -> None:
    wire, kind, is_private = EXAMPLES[name]
    with_more = altered(wire, venue="x", levels=[1, {"a": None}], null=None)
    event: Any = decode(with_more)
    assert type(event) is kind
    assert event.extra == {"venue": "x", "levels": [1, {"a": None}], "null": None}
    assert event.is_private is is_private
    with pytest.raises(TypeError):
        event.extra["more"] = 1
    assert json.loads(encode_event(event)) == json.loads(with_more)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_documented_event_that_does_not_fit_reaches_the_user_as_it_is(name: str) -> None:
    wire = EXAMPLES[name][0]
    for misfit in ({"market": ...}, {"price": "dear"}, {"price": ...}, {"market": 7}, {"price": None}):
        changed = altered(wire, **misfit)
        event = decode(changed)
        assert event == UnknownEvent(name=json.loads(wire)["name"], data=json.loads(changed, parse_float=Decimal))
        assert json.loads(encode_event(event)) == json.loads(changed)


@pytest.mark.parametrize(
    ("item", "name"),
    [
        ({"name": "order_invented", "price": 1}, "order_invented"),
        ({"name": "order_invented"}, "order_invented"),
        ({"name": 7}, None),
        ({"market": "btcusd"}, None),
        ({}, None),
    ],
)
def test_unknown_events_keep_everything(item: dict[str, Any], name: str | None) -> None:
    event = decode(json.dumps(item).encode())
    assert event == UnknownEvent(name=name, data=item)
    assert event_fields(event) == item
    assert json.loads(encode_event(event)) == item


@pytest.mark.parametrize("item", [None, 1, 1.5, "text", [], [1, [2]], True])
def test_an_item_that_is_no_object(item: Any) -> None:
    event = decode(json.dumps(item).encode())
    assert isinstance(event, UnknownEvent)
    assert (event.name, event.data) == (None, item)
    assert event_fields(event) == {"name": None, "data": item}


def test_items_come_in_any_kind_of_buffer() -> None:
    for buffer in (PUBLIC_TRADE, bytearray(PUBLIC_TRADE), memoryview(PUBLIC_TRADE), msgspec.Raw(PUBLIC_TRADE)):
        assert decode(buffer) == decode(PUBLIC_TRADE)
        assert isinstance(row_decoder(row_type(["name"]))(buffer), UnknownEvent)


# ------------------------------------------------------------------------------------------------------------ rows


def test_rows_are_typed_by_their_fields() -> None:
    rows = row_type(["amount", "created_at", "name", "new", "snapshot_id", "updated_at"])
    row = row_decoder(rows)(
        b'["1.10","2020-08-03T10:18:37.578Z","trade_completed",0.10,"4222124650664933","2020-08-03T10:18:37Z"]'
    )
    assert isinstance(row, Row)
    assert type(row) is rows
    assert row.fields == ("amount", "created_at", "name", "new", "snapshot_id", "updated_at")
    values = msgspec.structs.asdict(row)
    assert (str(values["amount"]), str(values["new"])) == ("1.10", "0.10")
    assert values["snapshot_id"] == 4_222_124_650_664_933
    assert values["created_at"] == utc(2020, 8, 3, 10, 18, 37, 578_000)
    assert values["updated_at"] == utc(2020, 8, 3, 10, 18, 37)


def test_each_subscription_has_a_type_of_its_own() -> None:
    one, two = row_type(["name"]), row_type(["name"])
    assert one is not two
    assert repr(row_decoder(one)(b'["x"]')) == "Row(name='x')"


@pytest.mark.parametrize(
    ("item", "values"),
    [
        (["order_created", 1.5, 2], ("order_created", Decimal("1.5"), Decimal(2))),
        (["order_created", None, None], ("order_created", None, None)),
        (["order_created"], ("order_created", None, None)),
        ([], (None, None, None)),
    ],
)
def test_rows_that_fit(item: list[Any], values: tuple[Any, ...]) -> None:
    row = row_decoder(row_type(["name", "price", "volume"]))(json.dumps(item).encode())
    assert isinstance(row, Row)
    assert msgspec.structs.astuple(row) == values


@pytest.mark.parametrize(
    "item", [["a", 1, 2, 3], ["a", "dear", 1], [7], {}, {"price": 1}, {"name": 7}, "text", None, 5]
)
def test_what_is_no_such_row_is_not_lost(item: Any) -> None:
    row = row_decoder(row_type(["name", "price", "volume"]))(json.dumps(item).encode())
    assert row == UnknownEvent(name=None, data=item)


def test_a_whole_event_in_place_of_a_row_keeps_its_name() -> None:
    row = row_decoder(row_type(["name"]))(PUBLIC_TRADE)
    assert isinstance(row, UnknownEvent)
    assert row.name == "trade_completed"
    assert row.data["tid"] == "b1e4f403-d572-11ea-afd6-42010adc003c"


@pytest.mark.parametrize("field", ["class", "_x", "a-b", "", "1a", "fields", "None"])
def test_a_field_that_no_row_can_have(field: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name of an attribute"):
        row_type(["name", field])


def test_an_event_is_encoded_as_a_row() -> None:
    fields = ["delta", "name", "price", "tif", "updated_at"]
    event = decode(PUBLIC_UPDATED)
    encoded = encode_event(event, fields)
    assert encoded == b'["-1.5","order_updated",2.1,null,"2020-08-03T10:23:55.879Z"]'
    row = row_decoder(row_type(fields))(encoded)
    assert isinstance(row, Row)
    assert msgspec.structs.astuple(row)[:4] == (Decimal("-1.5"), "order_updated", Decimal("2.1"), None)


# ------------------------------------------------------------------------------------------------------ round trips


@given(event=market_events())
def test_every_event_comes_back_as_it_went(event: MarketEvent) -> None:
    back = decode(encode_event(event))
    assert back == event
    assert encode_event(back) == encode_event(event)
    for field in type(event).__struct_fields__:
        if isinstance(getattr(event, field), Decimal):
            assert getattr(back, field).as_tuple() == getattr(event, field).as_tuple(), "digit for digit"


@given(event=market_events(), data=st.data())
def test_every_row_comes_back_as_the_event_has_it(event: MarketEvent, data: st.DataObject) -> None:
    fields = data.draw(selectors(event))
    row = row_decoder(row_type(fields))(encode_event(event, fields))
    assert isinstance(row, Row)
    assert [getattr(row, field) for field in fields] == [getattr(event, field) for field in fields]


json_values = plain_values().map(lambda value: json.loads(bytes(encode_json(value, "it"))))


@given(item=json_values)
@example({"name": ["order_created"]})
@example({"name": "order_created", "(extra)": {}})
def test_no_item_raises(item: Any) -> None:
    wire = json.dumps(item).encode()
    event = decode(wire)
    assert isinstance(event, UnknownEvent)
    assert event.data == json.loads(wire, parse_float=Decimal)
    row = row_decoder(row_type(["name", "new"]))(wire)
    assert isinstance(row, Row | UnknownEvent)


@given(members=st.dictionaries(st.sampled_from(sorted(json.loads(SAMPLE))), json_values, max_size=4))
def test_no_distortion_of_an_event_raises(members: dict[str, Any]) -> None:
    event = decode(altered(SAMPLE, **members))
    assert isinstance(event, OrderCanceled | UnknownEvent)
