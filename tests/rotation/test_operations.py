"""The daemon as its operator has it: a process, its signals, and a machine that does not always serve it."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from securecfg.cli import main
from securecfg.clock import SystemClock
from securecfg.keys import generate_key_file
from securecfg.rotation.document import Rules
from securecfg.rotation.rotations import Rotations
from securecfg.rotation.steps import Steps
from tests.rotation.daemon_process import PATIENCE_S, DaemonProcess, until
from tests.rotation.unprivileged import free_port
from tests.vault.copies import copy_of
from tests.vault.world import ManualClock, World, grant, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from securecfg.vault.vault import Vault

PATH = "canary-folder/canary-name"
FIRST = "canary-first-value"
OPERATOR = "svc:canary-rotation"
GRANTS = f"""
[roles.rotation]
members = ["{OPERATOR}"]
[[roles.rotation.grants]]
actions = ["read", "rotate"]
paths = ["canary-folder/**"]
"""
CANARY = "canary"


def _make(folder: Path) -> World:
    world = World(folder, ManualClock(time.time_ns()))  # another process has no other time
    with world.create() as vault:
        grant(vault, GRANTS)
        vault.write(PATH, FIRST)
        Rotations(vault).set(PATH, Rules("random", grace_s=0, is_hard_cut=True))
    return world


class _Office:
    """A vault with a secret that is rotated, and the daemon that does it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.vault = self.open()
        self.environment = dict(os.environ)

    def open(self) -> Vault:
        return self.world.open(clock=SystemClock())

    def daemon(self, *arguments: str) -> DaemonProcess:
        given = ("--vault", str(self.world.path), "--key", self.world.key, "--as", OPERATOR, "--log-format", "json")
        return DaemonProcess(*given, *arguments, environment=self.environment)

    def make_due(self) -> None:
        """Say that the rotation is due now, as its schedule would."""
        steps = Steps(self.vault.authority)
        stored = steps.find(PATH)
        due_ns = self.vault.opened.clock.now_ns()
        obj = {"path": PATH, "rotator": "random", "action": "due"}
        steps.change(stored, lambda _: stored.rotation._replace(due_ns=due_ns), obj)

    def count(self) -> int:
        return Steps(self.vault.authority).find(PATH).rotation.rotations

    def value(self) -> str:
        return text_of(self.vault, PATH)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[_Office]:
    world = copy_of(_make, tmp_path)
    yield _Office(world)
    world.close()


def test_rotates_what_is_due_from_its_start_to_its_end(office: _Office, home: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(home / "notify"))
        manager.settimeout(PATIENCE_S)
        office.environment["NOTIFY_SOCKET"] = str(home / "notify")
        office.make_due()
        with office.daemon() as daemon:
            until(lambda: office.count() == 1)
            assert office.value() != FIRST
            while not manager.recv(4_096).startswith(b"READY=1"):
                pass
            assert daemon.ask("/livez") == (200, "ok\n")
            assert daemon.ask("/readyz") == (200, "ok\n")
            until(lambda: 'securecfg_rotation_finished_total{rotator="random"} 1.0' in daemon.ask("/metrics")[1])
            metrics = daemon.ask("/metrics")[1]

            daemon.send(signal.SIGHUP)
            until(lambda: daemon.events().count("rotation.loaded") == 2)

            daemon.send(signal.SIGSTOP)
            office.make_due()
            daemon.send(signal.SIGCONT)
            until(lambda: office.count() == 2)
            assert daemon.stop() == 0
        told = b""
        while b"STOPPING=1" not in told:
            told = manager.recv(4_096)
    stepped = [record for record in daemon.records() if record["event"] == "rotation.stepped"]
    assert [record["to_state"] for record in stepped][-1] == "retired"
    assert {record["level"] for record in daemon.records()} == {"info"}
    assert daemon.out == ""
    for text in (FIRST, office.value(), CANARY):
        assert text not in "".join(daemon.lines) + metrics


@contextmanager
def _no_room(daemon: DaemonProcess) -> Iterator[None]:
    """Let a process write nothing to any file. Of a write that fails so SQLite cannot say what is left of it."""
    former = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (0, former[1]))
    yield
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, former)


