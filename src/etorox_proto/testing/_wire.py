"""Bytes that a peer may say, and must not, written by hand: HTTP replies, the WebSocket upgrade, frames.

For tests whose other end is the test itself. Nothing is checked here: a reply of status 999 and a frame that lies
about its length are what such tests are made of. Knows nothing of hub messages; `signalr.JsonCodec` and
`signalr.MessagePackCodec` write those.

Source: RFC 9112 (HTTP/1.1), RFC 6455 (WebSocket), 4.2.2 and 5.2.
"""

from __future__ import annotations

import base64
import hashlib
import struct

__all__ = ["accept_websocket", "http_reply", "websocket_frame"]

_MASK = b"\x01\x02\x03\x04"


def http_reply(status: int, body: bytes = b"", *headers: str, reason: str = "Said") -> bytes:
    """An HTTP response with its length.

    Args:
        status: the status code.
        body: sent as it is; its length is in Content-Length.
        headers: more lines of the head, such as `"Location: /other"`.
        reason: the words behind the status.
    """
    lines = [f"HTTP/1.1 {status} {reason}", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def accept_websocket(request: bytes, *headers: str) -> bytes:
    """The head that accepts a WebSocket request.

    Args:
        request: what the client has sent on this stream; its Sec-WebSocket-Key is answered.
        headers: such as `"Sec-WebSocket-Protocol: x"`. They replace those of the same name, or are added; one without
            a value is left out.
    """
    key = request.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()  # noqa: S324 - RFC 6455, 4.2.2
    fields = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Accept": base64.b64encode(digest).decode(),
    }
    for header in headers:
        name, _, value = header.partition(": ")
        fields[name] = value
    lines = ["HTTP/1.1 101 Switching Protocols", *(f"{name}: {value}" for name, value in fields.items() if value)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def websocket_frame(
    payload: bytes,
    opcode: int = 1,
    *,
    fin: bool = True,
    reserved: int = 0,
    masked: bool = False,
    length: int | None = None,
) -> bytes:
    """One WebSocket frame.

    Args:
        payload: unmasked.
        opcode: 0 continues a message, 1 is text, 2 binary, 8 close, 9 ping, 10 pong.
        fin: whether it is the last frame of its message.
        reserved: the three reserved bits, as a number.
        masked: whether a client sends it; the mask is always the same.
        length: announce this length, in bytes, instead of the payload's.
    """
    size = len(payload) if length is None else length
    head = bytes([fin << 7 | reserved << 4 | opcode])
    if size < 126:
        head += bytes([masked << 7 | size])
    elif size < 65_536:
        head += bytes([masked << 7 | 126]) + struct.pack("!H", size)
    else:
        head += bytes([masked << 7 | 127]) + struct.pack("!Q", size)
    if not masked:
        return head + payload
    return head + _MASK + bytes(byte ^ _MASK[i % 4] for i, byte in enumerate(payload))
