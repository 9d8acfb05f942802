"""Cases about the handshake.

Source: SignalR's Hub Protocol, Overview; what it leaves open is what ASP.NET Core's server does.
"""

from __future__ import annotations

from typing import Any

import msgspec

from etorox_transports.probe._case import case
from etorox_transports.probe._finding import Finding, conforms, differs, tolerated, unanswered
from etorox_transports.probe._server import Server
from etorox_transports.probe._socket import End
from etorox_transports.probe._talk import NO_SUCH_METHOD, Talk, shown

_SPEC, _OFFICIAL = "Hub Protocol", "ASP.NET Core"
_RIGHT = '{"protocol":"json","version":1}\x1e'
# What a server grants a client for its handshake, and a little more, in seconds.
_PATIENCE = 25.0


def _accepted(server: Server, *requests: str) -> Finding:
    """See that a handshake is accepted that came like this."""
    with Talk(server.socket()) as talk:
        talk.socket.text(*requests)
        return _judge(talk, talk.hear_first())


def _judge(talk: Talk, answer: Any) -> Finding:
    talk.check(answer)
    return conforms(shown(answer))


def _refused(server: Server, request: str, *, seconds: float | None = None) -> Finding:
    """See that a handshake is refused with an error, and that the connection ends."""
    with Talk(server.socket()) as talk:
        answer = talk.shake_hands(request) if request else talk.hear_first(seconds)
        match answer:
            case {"error": str(error)} if error:
                pass
            case dict():
                return differs(f"accepted, with {shown(answer)}")
            case End():
                return tolerated(f"{answer.how}, without an error that says why")
            case None:
                return unanswered("nothing came, and the connection stays open")
            case _:
                return differs(shown(answer))
        for message in talk.messages():  # such as a Close message
            if isinstance(message, End):
                return conforms(f"{shown(answer)}, then {message.how}")
        return differs(f"{shown(answer)}, but the connection stays open")


@case("handshake", sends='{"protocol":"json","version":1}', expects="{}", source=_SPEC)
def json(server: Server) -> Finding:
    """What clients send."""
    return _accepted(server, _RIGHT)


@case(
    "handshake",
    sends='{"protocol":"messagepack","version":1}',
    expects="{} or an error that refuses it",
    source=_SPEC,
)
def messagepack(server: Server) -> Finding:
    """A server need not speak it."""
    with Talk(server.socket(), "messagepack") as talk:
        answer = talk.shake_hands()
        match answer:
            case {"error": str(error)} if error:
                return conforms(f"refused: {error}")
            case _:
                return _judge(talk, answer)


@case("handshake", sends="the request in two WebSocket messages", expects="{}", source=_OFFICIAL)
def in_pieces(server: Server) -> Finding:
    """The borders of WebSocket messages mean nothing to the official server."""
    return _accepted(server, _RIGHT[:12], _RIGHT[12:])


@case(
    "handshake",
    sends="the request and a call in one WebSocket message",
    expects="{}, and the answer to the call",
    source=_SPEC,
)
def with_a_call(server: Server) -> Finding:
    """Early messages are kept, not lost."""
    with Talk(server.socket()) as talk:
        call = {"type": 1, "invocationId": "early", "target": NO_SUCH_METHOD, "arguments": []}
        talk.socket.text(_RIGHT + msgspec.json.encode(call).decode() + "\x1e")
        found = _judge(talk, talk.hear_first())
        talk.is_mute = server.is_mute
        return conforms(f"{found.text}, then {shown(talk.answer('early'))}")


@case("handshake", sends="a request with a property that does not exist", expects="{}", source=_OFFICIAL)
def unknown_property(server: Server) -> Finding:
    """What is not known is ignored."""
    return _accepted(server, '{"protocol":"json","version":1,"etoroxProbe":true}\x1e')


@case(
    "handshake",
    sends='{"protocol":"etorox-probe","version":1}',
    expects='an "error", and the end of the connection',
    source=_SPEC,
)
def unknown_protocol(server: Server) -> Finding:
    """A client must learn that they do not understand each other."""
    return _refused(server, '{"protocol":"etorox-probe","version":1}\x1e')


@case(
    "handshake",
    sends='{"protocol":"json","version":100}',
    expects='an "error", and the end of the connection',
    source=_OFFICIAL,
)
def version_too_high(server: Server) -> Finding:
    """A client of the future."""
    return _refused(server, '{"protocol":"json","version":100}\x1e')


@case(
    "handshake",
    sends='{"protocol":"json"}, without a version',
    expects='an "error", and the end of the connection',
    source=_SPEC,
)
def without_version(server: Server) -> Finding:
    """Both properties are required."""
    return _refused(server, '{"protocol":"json"}\x1e')


@case("handshake", sends="what is no JSON", expects='an "error", and the end of the connection', source=_OFFICIAL)
def malformed(server: Server) -> Finding:
    """Not even JSON."""
    return _refused(server, "etorox-probe\x1e")


@case(
    "handshake",
    sends="a call and no handshake",
    expects='an "error", and the end of the connection',
    source=_OFFICIAL,
)
def left_out(server: Server) -> Finding:
    """A hub message is no handshake request."""
    return _refused(server, f'{{"type":1,"invocationId":"0","target":"{NO_SUCH_METHOD}","arguments":[]}}\x1e')


@case(
    "handshake",
    sends="nothing",
    expects='an "error" and the end of the connection, after some 15 s',
    source=_OFFICIAL,
    thorough=True,
)
def none_at_all(server: Server) -> Finding:
    """Else whoever opens WebSockets and says nothing takes the server's memory."""
    began = server.now
    found = _refused(server, "", seconds=_PATIENCE)
    return Finding(found.outcome, f"{found.text}, after {server.now - began:.0f} s")


@case(
    "handshake",
    sends="a request of 100,000 bytes",
    expects="that it is refused, with an error or without",
    source=_OFFICIAL,
    thorough=True,
)
def oversized(server: Server) -> Finding:
    """Memory for somebody who has not said who he is."""
    with Talk(server.socket()) as talk:
        answer = talk.shake_hands(f'{{"protocol":"{"x" * 100_000}","version":1}}\x1e')
        match answer:
            case None:
                return unanswered("nothing came, and the connection stays open")
            case End():
                return conforms(answer.how)
            case {"error": str(error)} if error:
                return conforms("an error")
            case _:
                return differs(shown(answer))
