"""`securecfg rotation daemon`: rotates what is due, for as long as it runs."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import click

from securecfg.cli.arguments import Duration
from securecfg.cli.groups import Verb
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from datetime import timedelta

    from securecfg.rotation.daemon import Daemon
    from securecfg.rotation.metrics import Metrics
    from securecfg.rotation.runner import StepDetails
    from securecfg.rotation.tracing import Tracing
    from securecfg.vault import Vault

_WORKERS = click.IntRange(1, 256)
_RATE = click.FloatRange(0.01, 10_000)
_PLACE = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253})):(\d{1,5})", re.ASCII)
_PORT_MAX = 65_535
_KEYS_S = 3_600.0


@click.command(
    cls=Verb,
    examples=(
        "securecfg rotation daemon --as svc:rotation",
        "securecfg rotation daemon --as svc:rotation --listen 127.0.0.1:9464 --log-format json",
        "curl http://127.0.0.1:9464/readyz",
    ),
)
@click.option("--workers", type=_WORKERS, default=8, show_default=True, help="At how many rotations it works at once.")
@click.option(
    "--rate", type=_RATE, default=20.0, show_default=True, help="How many calls of one target begin in a second."
)
@click.option("--listen", metavar="ADDRESS:PORT", help="Answer /livez, /readyz and /metrics there, over HTTP.")
@click.option(
    "--stop-timeout",
    type=Duration(),
    default="20s",
    show_default=True,
    metavar="DURATION",
    help="How long steps that are under way are waited for at the end.",
)
@click.option("--own-keys", is_flag=True, help="Replace the vault's own keys too, when `key policy` says so.")
@click.option(
    "--log-format", type=click.Choice(("text", "json")), default="text", show_default=True, help="On standard error."
)
@common_flags
def daemon(
    invocation: Invocation,
    *,
    workers: int,
    rate: float,
    listen: str | None,
    stop_timeout: timedelta,
    own_keys: bool,
    log_format: str,
) -> None:
    """Rotate what is due, until SIGTERM or SIGINT; SIGHUP lets it look at everything anew.

    Many may run: a lease in the vault lets one work at each rotation, and another goes on with it where that one dies.
    It goes over the vault and the sealed scopes that its key reads and writes; with an identity only over these.
    With OTEL_EXPORTER_OTLP_ENDPOINT each step is sent there as a span. It never asks anything.
    docs/how-to/run-the-rotation-daemon.md says how to operate it.
    """
    from securecfg.rotation.daemon import Daemon, Limits
    from securecfg.rotation.journal import write_lines
    from securecfg.rotation.service import Interrupted, serve
    from securecfg.rotation.systemd import Systemd

    if math.isnan(rate):  # which no range excludes
        message = "`--rate` is not a number"
        raise UsageError(message, hint="for instance `--rate 20`")
    place = None if listen is None else _place_of(listen)
    silent = invocation._replace(is_silent=True)
    silent.settings()  # what is missing is said before anything begins
    write_lines(is_json=log_format == "json")
    metrics = None if place is None else _new_metrics()
    limits = Limits(workers, rate, stop_timeout.total_seconds(), keys_s=_KEYS_S if own_keys else 0.0)
    with _tracing() as tracing:
        working = Daemon(lambda: _open(silent), limits=limits, observe=_told(metrics, tracing))
        if metrics is not None:
            metrics.watch(working)
        with _answering(working, metrics, place):
            try:
                serve(working, Systemd())
            except Interrupted:
                raise SystemExit(130) from None


def _open(invocation: Invocation) -> Vault:
    from securecfg.vault import Vault

    settings = invocation.settings()
    return Vault.open(settings.vault, key=invocation.provider(), principal=settings.principal, cache_values=0)


def _new_metrics() -> Metrics:
    from securecfg.rotation.metrics import Metrics

    return Metrics()


def _tracing() -> AbstractContextManager[Tracing | None]:
    import os
    from contextlib import nullcontext

    from securecfg.rotation.tracing import Tracing, is_traced

    return Tracing() if is_traced(os.environ) else nullcontext()


def _told(metrics: Metrics | None, tracing: Tracing | None) -> Callable[[StepDetails], None]:
    from securecfg.rotation.journal import log_step

    def observe(step: StepDetails) -> None:
        log_step(step)
        if metrics is not None:
            metrics.observe(step)
        if tracing is not None:
            tracing.observe(step)

    return observe


def _answering(
    working: Daemon, metrics: Metrics | None, place: tuple[str, int] | None
) -> AbstractContextManager[object]:
    from contextlib import nullcontext

    if place is None:
        return nullcontext()
    from securecfg.rotation.health import HealthServer

    return HealthServer(working, metrics, *place)


def _place_of(text: str) -> tuple[str, int]:
    match = _PLACE.fullmatch(text)
    if match is None or not int(match[3]) <= _PORT_MAX:
        message = "where to listen is not an address and a port"
        raise UsageError(message, hint="for instance `127.0.0.1:9464`, or `[::1]:9464`")
    return match[1] or match[2], int(match[3])
