"""A transport for Qt: a QSslSocket for each byte stream, a QTimer for the deadline, signals for the events.

Knows Qt's event loop; everything about the protocol is in the machine. It needs QtCore and QtNetwork, no window system.
See docs/howto/embed.md.
"""

from __future__ import annotations

import math
import time

from PySide6.QtCore import QObject, Qt, QTimer, Signal
from PySide6.QtNetwork import QAbstractSocket, QSslConfiguration, QSslSocket

from etorox_proto import Closed, ConnectionFailed, Dial, ExchangeConnection

SEND_TIMEOUT = 5.0
"""How long a peer that does not read may hold up what we send, in seconds."""


class QtTransport(QObject):
    """Drives one connection to its end, in the thread that it lives in.

    Args:
        connection: a new one, made with `time.monotonic()` as its clock.
        tls: authorities to trust and certificates to present; by default the system's authorities.
        parent: the owner, as for every QObject.

    Attributes:
        received: emitted with every event but `Dial` and `Closed`. Slots may give commands to the connection.
        closed: emitted last, once: with None after our own `close`, else with the `ConnectionFailed`, whose cause is
            the socket's own error. The socket is closed by then.
    """

    received = Signal(object)
    closed = Signal(object)

    def __init__(
        self, connection: ExchangeConnection, tls: QSslConfiguration | None = None, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._connection = connection
        self._tls = tls or QSslConfiguration.defaultConfiguration()
        self._socket: QSslSocket | None = None
        self._is_open = False
        self._send_by = math.inf
        self._broken: OSError | None = None
        self._is_pumping = self._has_ended = False
        self._timer = QTimer(self, singleShot=True, timerType=Qt.TimerType.PreciseTimer)
        # Bytes that wait in the socket come before the deadline, so let Qt go round once: it promises no order.
        self._timer.timeout.connect(lambda: QTimer.singleShot(0, self._time_out))

    def start(self) -> None:
        """Begin; the rest happens in Qt's event loop."""
        self.pump()

    def abort(self) -> None:
        """Drop everything at once; no signal follows."""
        self._has_ended = True
        self._drop()

    def pump(self) -> None:
        """Flush, take events, set the timer anew. Call it after a command that no slot of `received` gave."""
        if self._is_pumping:
            return
        self._is_pumping = True
        try:
            while not self._has_ended:
                self._flush()
                match self._connection.next_event():
                    case None:
                        break
                    case Dial() as dial:
                        self._open(dial)
                    case Closed(error):
                        self._end(error)
                    case event:
                        self.received.emit(event)
        finally:
            self._is_pumping = False
        if self._has_ended:
            self._timer.stop()
        else:
            patience = min(self._connection.deadline, self._send_by) - time.monotonic()
            self._timer.start(math.ceil(min(max(patience, 0.0), 3600.0) * 1000))

    def _open(self, dial: Dial) -> None:
        self._drop()
        self._socket = socket = QSslSocket(self)
        socket.setSslConfiguration(self._tls)
        socket.setSocketOption(QAbstractSocket.SocketOption.LowDelayOption, 1)
        socket.readyRead.connect(self._read)
        socket.bytesWritten.connect(self.pump)
        socket.encryptedBytesWritten.connect(self.pump)
        # An untrusted certificate is an error too: nobody says ignoreSslErrors.
        socket.errorOccurred.connect(self._ended)
        if dial.tls:
            socket.encrypted.connect(self._opened)
            socket.connectToHostEncrypted(dial.host, dial.port, dial.server_name)
        else:
            socket.connected.connect(self._opened)
            socket.connectToHost(dial.host, dial.port)

    def _opened(self) -> None:
        self._is_open = True
        self._connection.stream_opened(time.monotonic())
        self.pump()

    def _flush(self) -> None:
        """Send as much as Qt and the system take; what comes behind stays in the machine, which knows its limits."""
        if self._socket is None or not self._is_open:
            return
        if not self._waiting():
            self._send_by = math.inf
            data = self._connection.data_to_send()
            if data:
                self._socket.write(data)
                self._socket.flush()
                if self._waiting():
                    self._send_by = time.monotonic() + SEND_TIMEOUT

    def _waiting(self) -> bool:
        assert self._socket is not None, "only a socket has a buffer"
        return bool(self._socket.bytesToWrite() or self._socket.encryptedBytesToWrite())

    def _read(self) -> None:
        assert self._socket is not None, "only a socket becomes readable"
        data = bytes(self._socket.readAll().data())
        if data:
            self._connection.receive_data(data, time.monotonic())
            self.pump()

    def _ended(self) -> None:
        """The stream has ended, or could not be opened: say so once, behind what it has brought."""
        socket = self._socket
        assert socket is not None, "only a socket fails"
        broken = OSError(socket.errorString())
        self._read()
        if socket is self._socket:  # else that was all it had to bring
            self._fail(broken)
            self.pump()

    def _time_out(self) -> None:
        now = time.monotonic()
        if self._send_by <= now:
            self._fail(TimeoutError("the peer does not read"))
        self._connection.handle_timeout(now)
        self.pump()

    def _fail(self, broken: OSError) -> None:
        self._broken = broken
        self._drop()
        self._connection.receive_data(b"", time.monotonic())

    def _end(self, error: ConnectionFailed | None) -> None:
        self._flush()
        self._has_ended = True
        self._drop()
        if error is not None:
            error.__cause__ = self._broken
        self.closed.emit(error)

    def _drop(self) -> None:
        socket, self._socket = self._socket, None
        self._is_open, self._send_by = False, math.inf
        if socket is not None:
            socket.blockSignals(True)
            socket.abort()
            socket.deleteLater()
