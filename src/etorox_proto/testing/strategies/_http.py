"""Negotiate responses, and HTTP replies of every shape that a client may meet.

Source: SignalR transport protocols, "negotiate"; RFC 9112, 6 and 7.1.
"""

from __future__ import annotations

import msgspec
from hypothesis import strategies as st

from etorox_proto.signalr import AvailableTransport, NegotiateResponse
from etorox_proto.testing._wire import http_reply

__all__ = ["bad_http_replies", "http_replies", "negotiate_bodies", "negotiate_responses"]

_names = st.sampled_from(["shown", "secret", "a/b?c=d&e", "é", "x" * 200])
_WEBSOCKETS = AvailableTransport("WebSockets", ["Text", "Binary"])
_transports = st.sampled_from(
    [
        [_WEBSOCKETS],
        [_WEBSOCKETS, AvailableTransport("LongPolling", ["Text"])],
        [AvailableTransport("Unheard", []), _WEBSOCKETS],
    ]
)


def negotiate_responses() -> st.SearchStrategy[NegotiateResponse]:
    """What a server may answer to a negotiate request: a connection in version 1 or 0, a redirect, a refusal."""
    return st.one_of(
        st.builds(
            NegotiateResponse,
            negotiate_version=st.just(1),
            connection_id=_names,
            connection_token=_names,
            available_transports=_transports,
        ),
        st.builds(NegotiateResponse, connection_id=_names, available_transports=_transports),
        st.builds(
            NegotiateResponse,
            url=st.sampled_from(["https://other.test/hub", "https://other.test:8443/a?b=c"]),
            access_token=st.none() | st.just("token"),
        ),
        st.builds(NegotiateResponse, error=st.sampled_from(["no", "", "é"])),
    )


def negotiate_bodies() -> st.SearchStrategy[bytes]:
    """The bodies of such responses, and bodies that are none: cut, of other types, with parts missing, not JSON."""
    sound = negotiate_responses().map(msgspec.json.encode)
    cut = st.tuples(sound, st.integers(0, 10_000)).map(lambda drawn: drawn[0][: drawn[1] % len(drawn[0])])
    foreign = st.sampled_from(
        [
            b"{}",
            b"[]",
            b"<html>sign in</html>",
            b'{"connectionId":1}',
            b'{"connectionId":"","availableTransports":[]}',
            b'{"connectionId":"c","availableTransports":[]}',
            b'{"url":"http://[/"}',
            b'{"ProtocolVersion":"1.5","ConnectionId":"c"}',
            b"\xff",
        ]
    )
    return st.one_of(sound, foreign, cut)


def _lengthless(reply: tuple[int, bytes]) -> bytes:
    status, body = reply
    return f"HTTP/1.1 {status} Said\r\n\r\n".encode() + body


def _chunked(reply: tuple[tuple[int, bytes], int, bytes]) -> bytes:
    (status, body), size, extra = reply
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    chunks = b"".join(b"%x%s\r\n%s\r\n" % (len(piece), extra, piece) for piece in pieces)
    head = f"HTTP/1.1 {status} Said\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return head + chunks + b"0\r\n\r\n"


def http_replies(bodies: st.SearchStrategy[bytes] | None = None) -> st.SearchStrategy[bytes]:
    """Replies that are sound HTTP: with a length, in chunks, up to the end of the stream, behind interim replies.

    Args:
        bodies: by default those of `negotiate_bodies`.
    """
    body = negotiate_bodies() if bodies is None else bodies
    statuses = st.sampled_from([200, 204, 301, 401, 404, 429, 500, 503])
    told = st.tuples(st.just(200) | statuses, body)
    interim = st.sampled_from([b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"])
    with_length = told.map(lambda reply: http_reply(*reply))
    return st.one_of(
        with_length,
        st.tuples(told, st.integers(1, 100), st.sampled_from([b"", b";a=b"])).map(_chunked),
        told.map(_lengthless),
        st.tuples(interim, with_length).map(b"".join),
        with_length.map(lambda reply: reply.replace(b"\r\n", b"\n", 3)),
    )


def bad_http_replies() -> st.SearchStrategy[bytes]:
    """Replies that are no HTTP, lie about their length, or are larger than anyone would want."""
    return st.one_of(
        st.sampled_from(
            [
                b"nonsense\r\n\r\n",
                b"\x15\x03\x01\x00\x02\x02\x46",
                b"HTTP/1.1\r\n\r\n",
                b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
                b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;" + b"x" * 9_000,
                b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
                b"HTTP/1.1 101 Switching\r\n\r\n\x81\x00",
            ]
        ),
        st.binary(min_size=1, max_size=40),
    )
