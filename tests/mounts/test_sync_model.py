"""Two stores under one vault, changed and synchronised at random, with stores that die, against a model of both."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from securecfg.errors import BackendUnavailable
from securecfg.mounts.sync_plan import Action, Rules
from securecfg.mounts.sync_run import Synchronisation
from securecfg.patience import Patience
from tests.backends.test_handle import UNAVAILABLE
from tests.mounts.conftest import MountWorld
from tests.mounts.memory import CAPABILITIES, STORES
from tests.mounts.test_mounted import revealed
from tests.mounts.test_sync_run import ONE, TWO, mount_two, silent

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

SIDES = {ONE: "one", TWO: "two"}


class TwoStores(RuleBasedStateMachine):
    """What both stores hold is what the model says, whatever fails in between."""

    def __init__(self) -> None:
        super().__init__()
        STORES.clear()
        CAPABILITIES.clear()
        self._folder = tempfile.TemporaryDirectory()
        self.world = MountWorld(Path(self._folder.name))
        self.vault = mount_two(self.world)
        self.model: dict[str, dict[str, str]] = {ONE: {}, TWO: {}}
        self.values = 0

    def teardown(self) -> None:
        self.world.close()
        self._folder.cleanup()

    @rule(side=st.sampled_from(list(SIDES)), name=st.sampled_from("abc"))
    def write(self, side: str, name: str) -> None:
        self.values += 1
        self.vault.write(side + name, str(self.values))
        self.model[side][name] = str(self.values)

    @rule(side=st.sampled_from(list(SIDES)), name=st.sampled_from("abc"))
    def delete(self, side: str, name: str) -> None:
        if self.model[side].pop(name, None) is not None:
            self.vault.delete(side + name)

    @rule(is_both=st.booleans(), deletes=st.booleans())
    def sync(self, is_both: bool, deletes: bool) -> None:
        before = {side: dict(held) for side, held in self.model.items()}
        sync = Synchronisation(self.vault, ONE, TWO, Rules(is_both=is_both, deletes=deletes))
        plan = sync.plan(silent)
        outcome = sync.run(plan, silent)
        assert (outcome.failed, outcome.moved) == ([], [])
        self.model = {side: self.held(side) for side in SIDES}
        if not is_both:
            assert self.model[ONE] == before[ONE]
        for item in plan.items:
            self.check(item.name, item.action, before, deletes=deletes)

    @rule(calls=st.integers(0, 9), is_both=st.booleans(), deletes=st.booleans())
    def sync_and_die(self, calls: int, is_both: bool, deletes: bool) -> None:
        """Let a store be away from some call on; what was done until then is done whole."""
        before = {side: dict(held) for side, held in self.model.items()}
        stores, written = [self.world.store(name) for name in SIDES.values()], self.written()
        sync = Synchronisation(self.vault, ONE, TWO, Rules(is_both=is_both, deletes=deletes))
        for store in stores:
            store.fail_next(*[None] * calls, fail_on(store))
        with suppress(BackendUnavailable):
            sync.run(sync.plan(silent), silent)
        for store in stores:
            store.fail(None)
            store._faults.clear()
        self.vault = self.world.open()  # and the process with it
        self.model = {side: self.held(side) for side in SIDES}
        for side, held in self.model.items():
            other = before[TWO if side == ONE else ONE]
            for name, value in held.items():
                assert value in {before[side].get(name), other.get(name)}
            assert deletes or before[side].keys() <= held.keys()
        # The next one goes on, and what was written already is not written again.
        self.sync(is_both, deletes)
        assert all(count - written.get(name, 0) <= 1 for name, count in self.written().items())

    @invariant()
    def both_hold_what_the_model_says(self) -> None:
        for side in SIDES:
            assert self.held(side) == self.model[side]

    def check(self, name: str, action: Action, before: dict[str, dict[str, str]], *, deletes: bool) -> None:
        here, there = (self.model[side].get(name) for side in SIDES)
        if action in {Action.NEW, Action.CHANGED, Action.SAME}:
            assert here == there is not None
        elif action is Action.DELETED:
            assert deletes
            assert here is there is None
        else:
            assert [here, there] == [before[side].get(name) for side in SIDES]

    def written(self) -> dict[tuple[str, str], int]:
        """Return how many versions there are of each secret in each store."""
        return {
            (store, name): len(held.contents)
            for store in SIDES.values()
            for name, held in self.world.store(store).secrets.items()
        }

    def held(self, side: str) -> dict[str, str]:
        """Return what a store holds, past everything that is known of it."""
        paths = self.vault.list_now(side)  # type: ignore[attr-defined]  # it has mounts
        found = self.vault.read_now(paths)  # type: ignore[attr-defined]  # the same
        return {path.removeprefix(side): str(revealed(one)) for path, one in zip(paths, found, strict=True)}


def fail_on(store: Any) -> Callable[[], object]:  # noqa: ANN401 - a store in memory
    """Return what lets a store be away from then on."""

    def fault() -> None:
        store.fail(UNAVAILABLE)
        UNAVAILABLE()

    return fault


def test_two_sides_are_what_the_model_says(monkeypatch: pytest.MonkeyPatch) -> None:
    from securecfg.backends import uri

    monkeypatch.setitem(uri.BUILT_IN, "memory", "tests.mounts.memory")
    monkeypatch.setattr("securecfg.mounts.source.PATIENCE", Patience(5.0, ()))
    run_state_machine_as_test(
        TwoStores,
        settings=settings(
            max_examples=15, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
