"""`TlsStream`: TLS over memory on a byte stream of any library, for both sides.

It knows TLS's records from `TlsMemory`, and nothing of the library: it waits only where the stream below does.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from typing import final

from etorox_proto import Dial
from etorox_transports._async._backend import READ_SIZE, AsyncByteStream, receive_each
from etorox_transports._async._listening import SocketStream
from etorox_transports._attempt import new_tls_context
from etorox_transports._tls import TlsMemory

__all__ = ["TlsStream", "secured", "secured_client"]


async def secured(stream: AsyncByteStream, dial: Dial, context: ssl.SSLContext | None) -> AsyncByteStream:
    """Shake hands as a client.

    Args:
        stream: to the server; it is closed if the handshake fails, and belongs to what is returned otherwise.
        dial: what to verify.
        context: how to verify and what to present; by default the system's authorities.

    Raises:
        ssl.SSLError: it failed.
        Exception: what the stream raises.
    """
    try:
        tls = TlsStream(stream, context or new_tls_context(), dial.server_name)
        await tls.shake_hands()
    except BaseException:
        await stream.aclose()
        raise
    return tls


async def secured_client(stream: SocketStream, context: ssl.SSLContext) -> SocketStream:
    """Shake hands as a server. Whatever it raises is the end of the stream, which stays open."""
    tls = _ServedTlsStream(stream, context)
    await tls.shake_hands()
    return tls


class TlsStream:
    """A byte stream within another one; call `shake_hands` first.

    Args:
        stream: what carries the ciphertext; it belongs to this object from now on.
        context: how to verify and what to present.
        server_name: what to verify; None for the server's side.
    """

    def __init__(self, stream: AsyncByteStream, context: ssl.SSLContext, server_name: str | None) -> None:
        self._stream = stream
        self._tls = TlsMemory(context, server_name)
        self._is_sending = False
        self.aclose = stream.aclose  # without TLS's goodbye; the WebSocket has one of its own

    async def shake_hands(self) -> None:
        """Shake hands; the stream below is left open if that fails.

        Raises:
            ssl.SSLError: it failed.
            Exception: what the stream below raises.
        """
        try:
            while not self._tls.shake_hands():
                await self._flush()
                self._tls.receive_data(await self._stream.receive_some(READ_SIZE))
        except ssl.SSLError:
            with contextlib.suppress(Exception):
                await self._flush()  # the peer is told what was wrong
            raise
        await self._flush()

    async def send_all(self, data: bytes) -> None:
        """See `AsyncByteStream.send_all`."""
        self._tls.encrypt(data)
        await self._flush()

    async def receive_some(self, max_bytes: int) -> bytes:
        """See `AsyncByteStream.receive_some`; what whole records hold comes together, a record more at most."""
        while not (data := self._tls.decrypt(max_bytes)):
            if await self._is_over():
                return b""
            self._tls.receive_data(await self._stream.receive_some(READ_SIZE))
        return data

    async def receive_each(self, hear: Callable[[bytes], bool]) -> None:
        """See `HeardStream.receive_each`."""
        tls, wants_more = self._tls, True

        def decrypt() -> None:
            nonlocal wants_more
            while wants_more and (data := tls.decrypt(READ_SIZE)):
                wants_more = hear(data)

        def take(data: bytes) -> bool:
            tls.receive_data(data)
            decrypt()
            return wants_more and tls.end is None and not tls.has_to_send

        decrypt()
        while wants_more:
            if await self._is_over():
                hear(b"")
                return
            await receive_each(self._stream, take)

    async def _is_over(self) -> bool:
        """When all was read: whether nothing comes any more; raises why, if there is a reason."""
        end = self._tls.end
        if self._tls.has_to_send:  # TLS itself has something to say, such as a new key or what is wrong
            with contextlib.suppress(Exception) if end is not None else contextlib.nullcontext():
                await self._flush()
        if isinstance(end, OSError):
            raise end
        return end is not None

    async def _flush(self) -> None:
        """Send what waits, in order. A reader and a writer may come here: what the second has, the first sends."""
        if self._is_sending:
            return
        self._is_sending = True
        try:
            while self._tls.has_to_send:
                await self._stream.send_all(self._tls.data_to_send())
        finally:
            self._is_sending = False


@final
class _ServedTlsStream(TlsStream):
    """The server's side, whose end can be told to the client."""

    def __init__(self, stream: SocketStream, context: ssl.SSLContext) -> None:
        super().__init__(stream, context, None)
        self.send_eof = stream.send_eof
