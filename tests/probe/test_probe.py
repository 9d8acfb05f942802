"""The probe, in memory and in virtual time: servers that are right, wrong in one point, or none."""

from __future__ import annotations

import html
import itertools
import json
import random
import re
from typing import Any

import pytest

from etorox_proto import Dial
from etorox_proto.signalr import (
    ConnectionFailed,
    ConnectionTokens,
    HubConfig,
    InvocationReceived,
    LocalProtocolError,
    NegotiationFailed,
    ServerConfig,
    ServerConnection,
    State,
)
from etorox_transports import DialFailed
from etorox_transports.probe import SERVER_CASES, Outcome, ServerReport, as_html, probe
from probe.hubs import Memory, Plain
from probe.odd import ODD, Chats, OldServer, OnlyChats, Stateful
from probe.wrong import PACKED, WRONG, AnswersWithResults

URL = "http://localhost/hub"


def probed(host: Any, url: str | HubConfig = URL, **options: Any) -> ServerReport:
    return sound(probe(url, **{**Memory(host).ways(), **options}))


def sound(report: ServerReport) -> ServerReport:
    """See that the probe itself did nothing wrong, such as to use a stream that it has closed."""
    assert not [each for each in report.results if "the probe itself failed" in each.got]
    return report


def outcome(report: ServerReport, name: str) -> Outcome:
    return next(each.outcome for each in report.results if each.case.name == name)


def got(report: ServerReport, name: str) -> str:
    return next(each.got for each in report.results if each.case.name == name)


class OurEnd:
    """A stream of our own server, whose hub has no methods."""

    def __init__(self, server: ServerConnection) -> None:
        self._server = server

    @property
    def closed(self) -> bool:
        return self._server.state is State.CLOSED

    @property
    def deadline(self) -> float:
        return self._server.deadline

    def receive_data(self, data: bytes, now: float) -> None:
        self._server.receive_data(data, now)
        while (event := self._server.next_event()) is not None:
            if isinstance(event, InvocationReceived) and event.invocation_id is not None:
                self._server.complete(event.invocation_id, error="Method does not exist.", now=now)

    def handle_timeout(self, now: float) -> None:
        self._server.handle_timeout(now)

    def data_to_send(self) -> bytes:
        return self._server.data_to_send()


class Ours:
    def __init__(self, **options: Any) -> None:
        self._config = ServerConfig(serves=lambda path: path == "/hub", **options)
        self._tokens = ConnectionTokens(f"{number:022d}" for number in range(1_000))

    def accept(self, now: float) -> OurEnd:
        return OurEnd(ServerConnection(self._config, tokens=self._tokens, now=now))


class Scripted:
    """It says the same whatever it hears."""

    def __init__(self, *said: bytes, ends: bool = True) -> None:
        self._said = b"".join(said)
        self._ends = ends
        self.closed = False
        self.deadline = float("inf")

    def accept(self, _now: float) -> Scripted:
        return Scripted(self._said, ends=self._ends)

    def receive_data(self, data: bytes, _now: float) -> None:
        self.closed = self.closed or not data or self._ends

    def handle_timeout(self, _now: float) -> None:
        raise AssertionError("nothing is due")

    def data_to_send(self) -> bytes:
        said, self._said = self._said, b""
        return said