def test_survives_a_full_disk_and_goes_on_when_there_is_room_again(office: _Office) -> None:
    with office.daemon() as daemon:
        daemon.until_ready()
        with _no_room(daemon):
            office.make_due()
            until(lambda: daemon.ask("/readyz") == (503, "commit-unknown\n"))
            assert daemon.ask("/livez") == (200, "ok\n")
            assert "securecfg_rotation_ready 0.0" in daemon.ask("/metrics")[1]
        until(lambda: office.count() == 1)
        daemon.until_ready()
        assert daemon.stop() == 0
    assert {record.get("code") for record in daemon.records() if record["level"] == "warning"} == {"commit-unknown"}


def test_waits_for_the_key_that_opens_the_vault(office: _Office) -> None:
    key, kept = office.world.folder / "key", office.world.folder / "kept"
    key.rename(kept)
    office.make_due()
    with office.daemon() as daemon:
        until(lambda: daemon.ask("/readyz") == (503, "file-missing\n"))
        generate_key_file(key)
        daemon.send(signal.SIGHUP)
        until(lambda: daemon.ask("/readyz") == (503, "wrong-key\n"))
        assert daemon.ask("/livez") == (200, "ok\n")
        kept.replace(key)
        daemon.send(signal.SIGHUP)
        until(lambda: office.count() == 1)
        assert daemon.stop() == 0
    assert CANARY not in "".join(daemon.lines)


def test_waits_where_the_key_opens_sealed_scopes_only(office: _Office, tmp_path: Path) -> None:
    identity, public = tmp_path / "pay.identity", tmp_path / "pay.pub"
    own = ("--vault", str(office.world.path), "--key", office.world.key, "--as", "user:ada")
    office.world.close()
    assert main(["identity", "create", "svc:pay", "--out", str(identity), "--public", str(public)]) == 0
    assert main(["role", "add", "pay", "--member", "svc:pay", "--identity", str(public), *own]) == 0
    assert main(["scope", "create", "payments", "--read", "role:pay", *own]) == 0
    with office.daemon("--key", f"identity:{identity}", "--as", "svc:pay") as daemon:
        until(lambda: daemon.ask("/readyz") == (503, "scope-sealed\n"))
        assert daemon.stop() == 0


def test_rotates_in_a_sealed_scope_with_nothing_but_an_identity(office: _Office, tmp_path: Path) -> None:
    identity, public = tmp_path / "pay.identity", tmp_path / "pay.pub"
    own = ("--vault", str(office.world.path), "--key", office.world.key, "--as", "user:ada")
    path = f"{CANARY}-scope/{CANARY}-key"
    grants = '[roles.pay]\n[[roles.pay.grants]]\nactions = ["read", "list", "write", "rotate"]\npaths = ["**"]\n'
    grant(office.vault, grants)
    office.world.close()
    assert main(["identity", "create", "svc:pay", "--out", str(identity), "--public", str(public)]) == 0
    assert main(["role", "add", "pay", "--member", "svc:pay", "--identity", str(public), *own]) == 0
    with office.daemon("--key", f"identity:{identity}", "--as", "svc:pay") as daemon:
        until(lambda: daemon.ask("/readyz") == (503, "wrong-key\n"))
        both = ("--read", "role:pay", "--write", "role:pay")
        assert main(["scope", "create", f"{CANARY}-scope", *both, *own]) == 0
        daemon.send(signal.SIGHUP)
        daemon.until_ready()
        with office.world.open(None, key=f"identity:{identity}", clock=SystemClock()) as member:
            member.write(path, FIRST)
            Rotations(member).set(path, Rules("random", grace_s=0, is_hard_cut=True))
            steps = Steps(member.scope(path).authority)
            stored = steps.find(path)
            due_ns = member.scope(path).opened.clock.now_ns()
            obj = {"path": path, "rotator": "random", "action": "due"}
            steps.change(stored, lambda _: stored.rotation._replace(due_ns=due_ns), obj)
            until(lambda: steps.find(path).rotation.rotations == 1)
            assert text_of(member, path) != FIRST
        assert 'securecfg_rotations{state="idle"} 1.0' in daemon.ask("/metrics")[1]
        assert daemon.stop() == 0
    assert CANARY not in "".join(daemon.lines)


