"""WebSocket frames: messages in one piece or in many, control frames between them, and frames against the rules.

Source: RFC 6455, 5.2 to 5.5, 7.4.
"""

from __future__ import annotations

from hypothesis import strategies as st

from etorox_proto.testing._wire import websocket_frame

__all__ = ["broken_frames", "control_frames", "frame_sequences", "websocket_messages"]


def control_frames(*, masked: bool = False) -> st.SearchStrategy[bytes]:
    """Pings and pongs; not the close frame, which ends a sequence."""
    payload = st.sampled_from([b"", b"p", b"p" * 125])
    return st.tuples(payload, st.sampled_from([9, 10])).map(
        lambda drawn: websocket_frame(drawn[0], drawn[1], masked=masked)
    )


@st.composite
def websocket_messages(
    draw: st.DrawFn, payloads: st.SearchStrategy[bytes], *, opcode: int = 1, masked: bool = False
) -> bytes:
    """One message with such a payload, in one frame or in several with control frames between them.

    Args:
        draw: given by Hypothesis.
        payloads: for text (opcode 1) they must be UTF-8, if the message is to be sound.
        opcode: 1 for text, 2 for binary.
        masked: whether a client says it.
    """
    payload = draw(payloads)
    cuts = sorted(draw(st.sets(st.integers(0, len(payload)), max_size=3)))
    starts = [0, *cuts]
    wire = b""
    for index, (start, end) in enumerate(zip(starts, [*cuts, len(payload)], strict=True)):
        if index and draw(st.booleans()):
            wire += draw(control_frames(masked=masked))
        kind = 0 if index else opcode
        wire += websocket_frame(payload[start:end], kind, fin=index == len(cuts), masked=masked)
    return wire


def broken_frames(*, masked: bool = False) -> st.SearchStrategy[bytes]:
    """Frames that a peer must not send: wrong opcode, reserved bit, wrong masking, not UTF-8, bad close, endless."""

    def frame(payload: bytes, opcode: int = 1, *, fin: bool = True, reserved: int = 0) -> bytes:
        return websocket_frame(payload, opcode, fin=fin, reserved=reserved, masked=masked)

    return st.sampled_from(
        [
            frame(b"", 3),
            frame(b"", 11),
            frame(b"", reserved=4),
            frame(b"", 9, fin=False),
            frame(b"x" * 126, 9),
            frame(b"x", 0),
            frame(b"\xff\xfe"),
            frame(b"\x00\x01", 8),
            frame(b"\x03", 8),
            websocket_frame(b"x", masked=not masked),
            websocket_frame(b"", 2, length=2**63, masked=masked),
        ]
    )


def frame_sequences(
    payloads: st.SearchStrategy[bytes], *, opcode: int = 1, masked: bool = False, broken: bool = False
) -> st.SearchStrategy[list[bytes]]:
    """What one side says on a WebSocket: messages and control frames; join them to have the bytes.

    Args:
        payloads: of the messages.
        opcode: 1 for text, 2 for binary.
        masked: whether a client says it.
        broken: with frames against the rules among them, and a close frame where others follow.
    """
    parts = [websocket_messages(payloads, opcode=opcode, masked=masked), control_frames(masked=masked)]
    if broken:
        closes = st.sampled_from([b"", b"\x03\xe8", b"\x03\xe9bye"])
        parts += [broken_frames(masked=masked), closes.map(lambda reason: websocket_frame(reason, 8, masked=masked))]
    return st.lists(st.one_of(parts), max_size=6)
