# ruff: noqa: D102, PLR2004, S101, S311 - a suite of tests: names are sentences, asserts are the point, seeds repeat
"""What every store must do; subclass `StoreConformance`, say how to make and open a store, and let pytest run it."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

import pytest

from securecfg.errors import HeadMoved, ValueTooLarge, VaultClosed
from securecfg.store import (
    BATCH_LIMIT_BYTES,
    BATCH_LIMIT_OPERATIONS,
    ID_LIMIT,
    PARTITION_LIMIT,
    ROW_LIMIT_BYTES,
    STAGE_LIMIT_BYTES,
    STAGE_LIMIT_OPERATIONS,
    Delete,
    Operation,
    PartCommit,
    Put,
    Replace,
    Space,
    Store,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

THREADS = 8
PUBLICATIONS = 25


class StoreConformance:
    """The suite; `create_store` and `open_store` are for the subclass to define."""

    _place: Path
    _handles: list[Store]

    def create_store(self, place: Path) -> Store:
        """Make an empty store in an empty folder of its own and return a handle on it."""
        raise NotImplementedError

    def open_store(self, place: Path) -> Store:
        """Return another, independent handle on the store that was made in this folder."""
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> Iterator[None]:
        self._place = tmp_path
        self._handles = []
        yield
        for handle in self._handles:
            handle.close()

    def created(self) -> Store:
        """Return a new store, closed after the test."""
        self._handles.append(self.create_store(self._place))
        return self._handles[-1]

    def opened(self) -> Store:
        """Return another handle on it, closed after the test."""
        self._handles.append(self.open_store(self._place))
        return self._handles[-1]

    # --- rows ---------------------------------------------------------------------------------------------------------

    def test_a_new_store_is_empty(self) -> None:
        store = self.created()
        assert store.head() is None
        assert all(store.get(space, 0) is None for space in Space)
        assert all(store.scan(space, 0, ID_LIMIT - 1, 10) == [] for space in Space)

    def test_says_when_it_erases(self) -> None:
        assert self.created().erases in {"now", "after-vacuum", "never"}

    @pytest.mark.parametrize("space", list(Space))
    def test_keeps_rows_of_every_space_apart(self, space: Space) -> None:
        store = self.created()
        store.commit([Put(other, 5, bytes([other])) for other in Space], expect=None, head=b"1")
        store.commit([Delete(space, 5)], expect=b"1", head=b"2")
        assert [store.get(other, 5) for other in Space] == [
            None if other == space else bytes([other]) for other in Space
        ]

    @pytest.mark.parametrize("row", [b"", b"\0", b"\0" * 4096, bytes(range(256)) * 64, b"\xff" * ROW_LIMIT_BYTES])
    def test_returns_the_very_bytes(self, row: bytes) -> None:
        store = self.created()
        store.commit([Put(Space.VALUE, 1, row)], expect=None, head=row or b"h")
        assert store.get(Space.VALUE, 1) == row
        assert store.head() == (row or b"h")
        assert type(store.get(Space.VALUE, 1)) is bytes

    @pytest.mark.parametrize("id_", [0, 1, 2**31, 2**32, ID_LIMIT - 1])
    def test_takes_every_id_of_63_bits(self, id_: int) -> None:
        store = self.created()
        store.commit([Put(Space.DELTA, id_, b"row")], expect=None, head=b"1")
        assert store.get(Space.DELTA, id_) == b"row"
        assert store.scan(Space.DELTA, id_, id_, 2) == [(id_, b"row")]

    @pytest.mark.parametrize("id_", [-1, ID_LIMIT, ID_LIMIT * 2])
    def test_refuses_an_id_out_of_range_and_changes_nothing(self, id_: int) -> None:
        store = self.created()
        for attempt in (
            lambda: store.get(Space.VALUE, id_),
            lambda: store.get_many([(Space.VALUE, id_)]),
            lambda: store.get_many([(Space.DEK, id_), (Space.VALUE, 1)]),
            lambda: store.get_many([(Space.DEK, 1), (Space.VALUE, id_)]),
            lambda: store.snapshot([(Space.VALUE, id_)]),
            lambda: store.scan(Space.VALUE, id_, 5, 1),
            lambda: store.stage([Put(Space.VALUE, 1, b"row"), Delete(Space.VALUE, id_)]),
            lambda: store.commit([Put(Space.VALUE, 1, b"row"), Put(Space.VALUE, id_, b"")], expect=None, head=b"1"),
        ):
            with pytest.raises(ValueError, match="2\\^63"):
                attempt()
        assert store.snapshot([(Space.VALUE, 1)]) == (None, [None])

    def test_replaces_and_deletes_rows(self) -> None:
        store = self.created()
        store.commit([Put(Space.DEK, 1, b"old"), Put(Space.DEK, 2, b"x")], expect=None, head=b"1")
        store.commit([Put(Space.DEK, 1, b"new"), Delete(Space.DEK, 2), Delete(Space.DEK, 3)], expect=b"1", head=b"2")
        assert store.get_many([(Space.DEK, 1), (Space.DEK, 2), (Space.DEK, 3)]) == [b"new", None, None]

    def test_applies_a_batch_in_order(self) -> None:
        store = self.created()
        batch: list[Operation] = [
            Put(Space.DEK, 1, b"a"),
            Delete(Space.DEK, 1),
            Put(Space.DEK, 2, b"a"),
            Put(Space.DEK, 2, b"b"),
        ]
        store.commit(batch, expect=None, head=b"1")
        assert store.get_many([(Space.DEK, 1), (Space.DEK, 2)]) == [None, b"b"]

    def test_returns_many_rows_in_the_order_asked_repeats_included(self) -> None:
        store = self.created()
        store.stage([Put(Space.VALUE, i, b"%d" % i) for i in range(10)])
        keys = [(Space.VALUE, i) for i in (7, 3, 99, 7, 0)]
        assert store.get_many(keys) == [b"7", b"3", None, b"7", b"0"]
        assert store.get_many([(Space.VALUE, 3), (Space.DEK, 3)]) == [b"3", None]
        assert store.get_many([(Space.DEK, 3), (Space.VALUE, 4)]) == [None, b"4"]
        assert store.get_many([]) == []

    def test_scans_ascending_within_both_ends_and_the_limit(self) -> None:
        store = self.created()
        ids = random.Random(1).sample(range(1000), 60)
        store.stage([Put(Space.LOG, i, b"%d" % i) for i in ids])
        store.stage([Put(Space.TILE, i, b"other") for i in range(60)])
        wanted = [(i, b"%d" % i) for i in sorted(ids) if min(ids) < i <= 500]
        assert store.scan(Space.LOG, min(ids) + 1, 500, 1000) == wanted
        assert store.scan(Space.LOG, min(ids) + 1, 500, 7) == wanted[:7]
        assert store.scan(Space.LOG, 600, 500, 7) == []
        assert store.scan(Space.LOG, 0, 1000, 0) == []
        assert store.scan(Space.LOG, 0, 1000, -1) == []

    # --- publication --------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("expect", [b"", b"0", b"1 ", None])
    def test_refuses_a_stale_head_and_writes_nothing(self, expect: bytes | None) -> None:
        store = self.created()
        store.commit([], expect=None, head=b"1")
        with pytest.raises(HeadMoved) as caught:
            store.commit([Put(Space.VALUE, 1, b"row")], expect=expect, head=b"2")
        assert caught.value.code == "head-moved"
        assert store.snapshot([(Space.VALUE, 1)]) == (b"1", [None])

    def test_refuses_an_expected_head_where_there_is_none(self) -> None:
        store = self.created()
        with pytest.raises(HeadMoved):
            store.commit([Put(Space.VALUE, 1, b"row")], expect=b"1", head=b"2")
        assert store.snapshot([(Space.VALUE, 1)]) == (None, [None])

    def test_goes_on_after_a_stale_head(self) -> None:
        store = self.created()
        store.commit([], expect=None, head=b"1")
        with pytest.raises(HeadMoved):
            store.commit([], expect=None, head=b"2")
        store.commit([Put(Space.VALUE, 1, b"row")], expect=b"1", head=b"2")
        assert store.snapshot([(Space.VALUE, 1)]) == (b"2", [b"row"])

    def test_stages_rows_without_touching_the_head(self) -> None:
        store = self.created()
        store.commit([], expect=None, head=b"1")
        store.stage([Put(Space.VALUE, 1, b"row")])
        store.stage([])
        store.stage([Delete(Space.VALUE, 2)])
        assert store.snapshot([(Space.VALUE, 1)]) == (b"1", [b"row"])

    def test_replaces_a_row_only_where_the_old_one_still_is(self) -> None:
        store = self.created()
        store.commit([Put(Space.DEK, i, b"old") for i in range(4)], expect=None, head=b"1")
        revision = store.revision()
        store.stage([Put(Space.DEK, 1, b"other"), Delete(Space.DEK, 2)])
        store.stage([Replace(Space.DEK, i, b"old", b"new") for i in range(5)])
        keys = [(Space.DEK, i) for i in range(5)]
        assert store.snapshot(keys) == (b"1", [b"new", b"other", None, b"new", None])
        assert store.revision() != revision
        store.stage([Replace(Space.DEK, 0, b"new", b""), Replace(Space.DEK, 0, b"", b"newer")])
        assert store.get(Space.DEK, 0) == b"newer"

    def test_keeps_what_was_published_over_a_close(self) -> None:
        store = self.created()
        other = self.opened()
        store.stage([Put(Space.VALUE, 2, b"staged")])
        store.commit([Put(Space.VALUE, 1, b"row")], expect=None, head=b"1")
        store.close()
        assert other.snapshot([(Space.VALUE, 1), (Space.VALUE, 2)]) == (b"1", [b"row", b"staged"])
        reopened = self.opened()
        other.close()
        assert reopened.snapshot([(Space.VALUE, 1), (Space.VALUE, 2)]) == (b"1", [b"row", b"staged"])

    # --- limits -------------------------------------------------------------------------------------------------------

    def test_takes_a_batch_exactly_at_its_limits(self) -> None:
        store = self.created()
        operations = [Put(Space.VALUE, i, b"r") for i in range(BATCH_LIMIT_OPERATIONS)]
        store.commit(operations, expect=None, head=b"1")
        halves = [Put(Space.VALUE, 1, b"a" * ROW_LIMIT_BYTES), Put(Space.VALUE, 2, b"b" * (ROW_LIMIT_BYTES - 1))]
        assert sum(len(half.row) for half in halves) + 1 == BATCH_LIMIT_BYTES
        store.commit(halves, expect=b"1", head=b"2")
        assert store.get(Space.VALUE, 1) == b"a" * ROW_LIMIT_BYTES

    def test_takes_a_staging_exactly_at_its_limits(self) -> None:
        store = self.created()
        row = b"s" * (STAGE_LIMIT_BYTES // STAGE_LIMIT_OPERATIONS)
        store.stage([Put(Space.SEGMENT, i, row) for i in range(STAGE_LIMIT_OPERATIONS)])
        found = store.scan(Space.SEGMENT, 0, ID_LIMIT - 1, STAGE_LIMIT_OPERATIONS + 1)
        assert found == [(i, row) for i in range(STAGE_LIMIT_OPERATIONS)]

    def test_refuses_what_exceeds_a_limit_and_writes_nothing(self) -> None:
        store = self.created()
        half = b"a" * (ROW_LIMIT_BYTES // 2 + 1)
        for operations, head in (
            ([Put(Space.VALUE, i, b"") for i in range(BATCH_LIMIT_OPERATIONS + 1)], b"1"),
            ([Delete(Space.VALUE, i) for i in range(BATCH_LIMIT_OPERATIONS + 1)], b"1"),
            ([Put(Space.VALUE, 0, b""), Put(Space.VALUE, 1, b"a" * (ROW_LIMIT_BYTES + 1))], b"1"),
            ([Put(Space.VALUE, i, half) for i in range(4)], b"1"),
        ):
            with pytest.raises(ValueTooLarge) as caught:
                store.commit(operations, expect=None, head=head)
            assert caught.value.code == "value-too-large"
        for staged in (
            [Put(Space.VALUE, i, b"") for i in range(STAGE_LIMIT_OPERATIONS + 1)],
            [Put(Space.VALUE, i, half) for i in range(16)],
            [Put(Space.VALUE, 0, b""), Put(Space.VALUE, 1, b"a" * (ROW_LIMIT_BYTES + 1))],
        ):
            with pytest.raises(ValueTooLarge):
                store.stage(staged)
        for operations, head in (
            ([], b"h" * (ROW_LIMIT_BYTES + 1)),
            ([Put(Space.VALUE, i, half[1:]) for i in range(4)], b"1"),
        ):
            with pytest.raises(ValueTooLarge):
                store.commit(operations, expect=None, head=head)
        assert store.head() is None
        assert store.scan(Space.VALUE, 0, 100, 1) == []

    # --- several openers ----------------------------------------------------------------------------------------------

    def test_openers_see_each_others_commits_at_once(self) -> None:
        first = self.created()
        second = self.opened()
        for i in range(20):
            one, two = (first, second) if i % 2 else (second, first)
            before = two.revision()
            one.commit([Put(Space.VALUE, 1, b"%d" % i)], expect=b"%d" % (i - 1) if i else None, head=b"%d" % i)
            assert two.revision() != before
            assert two.snapshot([(Space.VALUE, 1)]) == (b"%d" % i, [b"%d" % i])

    def test_one_of_several_racing_writers_wins_each_head(self) -> None:
        stores = [self.created()] + [self.opened() for _ in range(2)]
        lost: list[int] = []

        def work(number: int) -> None:
            store = stores[number % len(stores)]
            for step in range(PUBLICATIONS):
                mark = Put(Space.LOG, number * PUBLICATIONS + step, b"")
                while True:
                    head = store.head()
                    try:
                        store.commit([mark], expect=head, head=b"%d" % (int(head or b"0") + 1))
                        break
                    except HeadMoved:
                        lost.append(number)

        run_threads(work, THREADS)
        assert stores[0].head() == b"%d" % (THREADS * PUBLICATIONS)
        assert len(stores[1].scan(Space.LOG, 0, ID_LIMIT - 1, 10_000)) == THREADS * PUBLICATIONS

    def test_a_reserved_head_does_not_move_however_many_write(self) -> None:
        stores = [self.created()] + [self.opened() for _ in range(2)]

        def work(number: int) -> None:
            store = stores[number % len(stores)]
            for step in range(PUBLICATIONS):
                mark = Put(Space.LOG, number * PUBLICATIONS + step, b"")
                with store.reserve():
                    head = store.head()
                    store.commit([mark], expect=head, head=b"%d" % (int(head or b"0") + 1))

        run_threads(work, THREADS)
        assert stores[0].head() == b"%d" % (THREADS * PUBLICATIONS)
        assert len(stores[1].scan(Space.LOG, 0, ID_LIMIT - 1, 10_000)) == THREADS * PUBLICATIONS

    def test_others_wait_for_a_reservation_and_read_meanwhile(self) -> None:
        store = self.created()
        other = self.opened()
        store.commit([], expect=None, head=b"1")
        begun = threading.Event()

        def write() -> None:
            begun.set()
            other.stage([Put(Space.VALUE, 1, b"later")])

        thread = threading.Thread(target=write)
        with store.reserve():
            thread.start()
            begun.wait()
            time.sleep(0.05)
            assert other.get(Space.VALUE, 1) is None
            store.commit([Put(Space.VALUE, 1, b"row")], expect=b"1", head=b"2")
        thread.join()
        assert store.snapshot([(Space.VALUE, 1)]) == (b"2", [b"later"])

    def test_a_reservation_that_is_not_used_changes_nothing(self) -> None:
        store = self.created()
        other = self.opened()
        store.commit([], expect=None, head=b"1")
        revision = other.revision()
        with store.reserve():
            pass
        with pytest.raises(ZeroDivisionError), store.reserve():
            raise ZeroDivisionError
        with pytest.raises(HeadMoved), store.reserve():
            store.commit([Put(Space.VALUE, 1, b"row")], expect=b"0", head=b"2")
        assert other.revision() == revision
        other.commit([], expect=b"1", head=b"2")
        store.commit([], expect=b"2", head=b"3")
        assert other.snapshot([(Space.VALUE, 1)]) == (b"3", [None])

    def test_a_snapshot_is_of_one_moment_while_others_write(self) -> None:
        writer = self.created()
        reader = self.opened()
        keys = [(Space.VALUE, 1), (Space.DEK, 2), (Space.HISTORY, 3)]
        writer.commit([Put(space, id_, b"0") for space, id_ in keys], expect=None, head=b"0")
        done = threading.Event()

        def work(number: int) -> None:
            if number == 0:
                for i in range(PUBLICATIONS * 4):
                    row = b"%d" % (i + 1)
                    writer.commit([Put(space, id_, row) for space, id_ in keys], expect=b"%d" % i, head=row)
                done.set()
                return
            newest = 0
            while not done.is_set():
                head, rows = reader.snapshot(keys)
                assert rows == [head] * 3
                assert len(set(reader.get_many(keys))) == 1
                assert len(set(reader.get_many(keys[:2]))) == 1
                assert int(head or b"") >= newest
                newest = int(head or b"")

        run_threads(work, 4)

    def test_rows_read_after_a_head_are_at_least_as_new(self) -> None:
        store = self.created()
        other = self.opened()
        for i in range(20):
            store.stage([Put(Space.SEGMENT, i, b"segment")])
            store.commit([], expect=b"%d" % (i - 1) if i else None, head=b"%d" % i)
            head = other.head()
            assert other.get(Space.SEGMENT, int(head or b"")) == b"segment"

    def test_thirty_two_threads_may_share_one_handle(self) -> None:
        store = self.created()
        store.stage([Put(Space.VALUE, i, b"%d" % i * 50) for i in range(64)])

        def work(number: int) -> None:
            for i in range(100):
                id_ = (number * 7 + i) % 64
                assert store.get(Space.VALUE, id_) == b"%d" % id_ * 50

        run_threads(work, 32)

    # --- partitions ---------------------------------------------------------------------------------------------------

    def test_partitions_have_rows_and_heads_of_their_own(self) -> None:
        store = self.created()
        other = self.opened()
        first, second = store.partition(1), store.partition(PARTITION_LIMIT - 1)
        assert (first.head(), first.get(Space.META, 1), first.scan(Space.META, 0, 9, 9)) == (None, None, [])
        assert first.snapshot([(Space.META, 1)]) == (None, [None])
        assert other.partitions() == []
        store.commit([Put(Space.META, 1, b"whole")], expect=None, head=b"0")
        first.commit([Put(Space.META, 1, b"one"), Put(Space.META, 2, b"two")], expect=None, head=b"1")
        second.stage([Put(Space.META, 1, b"last"), Put(Space.VALUE, 2, b"value")])
        assert other.partitions() == [1]
        second.commit([Delete(Space.VALUE, 2)], expect=None, head=b"2")
        assert other.partitions() == [1, PARTITION_LIMIT - 1]
        assert [part.head() for part in (other, other.partition(1), other.partition(PARTITION_LIMIT - 1))] == [
            b"0",
            b"1",
            b"2",
        ]
        assert [part.get(Space.META, 1) for part in (other, first, second)] == [b"whole", b"one", b"last"]
        assert other.partition(1).scan(Space.META, 0, ID_LIMIT - 1, 9) == [(1, b"one"), (2, b"two")]
        assert other.partition(1).get_many([(Space.META, 2), (Space.VALUE, 2)]) == [b"two", None]
        assert second.scan(Space.VALUE, 0, 9, 9) == []
        first.stage([Replace(Space.META, 1, b"whole", b"wrong"), Replace(Space.META, 2, b"two", b"newer")])
        assert first.snapshot([(Space.META, 1), (Space.META, 2)]) == (b"1", [b"one", b"newer"])

    def test_a_partition_compares_its_own_head(self) -> None:
        store = self.created()
        part, same = store.partition(3), self.opened().partition(3)
        store.commit([], expect=None, head=b"whole")
        with pytest.raises(HeadMoved):
            part.commit([Put(Space.VALUE, 1, b"row")], expect=b"whole", head=b"1")
        part.commit([Put(Space.VALUE, 1, b"row")], expect=None, head=b"1")
        with pytest.raises(HeadMoved):
            same.commit([], expect=None, head=b"2")
        with same.reserve():
            same.commit([Put(Space.VALUE, 1, b"newer")], expect=b"1", head=b"2")
        assert part.snapshot([(Space.VALUE, 1)]) == (b"2", [b"newer"])
        assert store.head() == b"whole"

    def test_a_commit_in_a_partition_makes_a_new_revision_of_all(self) -> None:
        store = self.created()
        other = self.opened()
        revisions = store.revision(), other.partition(2).revision()
        store.partition(1).commit([], expect=None, head=b"1")
        assert store.revision() != revisions[0]
        assert other.partition(2).wait(revisions[1], 1.0)

    def test_a_partition_is_open_as_long_as_its_store(self) -> None:
        store = self.created()
        part = store.partition(1)
        part.commit([], expect=None, head=b"1")
        part.close()
        assert part.head() == b"1"
        store.close()
        for use in (part.head, lambda: part.commit([], expect=b"1", head=b"2"), store.partitions):
            with pytest.raises(VaultClosed):
                use()

    @pytest.mark.parametrize("number", [-1, 0, PARTITION_LIMIT])
    def test_refuses_partitions_outside_the_range(self, number: int) -> None:
        with pytest.raises(ValueError, match="partition"):
            self.created().partition(number)

    def test_a_commit_of_several_parts_is_there_as_a_whole(self) -> None:
        store, other = self.created(), self.opened()
        store.commit([], expect=None, head=b"0")
        other.partition(2).commit([Put(Space.META, 1, b"old")], expect=None, head=b"2")
        assert (store.part, other.partition(2).part) == (0, 2)
        store.commit_parts(
            [
                PartCommit(0, [Put(Space.META, 1, b"whole")], b"0", b"00"),
                PartCommit(1, [Put(Space.META, 1, b"one")], None, b"1"),
                PartCommit(2, [Delete(Space.META, 1)], b"2", None),
            ]
        )
        parts = [other, other.partition(1), other.partition(2)]
        assert [part.snapshot([(Space.META, 1)]) for part in parts] == [
            (b"00", [b"whole"]),
            (b"1", [b"one"]),
            (None, [None]),
        ]
        assert other.partitions() == [1]

    def test_a_commit_of_several_parts_is_refused_as_a_whole(self) -> None:
        store = self.created()
        part = self.opened().partition(1)
        store.commit([], expect=None, head=b"0")
        part.commit([], expect=None, head=b"1")
        for whole, of_part in ((b"x", b"1"), (b"0", b"x"), (b"0", None), (None, b"1")):
            with pytest.raises(HeadMoved):
                store.commit_parts(
                    [
                        PartCommit(0, [Put(Space.META, 1, b"row")], whole, b"00"),
                        PartCommit(1, [Put(Space.META, 1, b"row")], of_part, None),
                    ]
                )
        assert (store.head(), part.head(), store.get(Space.META, 1)) == (b"0", b"1", None)

    def test_a_commit_of_several_parts_keeps_the_limits_of_one(self) -> None:
        store = self.created()
        many = [Put(Space.VALUE, number, b"a") for number in range(BATCH_LIMIT_OPERATIONS // 2 + 1)]
        for commits in (
            [PartCommit(0, many, None, b"0"), PartCommit(1, many, None, b"1")],
            [PartCommit(1, [Put(Space.VALUE, 0, b"a" * (ROW_LIMIT_BYTES + 1))], None, b"1")],
        ):
            with pytest.raises(ValueTooLarge):
                store.commit_parts(commits)
        for number in (PARTITION_LIMIT, -1):
            with pytest.raises(ValueError, match="partition"):
                store.commit_parts([PartCommit(number, [], None, b"1")])
        with pytest.raises(ValueError, match="two shares"):
            store.commit_parts([PartCommit(1, [], None, b"1"), PartCommit(1, [], None, b"2")])
        assert (store.head(), store.partitions()) == (None, [])

    def test_a_commit_of_several_parts_ends_what_one_of_them_has_reserved(self) -> None:
        store, other = self.created(), self.opened()
        part = store.partition(1)
        with part.reserve():
            part.commit_parts([PartCommit(0, [], None, b"0"), PartCommit(1, [], None, b"1")])
        assert (other.head(), other.partition(1).head()) == (b"0", b"1")
        other.commit([], expect=b"0", head=b"00")

    def test_a_commit_of_several_parts_makes_a_new_revision(self) -> None:
        store, other = self.created(), self.opened()
        before = other.revision()
        store.partition(2).commit_parts([PartCommit(0, [], None, b"0"), PartCommit(1, [], None, b"1")])
        assert other.revision() != before

    def test_a_partition_keeps_the_limits_of_every_store(self) -> None:
        part = self.created().partition(1)
        with pytest.raises(ValueTooLarge):
            part.commit([Put(Space.VALUE, 0, b"a" * (ROW_LIMIT_BYTES + 1))], expect=None, head=b"1")
        assert part.head() is None

    # --- the watch ----------------------------------------------------------------------------------------------------

    def test_the_revision_stays_while_nothing_is_written(self) -> None:
        store = self.created()
        store.commit([Put(Space.VALUE, 1, b"row")], expect=None, head=b"1")
        before = store.revision()
        store.snapshot([(Space.VALUE, 1)])
        assert store.revision() == before
        assert not store.wait(before, 0.02)

    def test_every_commit_by_anyone_makes_a_new_revision(self) -> None:
        store = self.created()
        other = self.opened()
        seen = {store.revision()}
        for i in range(50):
            writer = other if i % 2 else store
            writer.commit([Put(Space.VALUE, 1, b"same")], expect=b"h" if i else None, head=b"h")
            seen.add(store.revision())
        assert len(seen) == 51

    def test_a_commit_returns_the_revision_that_it_made_or_nothing(self) -> None:
        store = self.created()
        other = self.opened()
        made = store.commit([Put(Space.VALUE, 1, b"row")], expect=None, head=b"1")
        assert made in {None, store.revision()}
        other.commit([], expect=b"1", head=b"2")
        assert made != store.revision()

    def test_while_the_revision_is_that_of_a_commit_nobody_else_has_committed(self) -> None:
        stores = [self.created(), self.opened(), self.opened()]
        stores[0].commit([], expect=None, head=b"")

        def work(number: int) -> None:
            store = stores[number]
            for i in range(60):
                head = b"%d of %d" % (i, number)
                try:
                    made = store.commit([], expect=store.head(), head=head)
                except HeadMoved:
                    continue
                seen = store.head()
                if made is not None and made == store.revision():
                    assert seen == head

        run_threads(work, len(stores))

    def test_a_wait_ends_when_someone_commits(self) -> None:
        store = self.created()
        other = self.opened()
        before = store.revision()
        timer = threading.Timer(0.05, lambda: other.commit([], expect=None, head=b"1"))
        timer.start()
        started = time.monotonic()
        assert store.wait(before, 30)
        assert time.monotonic() - started < 10
        timer.join()
        assert store.wait(before, 0)

    # --- erasing and closing ------------------------------------------------------------------------------------------

    def test_purges_at_any_moment(self) -> None:
        store = self.created()
        other = self.opened()
        store.purge()
        store.commit([Put(Space.DEK, 1, b"k" * 54), Put(Space.DEK, 2, b"l" * 54)], expect=None, head=b"1")
        other.commit([Delete(Space.DEK, 1)], expect=b"1", head=b"2")
        store.purge()
        store.purge()
        assert other.snapshot([(Space.DEK, 1), (Space.DEK, 2)]) == (b"2", [None, b"l" * 54])

    def test_refuses_everything_after_close(self) -> None:
        store = self.created()
        revision = store.revision()
        store.close()
        store.close()
        attempts: list[Callable[[], object]] = [
            store.head,
            lambda: store.get(Space.VALUE, 1),
            lambda: store.get_many([(Space.VALUE, 1)]),
            lambda: store.snapshot([]),
            lambda: store.scan(Space.VALUE, 0, 1, 1),
            lambda: store.commit([], expect=None, head=b"1"),
            lambda: store.stage([Delete(Space.VALUE, 1)]),
            store.revision,
            lambda: store.wait(revision, 1),
            store.purge,
        ]
        for attempt in attempts:
            with pytest.raises(VaultClosed) as caught:
                attempt()
            assert caught.value.code == "vault-closed"

    def test_closing_one_handle_leaves_the_others(self) -> None:
        store = self.created()
        other = self.opened()
        store.close()
        other.commit([Put(Space.VALUE, 1, b"row")], expect=None, head=b"1")
        assert other.get(Space.VALUE, 1) == b"row"

    def test_a_wait_ends_when_its_handle_is_closed(self) -> None:
        store = self.created()
        revision = store.revision()
        timer = threading.Timer(0.05, store.close)
        timer.start()
        with pytest.raises(VaultClosed):
            store.wait(revision, 30)
        timer.join()

    def test_closing_while_others_read_ends_in_order(self) -> None:
        store = self.created()
        store.stage([Put(Space.VALUE, 1, b"row")])
        ready = threading.Barrier(5)

        def work(number: int) -> None:
            ready.wait()
            if number == 0:
                time.sleep(0.02)
                store.close()
                return

            def read_for_ever() -> None:
                while True:
                    assert store.get(Space.VALUE, 1) == b"row"

            with pytest.raises(VaultClosed):
                read_for_ever()

        run_threads(work, 5)


def run_threads(work: Callable[[int], None], count: int) -> None:
    """Run `work(0)` to `work(count - 1)` in threads and raise the first of their errors."""
    errors: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - raised again below, in the thread of the test
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