def test_ends_with_the_code_of_its_family_where_the_vault_is_an_older_one(office: _Office) -> None:
    older = office.world.folder / "older"
    office.world.close()
    shutil.copyfile(office.world.path, older)
    office.vault = office.open()
    office.make_due()
    office.world.close()
    older.replace(office.world.path)
    with office.daemon("--json") as daemon:
        assert daemon.wait() == 8
    assert json.loads(daemon.out)["error"]["code"] == "rollback-suspected"
    daemon.records()


def test_ends_at_once_where_somebody_else_listens(office: _Office) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        with office.daemon("--listen", place) as daemon:
            assert daemon.wait() == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("--listen", "nonsense"),
        ("--listen", "127.0.0.1"),
        ("--listen", "127.0.0.1:65536"),
        ("--listen", "user@host:80"),
        ("--workers", "0"),
        ("--rate", "0"),
        ("--rate", "nan"),
        ("--stop-timeout", "soon"),
        ("--log-format", "xml"),
        ("more",),
    ],
)
def test_refuses_options_that_make_no_sense(arguments: tuple[str, ...], tmp_path: Path) -> None:
    place = ("--vault", str(tmp_path / "a.vault"), "--key", f"file:{tmp_path / 'key'}")
    assert main(["rotation", "daemon", *place, *arguments]) == 2


def test_needs_a_vault_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["rotation", "daemon", "--as", OPERATOR]) == 2


def test_writes_nothing_of_what_others_log() -> None:
    script = (
        "import logging; from securecfg.rotation.journal import write_lines; write_lines(is_json=True)\n"
        "logging.getLogger('urllib3').error('canary in a URL'); logging.warning('canary again')\n"
        "logging.getLogger('securecfg.x').warning('ours', extra={'event': 'it.happened', 'path': 'canary'})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, timeout=60)
    record = json.loads(done.stderr)
    assert (record["message"], record["event"]) == ("ours", "it.happened")
    assert b"canary" not in done.stdout + done.stderr


def _query(port: int, expression: str) -> list[tuple[dict[str, str], float]]:
    """Return what Prometheus answers."""
    query = urllib.parse.urlencode({"query": expression})
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?{query}", timeout=PATIENCE_S) as answer:
            found = json.load(answer)["data"]["result"]
    except OSError:
        return []
    return [(each["metric"], float(each["value"][1])) for each in found]


def test_prometheus_counts_the_rotations(office: _Office, tmp_path: Path, program: Callable[[str], str]) -> None:
    port = free_port()
    with office.daemon() as daemon:
        settings = tmp_path / "prometheus.yml"
        job = f"{{job_name: rotation, static_configs: [{{targets: ['127.0.0.1:{daemon.port}']}}]}}"
        settings.write_text(
            f"global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\nscrape_configs: [{job}]\n", encoding="utf-8"
        )
        given = (f"--config.file={settings}", f"--storage.tsdb.path={tmp_path / 'tsdb'}")
        listen = f"--web.listen-address=127.0.0.1:{port}"
        with subprocess.Popen([program("prometheus"), *given, listen], stderr=subprocess.DEVNULL) as prometheus:
            try:
                office.make_due()
                finished = "sum(securecfg_rotation_finished_total{job='rotation'})"
                until(lambda: [value for _, value in _query(port, finished)] == [1.0])
                assert [value for _, value in _query(port, "securecfg_rotation_ready")] == [1.0]
                idle = "securecfg_rotations{state='idle'}"
                until(lambda: [value for _, value in _query(port, idle)] == [1.0])
                names = {name for metric, _ in _query(port, '{job="rotation"}') for name in metric.values()}
                assert not [name for name in names if CANARY in name]
            finally:
                prometheus.terminate()
        assert daemon.stop() == 0
