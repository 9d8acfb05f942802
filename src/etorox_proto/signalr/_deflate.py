"""permessage-deflate: compressed WebSocket messages, as an extension of wsproto's that bounds what it inflates.

`_websocket` makes one `PerMessageDeflate` for a WebSocket that may be compressed, and hands it to wsproto, which calls
everything else. wsproto's own class inflates without a bound, loses its place at a ping between two fragments, and
reads nothing behind a final block; hence this one. What messages hold it does not know.

Source: RFC 7692; what a library of that kind does about window bits, in its section 7.1.2.
"""

from __future__ import annotations

import re
import zlib

from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits
from wsproto.utilities import RemoteProtocolError

__all__ = ["PerMessageDeflate"]

# What zlib reads at once: always these parts of a message, however its bytes come, so that what is found first (data
# that is corrupt, or too much of it) does not depend on that. A small part also bounds the copies that zlib makes.
_SLICE = 1_024
# Every message ends so, and the sender leaves it out (section 7.2.1).
_TAIL = b"\x00\x00\xff\xff"
_WINDOW_BITS = 15
_WINDOW = 1 << _WINDOW_BITS
# zlib cannot write for the smallest window there is, of 8 bits.
_LEAST_BITS = 9

_PARAMETER = re.compile(
    r"(?P<flag>(?:client|server)_no_context_takeover)"
    r'|(?P<window>(?:client|server)_max_window_bits)(?:\s*=\s*(?P<quote>"?)(?P<bits>8|9|1[0-5])(?P=quote))?'
)


class PerMessageDeflate(Extension):
    """The extension on one WebSocket, either role.

    Args:
        max_message: the longest message to inflate, in bytes.

    Attributes:
        fault: what was wrong with a frame, after this has refused it; None before that.
    """

    name = "permessage-deflate"

    def __init__(self, *, max_message: int) -> None:
        self._max_message = max_message
        self._inflater: _Inflater | None = None
        self._deflater: _Deflater | None = None
        self._in_message = False  # a message has begun and not ended
        self._inflates = False  # it is compressed
        self._is_control = False  # the frame at hand is a control frame, and no part of it
        self.fault: str | None = None

    def enabled(self) -> bool:
        """Whether both sides have agreed on it."""
        return self._inflater is not None

    # --------------------------------------------------------------------------------------------- negotiation

    def offer(self) -> str:
        """What a client asks for: no more than that the server may ask for a smaller window."""
        return "client_max_window_bits"

    def finalize(self, offer: str) -> None:
        """The server has accepted, with these parameters.

        Raises:
            RemoteProtocolError: they are none that it may send (section 7.1); the WebSocket fails.
        """
        agreed = _read_parameters(offer)
        if agreed is None or agreed.get("client_max_window_bits") == 0 or self.enabled():
            raise RemoteProtocolError(f"{self.name} once and with other parameters than {offer[:80]!r}")
        self._begin(agreed, own="client", peer="server")

    def accept(self, offer: str) -> str | None:
        """Judge what a client asks for; it may make several offers, the preferred one first.

        Returns:
            The parameters of the answer, or None where the offer cannot be accepted, or another has been.
        """
        agreed = _read_parameters(offer)
        if agreed is None or self.enabled():
            return None
        # The smaller window that a client may ask itself for needs no answer: what it writes can be read all the same.
        agreed.pop("client_max_window_bits", None)
        self._begin(agreed, own="server", peer="client")
        return "; ".join(f"{name}={bits}" if bits else name for name, bits in agreed.items())

    def _begin(self, agreed: dict[str, int], *, own: str, peer: str) -> None:
        self._inflater = _Inflater(self._max_message, is_kept=f"{peer}_no_context_takeover" not in agreed)
        bits = agreed.get(f"{own}_max_window_bits", _WINDOW_BITS)
        if bits >= _LEAST_BITS:
            self._deflater = _Deflater(bits, is_kept=f"{own}_no_context_takeover" not in agreed)

    # ----------------------------------------------------------------------------------------------- receiving

    def frame_inbound_header(
        self, _proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, _payload_length: int
    ) -> CloseReason | RsvBits:
        """The header of a frame came. wsproto may say so several times, until the whole header is there."""
        self._is_control = opcode.iscontrol()
        goes_on = opcode is Opcode.CONTINUATION
        if not self._is_control and goes_on != self._in_message:
            return self._refuse(CloseReason.PROTOCOL_ERROR, "a message inside another, or the rest of none")
        if rsv.rsv1 and (self._is_control or goes_on):
            return self._refuse(CloseReason.PROTOCOL_ERROR, "a compressed frame that does not begin a message")
        if not self._is_control and not goes_on:
            self._inflates = rsv.rsv1
        return RsvBits(True, False, False)

    def frame_inbound_payload_data(self, _proto: FrameDecoder | FrameProtocol, data: bytes) -> bytes | CloseReason:
        """A part of a frame came. Of a compressed message nothing is handed on before it is whole."""
        if self._is_control:
            return data
        self._in_message = True
        if not self._inflates:
            return data
        assert self._inflater is not None, "wsproto asks an extension that is enabled"
        try:
            self._inflater.feed(data)
        except (OverflowError, zlib.error) as error:
            return self._refuse_payload(error)
        return b""

    def frame_inbound_complete(self, _proto: FrameDecoder | FrameProtocol, fin: int) -> bytes | CloseReason | None:
        """A frame came to its end; the message, if it was the last one of a compressed message."""
        if self._is_control or not fin:
            return None
        self._in_message = False
        if not self._inflates:
            return None
        assert self._inflater is not None, "wsproto asks an extension that is enabled"
        try:
            return self._inflater.finish()
        except (OverflowError, zlib.error) as error:
            return self._refuse_payload(error)

    def _refuse_payload(self, error: Exception) -> CloseReason:
        if isinstance(error, OverflowError):
            return self._refuse(CloseReason.MESSAGE_TOO_BIG, "a message too long")
        return self._refuse(CloseReason.INVALID_FRAME_PAYLOAD_DATA, "compressed data that is corrupt")

    def _refuse(self, code: CloseReason, fault: str) -> CloseReason:
        self.fault = fault
        return code

    # ------------------------------------------------------------------------------------------------- sending

    def frame_outbound(
        self, _proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, data: bytes, fin: int
    ) -> tuple[RsvBits, bytes]:
        """Compress a message, all of it in one frame. An empty one stays as it is."""
        if self._deflater is None or opcode.iscontrol() or not data:
            return rsv, data
        assert fin, "messages are sent whole"
        return RsvBits(True, rsv.rsv2, rsv.rsv3), self._deflater.deflate(data)