class TestServersThatAreRight:
    def test_our_own(self) -> None:
        report = probed(Ours(compression=True), thorough=True)
        odd = {each.case.name: each.got for each in report.results if each.outcome is not Outcome.CONFORMS}
        assert odd == {
            "resume/acknowledges": "the server does not grant stateful reconnect",
            "resume/comes_back": "the server does not grant stateful reconnect",
        }
        assert got(report, "upgrade/compression") == "agreed on"
        assert len(report.results) == len(SERVER_CASES)

    def test_another(self) -> None:
        """As ASP.NET Core 3.1 is known to be, from captures."""
        report = probed(Plain(), thorough=True)
        skipped = {each.case.name for each in report.results if each.outcome is not Outcome.CONFORMS}
        assert skipped == PACKED | {"resume/acknowledges", "resume/comes_back"}

    def test_it_takes_no_longer_than_it_must(self) -> None:
        memory = Memory(Plain())
        probe(URL, **memory.ways())
        assert memory.now - 1_000 < 25  # 15 of them until the server pings

    def test_streams_are_opened_one_after_the_other_and_spaced(self) -> None:
        memory = Memory(Plain())
        probe(URL, pause=0.5, only=["upgrade", "handshake"], **memory.ways())
        times = [time for time, _ in memory.dials]
        assert all(later - earlier >= 0.5 for earlier, later in itertools.pairwise(times))
        assert all(each.closed for each in memory.ends)

    def test_nothing_is_invoked_but_what_cannot_exist(self) -> None:
        targets: set[str] = set()

        class Listening(Plain):
            def take(self, text: str) -> list[dict[str, Any]]:
                targets.update(re.findall(r'"target" ?: ?"([^"]*)"', text))
                return super().take(text)

        probed(Listening(), thorough=True)
        assert targets == {"EtoroxProbeNoSuchMethod"}

    def test_a_server_that_keeps_no_stream_open_for_http(self) -> None:
        class Closing(Plain):
            keeps_http = False

        assert not probed(Closing()).differing

    def test_a_hub_that_answers_no_unknown_calls(self) -> None:
        class Mute(Plain):
            def take(self, text: str) -> list[dict[str, Any]]:
                return [each for each in super().take(text) if each["type"] != 3]

        report = probed(Mute(), thorough=True)
        assert {each.case.name for each in report.differing} == {
            # These two come before it is known.
            "upgrade/compression",
            "handshake/with_a_call",
            "messages/unknown_method",
        }
        assert report.counts["tolerated"] > 10
        assert outcome(report, "messages/unknown_type") is Outcome.TOLERATED

    def test_a_server_from_before_versions_and_uploads(self) -> None:
        report = probed(OldServer(), thorough=True)
        assert not report.differing
        assert outcome(report, "negotiate/version_1") is Outcome.TOLERATED

    def test_a_server_that_talks_all_the_time(self) -> None:
        assert not probed(Chats(), thorough=True).differing
        assert len(probed(OnlyChats(), thorough=True).results) == len(SERVER_CASES)

    def test_a_server_without_a_limit(self) -> None:
        class Unlimited(Plain):
            largest = 100_000_000

        report = probed(Unlimited(), only=["messages/oversized"])
        assert outcome(report, "messages/oversized") is Outcome.TOLERATED


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
def test_a_server_differs_where_it_is_wrong_and_nowhere_else(wrong: type[Plain]) -> None:
    report = probed(wrong(), thorough=True)
    assert {each.case.name for each in report.differing} == WRONG[wrong]
    assert all(each.got for each in report.results)


@pytest.mark.parametrize(
    ("odd", "name", "expected", "text"), ODD, ids=[f"{odd.__name__}-{name}" for odd, name, _, _ in ODD]
)
def test_what_is_said_of_a_server_that_is_odd(odd: type[Plain], name: str, expected: Outcome, text: str) -> None:
    report = probed(odd(), only=[name])
    assert text in got(report, name)
    assert outcome(report, name) is expected


