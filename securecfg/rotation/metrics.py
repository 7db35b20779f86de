"""What is counted of rotations, for Prometheus. No label says which secret: paths are sealed at rest, and stay so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.clock import SystemClock
from securecfg.errors import ExtraMissing
from securecfg.rotation.document import NS
from securecfg.rotation.machine import State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.core import Metric

    from securecfg.clock import Clock
    from securecfg.rotation.daemon import Daemon
    from securecfg.rotation.runner import StepDetails

_DURATIONS_S = (0.1, 0.5, 1, 5, 15, 60, 300, 3_600, 21_600)
_DELAYS_S = (0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 3_600, 86_400)
_STATES = ("idle", "paused", *(str(state) for state in State if state not in {State.RETIRED, State.CANCELLED}))


class Metrics:
    """Counts the steps of rotations, and says how a daemon is.

    Args:
        clock: The time.

    Raises:
        ExtraMissing: The client of Prometheus is not installed.
    """

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, clock: Clock | None = None) -> None:
        """Count nothing yet."""
        try:
            from prometheus_client import CollectorRegistry, Counter, Histogram
        except ModuleNotFoundError:
            message = "metrics need the client of Prometheus, which is not installed"
            raise ExtraMissing(message, hint="pip install 'securecfg-vault[rotation]'") from None
        self._clock = clock or SystemClock()
        self._daemon: Daemon | None = None
        self._registry = CollectorRegistry()
        name = "securecfg_rotation"
        labels = ["rotator", "from", "to"]
        steps = "Steps of rotations that were stored."
        self._steps = Counter(f"{name}_steps", steps, labels, registry=self._registry)
        failures = "Rotations that came to need a person."
        self._failures = Counter(f"{name}_failures", failures, ["rotator", "reason"], registry=self._registry)
        finished = "Rotations that came to their end."
        self._finished = Counter(f"{name}_finished", finished, ["rotator"], registry=self._registry)
        duration = "From the beginning of a rotation until its new version is current."
        self._duration = Histogram(
            f"{name}_duration_seconds", duration, ["rotator"], buckets=_DURATIONS_S, registry=self._registry
        )
        delay = "From when a rotation is due until it begins."
        self._delay = Histogram(f"{name}_start_delay_seconds", delay, buckets=_DELAYS_S, registry=self._registry)
        self._registry.register(_DaemonCollector(self))

    def watch(self, daemon: Daemon) -> None:
        """Say from now on how a daemon is, too."""
        self._daemon = daemon

    def observe(self, step: StepDetails) -> None:
        """Count a step; the hook of `Runner` and `Daemon`."""
        now_ns = self._clock.now_ns()
        self._steps.labels(step.rotator, step.from_, step.to).inc()
        if step.from_ == "idle" and step.due_ns:
            self._delay.observe(max(0, now_ns - step.due_ns) / NS)
        if step.to == State.CURRENT and step.from_ != step.to:
            self._duration.labels(step.rotator).observe(max(0, now_ns - step.began_ns) / NS)
        if step.to == State.RETIRED:
            self._finished.labels(step.rotator).inc()
        if step.to == State.FAILED and step.from_ != step.to:
            self._failures.labels(step.rotator, step.reason).inc()

    def text(self) -> bytes:
        """Return everything in the text format of Prometheus."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)

    def of_daemon(self) -> Iterable[Metric]:
        """Return what is known of the daemon by now."""
        from prometheus_client.core import GaugeMetricFamily

        if self._daemon is None:
            return
        health = self._daemon.health()
        rotations = GaugeMetricFamily("securecfg_rotations", "Rotations that there are.", labels=["state"])
        for state in _STATES:
            rotations.add_metric([state], health.rotations.get(state, 0))
        yield rotations
        ready = "Whether the daemon does its work: the vault is open and can be written."
        yield GaugeMetricFamily("securecfg_rotation_ready", ready, health.is_ready)
        working = "Rotations that this daemon works at."
        yield GaugeMetricFamily("securecfg_rotation_working", working, health.working)
        hindered = "Rotations that could not be led on when that was tried last, by the code of why."
        family = GaugeMetricFamily("securecfg_rotations_hindered", hindered, labels=["code"])
        for code, count in sorted(health.hindered.items()):
            family.add_metric([code], count)
        yield family
        if health.next_ns is not None:
            due = "When something is to be done next, in seconds since 1970."
            yield GaugeMetricFamily("securecfg_rotation_next_due_timestamp_seconds", due, health.next_ns / NS)


class _DaemonCollector:
    """Asks for the state of the daemon whenever the metrics are read."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics.of_daemon()
