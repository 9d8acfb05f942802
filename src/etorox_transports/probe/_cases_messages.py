"""Cases about hub messages: what is ignored, what is answered, what ends the connection.

Source: SignalR's Hub Protocol; what it leaves open is what ASP.NET Core's server does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from etorox_transports.probe._case import case
from etorox_transports.probe._finding import Finding, Outcome, Unlike, conforms, differs, tolerated, unanswered
from etorox_transports.probe._server import Server
from etorox_transports.probe._socket import End, Socket
from etorox_transports.probe._talk import NO_SUCH_METHOD, Talk, shown

_SPEC, _OFFICIAL = "Hub Protocol", "ASP.NET Core"
_NOTHING = {"type": 1, "target": NO_SUCH_METHOD, "arguments": []}


def _is_refused(completion: dict[str, Any]) -> Finding:
    if isinstance(completion.get("error"), str):
        return conforms(shown(completion))
    return differs(f"{shown(completion)}: a method that does not exist has a result")


@case("messages", sends="a call of a method that does not exist", expects="a Completion with an error", source=_SPEC)
def unknown_method(server: Server) -> Finding:
    """Who calls wants to know."""
    with server.talk() as talk:
        try:
            return _is_refused(talk.call())
        except Unlike as unlike:
            server.is_mute = unlike.finding.outcome is Outcome.NOT_ANSWERED
            raise


@case(
    "messages",
    sends="a stream invocation of a method that does not exist",
    expects="a Completion with an error",
    source=_SPEC,
)
def unknown_stream(server: Server) -> Finding:
    """The same for streams."""
    with server.talk() as talk:
        return _is_refused(talk.call(kind=4))


@case(
    "messages",
    sends="an invocation without an id, of a method that does not exist, and a call",
    expects="an answer to the call only",
    source=_SPEC,
)
def without_id(server: Server) -> Finding:
    """Who asks for no answer must get none."""
    with server.talk() as talk:
        call = talk.new_id()
        talk.send(_NOTHING, {**_NOTHING, "invocationId": call})
        for message in talk.messages():
            match message:
                case {"type": 3, "invocationId": identifier} if identifier == call:
                    talk.is_settled = True
                    return conforms("no answer; the connection goes on")
                case {"type": 3}:
                    return differs(f"an answer: {shown(message)}")
                case {"type": 7} | End():
                    return differs(f"the connection ended: {shown(message)}")
                case _:
                    pass
        return tolerated("nothing came; calls are not answered here") if talk.is_mute else unanswered("nothing came")


@case("messages", sends="two calls in one WebSocket message", expects="an answer to each", source=_SPEC)
def two_in_one(server: Server) -> Finding:
    """Clients put several into one when they are busy."""
    with server.talk() as talk:
        first, second = talk.new_id(), talk.new_id()
        talk.send({**_NOTHING, "invocationId": first}, {**_NOTHING, "invocationId": second})
        # They may come in any order.
        waiting = [first, second]
        for message in talk.messages():
            match message:
                case {"type": 3, "invocationId": identifier} if identifier in waiting:
                    waiting.remove(identifier)
                case {"type": 7} | End():
                    return differs(f"{2 - len(waiting)} of 2 answers, then {shown(message)}")
                case _:
                    pass
            if not waiting:
                talk.is_settled = True
                return conforms("both are answered")
        if talk.is_mute:
            return tolerated("nothing came; calls are not answered here")
        return unanswered(f"{2 - len(waiting)} of 2 answers")


def _answered(server: Server, text: str, send: Callable[[Socket, str], None] = Socket.text) -> Finding:
    """See that a call is answered that was sent as this text, with `ID` in it, in this way."""
    with server.talk() as talk:
        call = talk.new_id()
        talk.is_settled = False
        send(talk.socket, text.replace("ID", call))
        talk.answer(call)
        talk.is_settled = True
        return conforms("it is answered")


_PLAIN = f'{{"type":1,"invocationId":"ID","target":"{NO_SUCH_METHOD}","arguments":[]}}\x1e'


@case("messages", sends="a call in two WebSocket messages", expects="an answer", source=_OFFICIAL)
def in_pieces(server: Server) -> Finding:
    """The borders of WebSocket messages mean nothing to the official server."""
    return _answered(server, _PLAIN, lambda socket, text: socket.text(text[:20], text[20:]))


@case("messages", sends="a call in two fragments of one WebSocket message", expects="an answer", source="RFC 6455, 5.4")
def in_fragments(server: Server) -> Finding:
    """Proxies may cut messages like this."""
    return _answered(server, _PLAIN, lambda socket, text: socket.fragments(text[:20], text[20:]))


@case("messages", sends="a call in a binary WebSocket message", expects="an answer", source=_OFFICIAL)
def as_binary(server: Server) -> Finding:
    """The official server does not look at the kind."""
    try:
        return _answered(server, _PLAIN, lambda socket, text: socket.binary(text.encode()))
    except Unlike as unlike:
        raise Unlike(tolerated(unlike.finding.text)) from None


@case(
    "messages",
    sends="a call whose properties stand in an unusual order, with spaces between",
    expects="an answer",
    source=_SPEC,
)
def in_any_order(server: Server) -> Finding:
    """The order of properties means nothing."""
    text = f'{{ "arguments" : [ ] , "target" : "{NO_SUCH_METHOD}" ,\n "invocationId" : "ID" , "type" : 1 }}\x1e'
    return _answered(server, text)


@case("messages", sends="a call whose names are written with escapes", expects="an answer", source="RFC 8259")
def with_escapes(server: Server) -> Finding:
    """As some writers of JSON do."""
    return _answered(server, _PLAIN.replace("type", "\\u0074ype").replace("target", "t\\u0061rget"))


@case("messages", sends="a call with headers", expects="an answer", source=_SPEC)
def with_headers(server: Server) -> Finding:
    """They are carried, not judged."""
    return _answered(server, _PLAIN.replace('{"type"', '{"headers":{"etorox-probe":"1"},"type"'))


@case("messages", sends="a call with a property that does not exist", expects="an answer", source=_OFFICIAL)
def unknown_property(server: Server) -> Finding:
    """What is not known is ignored."""
    return _answered(server, _PLAIN.replace('{"type"', '{"etoroxProbe":true,"type"'))


def _ignored(server: Server, message: dict[str, Any]) -> Finding:
    with server.talk() as talk:
        talk.send(message)
        return talk.goes_on()


def _ignored_since_3(server: Server, message: dict[str, Any]) -> Finding:
    """As `_ignored`; servers from before uploads end the connection at what belongs to them."""
    try:
        return _ignored(server, message)
    except Unlike as unlike:
        if server.is_old and unlike.finding.outcome is Outcome.DIFFERS:
            raise Unlike(tolerated(f"{unlike.finding.text}: servers before 3.0 know no uploads")) from None
        raise


@case("messages", sends="a ping", expects="no answer; the connection goes on", source=_SPEC)
def ping(server: Server) -> Finding:
    """It says that the client is there."""
    with server.talk() as talk:
        talk.pings.clear()
        talk.send({"type": 6})
        found = talk.goes_on("no answer; the connection goes on")
        return tolerated("a ping, at once; the connection goes on") if talk.pings else found


@case("messages", sends="a message of a type that does not exist", expects="that it is ignored", source=_OFFICIAL)
def unknown_type(server: Server) -> Finding:
    """So that the protocol can grow."""
    return _ignored(server, {"type": 99, "etoroxProbe": True})


@case("messages", sends="a Completion for a call that nobody made", expects="that it is ignored", source=_OFFICIAL)
def stray_completion(server: Server) -> Finding:
    """It may have crossed something else."""
    return _ignored_since_3(server, {"type": 3, "invocationId": "etorox-probe-unknown", "result": None})


@case("messages", sends="an item of a stream that nobody uploads", expects="that it is ignored", source=_OFFICIAL)
def stray_item(server: Server) -> Finding:
    """Items on their way when a call has ended."""
    return _ignored_since_3(server, {"type": 2, "invocationId": "etorox-probe-unknown", "item": 1})


@case("messages", sends="a cancellation of a stream that nobody asked for", expects="that it is ignored", source=_SPEC)
def stray_cancel(server: Server) -> Finding:
    """The stream may have ended meanwhile."""
    return _ignored(server, {"type": 5, "invocationId": "etorox-probe-unknown"})


def _ends(server: Server, record: str) -> Finding:
    with server.talk() as talk:
        talk.socket.text(record + "\x1e")
        return talk.ends()


_CLOSES = "a Close message with an error, and the end of the connection"


@case("messages", sends="what is no JSON", expects=_CLOSES, source=_OFFICIAL)
def malformed(server: Server) -> Finding:
    """Nobody knows what was meant."""
    return _ends(server, "etorox-probe")


@case("messages", sends="an empty message", expects=_CLOSES, source=_OFFICIAL)
def empty(server: Server) -> Finding:
    """Two separators in a row."""
    return _ends(server, "")


@case("messages", sends="a JSON array", expects=_CLOSES, source=_OFFICIAL)
def no_object(server: Server) -> Finding:
    """A message is an object."""
    return _ends(server, "[]")


@case("messages", sends="a message without a type", expects=_CLOSES, source=_OFFICIAL)
def without_type(server: Server) -> Finding:
    """It is required."""
    return _ends(server, f'{{"target":"{NO_SUCH_METHOD}","arguments":[]}}')


@case("messages", sends="a call without a target", expects=_CLOSES, source=_OFFICIAL)
def without_target(server: Server) -> Finding:
    """It is required."""
    return _ends(server, '{"type":1,"invocationId":"0","arguments":[]}')


@case(
    "messages",
    sends="calls of 30,000 bytes, 300,000, 3,000,000",
    expects="that the server takes the first, and has a limit",
    source=_OFFICIAL,
    thorough=True,
)
def oversized(server: Server) -> Finding:
    """The official server takes 32 KiB."""
    taken = 0
    for size in (30_000, 300_000, 3_000_000):
        with server.talk() as talk:
            try:
                talk.call(arguments=["x" * size])
            except Unlike as unlike:
                if talk.is_mute:
                    raise
                text = f"{size:,} bytes are refused: {unlike.finding.text}"
                return conforms(text) if taken else differs(text)
            taken = size
    return tolerated(f"{taken:,} bytes are taken: a limit, if there is one, lies above")


# --------------------------------------------------------------------------------------------------------- MessagePack


def _packed_answer(server: Server, talk: Talk) -> list[Any]:
    """Call a method that does not exist; the Completion that came."""
    talk.send_packed([1, {}, "0", NO_SUCH_METHOD, [], []])
    for message in talk.messages():
        match message:
            case [3, _, "0", *_]:
                completion: list[Any] = message
                return completion
            case [7, *_] | End():
                raise Unlike(differs(f"the connection ended: {shown(message)}"))
            case _:
                pass
    raise Unlike((tolerated if server.is_mute else unanswered)("the call was not answered"))


@case(
    "messagepack",
    sends="a call of a method that does not exist",
    expects="a Completion of kind 1, an error",
    source=_SPEC,
)
def call(server: Server) -> Finding:
    """The same in the other encoding."""
    with server.talk("messagepack") as talk:
        answer = _packed_answer(server, talk)
        match answer:
            case [3, dict(), "0", 1, str(_), *_]:
                return conforms(shown(answer))
            case _:
                return differs(shown(answer))


@case("messagepack", sends="a message of a type that does not exist, and a call", expects="an answer", source=_OFFICIAL)
def unknown_type_packed(server: Server) -> Finding:
    """So that the protocol can grow."""
    with server.talk("messagepack") as talk:
        talk.send_packed([99, "etorox-probe"])
        talk.breathe()
        _packed_answer(server, talk)
        return conforms("ignored; the call is answered")


@case("messagepack", sends="what is no array", expects=_CLOSES, source=_OFFICIAL)
def no_array(server: Server) -> Finding:
    """A message is an array."""
    with server.talk("messagepack") as talk:
        talk.socket.binary(b"\x01\x2a")
        return talk.ends()
