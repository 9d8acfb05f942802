"""Cases about time, the end of a connection, and stateful reconnect.

Source: SignalR's Hub Protocol; what it leaves open is what ASP.NET Core's server does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from etorox_transports.probe._case import case
from etorox_transports.probe._finding import Finding, Outcome, Unlike, conforms, differs, tolerated, unanswered
from etorox_transports.probe._http import Reply
from etorox_transports.probe._server import Server
from etorox_transports.probe._socket import End
from etorox_transports.probe._talk import NO_SUCH_METHOD, Talk, shown

_SPEC, _OFFICIAL = "Hub Protocol", "ASP.NET Core"
# After so much silence a client gives its server up, in seconds; and a server its client, with some grace.
_SERVER_TIMEOUT = 30.0
_CLIENT_TIMEOUT = 45.0
# A server pings every 15 s, and looks about once a second whether it is time.
_PING_IS_DUE = 16.5
_STATEFUL = "negotiateVersion=1&useStatefulReconnect=true"
# A server acknowledges about once a second.
_ACK = 5.0


# ----------------------------------------------------------------------------------------------------------------- time


@case(
    "time",
    sends="nothing behind the handshake",
    expects="a ping within 30 s, at which clients give their server up",
    source=_SPEC,
)
def server_pings(server: Server) -> Finding:
    """Usually it comes every 15 s."""
    with server.greet() as talk:
        began = last = server.now
        for message in _each_second(talk, _SERVER_TIMEOUT):
            passed = server.now - began
            if isinstance(message, End):
                if passed < _PING_IS_DUE:
                    return tolerated(f"{message.how}, after {passed:.1f} s: does it drop whoever does not log in?")
                return differs(f"{message.how}, after {passed:.1f} s")
            if talk.pings:
                after = talk.pings[0] - began
                return (conforms if after <= _PING_IS_DUE else tolerated)(f"a ping after {after:.1f} s")
            last = last if message is None else server.now
        if last > began:
            return tolerated(f"no ping within {_SERVER_TIMEOUT:g} s, but other messages, which do as well")
        return unanswered(f"no ping within {_SERVER_TIMEOUT:g} s")


def _each_second(talk: Talk, seconds: float) -> Iterator[Any]:
    """What comes within so long; also None, where nothing came for a second."""
    until = talk.socket.now + seconds
    while talk.socket.now < until:
        yield talk.hear(min(1.0, until - talk.socket.now))


@case(
    "time",
    sends="one ping, and then nothing",
    expects="the end of the connection after some 30 s",
    source=_OFFICIAL,
    thorough=True,
)
def client_is_silent(server: Server) -> Finding:
    """A client that has pinged once is expected to go on."""
    with server.greet() as talk:
        talk.send({"type": 6})
        began, said = server.now, ""
        for message in talk.messages(_CLIENT_TIMEOUT):
            match message:
                case End():
                    return conforms(f"{said}{message.how}, after {server.now - began:.1f} s")
                case {"type": 7}:
                    said = f"{shown(message)}, then "
                case _:
                    pass
        return tolerated(f"no end within {_CLIENT_TIMEOUT:g} s: it keeps clients that are silent")


# ---------------------------------------------------------------------------------------------------------------- close


def _says_goodbye(talk: Talk) -> Finding:
    """What the server says when it was told that the client goes."""
    said = ""
    for message in talk.messages():
        match message:
            case End(code=None):
                return tolerated(f"{said}{message.how} without a WebSocket close frame")
            case End():
                if (end := talk.socket.how_it_ends()) is None:
                    return tolerated(f"{said}{message.how}, but the stream stays open")
                return (conforms if message.code == 1000 else tolerated)(f"{said}{message.how}, then {end.how}")
            case {"type": 7}:
                said = f"{shown(message)}, then "
            case _:
                pass
    return unanswered("the connection stays open")


@case(
    "close",
    sends="a WebSocket close frame with code 1000",
    expects="a close frame in answer, and the end of the stream",
    source="RFC 6455, 5.5.1",
)
def websocket_close(server: Server) -> Finding:
    """How clients before 8.0 go."""
    with server.greet() as talk:
        talk.socket.close()
        return _says_goodbye(talk)


@case(
    "close",
    sends="a Close message",
    expects="the end: a WebSocket close frame and the end of the stream",
    source=_SPEC,
)
def close_message(server: Server) -> Finding:
    """How clients go since 8.0; older servers take it for an unknown message, and drop the connection."""
    with server.greet() as talk:
        talk.send({"type": 7})
        return _says_goodbye(talk)


@case("close", sends="a call behind a Close message", expects="no answer to it", source=_SPEC)
def nothing_after_close(server: Server) -> Finding:
    """Nothing after Close is to be processed."""
    with server.greet() as talk:
        talk.send({"type": 7}, {"type": 1, "invocationId": "late", "target": NO_SUCH_METHOD, "arguments": []})
        for message in talk.messages():
            match message:
                case {"type": 3, "invocationId": "late"}:
                    return tolerated(f"an answer: {shown(message)}")
                case End():
                    return conforms(f"no answer; {message.how}")
                case _:
                    pass
        return unanswered("the connection stays open")


# --------------------------------------------------------------------------------------------------- stateful reconnect


def _stateful(server: Server) -> tuple[str, Talk]:
    """A connection that can be resumed, and its id."""
    connect_id = server.connect_id(_STATEFUL)
    if connect_id is None or not server.stateful:
        raise Unlike(Finding(Outcome.SKIPPED, "the server does not grant stateful reconnect"))
    opened = server.open(connect_id)
    if isinstance(opened, Reply):
        raise Unlike(differs(f"no WebSocket: {opened}"))
    talk = Talk(opened)
    try:
        talk.check(talk.shake_hands('{"protocol":"json","version":2}\x1e'))
    except Unlike as unlike:
        talk.drop()
        raise Unlike(differs(f"no connection of version 2: {unlike.finding.text}")) from None
    return connect_id, talk


@case(
    "resume",
    sends="POST /negotiate that asks for stateful reconnect",
    expects="that it is granted or not",
    source=_SPEC,
)
def negotiate(server: Server) -> Finding:
    """Servers have it since 8.0, if the endpoint allows it."""
    if server.connect_id(_STATEFUL) is None:
        raise Unlike(Finding(Outcome.SKIPPED, "negotiation gives no connection"))
    return conforms("granted" if server.stateful else "not granted")


@case("resume", sends="a call, where stateful reconnect was granted", expects="an Ack, about 1 s later", source=_SPEC)
def acknowledges(server: Server) -> Finding:
    """Else the client keeps everything for ever."""
    _, talk = _stateful(server)
    with talk:
        talk.send({"type": 1, "invocationId": "0", "target": NO_SUCH_METHOD, "arguments": []})
        began = server.now
        for message in talk.messages(_ACK):
            match message:
                case {"type": 8, "sequenceId": 1}:
                    return conforms(f"{shown(message)} after {server.now - began:.1f} s")
                case {"type": 8}:
                    return differs(shown(message))
                case {"type": 7} | End():
                    return differs(f"the connection ended: {shown(message)}")
                case _:
                    pass
        return unanswered(f"no Ack within {_ACK:g} s")


@case(
    "resume",
    sends="the loss of the stream, and another WebSocket request with the same id",
    expects="status 101, and a Sequence message first",
    source=_SPEC,
)
def comes_back(server: Server) -> Finding:
    """What stateful reconnect is for."""
    connect_id, talk = _stateful(server)
    talk.drop()
    opened = server.open(connect_id)
    if isinstance(opened, Reply):
        return differs(str(opened))
    with Talk(opened) as again:
        again.send({"type": 9, "sequenceId": 1})
        first = again.hear_first()
        match first:
            case {"type": 9, "sequenceId": int()}:
                return conforms(shown(first))
            case None:
                return unanswered("nothing came")
            case _:
                return differs(shown(first))
