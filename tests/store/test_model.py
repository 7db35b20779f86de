"""Any sequence of calls has the same outcome in every store, and the limits hold for any batch."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from securecfg.errors import HeadMoved, ValueTooLarge
from securecfg.store import (
    BATCH_LIMIT_BYTES,
    BATCH_LIMIT_OPERATIONS,
    ID_LIMIT,
    ROW_LIMIT_BYTES,
    Delete,
    MemoryBacking,
    MemoryStore,
    Operation,
    Put,
    Space,
    Store,
    check_batch,
    create_sqlite,
    open_sqlite,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.no_cover

SPACES = st.sampled_from([Space.META, Space.VALUE, Space.PART])
IDS = st.one_of(st.integers(0, 8), st.sampled_from([2**31, 2**53 + 1, ID_LIMIT - 1]))
ROWS = st.one_of(st.binary(max_size=40), st.integers(0, 9000).map(lambda size: b"x" * size))
OPERATIONS: st.SearchStrategy[list[Operation]] = st.lists(
    st.one_of(st.builds(Put, SPACES, IDS, ROWS), st.builds(Delete, SPACES, IDS)), max_size=8
)


class Stores(RuleBasedStateMachine):
    """A SQLite store does what the store in memory does, over reopening and through either of two handles."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "a.vault"
        self.backing = MemoryBacking()
        self.model = MemoryStore(self.backing)
        self.stores = [create_sqlite(self.path), open_sqlite(self.path)]

    @rule(operations=OPERATIONS, head=st.binary(max_size=20), stale=st.booleans(), index=st.integers(0, 1))
    def commit(self, operations: list[Operation], head: bytes, stale: bool, index: int) -> None:
        expect = b"stale" * 9 if stale else self.model.head()
        outcomes = []
        for store in (self.model, self.stores[index]):
            try:
                store.commit(operations, expect=expect, head=head)
                outcomes.append("committed")
            except HeadMoved:
                outcomes.append("moved")
        assert outcomes == ["moved" if stale else "committed"] * 2

    @rule(operations=OPERATIONS, index=st.integers(0, 1))
    def stage(self, operations: list[Operation], index: int) -> None:
        for store in (self.model, self.stores[index]):
            store.stage(operations)

    @rule(keys=st.lists(st.tuples(SPACES, IDS), max_size=5))
    def read(self, keys: list[tuple[Space, int]]) -> None:
        for store in self.stores:
            assert store.snapshot(keys) == self.model.snapshot(keys)
            assert store.get_many(keys) == [self.model.get(*key) for key in keys]

    @rule(space=SPACES, first=IDS, last=IDS, limit=st.integers(-1, 5))
    def scan(self, space: Space, first: int, last: int, limit: int) -> None:
        for store in self.stores:
            assert store.scan(space, first, last, limit) == self.model.scan(space, first, last, limit)

    @rule(index=st.integers(0, 1))
    def purge(self, index: int) -> None:
        self.stores[index].purge()

    @rule(both=st.booleans())
    def reopen(self, both: bool) -> None:
        for index in range(1 + both):
            self.stores[index].close()
        for index in range(1 + both):
            self.stores[index] = open_sqlite(self.path)

    @invariant()
    def heads_agree(self) -> None:
        assert [store.head() for store in self.stores] == [self.model.head()] * 2

    def teardown(self) -> None:
        for store in self.stores:
            store.close()
        assert [entry.name for entry in Path(self.folder.name).iterdir()] == ["a.vault"]
        self.folder.cleanup()


TestStores = Stores.TestCase
TestStores.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


@given(
    sizes=st.lists(
        st.sampled_from([0, 1, 1000, ROW_LIMIT_BYTES // 2, ROW_LIMIT_BYTES, ROW_LIMIT_BYTES + 1]), max_size=4
    ),
    deletes=st.integers(0, BATCH_LIMIT_OPERATIONS + 1),
    head=st.sampled_from([0, 100, ROW_LIMIT_BYTES, ROW_LIMIT_BYTES + 1]),
)
def test_a_batch_is_refused_exactly_when_it_exceeds_a_limit(sizes: list[int], deletes: int, head: int) -> None:
    operations: Sequence[Operation] = [Put(Space.VALUE, i, bytes(size)) for i, size in enumerate(sizes)]
    operations = [*operations, *(Delete(Space.VALUE, i) for i in range(deletes))]
    exceeds = (
        len(operations) > BATCH_LIMIT_OPERATIONS
        or max([*sizes, head]) > ROW_LIMIT_BYTES
        or sum(sizes) + head > BATCH_LIMIT_BYTES
    )
    if not exceeds:
        check_batch(operations, bytes(head))
        return
    with pytest.raises(ValueTooLarge) as caught:
        check_batch(operations, bytes(head))
    assert caught.value.code == "value-too-large"
    assert caught.value.hint


def test_both_stores_are_stores(tmp_path: Path) -> None:
    stores: list[Store] = [MemoryStore(), create_sqlite(tmp_path / "a.vault")]
    for store in stores:
        assert store.erases == "now"
        store.close()
