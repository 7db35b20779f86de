"""What is in `deploy/`: read by what reads it, and held to what the daemon is."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from kubernetes import client as kubernetes

from securecfg.cli.rotation_daemon import daemon as command
from securecfg.clock import SystemClock
from securecfg.rotation.document import Rules
from securecfg.rotation.metrics import Metrics
from securecfg.rotation.rotations import Rotations
from securecfg.rotation.steps import Steps
from tests.rotation.daemon_process import DaemonProcess, until
from tests.vault.world import ManualClock, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "systemd" / "securecfg-rotation.service"
RULES = DEPLOY / "prometheus" / "securecfg-rotation.rules.yml"
MANIFEST = DEPLOY / "kubernetes" / "rotation-daemon.yaml"
DOCKERFILE = DEPLOY / "container" / "Dockerfile"
EXPOSURE_MAX = 15
"""Ten times the `overall exposure level` of `systemd-analyze security`."""


def _run(*arguments: str, cwd: Path | None = None) -> str:
    done = subprocess.run(arguments, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def _options_of(line: str) -> set[str]:
    """Return the options in the command of a daemon."""
    return set(re.findall(r"--[a-z-]+", line))


KNOWN = {name for parameter in command.params for name in parameter.opts}

# --- systemd ----------------------------------------------------------------------------------------------------------


def _settings(text: str) -> dict[str, str]:
    """Return the settings of a unit, the last one of each name."""
    return dict(re.findall(r"^([A-Za-z]+)=(.*)$", text, re.MULTILINE))


def test_systemd_takes_the_unit(program: Callable[[str], str], tmp_path: Path) -> None:
    analyze = program("systemd-analyze")
    unit = tmp_path / UNIT.name
    # What is to be started has to be there.
    unit.write_text(UNIT.read_text().replace("/opt/securecfg/bin/securecfg", sys.executable))
    told = _run(analyze, "verify", "--man=no", str(unit))
    assert [line for line in told.splitlines() if UNIT.name in line] == []


def test_the_unit_is_hardened(program: Callable[[str], str]) -> None:
    _run(program("systemd-analyze"), "security", "--offline=true", f"--threshold={EXPOSURE_MAX}", str(UNIT))


def test_the_unit_starts_a_daemon_as_it_is() -> None:
    settings = _settings(UNIT.read_text())
    assert settings["Type"] == "notify"
    assert settings["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert _options_of(settings["ExecStart"]) <= KNOWN
    assert "--key file:%d/key" in settings["ExecStart"]
    assert settings["LoadCredential"].startswith("key:")


def test_the_unit_waits_for_longer_than_the_daemon_does() -> None:
    seconds = int(_settings(UNIT.read_text())["TimeoutStopSec"].removesuffix("s"))
    [timeout] = [parameter for parameter in command.params if "--stop-timeout" in parameter.opts]
    assert seconds > int(str(timeout.default).removesuffix("s"))


_PR_SET_MDWE, _PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
_DENY = (
    f"import ctypes, os, sys; ctypes.CDLL(None).prctl({_PR_SET_MDWE}, {_PR_MDWE_REFUSE_EXEC_GAIN}, 0, 0, 0);"
    "os.execv(sys.argv[1], sys.argv[1:])"
)


def _is_mdwe_known() -> bool:
    """Return whether the kernel can deny what `MemoryDenyWriteExecute=` denies without a filter, since 6.3."""
    return sys.platform == "linux" and int(ctypes.CDLL(None).prctl(_PR_SET_MDWE + 1, 0, 0, 0, 0)) >= 0


def test_rotates_where_no_memory_that_was_written_may_be_executed(tmp_path: Path) -> None:
    if not _is_mdwe_known():
        pytest.skip("not applicable: the kernel cannot deny a process such memory")
    world = World(tmp_path, ManualClock(SystemClock().now_ns()))
    with world.create() as vault:
        vault.write("app/key", "canary")
        Rotations(vault).set("app/key", Rules("random", grace_s=0, is_hard_cut=True))
        steps = Steps(vault.authority)
        stored = steps.find("app/key")
        obj = {"path": "app/key", "rotator": "random", "action": "due"}
        steps.change(stored, lambda _: stored.rotation._replace(due_ns=SystemClock().now_ns()), obj)
    given = ("--vault", str(world.path), "--key", world.key, "--as", "user:ada")
    with DaemonProcess(*given, environment=os.environ, prefix=(sys.executable, "-c", _DENY)) as daemon:
        until(lambda: 'securecfg_rotation_finished_total{rotator="random"} 1.0' in daemon.ask("/metrics")[1])
        assert daemon.stop() == 0


# --- Prometheus -------------------------------------------------------------------------------------------------------


def test_prometheus_takes_the_rules(program: Callable[[str], str]) -> None:
    _run(program("promtool"), "check", "rules", str(RULES))


def test_the_rules_alert_when_they_should(program: Callable[[str], str]) -> None:
    test = RULES.with_name("securecfg-rotation.test.yml")
    _run(program("promtool"), "test", "rules", test.name, cwd=test.parent)


def test_the_rules_ask_for_metrics_that_there_are() -> None:
    known = set(re.findall(r"^# TYPE (\w+)", Metrics().text().decode(), re.MULTILINE))
    # Those of a daemon are there once there is one.
    known |= {"securecfg_rotations", "securecfg_rotations_hindered", "securecfg_rotation_ready"}
    known |= {"securecfg_rotation_next_due_timestamp_seconds"}
    asked = {
        name.removesuffix("_bucket")
        for group in yaml.safe_load(RULES.read_text())["groups"]
        for rule in group["rules"]
        for name in re.findall(r"\bsecurecfg_\w+", rule["expr"])
    }
    assert asked
    assert asked <= known


# --- Kubernetes and containers ----------------------------------------------------------------------------------------


def _read_strictly(value: object, kind: str, place: str) -> object:
    """Return what the API's own model makes of a value; unknown fields and other types are refused."""
    if kind == "object":
        return value
    if found := re.fullmatch(r"[Ll]ist\[(.*)\]", kind):
        assert isinstance(value, list), place
        return [_read_strictly(each, found[1], f"{place}[{number}]") for number, each in enumerate(value)]
    if found := re.fullmatch(r"[Dd]ict[\[(]str, (.*)[\])]", kind):
        assert isinstance(value, dict), place
        return {name: _read_strictly(each, found[1], f"{place}.{name}") for name, each in value.items()}
    if kind in {"str", "int", "bool", "float"}:
        assert type(value).__name__ == kind, place
        return value
    model: Any = getattr(kubernetes, kind)
    assert isinstance(value, dict), place
    names = {theirs: ours for ours, theirs in model.attribute_map.items()}
    given = {}
    for name, each in value.items():
        assert name in names, f"{place} has no field {name}"
        given[names[name]] = _read_strictly(each, model.openapi_types[names[name]], f"{place}.{name}")
    return model(**given)  # which refuses what is missing


