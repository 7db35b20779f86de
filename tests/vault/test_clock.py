"""A clock that is behind the newest publication is not trusted, whatever was published with it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from securecfg.audit import Event
from securecfg.errors import AccessDenied, RequestTooOld
from securecfg.keys import open_provider
from securecfg.vault.adoption import adopt, compare_with_anchor
from securecfg.vault.commits.staging import StagingArea
from tests.vault.world import ADMIN, GRANTS, READER, ManualClock, World, grant, interrupted, text_of

if TYPE_CHECKING:
    from securecfg.audit import Record
    from securecfg.vault.vault import Vault

HOUR_NS = 3_600 * 10**9
AT_ALL_HOURS = GRANTS.replace("\n[roles.blind]", '\nwhen = { hours = "00:00-23:59" }\n[roles.blind]')


def clock_of(world: World, hours: int) -> ManualClock:
    return ManualClock(world.clock.ns + hours * HOUR_NS)


def published(vault: Vault) -> int:
    vault.opened.refresh()
    return vault.opened.replica.state.published


def notices(vault: Vault) -> list[Record]:
    return [entry.record for entry in vault.log.records() if entry.record.event == "clock.behind"]


@pytest.fixture
def timed(vault: Vault) -> Vault:
    """A vault in which the reader may read at all hours, which mentions the time."""
    grant(vault, AT_ALL_HOURS)
    vault.write("app/x", "v")
    return vault


def test_what_is_published_with_a_clock_that_is_behind_sets_no_time_back(world: World, timed: Vault) -> None:
    before = published(timed)
    slow = world.open(clock=clock_of(world, -1))
    slow.write("app/y", "1")
    assert published(timed) == before
    slowly, before_it = (timed.history(path)[0].created for path in ("app/y", "app/x"))
    assert slowly is not None
    assert before_it is not None
    assert slowly < before_it
    timed.write("app/z", "1")
    assert published(timed) > before


def test_a_second_process_with_the_same_wrong_clock_is_not_trusted_either(world: World, timed: Vault) -> None:
    for _ in range(3):
        slow = world.open(READER, clock=clock_of(world, -1))
        with pytest.raises(AccessDenied):
            slow.read("app/x")
        slow.close()
    assert text_of(world.open(READER), "app/x") == "v"


@pytest.mark.parametrize(("behind_s", "is_trusted"), [(290, True), (310, False)])
def test_five_minutes_are_tolerated(world: World, timed: Vault, behind_s: int, *, is_trusted: bool) -> None:
    near = world.open(READER, clock=ManualClock(published(timed) - behind_s * 10**9))
    assert near.opened.is_clock_trusted() is is_trusted


def test_a_clock_that_is_behind_is_recorded_once_for_each_opening(world: World, timed: Vault) -> None:
    for turn in range(1, 3):
        slow = world.open(clock=clock_of(world, -2))
        slow.list()
        for number in range(3):
            slow.write(f"app/{turn}", str(number))
        slow.close()
        (*_, last) = notices(timed)
        assert len(notices(timed)) == turn
        assert last.subject.id == ADMIN
        assert 7_190 < last.obj["behind_s"] < 7_210
        assert last.time_ns < published(timed) - HOUR_NS
    timed.log.verify()


def test_a_clock_that_falls_behind_later_is_recorded_then(world: World, timed: Vault) -> None:
    timed.write("app/y", "1")
    assert notices(timed) == []
    world.clock.advance(timedelta(hours=-1))
    timed.write("app/y", "2")
    world.clock.advance(timedelta(hours=2))
    assert len(notices(timed)) == 1


def test_a_publication_that_is_made_anew_notes_the_clock_once(world: World, timed: Vault) -> None:
    slow, store = interrupted(world)
    world.clock.advance(timedelta(hours=-1))
    store.interrupt("commit", None, lambda: world.open(clock=clock_of(world, 1)).write("app/z", "1"))
    slow.write("app/y", "1")
    world.clock.advance(timedelta(hours=2))
    assert len(notices(timed)) == 1


def test_a_clock_that_is_ahead_shuts_others_out_until_the_vault_is_adopted(world: World, timed: Vault) -> None:
    reader = world.open(READER)
    world.open(clock=clock_of(world, 1_000)).write("app/y", "1")
    with pytest.raises(AccessDenied):
        reader.read("app/x")
    assert text_of(timed, "app/x") == "v"
    provider = open_provider(world.key)
    found = compare_with_anchor(world.path, provider, world.clock)
    done = adopt(world.path, provider, ADMIN, clock=world.clock)
    for each in (found, done):
        assert timedelta(hours=999) < each.ahead < timedelta(hours=1_001)
    assert done.size == found.size + 2
    assert [entry.record.event for entry in timed.log.records(found.size)][:2] == ["vault.adopted", "clock.behind"]
    assert published(timed) <= world.clock.ns
    assert text_of(reader, "app/x") == "v"
    assert compare_with_anchor(world.path, provider, world.clock).ahead == timedelta()


def test_only_who_may_restore_sets_the_time_back(world: World, timed: Vault) -> None:
    world.open(clock=clock_of(world, 1_000)).write("app/y", "1")
    ahead = published(timed)
    with pytest.raises(AccessDenied):
        adopt(world.path, open_provider(world.key), READER, clock=world.clock)
    assert published(timed) == ahead


def test_a_request_is_found_behind_the_record_of_a_clock_that_was_behind(world: World, timed: Vault) -> None:
    timed.write("app/y", "1")
    request_id = next(entry.record.request_id for entry in timed.log.records() if entry.record.request_id)
    world.open(clock=clock_of(world, -24 * 30)).write("app/z", "1")
    outcome = timed.resolve(request_id)
    assert outcome is not None
    assert timed.resolve("0" * 32) is None


def test_a_request_before_a_long_run_of_old_records_is_too_old(world: World, timed: Vault) -> None:
    session = timed.authority.session()
    timed.authority.publish_records([session.record(Event.AUDIT_READ, {}) for _ in range(600)])
    assert timed.resolve("0" * 32) is None
    world.clock.advance(timedelta(days=8))
    timed.write("app/y", "1")
    with pytest.raises(RequestTooOld) as refused:
        timed.resolve("0" * 32)
    assert refused.value.code == "request-too-old"


def test_what_a_clock_that_was_ahead_reserved_is_swept_once_the_vault_is_adopted(world: World, timed: Vault) -> None:
    StagingArea(world.open(clock=clock_of(world, 1_000)).opened).allocate()
    (reserved,) = world.open().opened.replica.state.stagings
    adopt(world.path, open_provider(world.key), ADMIN, clock=world.clock)
    assert world.open().opened.replica.state.stagings == ()
    timed.opened.refresh()
    assert reserved not in timed.opened.replica.state.stagings


def test_a_clock_that_is_behind_sweeps_nobodys_work(world: World, timed: Vault) -> None:
    area = StagingArea(timed.opened)
    area.allocate()
    assert world.open(clock=clock_of(world, -1_000)).opened.replica.state.stagings != ()
    area.publish(list, lambda: None, "")
