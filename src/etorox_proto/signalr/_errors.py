"""The one tree of errors, for both packages.

Three kinds are kept apart. The *peer's* faults (and the clock's) are values: they arrive in `Closed.error` and
`Completed.error` and are never raised by an input method. The *caller's* faults are exceptions, raised by commands
and constructors before anything is sent or changed. *Our own* faults are assertions.

Every message says what was expected, what came, and in which state, and none holds a key, a signature or a token.
This module knows nothing of the wire; everybody may import it. The exchange adds its own leaves in
`etorox_proto._errors`.
"""

from __future__ import annotations

from typing import Any, Literal

__all__ = [
    "AccessTokenFailed",
    "CallCancelled",
    "CallError",
    "CallLost",
    "ConnectionClosed",
    "ConnectionFailed",
    "ConnectionLost",
    "HandshakeRefused",
    "HubError",
    "LimitExceeded",
    "LocalProtocolError",
    "NegotiationFailed",
    "RemoteProtocolError",
    "ServerClosed",
    "SignalRError",
    "TimedOut",
    "UnexpectedResult",
    "UpgradeFailed",
]


class SignalRError(Exception):
    """Root of every error of `etorox_proto` and `etorox_transports`."""


# ------------------------------------------------------------------------------------------------ the caller's


class LocalProtocolError(SignalRError):
    """A command or constructor was given something it cannot do; nothing was sent and nothing changed."""


class ConnectionClosed(LocalProtocolError):
    """A command came after the end of the connection; make a new connection object."""


# -------------------------------------------------------------------------------------------- one call's outcome


class CallError(SignalRError):
    """Why one call or stream did not end well; the connection itself may be fine. In `Completed.error`."""


class HubError(CallError):
    """The server completed the call with an error; the message is the server's own text."""


class CallCancelled(CallError):
    """The application cancelled the call."""


class CallLost(CallError):
    """The connection ended before the call did, for the reason in `__cause__` (None: our own `close`).

    Attributes:
        delivery: `"not_sent"` if no byte of the call left this object, so that repeating it is safe;
            `"maybe_sent"` if the server may have received and executed it.
    """

    def __init__(self, delivery: Literal["not_sent", "maybe_sent"]) -> None:
        if delivery == "not_sent":
            super().__init__("the connection ended before the call was sent")
        else:
            super().__init__("the connection ended before the call did; the server may have received it")
        self.delivery = delivery


class UnexpectedResult(CallError):
    """The server answered with something that the call cannot accept, such as a value of the wrong type."""


# ------------------------------------------------------------------------------------------ the connection's end


class ConnectionFailed(SignalRError):
    """Why a connection ended otherwise than by our own `close`. In `Closed.error`.

    Attributes:
        may_retry: a hint: whether a new attempt with the same configuration could succeed.
    """

    may_retry: bool = True

    def redact(self, *secrets: str) -> None:
        """Blot these texts out, wherever the error quotes the peer with them."""

        def blot(value: Any) -> Any:
            for secret in secrets:
                if isinstance(value, str) and secret:
                    value = value.replace(secret, "***")
            return value

        self.args = tuple(map(blot, self.args))
        vars(self).update({name: blot(value) for name, value in vars(self).items()})


class AccessTokenFailed(ConnectionFailed):
    """There was no access token to be had: the application's own callable raised, or gave what no header can carry.

    What it raised is in `__cause__`; nothing of it is repeated here, for it may hold secrets.
    """


class NegotiationFailed(ConnectionFailed):
    """The negotiate request was refused, or its response cannot be used.

    Attributes:
        status: the HTTP status, or None if no usable response came.
    """

    def __init__(self, message: str, *, status: int | None = None, may_retry: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.may_retry = may_retry


class UpgradeFailed(ConnectionFailed):
    """The server did not turn the HTTP connection into a WebSocket.

    Attributes:
        status: the HTTP status, or None if the response was no valid HTTP or WebSocket handshake.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        # 404 means that the connection id is spent or unknown; a new attempt negotiates a new one.
        self.may_retry = status not in {400, 401, 403, 405, 426}


class HandshakeRefused(ConnectionFailed):
    """The server refused the SignalR handshake; the message holds the server's text."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        # A protocol or version that it does not support it will not support next time. "Handshake was canceled." says
        # that the line was slow, and passes like every other reason.
        self.may_retry = "not support" not in message


class RemoteProtocolError(ConnectionFailed):
    """The peer broke the protocol.

    Attributes:
        expected: what the protocol allows here.
        got: what came instead, described and never quoted at length.
        state: the state of the connection at that moment, `""` where a layer does not know it.
    """

    def __init__(self, expected: str, got: str, *, state: str = "") -> None:
        super().__init__(expected, got, state)
        self.expected = expected
        self.got = got
        self.state = state

    def __str__(self) -> str:
        where = f" (while {self.state})" if self.state else ""
        return f"expected {self.expected}, got {self.got}{where}"


class LimitExceeded(RemoteProtocolError):
    """The peer sent more than `Limits` allows.

    Attributes:
        limit: the name of the field of `Limits`.
        allowed: its value.
    """

    may_retry = False

    def __init__(self, limit: str, allowed: int, what: str, *, state: str = "") -> None:
        super().__init__(f"{what} of at most {allowed} (Limits.{limit})", "more", state=state)
        self.limit = limit
        self.allowed = allowed


class ServerClosed(ConnectionFailed):
    """The server said goodbye with a SignalR Close message.

    Attributes:
        reason: the server's error text, None if it gave none.
        allow_reconnect: whether the server invites the client to come back; `may_retry` says the same.
    """

    def __init__(self, reason: str | None, *, allow_reconnect: bool) -> None:
        text = "the server closed the connection"
        super().__init__(f"{text}: {reason}" if reason is not None else text)
        self.reason = reason
        self.allow_reconnect = allow_reconnect
        self.may_retry = allow_reconnect


class ConnectionLost(ConnectionFailed):
    """The byte stream or the WebSocket ended without a SignalR Close message.

    Attributes:
        code: the WebSocket close code (RFC 6455 section 7.4), None if the stream just stopped.
    """

    def __init__(self, message: str, *, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class TimedOut(ConnectionFailed):
    """Something did not happen in time.

    Attributes:
        timer: which timer: `"opening"`, `"handshake"`, `"silence"`, `"setup"`.
        seconds: how long was waited.
    """

    def __init__(self, timer: str, seconds: float, what: str) -> None:
        super().__init__(f"{what} within {seconds:g} s")
        self.timer = timer
        self.seconds = seconds
