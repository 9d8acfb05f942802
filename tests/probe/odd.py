"""Servers that do something unusual, and what the probe says of it."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from wsproto.events import Ping

from etorox_transports.probe import Outcome
from probe.hubs import CLOSE, Plain

CONFORMS, TOLERATED, DIFFERS, NOT_ANSWERED, SKIPPED = Outcome


class Raw(str):
    """Text that is sent as it stands."""

    __slots__ = ()

    def get(self, _name: str) -> None:
        return None


class HasNoWebSockets(Plain):
    def negotiated(self, version: int) -> dict[str, Any]:
        transports = [{"transport": "LongPolling", "transferFormats": ["Text"]}]
        return {**super().negotiated(version), "availableTransports": transports}


class RefusesToNegotiate(Plain):
    def negotiate(self, _query: dict[str, str]) -> tuple[int, str, bytes]:
        return 200, "text/plain", b'{"error":"closed for today"}'


class NegotiatesVersion2(Plain):
    def negotiated(self, version: int) -> dict[str, Any]:
        return {**super().negotiated(version), "negotiateVersion": 2 * version}


class GivesOldClientsATokenToo(Plain):
    def negotiated(self, version: int) -> dict[str, Any]:
        return {"connectionToken": "unused", **super().negotiated(version)}


class HasOneNameForBoth(Plain):
    def negotiated(self, version: int) -> dict[str, Any]:
        response = super().negotiated(version)
        return {**response, "connectionId": response["connectionToken"]} if version else response


class HasOneToken(Plain):
    def negotiated(self, version: int) -> dict[str, Any]:
        return {**super().negotiated(version), "connectionToken": "0123456789012345678901"}


class RefusesVersionsByStatus(Plain):
    def negotiate(self, query: dict[str, str]) -> tuple[int, str, bytes]:
        bad = not query.get("negotiateversion", "0").isdecimal()
        return (400, "text/plain", b"Bad version") if bad else super().negotiate(query)


class FailsWithoutEnd(Plain):
    """Its errors are pages."""

    def reply(self, method: str, path: str, query: dict[str, str]) -> tuple[int, str, bytes]:
        status, kind, body = super().reply(method, path, query)
        return (500, "text/html", b"<h1>Oops</h1>") if status != 200 else (status, kind, body)


class NeedsAnId(Plain):
    def refusal(self, connect_id: str | None) -> int | None:
        return 400 if connect_id is None else super().refusal(connect_id)


class RefusesWebSockets(Plain):
    def refusal(self, _connect_id: str | None) -> int | None:
        return 503


class SaysNothingOfHandshakes(Plain):
    """It hangs up instead."""

    def handshake(self, request: str) -> Any:
        response = super().handshake(request)
        if "error" in response:
            raise ConnectionResetError
        return response


class RefusesEverybody(Plain):
    """And says goodbye besides."""

    parting: ClassVar[list[Any]] = [{"type": 7}]

    def handshake(self, _request: str) -> dict[str, Any]:
        return {"error": "not today"}


class NeverAnswersHandshakes(Plain):
    def handshake(self, _request: str) -> Any:
        return None


class SendsArraysForHandshakes(Plain):
    def handshake(self, _request: str) -> Any:
        return []


class StaysAfterRefusal(Plain):
    leaves_after_refusal = False


class Unreadable(Plain):
    def take(self, _text: str) -> list[Any]:
        return [Raw("{not json")]


class HangsUpOnMistakes(Plain):
    def malformed(self) -> dict[str, Any]:
        raise ConnectionResetError


class ClosesWithoutReason(Plain):
    def malformed(self) -> dict[str, Any]:
        return {"type": 7}


class AnswersOnlyOnce(Plain):
    answered = False

    def unknown_method(self, message: dict[str, Any]) -> dict[str, Any]:
        if self.answered:
            return CLOSE
        self.answered = True
        return super().unknown_method(message)


class EndsAtNotes(Plain):
    """Calls without an id are too much for it."""

    def take(self, text: str) -> list[dict[str, Any]]:
        return super().take(text) or ([CLOSE] if '"target"' in text else [])


class AnswersPings(Plain):
    def other(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"type": 6}] if message["type"] == 6 else []


class GreetsItsClients(Plain):
    def take(self, text: str) -> list[dict[str, Any]]:
        return [{"type": 1, "target": "hello", "arguments": []}, *super().take(text)]


class PingsSeldom(Plain):
    ping_interval = 25.0


class DropsWhoDoesNotLogIn(Plain):
    ping_interval = 5.0
    pings_are_goodbyes = True


class DropsLate(Plain):
    ping_interval = 20.0
    pings_are_goodbyes = True


class KeepsSilentClients(Plain):
    client_timeout = 1_000.0


class LeavesWithAnotherCode(Plain):
    close_code = 1001


class IgnoresGoodbyes(Plain):
    answers_close = False


class HangsUpOnGoodbyes(Plain):
    def take(self, text: str) -> list[dict[str, Any]]:
        if '"type":7' in text:
            raise ConnectionResetError
        return super().take(text)


class NeverEndsItsStream(Plain):
    ends_stream = False


class GoesOnAfterClose(Plain):
    def take(self, text: str) -> list[dict[str, Any]]:
        return [] if '"type":7' in text else super().take(text)


class SaysNothingToUpgrades(Plain):
    upgrade_answer = b""


class HangsUpAtUpgrades(SaysNothingToUpgrades):
    upgrade_ends = True


class RefusesUpgradesBriefly(Plain):
    upgrade_answer = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"


class RefusesUpgradesInPieces(Plain):
    """It ends before its body does."""

    upgrade_answer = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 10\r\n\r\nOo"
    upgrade_ends = True


class AcceptsWrongly(Plain):
    upgrade_answer = (
        b"HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: wrong\r\n\r\n"
    )


class SpeaksSomethingElse(Plain):
    upgrade_answer = b"SSH-2.0-OpenSSH_9.2\r\n\r\n"


class HangsUpAtHandshakes(Plain):
    def handshake(self, _request: str) -> dict[str, Any]:
        raise ConnectionResetError


class HangsUpAtPings(Plain):
    def pong(self, _ping: Ping) -> Any:
        raise ConnectionResetError


class Chats(Plain):
    """It tells its clients a price every second, and never pings."""

    chat_interval = 1.0
    pings = False


class OnlyChats(Chats):
    """Whatever it is told."""

    answers_close = False

    def take(self, _text: str) -> list[dict[str, Any]]:
        return []


class ChatsAfterRefusal(Chats):
    leaves_after_refusal = False


class PingsAtTheEnd(Plain):
    pings_at_close = True


class SendsNull(Plain):
    def take(self, _text: str) -> list[Any]:
        return [Raw("null")]


class SendsDeepNests(Plain):
    def take(self, _text: str) -> list[Any]:
        return [Raw("[" * 100_000)]


class AnswersIdsThatAreNone(Plain):
    def take(self, text: str) -> list[dict[str, Any]]:
        return [{"type": 3, "invocationId": [1]}, *super().take(text)]


class HasAnExtensionThatIsNone(Plain):
    upgrade_answer = (
        b"HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n"
        b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=abc\r\n\r\n"
    )


class HasAHeadThatIsNotAscii(Plain):
    upgrade_answer = b"HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: \xff\r\n\r\n"


class RefusesVersionsUnreadably(Plain):
    def negotiate(self, query: dict[str, str]) -> tuple[int, str, bytes]:
        is_good = query.get("negotiateversion", "0").isdecimal()
        return super().negotiate(query) if is_good else (200, "application/json", b'{"error":"\xff"}')


class OldServer(Plain):
    """It knows no versions and no uploads, as ASP.NET Core 2.1."""

    def negotiate(self, query: dict[str, str]) -> tuple[int, str, bytes]:
        status, kind, body = super().negotiate({**query, "negotiateversion": "0"})
        return status, kind, body.replace(b'"negotiateVersion": 0, ', b"")

    def other(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        return [CLOSE] if message["type"] in {2, 3} else []


class Stateful(Plain):
    """It grants stateful reconnect, and takes clients back."""

    acks = 1
    first: ClassVar[dict[str, Any]] = {"type": 9, "sequenceId": 1}

    def negotiate(self, query: dict[str, str]) -> tuple[int, str, bytes]:
        status, kind, body = super().negotiate(query)
        if "usestatefulreconnect" in query:
            body = json.dumps({**json.loads(body), "useStatefulReconnect": True}).encode()
        return status, kind, body

    def refusal(self, connect_id: str | None) -> int | None:
        return None if self.ids.get(connect_id or "") == "spent" else super().refusal(connect_id)

    def handshake(self, request: str) -> Any:
        return self.first if '"type":9' in request else super().handshake(request.replace(":2}", ":1}"))

    def unknown_method(self, message: dict[str, Any]) -> Any:
        return {"type": 8, "sequenceId": self.acks}


class AcknowledgesTooMuch(Stateful):
    acks = 7


class NeverAcknowledges(Stateful):
    def unknown_method(self, message: dict[str, Any]) -> Any:
        return Plain.unknown_method(self, message)


class EndsInsteadOfAcknowledging(Stateful):
    def unknown_method(self, message: dict[str, Any]) -> Any:
        return CLOSE


class TakesNobodyBack(Stateful):
    def refusal(self, connect_id: str | None) -> int | None:
        return Plain.refusal(self, connect_id)


class HangsUpOnWhoComesBack(Stateful):
    def handshake(self, request: str) -> Any:
        if '"type":9' in request:
            raise ConnectionResetError
        return super().handshake(request)


class SaysNothingToWhoComesBack(Stateful):
    first: ClassVar[Any] = None


class WritesWithSpaces(Stateful):
    first: ClassVar[Any] = Raw('{ "sequenceId": 1, "type": 9 }')


class ForgetsTheSequence(Stateful):
    first: ClassVar[dict[str, Any]] = {"type": 6}


ODD: list[tuple[type[Plain], str, Outcome, str]] = [
    (HasNoWebSockets, "negotiate/transports", TOLERATED, "LongPolling (Text): no WebSockets with Text"),
    (RefusesToNegotiate, "negotiate/version_1", DIFFERS, "the error 'closed for today'"),
    (RefusesToNegotiate, "upgrade/with_id", SKIPPED, "negotiation gives none"),
    (RefusesToNegotiate, "resume/negotiate", SKIPPED, "negotiation gives no connection"),
    (NegotiatesVersion2, "negotiate/version_1", DIFFERS, "version 2"),
    (GivesOldClientsATokenToo, "negotiate/without_version", TOLERATED, "a connectionToken that no client reads"),
    (HasOneNameForBoth, "negotiate/ids_differ", DIFFERS, "is the connectionId, which is not"),
    (HasOneToken, "negotiate/ids_differ", DIFFERS, "the same connectionToken twice"),
    (RefusesVersionsByStatus, "negotiate/version_no_number", TOLERATED, "status 400: Bad version"),
    (FailsWithoutEnd, "negotiate/get", DIFFERS, "status 500: <h1>Oops</h1>"),
    (FailsWithoutEnd, "negotiate/no_such_hub", DIFFERS, "status 500"),
    (FailsWithoutEnd, "upgrade/plain_get", DIFFERS, "status 500"),
    (NeedsAnId, "upgrade/without_id", TOLERATED, "negotiation cannot be skipped"),
    (RefusesWebSockets, "upgrade/with_id", DIFFERS, "status 503"),
    (RefusesWebSockets, "handshake/json", DIFFERS, "no WebSocket: status 503"),
    (RefusesWebSockets, "resume/acknowledges", SKIPPED, "does not grant"),
    (SaysNothingOfHandshakes, "handshake/unknown_protocol", TOLERATED, "without an error that says why"),
    (RefusesEverybody, "handshake/json", DIFFERS, '{"error":"not today"}'),
    (RefusesEverybody, "handshake/malformed", CONFORMS, "not today"),
    (NeverAnswersHandshakes, "handshake/json", NOT_ANSWERED, "no handshake response within 5 s"),
    (NeverAnswersHandshakes, "handshake/oversized", NOT_ANSWERED, "nothing came, and the connection stays open"),
    (NeverAnswersHandshakes, "messages/ping", SKIPPED, "no handshake response within 5 s"),
    (NeverAnswersHandshakes, "resume/comes_back", SKIPPED, "does not grant"),
    (SendsArraysForHandshakes, "handshake/json", DIFFERS, "[]"),
    (SendsArraysForHandshakes, "handshake/malformed", DIFFERS, "[]"),
    (StaysAfterRefusal, "handshake/malformed", DIFFERS, "but the connection stays open"),
    (Unreadable, "messages/unknown_method", DIFFERS, "what is no message"),
    (HangsUpOnMistakes, "messages/malformed", TOLERATED, "without a Close message that says why"),
    (ClosesWithoutReason, "messages/malformed", TOLERATED, "which names no error"),
    (AnswersOnlyOnce, "messages/two_in_one", DIFFERS, "1 of 2 answers, then"),
    (EndsAtNotes, "messages/without_id", DIFFERS, "the connection ended"),
    (AnswersPings, "messages/ping", TOLERATED, "a ping, at once"),
    (GreetsItsClients, "messages/without_id", CONFORMS, "no answer"),
    (GreetsItsClients, "messages/two_in_one", CONFORMS, "both are answered"),
    (GreetsItsClients, "messages/malformed", CONFORMS, "Connection closed with an error"),
    (PingsSeldom, "time/server_pings", TOLERATED, "a ping after 25.0 s"),
    (DropsWhoDoesNotLogIn, "time/server_pings", TOLERATED, "after 5.0 s: does it drop whoever does not log in?"),
    (DropsLate, "time/server_pings", DIFFERS, "after 20.0 s"),
    (KeepsSilentClients, "time/client_is_silent", TOLERATED, "it keeps clients that are silent"),
    (LeavesWithAnotherCode, "close/close_message", TOLERATED, "code 1001"),
    (IgnoresGoodbyes, "close/websocket_close", NOT_ANSWERED, "the connection stays open"),
    (HangsUpOnGoodbyes, "close/close_message", TOLERATED, "without a WebSocket close frame"),
    (NeverEndsItsStream, "close/websocket_close", TOLERATED, "but the stream stays open"),
    (GoesOnAfterClose, "close/nothing_after_close", TOLERATED, "an answer: "),
    (GoesOnAfterClose, "close/close_message", NOT_ANSWERED, "the connection stays open"),
    (SaysNothingToUpgrades, "upgrade/with_id", NOT_ANSWERED, "no answer to the WebSocket request within 5 s"),
    (HangsUpAtUpgrades, "upgrade/with_id", DIFFERS, "the end of the stream and no answer to the WebSocket request"),
    (RefusesUpgradesBriefly, "upgrade/with_id", DIFFERS, "status 502"),
    (RefusesUpgradesInPieces, "upgrade/with_id", DIFFERS, "status 502"),
    (AcceptsWrongly, "upgrade/with_id", DIFFERS, "a breach of the WebSocket protocol"),
    (SpeaksSomethingElse, "upgrade/with_id", DIFFERS, "a breach of the WebSocket protocol"),
    (HangsUpAtHandshakes, "handshake/json", DIFFERS, "the end of the stream"),
    (HangsUpAtHandshakes, "upgrade/websocket_ping", CONFORMS, "a pong"),
    (HangsUpAtPings, "upgrade/websocket_ping", DIFFERS, "the end of the stream"),
    (HangsUpAtHandshakes, "close/close_message", SKIPPED, "there is none: the end of the stream"),
    (Chats, "time/server_pings", TOLERATED, "but other messages"),
    (Chats, "close/close_message", CONFORMS, "a WebSocket close frame, code 1000"),
    (OnlyChats, "messages/unknown_method", NOT_ANSWERED, "the call was not answered within 5 s"),
    (OnlyChats, "messages/malformed", DIFFERS, "nothing came, and the connection goes on"),
    (OnlyChats, "messages/two_in_one", NOT_ANSWERED, "0 of 2 answers"),
    (OnlyChats, "messages/without_id", NOT_ANSWERED, "nothing came"),
    (OnlyChats, "close/close_message", NOT_ANSWERED, "the connection stays open"),
    (OnlyChats, "close/websocket_close", NOT_ANSWERED, "the connection stays open"),
    (OnlyChats, "close/nothing_after_close", NOT_ANSWERED, "the connection stays open"),
    (OnlyChats, "time/client_is_silent", CONFORMS, "after 30.0 s"),
    (ChatsAfterRefusal, "handshake/malformed", DIFFERS, "but the connection stays open"),
    (PingsAtTheEnd, "close/websocket_close", CONFORMS, "a WebSocket close frame, code 1000"),
    (PingsAtTheEnd, "upgrade/with_spent_id", CONFORMS, "status 404"),
    (SendsNull, "messages/unknown_method", DIFFERS, "what is no message: null"),
    (SendsDeepNests, "messages/unknown_method", DIFFERS, "what is no message"),
    (Unreadable, "messages/unknown_method", DIFFERS, "{not json"),
    (AnswersIdsThatAreNone, "messages/two_in_one", CONFORMS, "both are answered"),
    (HasAnExtensionThatIsNone, "upgrade/compression", SKIPPED, "a breach of the WebSocket protocol"),
    (HasAHeadThatIsNotAscii, "upgrade/with_id", DIFFERS, "a breach of the WebSocket protocol"),
    (RefusesVersionsUnreadably, "negotiate/version_no_number", DIFFERS, "status 200"),
    (OldServer, "negotiate/version_no_number", TOLERATED, "servers before 3.1 do not look at the version"),
    (OldServer, "messages/stray_item", TOLERATED, "servers before 3.0 know no uploads"),
    (OldServer, "messages/stray_completion", TOLERATED, "servers before 3.0 know no uploads"),
    (OldServer, "messages/stray_cancel", CONFORMS, "ignored"),
    (Stateful, "resume/negotiate", CONFORMS, "granted"),
    (Stateful, "resume/acknowledges", CONFORMS, '{"type":8,"sequenceId":1}'),
    (Stateful, "resume/comes_back", CONFORMS, '{"type":9,"sequenceId":1}'),
    (AcknowledgesTooMuch, "resume/acknowledges", DIFFERS, '"sequenceId":7'),
    (NeverAcknowledges, "resume/acknowledges", NOT_ANSWERED, "no Ack within 5 s"),
    (EndsInsteadOfAcknowledging, "resume/acknowledges", DIFFERS, "the connection ended"),
    (TakesNobodyBack, "resume/comes_back", DIFFERS, "status 404"),
    (HangsUpOnWhoComesBack, "resume/comes_back", DIFFERS, "the end of the stream"),
    (SaysNothingToWhoComesBack, "resume/comes_back", NOT_ANSWERED, "nothing came"),
    (WritesWithSpaces, "resume/comes_back", CONFORMS, '"sequenceId":1'),
    (ForgetsTheSequence, "resume/comes_back", DIFFERS, '{"type":6}'),
]
