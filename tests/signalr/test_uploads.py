"""Streams from the client to the server: several per call, ended by either side, and never blocking anything else."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

import msgspec
import pytest

from etorox_proto.signalr import (
    CallCancelled,
    CallLost,
    CancelReceived,
    Completed,
    ConnectionClosed,
    HubConfig,
    HubConnection,
    InvocationReceived,
    Limits,
    LocalProtocolError,
    ServerConnection,
    State,
    Upload,
    UploadEnded,
    UploadItemReceived,
)
from machines import Pair, connected_peer, frame, hub, hub_frame, joined, packed, records, server, take
from programs import SAID_BY_CLIENT

Encoding = Literal["json", "messagepack"]
both = pytest.mark.parametrize("encoding", ["json", "messagepack"])
GIVEN_UP = "The call was given up by the client."


def uploading(encoding: Encoding = "json", **config: Any) -> tuple[Pair, HubConnection, ServerConnection]:
    """A client and its server, connected; what was told so far is forgotten."""
    pair = joined(hub(encoding=encoding, **config))
    assert isinstance(pair.client, HubConnection)
    pair.events.clear()
    pair.server_events.clear()
    return pair, pair.client, pair.partner


def serving(*messages: Any, **config: Any) -> ServerConnection:
    """A connected server whose client said this; what was told so far is forgotten."""
    machine = server(**config)
    machine.receive_data(SAID_BY_CLIENT["upgrade"] + SAID_BY_CLIENT["handshake"], 0.0)
    take(machine)
    machine.data_to_send()
    hear(machine, *messages)
    return machine


def hear(machine: ServerConnection, *messages: Any) -> None:
    machine.receive_data(frame(records(*messages), masked=True), 0.0)


def refusals(machine: ServerConnection) -> list[tuple[str, str]]:
    said = machine.data_to_send()
    found = []
    while said:
        length, said = said[1], said[2:]
        payload, said = said[:length], said[length:]
        message = msgspec.json.decode(payload.removesuffix(b"\x1e"))
        found.append((message["invocationId"], message["error"]))
    return found


CALL = {"type": 1, "target": "sum", "arguments": [], "invocationId": "1", "streamIds": ["2"]}


# ------------------------------------------------------------------------------------------------------- both sides


@both
@pytest.mark.parametrize("streaming", [False, True])
def test_items_and_ends_arrive(encoding: Encoding, streaming: bool) -> None:
    pair, client, server = uploading(encoding)
    ask = client.stream if streaming else client.invoke
    call = ask("sum", ["x"], uploads=2, headers={"k": "v"}, now=0.0)
    first, second = call.uploads
    assert client.send_item(first, 1, now=0.0)
    assert client.send_item(second, {"price": "2"}, now=0.0)
    assert client.send_item(first, None, now=0.0)
    client.end_upload(first, now=0.0)
    client.end_upload(second, error="no more", now=0.0)
    pair.drive()
    one, two = first.stream_id, second.stream_id
    assert pair.server_events == [
        InvocationReceived("sum", ["x"], call.invocation_id, streaming, uploads=(one, two), headers={"k": "v"}),
        UploadItemReceived(one, 1),
        UploadItemReceived(two, {"price": "2"}),
        UploadItemReceived(one, None),
        UploadEnded(one, None),
        UploadEnded(two, "no more"),
    ]
    assert len({one, two, call.invocation_id}) == 3
    server.complete(call.invocation_id, now=0.0)
    pair.drive()
    assert pair.events == [Completed(call, None, None)]


@both
def test_a_call_without_an_answer_may_bring_uploads(encoding: Encoding) -> None:
    pair, client, _ = uploading(encoding)
    assert client.send("log", now=0.0) == ()
    (upload,) = client.send("log", uploads=1, now=0.0)
    client.send_item(upload, "a", now=0.0)
    client.end_upload(upload, now=0.0)
    pair.drive()
    stream_id = upload.stream_id
    assert pair.server_events == [
        InvocationReceived("log", [], None, streaming=False),
        InvocationReceived("log", [], None, streaming=False, uploads=(stream_id,)),
        UploadItemReceived(stream_id, "a"),
        UploadEnded(stream_id, None),
    ]
    assert client.pending_calls == 0


@both
def test_numbers_arrive_exact_where_the_encoding_can(encoding: Encoding) -> None:
    pair, client, _ = uploading(encoding)
    (upload,) = client.invoke("m", uploads=1, now=0.0).uploads
    client.send_item(upload, Decimal("0.10"), now=0.0)
    pair.drive()
    item = pair.server_events[-1].item
    assert str(item) == "0.10"
    assert isinstance(item, Decimal if encoding == "json" else str)


@both
def test_other_calls_go_on_beside_an_upload(encoding: Encoding) -> None:
    pair, client, server = uploading(encoding)
    (upload,) = client.invoke("sum", uploads=1, now=0.0).uploads
    client.send_item(upload, 1, now=0.0)
    other = client.invoke("other", now=0.0)
    client.send_item(upload, 2, now=0.0)
    pair.drive()
    server.complete(other.invocation_id, result="done", now=0.0)
    pair.drive()
    assert pair.events == [Completed(other, "done", None)]
    assert upload.is_open


# ----------------------------------------------------------------------------------------------- who ends it, and how


@both
def test_an_answered_call_takes_no_more(encoding: Encoding) -> None:
    """The producer is told with False; what was under way is dropped without a word on both sides."""
    pair, client, server = uploading(encoding)
    call = client.invoke("sum", uploads=2, now=0.0)
    first, second = call.uploads
    pair.drive()
    server.complete(call.invocation_id, result=0, now=0.0)
    client.send_item(first, 1, now=0.0)
    client.end_upload(first, now=0.0)
    client.send_item(second, 2, now=0.0)
    pair.server_events.clear()
    pair.drive()
    assert pair.server_events == []
    assert pair.events == [Completed(call, 0, None)]
    assert not second.is_open
    assert not client.send_item(second, 3, now=0.0)
    client.end_upload(second, error="late", now=0.0)
    assert client.queued_bytes == 0
    assert (client.state, server.state) == (State.CONNECTED, State.CONNECTED)


@both
def test_a_cancelled_call_fails_its_uploads_first(encoding: Encoding) -> None:
    pair, client, server = uploading(encoding)
    call = client.stream("sum", uploads=3, now=0.0)
    open_one, ended, other = call.uploads
    client.end_upload(ended, now=0.0)
    client.cancel(call, now=0.0)
    assert [upload.is_open for upload in call.uploads] == [False, False, False]
    assert not client.send_item(open_one, 1, now=0.0)
    pair.drive()
    assert pair.server_events[1:] == [
        UploadEnded(ended.stream_id, None),
        UploadEnded(open_one.stream_id, GIVEN_UP),
        UploadEnded(other.stream_id, GIVEN_UP),
        CancelReceived(call.invocation_id),
    ]
    assert isinstance(pair.events[0].error, CallCancelled)
    server.send_item(call.invocation_id, "late", now=0.0)
    server.complete(call.invocation_id, now=0.0)
    pair.drive()
    assert len(pair.events) == 1
    assert dict(client.ignored) == {}


def test_a_stream_that_fails_here_gives_its_uploads_up() -> None:
    pair, client, server = uploading()
    call = client.stream("m", uploads=1, item_type=int, now=0.0)
    pair.drive()
    server.send_item(call.invocation_id, "x", now=0.0)
    pair.drive()
    assert pair.server_events[1:] == [
        UploadEnded(call.uploads[0].stream_id, GIVEN_UP),
        CancelReceived(call.invocation_id),
    ]


def test_an_upload_that_was_ended_takes_no_more() -> None:
    _, client, _ = uploading()
    (upload,) = client.invoke("m", uploads=1, now=0.0).uploads
    client.end_upload(upload, now=0.0)
    assert (upload.is_open, upload.is_ended) == (False, True)
    waiting = client.queued_bytes
    for refused in (lambda: client.send_item(upload, 1, now=0.0), lambda: client.end_upload(upload, now=0.0)):
        with pytest.raises(LocalProtocolError, match="one that was ended"):
            refused()
    assert client.queued_bytes == waiting


def test_the_end_of_the_connection_is_the_end_of_its_uploads() -> None:
    pair, client, _ = uploading()
    call = client.invoke("m", uploads=1, now=0.0)
    (alone,) = client.send("m", uploads=1, now=0.0)
    pair.cut()
    pair.drive()
    assert isinstance(pair.events[0].error, CallLost)
    assert not call.uploads[0].is_open
    assert not alone.is_open
    for upload in (*call.uploads, alone):
        with pytest.raises(ConnectionClosed):
            client.send_item(upload, 1, now=0.0)
        with pytest.raises(ConnectionClosed):
            client.end_upload(upload, now=0.0)


def test_an_upload_belongs_to_its_connection() -> None:
    _, client, _ = uploading()
    _, another, _ = uploading()
    (upload,) = client.invoke("m", uploads=1, now=0.0).uploads
    (same_id,) = another.invoke("m", uploads=1, now=0.0).uploads
    assert upload.stream_id == same_id.stream_id
    assert isinstance(upload, Upload)
    assert repr(upload) == "<Upload '1': to 'm'>"
    with pytest.raises(LocalProtocolError, match="of this connection"):
        another.send_item(upload, 1, now=0.0)


# --------------------------------------------------------------------------------------- what is refused, and limits


@pytest.mark.parametrize("uploads", [-1, 1.5, "2", None])
def test_a_number_of_uploads_is_asked_for(uploads: Any) -> None:
    _, client, _ = uploading()
    for ask in (client.invoke, client.stream, client.send):
        with pytest.raises(LocalProtocolError, match="a number of uploads"):
            ask("m", uploads=uploads, now=0.0)
    assert (client.queued_bytes, client.pending_calls) == (0, 0)


@pytest.mark.parametrize(("item", "error"), [(object(), None), ("\ud800", None), ("x" * 3_000, None)])
def test_an_item_that_cannot_be_sent_leaves_the_upload_open(item: Any, error: None) -> None:
    pair, client, _ = uploading(limits=Limits(queued_bytes=1_000))
    (upload,) = client.invoke("m", uploads=1, now=0.0).uploads
    pair.drive()
    for refused in (
        lambda: client.send_item(upload, item, now=0.0),
        lambda: client.end_upload(upload, error="\ud800", now=0.0),
        lambda: client.end_upload(upload, error=5, now=0.0),  # type: ignore[arg-type]
    ):
        with pytest.raises(LocalProtocolError):
            refused()
    assert (upload.is_open, client.queued_bytes) == (True, 0)
    client.send_item(upload, 1, now=0.0)
    client.end_upload(upload, error=error, now=0.0)
    pair.drive()
    assert pair.server_events[1:] == [UploadItemReceived("1", 1), UploadEnded("1", None)]


def test_a_producer_sees_how_much_waits() -> None:
    """It sends while there is room, waits until bytes have left, and loses nothing."""
    pair, client, _ = uploading(limits=Limits(queued_bytes=2_000))
    (upload,) = client.invoke("m", uploads=1, now=0.0).uploads
    item, sent = "x" * 300, 0
    for _ in range(3):
        while client.queued_bytes < 1_000:
            assert client.send_item(upload, item, now=0.0)
            sent += 1
        pair.drive()
    assert sent >= 9
    assert pair.server_events[1:] == [UploadItemReceived(upload.stream_id, item)] * sent
    while client.queued_bytes < 1_700:
        client.send_item(upload, item, now=0.0)
    with pytest.raises(LocalProtocolError, match=r"Limits.queued_bytes"):
        client.send_item(upload, item, now=0.0)


def test_open_uploads_are_limited_here() -> None:
    _, client, _ = uploading(limits=Limits(pending_calls=3))
    call = client.invoke("m", uploads=2, now=0.0)
    with pytest.raises(LocalProtocolError, match=r"at most 3 open uploads \(Limits.pending_calls\)"):
        client.send("m", uploads=2, now=0.0)
    client.end_upload(call.uploads[0], now=0.0)
    assert len(client.send("m", uploads=2, now=0.0)) == 2


def test_a_refused_call_spends_no_ids() -> None:
    peer = connected_peer()
    client = peer.client
    assert isinstance(client, HubConnection)
    with pytest.raises(LocalProtocolError):
        client.invoke("m", [object()], uploads=2, now=0.0)
    call = client.invoke("m", uploads=2, now=0.0)
    assert [upload.stream_id for upload in call.uploads] == ["1", "2"]
    assert call.invocation_id == "3"
    assert client.invoke("m", now=0.0).invocation_id == "4"


@pytest.mark.parametrize(
    ("ids", "got"), [(["a"], "None"), (["a", "a", "b"], "'a'"), (["a", "", "b"], "''"), ([], "None")]
)
def test_ids_that_do_not_suffice_are_refused(ids: list[str], got: str) -> None:
    client = HubConnection(HubConfig(url="https://h/hub"), now=0.0, ids=ids)
    joined(client)
    with pytest.raises(LocalProtocolError, match=f"a fresh invocation id from `ids`, got {got}"):
        client.invoke("m", uploads=1, now=0.0)
    assert (client.queued_bytes, client.pending_calls) == (0, 0)


# ---------------------------------------------------------------------------------------------------- the server alone


def test_an_item_that_cannot_be_read_ends_the_upload_only() -> None:
    item = {"type": 2, "invocationId": "2", "item": 1}
    machine = serving(CALL, item, b'{"type":2,"invocationId":"2","item":1e99999999999999999999}', item)
    *_, last = events = take(machine)
    assert events[1:-1] == [UploadItemReceived("2", 1)]
    assert last == UploadEnded("2", "an item cannot be read: a number out of range")
    hear(machine, {"type": 3, "invocationId": "2"})
    assert take(machine) == []
    assert machine.state is State.CONNECTED


def test_late_and_unknown_items_are_dropped_quietly() -> None:
    machine = serving({"type": 2, "invocationId": "9", "item": 1}, {"type": 3, "invocationId": "9"}, CALL)
    (call,) = take(machine)
    machine.complete("1", result=1, now=0.0)
    machine.data_to_send()
    hear(machine, {"type": 2, "invocationId": "2", "item": 1}, {"type": 3, "invocationId": "2"})
    assert take(machine) == []
    assert machine.data_to_send() == b""
    # The ids are free again.
    hear(machine, CALL)
    assert take(machine) == [call]


def test_an_end_with_a_result_is_an_end() -> None:
    machine = serving(CALL, {"type": 3, "invocationId": "2", "result": 5})
    assert take(machine)[1:] == [UploadEnded("2", None)]


@pytest.mark.parametrize(
    ("call", "refusal"),
    [
        ({**CALL, "invocationId": "3", "streamIds": ["2"]}, "stream ID '2' is already in use."),
        ({**CALL, "invocationId": "3", "streamIds": ["1"]}, "stream ID '1' is already in use."),
        ({**CALL, "invocationId": "3", "streamIds": ["3"]}, "stream ID '3' is already in use."),
        ({**CALL, "invocationId": "3", "streamIds": ["4", "4"]}, "stream ID '4' is already in use."),
        ({**CALL, "invocationId": "3", "streamIds": [""]}, "stream ID '' is already in use."),
        ({**CALL, "invocationId": "3", "streamIds": ["4", "5", "6"]}, "too many uploads are open."),
        ({**CALL, "invocationId": "2", "streamIds": []}, "Invocation ID '2' is already in use."),
    ],
)
def test_uploads_that_cannot_be_taken_refuse_the_call(call: dict[str, Any], refusal: str) -> None:
    machine = serving(CALL, limits=Limits(pending_calls=3))
    assert len(take(machine)) == 1
    hear(machine, call)
    assert take(machine) == []
    ((invocation_id, error),) = refusals(machine)
    assert invocation_id == call["invocationId"]
    assert error.endswith(refusal)
    # Without an id there is nobody to tell.
    if call["streamIds"] and call["streamIds"] != ["3"]:
        hear(machine, {**call, "invocationId": ""})
        assert take(machine) == []
        assert machine.data_to_send() == b""


def test_a_client_is_brought_no_uploads() -> None:
    peer = connected_peer(handles=["m"])
    peer.feed(hub_frame({"type": 1, "target": "m", "arguments": [], "invocationId": "7", "streamIds": ["1", "1"]}))
    assert peer.events == [InvocationReceived("m", [], "7", streaming=False)]


def test_an_item_in_messagepack_that_cannot_be_read_ends_the_upload_only() -> None:
    machine = server()
    machine.receive_data(SAID_BY_CLIENT["upgrade"] + SAID_BY_CLIENT["handshake for the other"], 0.0)
    take(machine)
    bad = b"\x94\x02\x80\xa12\xd7\xff" + b"\xff" * 8
    machine.receive_data(frame(packed(CALL, bad), 2, masked=True), 0.0)
    call, ended = take(machine)
    assert isinstance(call, InvocationReceived)
    assert isinstance(ended, UploadEnded)
    assert machine.state is State.CONNECTED
