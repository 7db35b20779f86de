from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from securecfg.audit import Checkpoint, Event, open_checkpoint, parse_leaf, sign_checkpoint, vkey_of
from securecfg.audit.epoch import create_hand_over
from securecfg.audit.merkle import EMPTY_ROOT, consistency_proof
from securecfg.audit.verify import History, find_tampered, verify_continues, verify_fresh, verify_tree
from securecfg.errors import LogStale, LogTampered, LogTruncated
from tests.audit.sample import ORIGIN, START_NS, STATE, SampleLog, plain_log, record, sample_log, signing_key

if TYPE_CHECKING:
    from collections.abc import Callable


def head(log: SampleLog) -> Checkpoint:
    return open_checkpoint(log.checkpoint(), [log.vkey])


def history(log: SampleLog) -> History:
    taken = History(log.genesis)
    for row in log.leaves:
        taken.add(row, log.opener)
    return taken


class TestTheTree:
    @pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 700, 65_536, 65_700])
    def test_of_a_sound_log_verifies(self, size: int) -> None:
        log = plain_log(size)
        verify_tree(head(log), log.leaves, log.tile)

    def test_of_an_earlier_checkpoint_verifies_against_later_tiles(self) -> None:
        log = plain_log(300)
        earlier = head(log)
        for number in range(300, 1_000):
            log.append_leaf(f"leaf {number}".encode())
        verify_tree(earlier, log.leaves[:300], log.tile)

    @pytest.mark.parametrize("index", [0, 255, 256, 511, 40_000, 65_535])
    def test_names_a_record_that_was_altered(self, index: int) -> None:
        log = plain_log(65_600)
        log.leaves[index] += b"!"
        with pytest.raises(LogTampered) as caught:
            verify_tree(head(log), log.leaves, log.tile)
        assert caught.value.index == index

    @pytest.mark.parametrize("index", [512, 599])
    def test_notices_a_record_that_was_altered_after_the_last_tile(self, index: int) -> None:
        log = plain_log(600)
        log.leaves[index] += b"!"
        with pytest.raises(LogTampered, match="signed root") as caught:
            verify_tree(head(log), log.leaves, log.tile)
        assert caught.value.index is None

    @pytest.mark.parametrize(
        ("place", "index"), [((0, 0), 0), ((0, 1), 256), ((1, 0), 0), ((1, 1), 65_536), ((2, 0), 0)]
    )
    @pytest.mark.parametrize("damage", [lambda _: None, lambda _: b"", lambda tile: b"\x00" + tile[1:]])
    def test_names_the_first_record_of_a_damaged_tile(
        self, place: tuple[int, int], index: int, damage: Callable[[bytes], bytes | None]
    ) -> None:
        log = plain_log(65_900)
        damaged = damage(log.tiles.pop(place))
        if damaged is not None:
            log.tiles[place] = damaged
        with pytest.raises(LogTampered) as caught:
            verify_tree(head(log), log.leaves, log.tile)
        assert caught.value.index == index

    def test_compares_a_partial_tile_that_is_stored_all_the_same(self) -> None:
        log = plain_log(300)
        log.tiles[0, 1] = bytes(44 * 32)
        with pytest.raises(LogTampered) as caught:
            verify_tree(head(log), log.leaves, log.tile)
        assert caught.value.index == 256

    @pytest.mark.parametrize("missing", [1, 44, 45, 300])
    def test_notices_a_log_that_was_cut(self, missing: int) -> None:
        log = plain_log(300)
        with pytest.raises(LogTruncated, match=f"{300 - missing} records of the 300"):
            verify_tree(head(log), log.leaves[:-missing], log.tile)

    def test_notices_records_after_the_signed_ones(self) -> None:
        log = plain_log(300)
        with pytest.raises(LogTampered) as caught:
            verify_tree(head(log), [*log.leaves, b"more"], log.tile)
        assert caught.value.index == 300

    def test_notices_records_that_changed_places(self) -> None:
        log = plain_log(300)
        log.leaves[3], log.leaves[4] = log.leaves[4], log.leaves[3]
        with pytest.raises(LogTampered) as caught:
            verify_tree(head(log), log.leaves, log.tile)
        assert caught.value.index == 3


class TestFindingWhatWasTampered:
    @pytest.mark.parametrize("index", [0, 7, 19])
    def test_names_the_record_for_a_holder_of_the_audit_key(self, index: int) -> None:
        log = sample_log(20)
        assert find_tampered(log.leaves, log.opener) is None
        log.leaves[index] = log.leaves[index][:-1] + bytes([log.leaves[index][-1] ^ 1])
        assert find_tampered(log.leaves, log.opener) == index


