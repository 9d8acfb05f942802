"""Servers that are wrong in one point each, and the cases in which they differ because of it."""

from __future__ import annotations

import json
import math
from typing import Any

from wsproto.events import Ping, Pong

from probe.hubs import CLOSE, Plain

VERSIONS_THAT_ARE_NONE = ("version_no_number", "version_too_low")
MESSAGES_THAT_END = {
    "messages/malformed",
    "messages/empty",
    "messages/no_object",
    "messages/without_type",
    "messages/without_target",
}
HANDSHAKES_THAT_FAIL = {
    "handshake/unknown_protocol",
    "handshake/version_too_high",
    "handshake/without_version",
    "handshake/malformed",
    "handshake/left_out",
}
HANDSHAKES = HANDSHAKES_THAT_FAIL | {
    "handshake/json",
    "handshake/messagepack",
    "handshake/in_pieces",
    "handshake/with_a_call",
    "handshake/unknown_property",
    "handshake/oversized",
}
PACKED = {"messagepack/call", "messagepack/unknown_type_packed", "messagepack/no_array"}


class EchoesTheVersion(Plain):
    def negotiate(self, query: dict[str, str]) -> tuple[int, str, bytes]:
        asked = query.get("negotiateversion", "0")
        if not asked.isdecimal():
            return super().negotiate(query)
        response = self.negotiated(min(int(asked), 1))
        return 200, "application/json", json.dumps({**response, "negotiateVersion": int(asked)}).encode()


class KnowsVersion1Only(Plain):
    """A client from before 3.1 takes the connectionId, which opens nothing."""

    def negotiate(self, query: dict[str, str]) -> tuple[int, str, bytes]:
        return super().negotiate({**query, "negotiateversion": "1"})


class UsesNamesTwice(Plain):
    def negotiated(self, version: int) -> dict[str, Any]:
        response = super().negotiated(version)
        return {**response, "connectionId": "the-same-name-as-always"} if version else response


class HasShortIds(Plain):
    def negotiated(self, version: int) -> dict[str, Any]:
        response = super().negotiated(version)
        name = "connectionToken" if version else "connectionId"
        response[name] = response[name].lstrip("0")
        self.ids[response[name]] = "new"
        return response


class HasIdsThatNeedEscapes(Plain):
    def negotiated(self, version: int) -> dict[str, Any]:
        response = super().negotiated(version)
        if version:
            response["connectionToken"] += "+/="
            self.ids[response["connectionToken"]] = "new"
        return response


class GrantsUnasked(Plain):
    def negotiated(self, version: int) -> dict[str, Any]:
        return {**super().negotiated(version), "useStatefulReconnect": True}


class NegotiatesByGet(Plain):
    def reply(self, method: str, path: str, query: dict[str, str]) -> tuple[int, str, bytes]:
        return super().reply("POST" if path.endswith("/hub/negotiate") else method, path, query)


class TakesAnyId(Plain):
    def refusal(self, _connect_id: str | None) -> int | None:
        return None


class FailsOnUnknownIds(Plain):
    def refusal(self, connect_id: str | None) -> int | None:
        refusal = super().refusal(connect_id)
        return refusal and 500


class TakesAnyHandshake(Plain):
    def handshake(self, _request: str) -> dict[str, Any]:
        return {}


class AnswersHandshakesWithPing(Plain):
    def handshake(self, _request: str) -> dict[str, Any]:
        return {"type": 6}


class SpeaksBeforeItsHandshake(Plain):
    """It sends an invocation where the response should be."""

    def handshake(self, _request: str) -> dict[str, Any]:
        return {"type": 1, "target": "hello", "arguments": []}


class AnswersWhatWantsNoAnswer(Plain):
    def take(self, text: str) -> list[dict[str, Any]]:
        answers = super().take(text)
        if not answers and '"type":1,' in text:
            return [{"type": 3, "invocationId": "0", "error": "no such method"}]
        return answers


class AnswersWithResults(Plain):
    def unknown_method(self, message: dict[str, Any]) -> dict[str, Any]:
        return {"type": 3, "invocationId": message["invocationId"], "result": None}


class EndsAtUnknownTypes(Plain):
    def other(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        return [CLOSE] if message["type"] > 9 else []


class EndsAtStrayMessages(Plain):
    def other(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        return [CLOSE] if message["type"] in {2, 3, 5} else []


class IgnoresWhatIsMalformed(Plain):
    def malformed(self) -> dict[str, Any]:
        return {"type": 6}


class SplitsByHand(Plain):
    """It finds names by their text, and breaks where they are written otherwise."""

    def take(self, text: str) -> list[dict[str, Any]]:
        return super().take(text) if text.startswith('{"type":') else [CLOSE]


class NeverPings(Plain):
    pings = False


class ForgetsItsClients(Plain):
    """Whoever opens a WebSocket and says nothing stays for ever."""

    handshake_timeout = math.inf


class SendsWrongPongs(Plain):
    def pong(self, _ping: Ping) -> Any:
        return Pong(payload=b"pong")


class NeverPongs(Plain):
    def pong(self, _ping: Ping) -> Any:
        return Ping(payload=b"")


class AnswersBehindClose(Plain):
    def take(self, text: str) -> list[dict[str, Any]]:
        return [] if text == '{"type":7}' else super().take(text)


WRONG: dict[type[Plain], set[str]] = {
    Plain: set(),
    EchoesTheVersion: {"negotiate/version_too_high"},
    KnowsVersion1Only: {f"negotiate/{name}" for name in ("without_version", "version_0", *VERSIONS_THAT_ARE_NONE)},
    UsesNamesTwice: {"negotiate/ids_differ"},
    HasShortIds: {"negotiate/id_is_long"},
    HasIdsThatNeedEscapes: {"negotiate/id_needs_no_escape"},
    GrantsUnasked: {"negotiate/nothing_unasked", "resume/acknowledges", "resume/comes_back"},
    NegotiatesByGet: {"negotiate/get"},
    TakesAnyId: {"upgrade/with_unknown_id", "upgrade/with_id_in_use", "upgrade/with_spent_id"},
    FailsOnUnknownIds: {"upgrade/with_unknown_id", "upgrade/with_id_in_use", "upgrade/with_spent_id"},
    TakesAnyHandshake: HANDSHAKES_THAT_FAIL | {"handshake/oversized"} | PACKED,
    AnswersHandshakesWithPing: HANDSHAKES,
    SpeaksBeforeItsHandshake: HANDSHAKES,
    AnswersWhatWantsNoAnswer: {"messages/without_id"},
    AnswersWithResults: {"messages/unknown_method", "messages/unknown_stream"},
    EndsAtUnknownTypes: {"messages/unknown_type"},
    EndsAtStrayMessages: {"messages/stray_completion", "messages/stray_item", "messages/stray_cancel"},
    IgnoresWhatIsMalformed: MESSAGES_THAT_END,
    SplitsByHand: {
        "messages/in_any_order",
        "messages/with_escapes",
        "messages/with_headers",
        "messages/unknown_property",
    },
    NeverPings: {"time/server_pings"},
    ForgetsItsClients: {"handshake/none_at_all"},
    SendsWrongPongs: {"upgrade/websocket_ping"},
    NeverPongs: {"upgrade/websocket_ping"},
    AnswersBehindClose: {"close/close_message"},
}
