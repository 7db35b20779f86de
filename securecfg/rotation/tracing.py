"""Spans of OpenTelemetry: one for each step of a rotation that was stored, none of which says which secret.

All steps for one candidate are one trace, whoever takes them: its id is their token, which the vault's log has beside
the path. Where spans are sent, and how many of them, is said by the environment of the SDK (`OTEL_...`).
"""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING

from securecfg.errors import ExtraMissing, UsageError
from securecfg.rotation.machine import State

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.sdk.trace.id_generator import IdGenerator

    from securecfg.rotation.runner import StepDetails

STOP_S = 5.0
"""How long the last spans may take at the end."""

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"
_SERVICE = "securecfg-rotation"

_log = logging.getLogger(__name__)


def is_traced(environment: Mapping[str, str]) -> bool:
    """Return whether an environment says where spans are sent."""
    return any(environment.get(name) for name in _ENDPOINTS) and environment.get("OTEL_TRACES_EXPORTER") != "none"


class Tracing:
    """Makes spans of steps and sends them. Any thread may tell it of a step.

    Args:
        exporter: Sends them; None takes OTLP over HTTP, as the environment says.

    Raises:
        ExtraMissing: The SDK of OpenTelemetry is not installed.
        UsageError: The environment asks for another protocol.
    """

    def __init__(self, exporter: SpanExporter | None = None) -> None:
        """Send nothing yet."""
        try:
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor

            exporter = exporter or _new_exporter()
        except ModuleNotFoundError:
            message = "tracing needs the SDK of OpenTelemetry, which is not installed"
            raise ExtraMissing(message, hint="pip install 'securecfg-vault[tracing]'") from None
        self._running = threading.local()
        ids = _new_ids(self._running)
        # Not at the end of the interpreter, which nobody could bound.
        self._provider = TracerProvider(resource=_resource(), id_generator=ids, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(_telling(exporter)))
        self._tracer = self._provider.get_tracer("securecfg.rotation")

    def __enter__(self) -> Self:
        """Send spans until the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Send what is left, which is bounded in time."""
        thread = threading.Thread(target=self._provider.shutdown, name="securecfg-tracing", daemon=True)
        thread.start()
        thread.join(STOP_S)

    def observe(self, step: StepDetails) -> None:
        """Make a span of a step; a hook for `Daemon`."""
        from opentelemetry.context import Context
        from opentelemetry.trace import Status, StatusCode

        self._running.trace_id = int(step.token or "0", 16)
        attributes = {"rotator": step.rotator, "from": step.from_, "to": step.to, "reason": step.reason}
        told = {f"securecfg.rotation.{name}": text for name, text in attributes.items() if text}
        # In a context of its own: it belongs to no span of whoever has embedded this.
        span = self._tracer.start_span("rotation.step", Context(), attributes=told, start_time=step.started_ns)
        if step.to == State.FAILED and step.from_ != step.to:
            span.set_status(Status(StatusCode.ERROR, step.reason))
        span.end(max(step.started_ns, step.ended_ns))


def _new_exporter() -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    protocol = next((text for name in _PROTOCOLS if (text := os.environ.get(name))), _PROTOCOL)
    if protocol != _PROTOCOL:
        message = "spans are sent with OTLP over HTTP only"
        raise UsageError(message, hint=f"set `{_PROTOCOLS[0]}={_PROTOCOL}`, and the endpoint for it, often port 4318")
    return OTLPSpanExporter()


def _resource() -> Resource:
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource

    told = Resource.create()
    is_named = not str(told.attributes.get(SERVICE_NAME, "")).startswith("unknown_service")
    return told if is_named else told.merge(Resource({SERVICE_NAME: _SERVICE}))


def _new_ids(running: threading.local) -> IdGenerator:
    """Return what gives a span the trace of the rotation that its thread is at."""
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        def generate_trace_id(self) -> int:
            return getattr(running, "trace_id", 0) or super().generate_trace_id()

        def is_trace_id_random(self) -> bool:
            # A token is drawn as such an id is.
            return True

    return Ids()


def _telling(exporter: SpanExporter) -> SpanExporter:
    """Return an exporter that says, in our words, when spans could not be sent; the work goes on."""
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class Telling(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            try:
                result = exporter.export(spans)
            except Exception:  # noqa: BLE001 - foreign code, whose text could quote where spans are sent
                result = SpanExportResult.FAILURE
            if result is not SpanExportResult.SUCCESS:
                extra = {"event": "rotation.spans.lost", "count": len(spans)}
                _log.warning("spans could not be sent", extra=extra)
            return result

        def shutdown(self) -> None:
            exporter.shutdown()

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return exporter.force_flush(timeout_millis)

    return Telling()