def _read_parameters(text: str) -> dict[str, int] | None:
    """The parameters of an offer or an answer: for a window its bits, or 0 without a value; 0 for the others.

    None if one is unknown, malformed, or there twice.
    """
    found: dict[str, int] = {}
    for part in text.split(";")[1:]:
        match = _PARAMETER.fullmatch(part.strip())
        name = match and (match["flag"] or match["window"])
        if match is None or name is None or name in found:
            return None
        found[name] = int(match["bits"] or 0)
    return None if found.get("server_max_window_bits") == 0 else found


class _Inflater:
    """Inflates one message after the other.

    It reads with the largest window, in which every smaller one is contained.

    Args:
        max_message: the longest message, in bytes.
        is_kept: whether a message may refer to those before it (context takeover).
    """

    def __init__(self, max_message: int, *, is_kept: bool) -> None:
        self._max_message = max_message
        self._is_kept = is_kept
        self._zlib = zlib.decompressobj(-_WINDOW_BITS)
        self._waiting = bytearray()
        self._message = bytearray()
        self._window = b""  # the end of the messages before this one
        self._has_begun = False

    def feed(self, data: bytes) -> None:
        """Take a part of a message.

        Raises:
            OverflowError: the message is too long.
            zlib.error: its data is corrupt.
        """
        self._has_begun = self._has_begun or bool(data)
        start = 0
        while start < len(data):
            end = start + _SLICE - len(self._waiting)
            self._waiting += data[start:end]
            start = end
            if len(self._waiting) == _SLICE:
                self._inflate(bytes(self._waiting))
                self._waiting.clear()

    def finish(self) -> bytes:
        """The message is there.

        Raises:
            OverflowError, zlib.error: as for `feed`.
        """
        # A frame with nothing in it is no deflate data, but there are senders that write an empty message so.
        if self._has_begun:
            self._inflate(bytes(self._waiting + _TAIL))
        message = bytes(self._message)
        self._waiting.clear()
        self._message.clear()
        self._has_begun = False
        if self._is_kept:
            self._window = (self._window + message[-_WINDOW:])[-_WINDOW:]
        else:
            self._zlib = zlib.decompressobj(-_WINDOW_BITS)
        return message

    def _inflate(self, data: bytes) -> None:
        while data:
            self._message += self._zlib.decompress(data, self._max_message + 1 - len(self._message))
            if len(self._message) > self._max_message:
                raise OverflowError
            data = b""
            if self._zlib.eof:
                # A final block ends what zlib reads, but not the message (section 7.2.3.4).
                data = self._zlib.unused_data
                window = (self._window + self._message[-_WINDOW:])[-_WINDOW:]
                self._zlib = zlib.decompressobj(-_WINDOW_BITS, zdict=window)


class _Deflater:
    """Deflates one message after the other.

    Args:
        bits: the size of the window, from 9 to 15.
        is_kept: whether a message may refer to those before it (context takeover).
    """

    def __init__(self, bits: int, *, is_kept: bool) -> None:
        self._bits = bits
        self._is_kept = is_kept
        self._zlib = self._new()

    def deflate(self, message: bytes) -> bytes:
        """The payload for a message that is not empty."""
        if not self._is_kept:
            self._zlib = self._new()
        data = self._zlib.compress(message) + self._zlib.flush(zlib.Z_SYNC_FLUSH)
        return data[: -len(_TAIL)]

    def _new(self) -> zlib._Compress:
        return zlib.compressobj(wbits=-self._bits)
