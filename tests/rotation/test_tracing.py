"""Spans of the steps of rotations: what they say, what they do not, and where they are sent."""

from __future__ import annotations

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from securecfg.errors import ExtraMissing, UsageError
from securecfg.rotation import Strategy
from securecfg.rotation import tracing as module
from securecfg.rotation.machine import State
from securecfg.rotation.runner import Runner
from securecfg.rotation.tracing import Tracing, is_traced
from securecfg.testing.account import Mood
from tests.rotation.conftest import FIRST, PATH

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

    from securecfg.rotation.document import Rotation
    from tests.rotation.conftest import RotationWorld


def _rotate(world: RotationWorld, tracing: Tracing) -> Rotation:
    """Go as far as can be gone, and return what the rotation has come to."""
    vault = world.begin(Strategy.OVERLAPPING, grace_s=0)
    runner = Runner(vault, jitter=lambda: 0.5, find=world.account.rotator, observe=tracing.observe)
    return world.advance(runner, "asked")


def _attributes(span: ReadableSpan) -> dict[str, object]:
    return {name.removeprefix("securecfg.rotation."): value for name, value in (span.attributes or {}).items()}


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*module._ENDPOINTS, *module._PROTOCOLS, "OTEL_TRACES_EXPORTER", "OTEL_SERVICE_NAME"):
        monkeypatch.delenv(name, raising=False)


def test_makes_a_span_of_each_step_in_one_trace(world: RotationWorld) -> None:
    exporter = InMemorySpanExporter()
    with Tracing(exporter) as tracing:
        rotation = _rotate(world, tracing)
    spans = exporter.get_finished_spans()
    assert rotation.progress is not None
    assert rotation.progress.state is State.RETIRED
    steps = [(_attributes(span)["from"], _attributes(span)["to"]) for span in spans]
    assert steps[0] == ("idle", "begun")
    assert steps[-1] == ("previous", "retired")
    assert [to for _, to in steps[:-1]] == [from_ for from_, _ in steps[1:]]
    assert {f"{span.context.trace_id:032x}" for span in spans if span.context} == {rotation.progress.token}
    for former, later in pairwise(spans):
        assert (former.start_time or 0) < (former.end_time or 0) <= (later.start_time or 0)


def test_says_why_a_rotation_has_failed(world: RotationWorld) -> None:
    exporter = InMemorySpanExporter()
    world.begin()
    world.account.mood = Mood.LOCKED
    with Tracing(exporter) as tracing:
        vault = world.open()
        runner = Runner(vault, find=world.account.rotator, observe=tracing.observe)
        world.advance(runner, "asked")
    last = exporter.get_finished_spans()[-1]
    assert _attributes(last) == {"rotator": "account", "from": "set", "to": "failed", "reason": "privilege-missing"}
    assert last.status.status_code is StatusCode.ERROR


def test_names_no_secret_and_no_value(world: RotationWorld) -> None:
    exporter = InMemorySpanExporter()
    with Tracing(exporter) as tracing:
        _rotate(world, tracing)
    told = "".join(span.to_json() for span in exporter.get_finished_spans())
    assert told
    for text in (PATH, FIRST, *world.account.accepted):
        assert text not in told


class _Broken(SpanExporter):
    """Sends nothing."""

    def __init__(self, *, raises: bool) -> None:
        self._raises = raises

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self._raises:
            raise ValueError(FIRST)
        return SpanExportResult.FAILURE


@pytest.mark.parametrize("raises", [False, True])
def test_rotates_where_spans_cannot_be_sent_and_says_so(
    world: RotationWorld, caplog: pytest.LogCaptureFixture, *, raises: bool
) -> None:
    with Tracing(_Broken(raises=raises)) as tracing:
        rotation = _rotate(world, tracing)
    assert rotation.rotations == 1
    assert FIRST not in caplog.text
    assert "rotation.spans.lost" in [getattr(record, "event", "") for record in caplog.records]


class _Hanging(InMemorySpanExporter):
    """Takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.is_over = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.is_over.wait(30)
        return SpanExportResult.SUCCESS


def test_does_not_wait_for_a_collector_that_hangs(world: RotationWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_S", 0.1)
    exporter = _Hanging()
    with Tracing(exporter) as tracing:
        _rotate(world, tracing)
    assert not exporter.is_over.is_set()
    exporter.is_over.set()


@pytest.fixture
def collector() -> Iterator[tuple[int, list[tuple[str, bytes]]]]:
    """A collector that keeps what it is sent."""
    kept: list[tuple[str, bytes]] = []

    class Request(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            kept.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Request) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port, kept
        server.shutdown()
        thread.join()


def test_sends_spans_with_otlp_over_http(
    world: RotationWorld, collector: tuple[int, list[tuple[str, bytes]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, kept = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    with Tracing() as tracing:
        rotation = _rotate(world, tracing)
    assert rotation.progress is not None
    assert {path for path, _ in kept} == {"/v1/traces"}
    spans = []
    for _, body in kept:
        [resource] = ExportTraceServiceRequest.FromString(body).resource_spans
        named = {each.key: each.value.string_value for each in resource.resource.attributes}
        assert named["service.name"] == "securecfg-rotation"
        spans += [span for scope in resource.scope_spans for span in scope.spans]
    assert {span.trace_id.hex() for span in spans} == {rotation.progress.token}
    assert {span.name for span in spans} == {"rotation.step"}
    assert b"".join(body for _, body in kept).find(PATH.encode()) == -1


def test_the_environment_names_the_service(world: RotationWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "rotation-of-the-shop")
    exporter = InMemorySpanExporter()
    with Tracing(exporter) as tracing:
        _rotate(world, tracing)
    assert exporter.get_finished_spans()[0].resource.attributes["service.name"] == "rotation-of-the-shop"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c"}, True),
    ],
)
def test_is_on_where_the_environment_says_whereto(environment: dict[str, str], *, expected: bool) -> None:
    assert is_traced(environment) is expected


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"])
def test_refuses_a_protocol_that_it_does_not_speak(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "grpc")
    with pytest.raises(UsageError):
        Tracing()


@pytest.mark.parametrize(
    "missing", ["opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter"]
)
def test_says_which_extra_is_missing(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ExtraMissing) as caught:
        Tracing()
    assert "securecfg-vault[tracing]" in caught.value.hint
