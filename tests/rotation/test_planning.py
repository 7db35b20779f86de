"""What a plan is made from: which rotations begin by themselves, and which target each of them calls."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from securecfg.clock import to_datetime
from securecfg.errors import InvalidRotation
from securecfg.rotation.calendar import upcoming
from securecfg.rotation.document import NS, Rules
from securecfg.rotation.due import due_after
from securecfg.rotation.names import BUILT_IN, open_rotator
from securecfg.rotation.planning import WITHOUT_TARGET, plan_of, target_of
from securecfg.rotation.rotations import Rotations
from securecfg.rotation.schedule import parse_schedule
from securecfg.rotation.simulation import simulate
from securecfg.rotation.steps import Standing
from securecfg.secret import Secret
from tests.rotation.authority import new_ca
from tests.rotation.conftest import PATH, progress_of

if TYPE_CHECKING:
    from securecfg.rotation import Options, Rotator
    from tests.rotation.conftest import RotationWorld

API = {f"{step}": f"https://api.example:8443/{step}/{{id}}" for step in ("create", "verify", "revoke")} | {
    "idempotent": "yes"
}
CALLS = {
    "awsiam": ({"user": "shop", "region": "eu-west-1"}, "aws iam eu-west-1"),
    "exec": ({"program": "/opt/rotate", "strategy": "overlapping"}, "exec /opt/rotate"),
    "http": (API | {"login": "${secret:api/login}"}, "http api.example:8443"),
    "mysql": (
        {"host": "db.example", "admin": "root", "username": "a", "admin-password": "${secret:db/admin}"},
        "mysql db.example:3306",
    ),
    "postgresql": ({"host": "db.example", "port": "6432"}, "postgresql db.example:6432"),
    "redis": ({"hosts": "a.example,b.example:6380", "persist": "none"}, "redis a.example:6379,b.example:6380"),
    "webhook": (
        {"url": "https://hooks.example/rotate", "strategy": "overlapping", "secret": "${secret:hooks/key}"},
        "webhook hooks.example",
    ),
}
PACKAGES = {"awsiam": "boto3", "mysql": "pymysql", "postgresql": "psycopg", "redis": "redis"}


@pytest.mark.parametrize("rotator", sorted(BUILT_IN.keys() - WITHOUT_TARGET))
def test_a_target_is_what_calls_are_limited_for(rotator: str) -> None:
    if rotator in PACKAGES:
        pytest.importorskip(PACKAGES[rotator], reason=f"needs the package `{PACKAGES[rotator]}`")
    options, target = CALLS[rotator]
    assert target_of(Rules(rotator, options)) == target
    stands_for = {
        name: Secret("whsec_" + 44 * "a") if text.startswith("${") else text for name, text in options.items()
    }
    assert open_rotator(rotator, stands_for).target == target


def test_who_calls_nobody_collides_with_nobody(world: RotationWorld) -> None:
    vault = world.open()
    rotations = Rotations(vault)
    schedule = parse_schedule(every="30d").to_json()
    vault.write("ca", {"key": (ca := new_ca()).key_pem, "certificate": ca.pem})
    by = {
        "tls": {"ca-key": "${secret:ca#key}", "ca-certificate": "${secret:ca#certificate}", "names": "a.example"},
        "random": {},
    }
    for rotator, options in by.items():
        for number in range(2):
            vault.write(f"{rotator}/{number}", "canary-4711")
            rotations.set(f"{rotator}/{number}", Rules(rotator, options, schedule, is_hard_cut=True))
    planned = plan_of(vault, rotations.all())
    assert len({each.target for each in planned}) == len(planned) == 4
    assert {each.target for each in planned} == {f"{each.name.partition('/')[0]} {each.name}" for each in planned}
    vault.close()


def test_secrets_of_one_rotator_are_planned_for_each_server_and_no_value_is_read(world: RotationWorld) -> None:
    pytest.importorskip("psycopg", reason="needs the package `psycopg`")
    vault = world.open()
    rotations = Rotations(vault)
    vault.write("db/admin", {"username": "admin", "password": "canary-4711"})
    schedule = parse_schedule(every="30d").to_json()
    for number in range(4):
        vault.write(f"db/{number}", {"username": f"shop{number}", "password": "canary-4711"})
        options = {
            "host": f"db-{number % 2}.example",
            "admin": "admin",
            "username": f"shop{number}",
            "admin-password": "${secret:db/admin#password}",
        }
        rotations.set(f"db/{number}", Rules("postgresql", options, schedule, is_hard_cut=True))
    found = rotations.all()
    before = vault.opened.replica.checkpoint.size
    planned = plan_of(vault, found)
    assert [each.target for each in planned] == [f"postgresql db-{number % 2}.example:5432" for number in range(4)]
    vault.opened.refresh()
    assert vault.opened.replica.checkpoint.size == before
    vault.close()


def test_who_wants_to_see_the_secret_itself_is_taken_to_call_one_target() -> None:
    def find(name: str, options: Options) -> Rotator:
        del name, options
        message = "this is no key"
        raise InvalidRotation(message)

    assert target_of(Rules("picky", {"key": "${secret:a}"}), find) == "picky"
    assert target_of(Rules("picky", {"key": "text around ${secret:a}"})) == "picky"
    assert target_of(Rules("not-installed")) == "not-installed"


def test_what_was_written_since_is_due_when_the_daemon_begins_it(world: RotationWorld) -> None:
    vault = world.open()
    rotations = Rotations(vault)
    rotations.set(PATH, Rules("random", {"field": "password"}, parse_schedule(every="30d").to_json()))
    due = to_datetime(rotations.find(PATH).due_ns)
    world.wait(10 * 86_400)
    vault.write(PATH, {"username": "shop", "password": "written by hand"})
    now = to_datetime(world.clock.ns)
    planned = plan_of(vault, rotations.all())
    first, second = upcoming(planned, now=now, until=now + timedelta(days=60))
    assert first.at == due
    assert timedelta(days=28) < second.at - first.at <= timedelta(days=30)
    assert simulate(planned, start=now, span=timedelta(days=60)).rotations == 2
    late = due + timedelta(days=1)
    assert next(upcoming(planned, now=late, until=late + timedelta(days=1))).at == late
    vault.close()


def test_a_version_that_was_made_while_a_clock_was_ahead_is_not_left_alone_until_then(world: RotationWorld) -> None:
    vault = world.open()
    now_ns = world.clock.ns
    rules = Rules("random", {}, parse_schedule(every="30d", jitter="0").to_json())
    day_ns = 86_400 * NS
    for created_ns in (now_ns, now_ns + 3_650 * day_ns):
        assert due_after(rules, 1, now_ns, Standing(1, 0, 0, created_ns)) == now_ns // 1_000 * 1_000 + 30 * day_ns
    vault.close()


def test_what_waits_for_the_end_of_its_grace_is_not_planned_as_due(world: RotationWorld) -> None:
    vault = world.begin(schedule=parse_schedule(every="30d", jitter="0").to_json(), grace_s=7 * 86_400)
    world.wait(30 * 86_400 + 60)
    swapped_ns = progress_of(world.advance(world.runner(vault), "due")).swapped_ns
    world.wait(86_400)
    [planned] = plan_of(vault, world.rotations(vault).all())
    assert planned.due is not None
    assert timedelta(days=29) < planned.due - to_datetime(swapped_ns) < timedelta(days=31)