class TestWhatIsNoServer:
    def test_nobody_is_there(self) -> None:
        def refuse(_dial: Dial, _timeout: float) -> Any:
            raise DialFailed("could not connect to localhost port 80: Connection refused", may_retry=True)

        with pytest.raises(DialFailed, match="refused"):
            probed(Plain(), open=refuse)

    def test_it_goes_away_in_the_middle(self) -> None:
        memory = Memory(Plain())
        left = iter(range(5))

        def run_out(dial: Dial, timeout: float) -> Any:
            if next(left, None) is None:
                raise DialFailed("could not connect to localhost port 80: Connection refused", may_retry=True)
            return memory.open(dial, timeout)

        report = probe(URL, **{**memory.ways(), "open": run_out})
        gone = [each for each in report.results if each.got.startswith("the server is gone: could not connect")]
        assert gone[0].outcome is Outcome.DIFFERS
        assert {each.outcome for each in gone[5:]} == {Outcome.SKIPPED}  # one request between went over an old stream
        assert len(gone) > 30
        assert len(report.results) == len([each for each in SERVER_CASES if not each.is_thorough])

    def test_it_says_nothing(self) -> None:
        with pytest.raises(NegotiationFailed, match="got no HTTP response within 5 s"):
            probed(Scripted(ends=False))

    def test_it_hangs_up(self) -> None:
        with pytest.raises(NegotiationFailed, match="got the end of the stream and no HTTP response"):
            probed(Scripted())

    def test_it_speaks_something_else(self) -> None:
        with pytest.raises(NegotiationFailed, match="no HTTP response: illegal status line"):
            probed(Scripted(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", ends=False))

    def test_it_never_ends_its_response(self) -> None:
        with pytest.raises(NegotiationFailed, match="no end of the HTTP response within 2 s"):
            probed(Scripted(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", ends=False), timeout=2)

    @pytest.mark.parametrize("status", [401, 403])
    def test_it_does_not_let_us_in(self, status: int) -> None:
        with pytest.raises(NegotiationFailed, match=f"got status {status}") as caught:
            probed(Scripted(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status))
        assert caught.value.status == status

    def test_it_is_some_other_web_server(self) -> None:
        report = probed(Scripted(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnope"), thorough=True)
        assert got(report, "negotiate/version_1") == "status 404: nope"
        assert got(report, "upgrade/without_id") == "status 404: nope: negotiation cannot be skipped"
        assert outcome(report, "messages/ping") is Outcome.SKIPPED
        assert Outcome.CONFORMS in {each.outcome for each in report.results}  # 404 is right for what does not exist

    def test_it_says_first_that_it_will_say_more(self) -> None:
        body = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        assert got(probed(Scripted(body), only=["negotiate/version_1"]), "negotiate/version_1") == "status 404"

    def test_it_resets_its_streams(self) -> None:
        memory = Memory(Plain())

        class Reset:
            def __init__(self, stream: Any) -> None:
                self.send_all, self.close = stream.send_all, stream.close

            def receive(self, _timeout: float) -> bytes:
                raise ConnectionResetError(104, "Connection reset by peer")

        with pytest.raises(NegotiationFailed, match="got the end of the stream and no HTTP response"):
            probe(URL, **{**memory.ways(), "open": lambda dial, timeout: Reset(memory.open(dial, timeout))})
        upgrades = iter([False, False, True])

        def reset_later(dial: Dial, timeout: float) -> Any:
            stream = memory.open(dial, timeout)
            return Reset(stream) if next(upgrades, True) else stream

        report = probe(URL, only=["upgrade"], **{**memory.ways(), "open": reset_later})
        assert "a broken stream (Connection reset by peer)" in got(report, "upgrade/without_id")

    def test_a_fault_of_the_probe_costs_one_case(self) -> None:
        """It is told as what it is, and says nothing of the server."""
        memory = Memory(Plain())
        faults = iter([None, None, ZeroDivisionError("of ours")])

        def fail_once(dial: Dial, timeout: float) -> Any:
            if (fault := next(faults, None)) is not None:
                raise fault
            return memory.open(dial, timeout)

        report = probe(URL, only=["upgrade"], **{**memory.ways(), "open": fail_once})
        assert got(report, "upgrade/with_id_of_version_0").startswith("the probe itself failed here, please report it")
        assert report.counts == {"conforms": len(report.results) - 1, "skipped": 1}

    def test_it_is_classic_signalr(self) -> None:
        body = b'{"ProtocolVersion":"1.5","ConnectionId":"a","ConnectionToken":"b"}'
        reply = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        assert "classic" in got(probed(Scripted(reply), only=["negotiate/version_1"]), "negotiate/version_1")

    def test_it_accepts_websockets_and_then_breaks_their_protocol(self) -> None:
        class Broken(Plain):
            def accept(self, now: float) -> Any:
                end = super().accept(now)
                honest = end.data_to_send
                # What a client gets has no reserved bit.
                end.data_to_send = lambda: honest().replace(b"\x81", b"\xf1", 1)  # type: ignore[method-assign]
                return end

        report = probed(Broken(), only=["handshake/json"])
        assert "a breach of the WebSocket protocol" in got(report, "handshake/json")

    def test_there_is_no_such_case(self) -> None:
        with pytest.raises(LocalProtocolError, match=r"a case or of a group \(negotiate, .*\), got 'nix'"):
            probed(Plain(), only=["nix"])

    def test_it_is_far_away_and_not_encrypted(self) -> None:
        with pytest.raises(LocalProtocolError, match="https"):
            probed(Plain(), "http://example.test/hub")
        assert not probed(Plain(), HubConfig(url="http://example.test/hub", allow_insecure=True)).differing


def damaged(source: random.Random, kind: type[Plain]) -> Plain:
    """A server whose bytes are not always what they should be."""
    rate = source.choice([0.02, 0.1, 0.5])
    swaps = [
        (b"{}", b"[]"),
        (b"{}", b"null"),
        (b'"type":3', b'"type":[3]'),
        (b'"invocationId":', b'"invocationId":{},"a":'),
    ]

    def damage(data: bytes) -> bytes:
        place = source.randrange(len(data))
        match source.randrange(4):
            case 0:
                return data[:place] + bytes([data[place] ^ 1 << source.randrange(8)]) + data[place + 1 :]
            case 1:
                return data[:place]
            case 2:
                return data[:place] + source.randbytes(3) + data[place:]
            case _:
                return data.replace(*source.choice(swaps))

    class Damaged(kind):  # type: ignore[misc, valid-type]
        def accept(self, now: float) -> Any:
            end = super().accept(now)
            honest = end.data_to_send

            def send() -> bytes:
                data: bytes = honest()
                return damage(data) if data and source.random() < rate else data

            end.data_to_send = send
            return end

    damaged: Plain = Damaged()
    return damaged


@pytest.mark.parametrize("kind", [Plain, Stateful], ids=lambda kind: kind.__name__)
def test_a_server_may_send_anything(kind: type[Plain]) -> None:
    """There is a report, or an error that says why not; and it ends."""
    for seed in range(250):
        try:
            report = probed(damaged(random.Random(seed), kind), thorough=True)
        except ConnectionFailed:
            continue
        assert all(each.got for each in report.results), seed
        assert json.loads(report.as_json())
        assert as_html(report)


class Redirecting(Plain):
    def __init__(self, to: str, **more: str) -> None:
        super().__init__()
        self._to = {"url": to, **more}

    def negotiate(self, _query: dict[str, str]) -> tuple[int, str, bytes]:
        return 200, "application/json", json.dumps(self._to).encode()


class TestRedirects:
    def test_they_are_followed(self) -> None:
        memory = Memory(Redirecting("http://there.localhost:81/hub"), others={"there.localhost": Plain()})
        report = probe(URL, **memory.ways())
        assert report.origin == "http://there.localhost:81"
        assert got(report, "negotiate/version_1") == "version 1, behind 1 redirects"
        assert not report.differing

    def test_headers_and_token_go_nowhere_else(self) -> None:
        memory = Memory(
            Redirecting("http://there.localhost/hub", accessToken="of-the-redirect"),
            others={"there.localhost": Plain()},
        )
        config = HubConfig(url=URL, access_token="of-the-user", headers={"X-Key": "secret-key"})
        probe(config, **memory.ways())
        first, *others = memory.sent
        assert b"of-the-user" in first
        assert b"secret-key" in first
        told = b"".join(others)
        assert b"of-the-user" not in told
        assert b"secret-key" not in told
        assert b"of-the-redirect" in told

    def test_those_of_http_are_told(self) -> None:
        head = b"HTTP/1.1 301 Moved\r\nLocation: https://there.test/secret/hub?key=1\r\nContent-Length: 0\r\n\r\n"
        with pytest.raises(NegotiationFailed, match=r"status 301, which leads to https://there\.test: give") as caught:
            probed(Scripted(head))
        assert "secret" not in str(caught.value)
        with pytest.raises(NegotiationFailed, match="which leads to another path of it"):
            probed(Scripted(head.replace(b"https://there.test", b"")))

    @pytest.mark.parametrize(
        ("to", "token"), [("ftp://there", ""), ("http://example.test/hub", ""), (URL, "a\nb"), (URL, "\u00e9")]
    )
    def test_they_lead_to_where_no_client_goes(self, to: str, token: str) -> None:
        with pytest.raises(NegotiationFailed, match="the server redirects to where no client goes"):
            probed(Redirecting(to, accessToken=token) if token else Redirecting(to))

    def test_they_end(self) -> None:
        memory = Memory(Redirecting(URL))
        with pytest.raises(NegotiationFailed, match="after 10 redirects"):
            probe(URL, **memory.ways())
        assert len(memory.sent) < 40


class Echoing(Plain):
    """It repeats what it was told, wherever it can."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = ""

    def reply(self, method: str, path: str, query: dict[str, str]) -> tuple[int, str, bytes]:
        if path == "/hub":
            return 200, "text/plain", f"{query} {' '.join(self.ids)}".encode()
        return super().reply(method, path.replace("/a-key-that-is-long-enough", ""), query)

    def unknown_method(self, message: dict[str, Any]) -> dict[str, Any]:
        return {**super().unknown_method(message), "error": f"no, {' '.join(self.ids)}"}


def test_no_secret_is_shown() -> None:
    """Neither tokens nor ids, nor the query, nor headers, however much the server likes to repeat them."""
    memory = Memory(Echoing())
    config = HubConfig(
        url=f"{URL}?key=of-the-query", access_token="the-access-token", headers={"X-Key": "Scheme the-header"}
    )
    report = probe(config, **memory.ways())
    told = str(report) + report.as_json() + as_html(report) + repr(report)
    assert b"of-the-query" in b"".join(memory.sent)
    for secret in ("of-the-query", "the-access-token", "the-header", "0000000000000"):
        assert secret not in told, f"{secret} is shown"
    assert "[...]" in told


@pytest.mark.parametrize(
    "body",
    [
        b'{"negotiateVersion":1,"connectionId":"the-public-name","connectionToken":"the-secret-name"}',
        b'{"connectionToken": "the-secret-name", "broken',
        b'{"accessToken":"the-secret-\\u006eame","url":1}',
    ],
)
def test_no_secret_of_a_broken_response_is_shown(body: bytes) -> None:
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    report = probed(Scripted(reply))
    told = str(report) + report.as_json()
    assert "[...]" in told
    assert "the-" not in told.replace("the-same", "").replace("the-server", "")


def test_no_value_of_the_query_is_shown_as_it_was_written() -> None:
    body = b"<a href='/hub?tenant=ACME-1&amp;key=ab%2Fcd%2BSECRET'>here</a>"
    reply = b"HTTP/1.1 500 Oops\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    told = str(probed(Scripted(reply), f"{URL}?tenant=ACME-1&key=ab%2Fcd%2BSECRET"))
    assert "SECRET" not in told
    assert "ACME" not in told


def test_what_a_server_says_cannot_steer_a_terminal() -> None:
    body = b"\x1b]0;owned\x07\x9b2J"
    reply = b"HTTP/1.1 500 Oops\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    assert all(line.isprintable() for line in str(probed(Scripted(reply))).splitlines())


def test_every_stream_is_closed() -> None:
    for odd, _, _, _ in ODD:
        memory = Memory(odd())
        sound(probe(URL, **memory.ways()))
        assert not memory.left_open, odd


def test_cookies_go_back_to_their_server() -> None:
    class Sticky(Plain):
        def accept(self, now: float) -> Any:
            end = super().accept(now)
            honest = end.data_to_send
            end.data_to_send = lambda: honest().replace(  # type: ignore[method-assign]
                b"HTTP/1.1 200 \r\n", b"HTTP/1.1 200 \r\nSet-Cookie: server=of-the-cookie; Path=/\r\n"
            )
            return end

    memory = Memory(Sticky())
    probe(URL, only=["upgrade/with_id"], **memory.ways())
    assert b"server=of-the-cookie" in memory.sent[-2]


class TestReport:
    report = probed(Plain(), thorough=True)
    bad = probed(AnswersWithResults())

    def test_the_text_fits_a_terminal(self) -> None:
        for each in (self.report, self.bad):
            assert max(map(len, str(each).splitlines())) <= 80

    def test_what_differs_is_explained(self) -> None:
        text = " ".join(str(self.bad).split())
        assert "differs unknown_stream" in text
        assert "sent: a stream invocation of a method that does not exist" in text
        assert "expected: a Completion with an error (Hub Protocol)" in text
        assert text.endswith(self.bad.summary)

    def test_all_forms_agree(self) -> None:
        told = json.loads(self.report.as_json())
        assert told["server"] == self.report.origin
        assert told["counts"] == self.report.counts
        assert {each["case"]: each["outcome"] for each in told["results"]} == {
            each.case.name: each.outcome.value for each in self.report.results
        }
        page = as_html(self.report)
        rows = re.findall(
            r'<th scope="row">(.*?)</th><td class="outcome">(.*?)</td><td><details(?: open)?><summary>(.*?)</summary>',
            page,
        )
        assert [(name, state, html.unescape(text)) for name, state, text in rows] == [
            (each.case.name.partition("/")[2], each.outcome.value, each.got) for each in self.report.results
        ]

    def test_the_page_needs_nothing_else(self) -> None:
        page = as_html(self.report)
        assert "<script" not in page
        assert not re.findall(r"(?:src|href)\s*=", page)
        assert "http://localhost" in page

    def test_what_a_server_says_is_no_markup(self) -> None:
        class Marking(Plain):
            def unknown_method(self, message: dict[str, Any]) -> dict[str, Any]:
                return {**super().unknown_method(message), "error": "<script>alert(1)</script>"}

        assert "<script" not in as_html(probed(Marking(), only=["messages/unknown_method"]))

    def test_results_are_told_as_they_come(self) -> None:
        told: list[Any] = []
        report = probed(Plain(), only=["negotiate", "handshake/json"], tell=told.append)
        assert tuple(told) == report.results
        assert {each.case.group for each in told} == {"negotiate", "handshake"}

    def test_thorough_cases_are_run_when_they_are_named(self) -> None:
        assert [each.case.name for each in probed(Plain(), only=["handshake/none_at_all"]).results] == [
            "handshake/none_at_all"
        ]

    def test_every_case_has_a_name_of_its_own(self) -> None:
        assert len({each.name for each in SERVER_CASES}) == len(SERVER_CASES)
        assert all(each.sends and each.expects and each.source for each in SERVER_CASES)