class TestHistory:
    def test_of_a_sound_log_is_accepted(self) -> None:
        log = sample_log(5)
        log.new_session()
        log.hand_over()
        log.append(record(at_s=10))
        taken = history(log)
        assert (taken.size, taken.last_time_ns, taken.behind) == (7, START_NS + 10 * 10**9, [])
        assert taken.epochs.keys == (log.genesis, log.vkey)
        assert taken.open_checkpoint(log.checkpoint()) == head(log)

    def test_begins_with_the_creation_under_the_key_of_epoch_0(self) -> None:
        log = SampleLog()
        log.append(record())
        with pytest.raises(LogTampered, match="record 0"):
            history(log)
        other = sample_log(1)
        with pytest.raises(LogTampered, match="record 0"):
            History(vkey_of(ORIGIN, signing_key(3))).add(other.leaves[0], other.opener)

    def test_creates_the_vault_once(self) -> None:
        log = sample_log(2)
        log.append(record(Event.VAULT_CREATED, {"vkey": str(log.genesis)}))
        with pytest.raises(LogTampered) as caught:
            history(log)
        assert caught.value.index == 2

    def test_refuses_a_counter_that_was_used_before(self) -> None:
        log = sample_log(2)
        log.sealer._counter = 1
        log.append(record())
        with pytest.raises(LogTampered, match="counter") as caught:
            history(log)
        assert caught.value.index == 2
        assert parse_leaf(log.leaves[2], 2).counter == 1

    def test_allows_counters_of_commits_that_failed(self) -> None:
        log = sample_log(2)
        log.sealer.seal(b"not committed", 2)
        log.append(record())
        assert history(log).size == 3

    def test_refuses_a_hand_over_that_skips_an_epoch(self) -> None:
        log = sample_log(2)
        forged = create_hand_over(2, ORIGIN, signing_key(0), signing_key(2))
        log.append(record(Event.AUDIT_EPOCH, forged.to_object()))
        with pytest.raises(LogTampered) as caught:
            history(log)
        assert caught.value.index == 2

    def test_refuses_a_checkpoint_by_a_key_whose_epoch_is_over(self) -> None:
        log = sample_log(2)
        log.hand_over()
        log.append(record())
        stolen = sign_checkpoint(head(log), signing_key(0))
        with pytest.raises(LogTampered, match="another epoch"):
            history(log).open_checkpoint(stolen)

    def test_refuses_a_checkpoint_by_a_key_that_never_signed_for_this_log(self) -> None:
        log = sample_log(2)
        with pytest.raises(LogTampered, match="cannot be trusted"):
            history(log).open_checkpoint(sign_checkpoint(head(log), signing_key(3)))

    def test_notices_a_log_that_was_cut_inside_a_past_epoch(self) -> None:
        log = sample_log(3)
        log.hand_over()
        checkpoint = log.checkpoint()
        log.leaves.pop()
        with pytest.raises(LogTampered):
            history(log).open_checkpoint(checkpoint)

    def test_notices_fewer_records_than_were_signed(self) -> None:
        log = sample_log(3)
        checkpoint = log.checkpoint()
        log.leaves.pop()
        with pytest.raises(LogTruncated):
            history(log).open_checkpoint(checkpoint)

    def test_finds_records_whose_clock_was_behind(self) -> None:
        log = sample_log(2)
        log.append(record(at_s=1_000), record(at_s=701), record(at_s=699), record(at_s=1_001))
        assert history(log).behind == [4]

    def test_finds_them_by_the_clock_of_who_adopted_the_vault_last(self) -> None:
        log = sample_log(2)
        adopted = record(Event.VAULT_ADOPTED, {"size": 3, "old_size": 0}, at_s=1_000)
        log.append(record(at_s=90_000), adopted, record(at_s=1_001), record(at_s=600))
        assert history(log).behind == [3, 5]


class TestContinuing:
    def test_holds_for_every_earlier_checkpoint(self) -> None:
        log = plain_log(0)
        earlier = []
        for number in range(40):
            earlier.append(head(log))
            log.append_leaf(bytes([number]))
        for older in earlier:
            proof = consistency_proof(log, older.size, 40) if older.size else ()
            verify_continues(older, head(log), proof)

    def test_fails_for_a_smaller_log(self) -> None:
        with pytest.raises(LogTruncated):
            verify_continues(head(plain_log(3)), head(plain_log(2)), ())

    def test_fails_for_another_history(self) -> None:
        older, log = Checkpoint(ORIGIN, 2, bytes(32), STATE), plain_log(3)
        with pytest.raises(LogTampered):
            verify_continues(older, head(log), consistency_proof(log, 2, 3))

    def test_fails_for_another_log(self) -> None:
        other = Checkpoint(ORIGIN[:-1] + "0", 0, EMPTY_ROOT, STATE)
        with pytest.raises(LogTampered, match="another log"):
            verify_continues(other, head(plain_log(3)), ())

    @pytest.mark.parametrize(("root", "proof"), [(bytes(32), []), (EMPTY_ROOT, [bytes(32)])])
    def test_fails_for_an_empty_log_that_is_not(self, root: bytes, proof: list[bytes]) -> None:
        with pytest.raises(LogTampered, match="empty"):
            verify_continues(Checkpoint(ORIGIN, 0, root, STATE), head(plain_log(3)), proof)


def test_a_log_is_stale_after_the_age_that_was_asked_for() -> None:
    verify_fresh(START_NS, START_NS + 60 * 10**9, timedelta(minutes=1))
    verify_fresh(START_NS + 10**9, START_NS, timedelta())
    with pytest.raises(LogStale, match="61 seconds old, 60 are allowed"):
        verify_fresh(START_NS, START_NS + 61 * 10**9, timedelta(minutes=1))


def test_a_log_whose_newest_record_lies_in_the_future_may_be_stale() -> None:
    verify_fresh(START_NS + 300 * 10**9, START_NS, timedelta(minutes=1))
    with pytest.raises(LogStale, match="301 seconds in the future") as refused:
        verify_fresh(START_NS + 301 * 10**9, START_NS, timedelta(minutes=1))
    assert refused.value.code == "log-stale"