@pytest.fixture(scope="module")
def objects() -> dict[str, Any]:
    """The objects of the manifest, by kind."""
    documents = list(yaml.safe_load_all(MANIFEST.read_text()))
    return {each["kind"]: _read_strictly(each, f"V1{each['kind']}", each["kind"]) for each in documents}


@pytest.mark.parametrize(
    "damaged",
    [
        {"replica": 1},
        {"replicas": "1"},
        {"strategy": ["Recreate"]},
        {"template": {"spec": {"containers": [{"image": "no name"}]}}},
        {"template": {"spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": 1}}}]}}},
    ],
)
def test_a_manifest_with_a_mistake_is_not_taken(damaged: dict[str, Any]) -> None:
    spec = {"selector": {}, "template": {}} | damaged
    with pytest.raises((AssertionError, ValueError)):
        _read_strictly({"spec": spec}, "V1Deployment", "Deployment")


def test_kubernetes_takes_the_manifest(objects: dict[str, Any]) -> None:
    assert set(objects) == {"ServiceAccount", "PersistentVolumeClaim", "Deployment", "NetworkPolicy"}
    for each in objects.values():
        assert each.metadata.name


def test_one_daemon_at_a_time_has_the_volume(objects: dict[str, Any]) -> None:
    deployment, claim = objects["Deployment"], objects["PersistentVolumeClaim"]
    assert (deployment.spec.replicas, deployment.spec.strategy.type) == (1, "Recreate")
    assert claim.spec.access_modes == ["ReadWriteOncePod"]
    pod = deployment.spec.template.spec
    assert claim.metadata.name in [volume.persistent_volume_claim.claim_name for volume in pod.volumes[:1]]
    assert deployment.spec.selector.match_labels == deployment.spec.template.metadata.labels
    assert pod.service_account_name == objects["ServiceAccount"].metadata.name


def test_the_pod_keeps_to_the_restricted_standard(objects: dict[str, Any]) -> None:
    pod = objects["Deployment"].spec.template.spec
    assert pod.automount_service_account_token is False
    assert pod.security_context.run_as_non_root is True
    assert pod.security_context.seccomp_profile.type == "RuntimeDefault"
    for container in [*pod.containers, *pod.init_containers]:
        assert container.security_context.allow_privilege_escalation is False
        assert container.security_context.read_only_root_filesystem is True
        assert container.security_context.capabilities.drop == ["ALL"]
        assert container.resources.limits["memory"]
    assert not [volume for volume in pod.volumes if volume.host_path]


def test_the_pod_is_asked_where_the_daemon_answers(objects: dict[str, Any]) -> None:
    pod = objects["Deployment"].spec.template.spec
    [container] = pod.containers
    assert (container.liveness_probe.http_get.path, container.readiness_probe.http_get.path) == ("/livez", "/readyz")
    [port] = container.ports
    assert f"0.0.0.0:{port.container_port}" in DOCKERFILE.read_text()
    assert _options_of(" ".join(container.args)) <= KNOWN


def _instructions() -> Iterator[tuple[str, str]]:
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE))
    for line in text.splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            yield name, rest


def test_the_image_runs_as_nobody_of_importance_and_is_pinned(objects: dict[str, Any]) -> None:
    instructions = list(_instructions())
    assert {rest for name, rest in instructions if name == "USER"} == {"10001:10001"}
    bases = {rest.split()[0] for name, rest in instructions if name == "FROM"}
    assert all(re.fullmatch(r"python:3\.\d+-slim-[a-z]+", base) for base in bases)
    assert len(bases) == 1
    started = " ".join(rest for name, rest in instructions if name in {"ENTRYPOINT", "CMD"})
    assert _options_of(started) <= KNOWN
    [check] = [rest for name, rest in instructions if name == "HEALTHCHECK"]
    assert "/livez" in check
    assert objects["Deployment"].spec.template.spec.security_context.run_as_user == 10001


def test_what_the_image_copies_is_there() -> None:
    copied = [rest.split()[:-1] for name, rest in _instructions() if name == "COPY" and not rest.startswith("--from")]
    missing = [each for names in copied for each in names if not (ROOT / each).exists()]
    assert copied
    assert missing == []
