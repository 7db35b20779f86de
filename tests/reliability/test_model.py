"""The whole vault against a dictionary, with reopening, a second handle, compaction and power cuts as moves."""

from __future__ import annotations

import random
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from securecfg.errors import (
    AlreadyExists,
    ConfusablePath,
    NotFound,
    SecretDestroyed,
    SecretNotFound,
    StaleWrite,
    VersionNotFound,
)
from securecfg.keys import open_provider
from securecfg.keys.keyfile import generate_key_file
from securecfg.store import create_sqlite, open_sqlite
from securecfg.testing import crash
from securecfg.testing.crash import Recorder
from securecfg.vault.administration import found
from securecfg.vault.commits.maintenance import compact
from securecfg.vault.creation import create_rows, open_rows
from securecfg.vault.opened import Options
from securecfg.vault.session import Identity
from securecfg.vault.vault import Vault
from securecfg.vault.verification import verify_vault
from tests.vault.world import ADMIN, ManualClock, text_of

pytestmark = pytest.mark.no_cover

PATHS = st.sampled_from(["a", "a/b", "a/c", "b", "b/x/y", "long/" + "n" * 100])
VALUES = st.integers(0, 99).map(str) | st.just("large")
PLACES = st.none() | st.integers(1, 4) | st.sampled_from(["x", "y", "current"])


@dataclass
class Model:
    """One secret: its versions by number, None where destroyed; which are deleted; its labels."""

    values: list[str | None] = field(default_factory=list)
    deleted: set[int] = field(default_factory=set)
    current: int = 0
    labels: dict[str, int] = field(default_factory=dict)

    def readable(self, number: int) -> bool:
        return 0 < number <= len(self.values) and number not in self.deleted and self.values[number - 1] is not None

    def forget(self, number: int) -> None:
        if self.current == number:
            self.current = 0
        self.labels = {name: target for name, target in self.labels.items() if target != number}


def whole(value: str) -> str:
    """Return what is written: one value is too large for a row."""
    return value * 16_000 if value == "large" else value


class VaultMachine(RuleBasedStateMachine):
    """Each rule does the same to the vault and to the model."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="securecfg-model-"))
        self.clock = ManualClock()
        generate_key_file(self.folder / "key")
        self.provider = open_provider(f"file:{self.folder / 'key'}")
        self.path = self.folder / "0.vault"
        self.crashes = 0
        self.model: dict[str, Model] = {}
        self.vaults: list[Vault] = []
        self.recorder = Recorder()

    @initialize()
    def create(self) -> None:
        store = create_sqlite(self.path, vfs=self.recorder.vfs_name)
        create_rows(store, [self.provider], self.clock.now_ns())
        opened, slot = open_rows(store, self.provider, None, self.clock, Options())
        vault = Vault(opened, Identity(ADMIN, slot=slot.slot_id.hex()))
        found(opened, vault.authority.identity)
        self.vaults = [vault]
        self.open(1_024)

    @rule(cache_values=st.sampled_from([0, 1, 1_024]))
    def open(self, cache_values: int) -> None:
        """Open another handle, and close the oldest of three."""
        store = open_sqlite(self.path, vfs=self.recorder.vfs_name)
        opened, slot = open_rows(store, self.provider, None, self.clock, Options(cache_values=cache_values))
        self.vaults.append(Vault(opened, Identity(ADMIN, slot=slot.slot_id.hex())))
        if len(self.vaults) > 2:
            self.vaults.pop(0).close()

    @rule(seed=st.integers(0, 1_000))
    def cut_the_power(self, seed: int) -> None:
        """Go on with what a disk may hold: of what was acknowledged, everything must be in any image of the disk."""
        recording = self.recorder.recording
        disk = crash.Disk(recording)
        for event in recording.events:
            disk.step(event)
        draw = random.Random(seed)
        image = disk.render(draw.choice(crash._KINDS), len(recording.events), draw)
        for vault in self.vaults:
            vault.opened.store.close()
        self.recorder.__exit__()
        self.crashes += 1
        folder = self.folder / str(self.crashes)
        folder.mkdir()
        for name, content in image.files.items():
            (folder / name).write_bytes(content)
        self.path = folder / self.path.name
        self.recorder = Recorder()
        self.vaults = []
        self.open(1_024)

    @rule(which=st.integers(0, 1))
    def compact(self, which: int) -> None:
        compact(self.vault(which).opened)

    @rule(which=st.integers(0, 1), path=PATHS, value=VALUES, expect=st.sampled_from([None, 0, 1, 2]))
    def write(self, which: int, path: str, value: str, expect: int | None) -> None:
        model = self.model.get(path, Model())
        if expect is not None and expect != len(model.values):
            with pytest.raises(StaleWrite):
                self.vault(which).write(path, whole(value), expect=expect)
            return
        assert self.vault(which).write(path, whole(value), expect=expect) == len(model.values) + 1
        self.append(path, value)

    @rule(which=st.integers(0, 1), changes=st.lists(st.tuples(PATHS, VALUES), max_size=30))
    def batch(self, which: int, changes: list[tuple[str, str]]) -> None:
        with self.vault(which).batch() as batch:
            for path, value in changes:
                batch.write(path, whole(value))
        for path, value in changes:
            self.append(path, value)

    @rule(which=st.integers(0, 1), path=PATHS, number=st.none() | st.integers(1, 3))
    def delete(self, which: int, path: str, number: int | None) -> None:
        model = self.model.get(path)
        target = number if number is not None else (model.current if model else 0)
        if model is None or not target or target > len(model.values) or model.values[target - 1] is None:
            with pytest.raises(NotFound):
                self.vault(which).delete(path, number)
            return
        self.vault(which).delete(path, number)
        model.deleted.add(target)
        model.forget(target)

    @rule(which=st.integers(0, 1), path=PATHS, number=st.integers(1, 3))
    def undelete(self, which: int, path: str, number: int) -> None:
        model = self.model.get(path)
        if model is None or number > len(model.values) or model.values[number - 1] is None:
            with pytest.raises(NotFound):
                self.vault(which).undelete(path, number)
            return
        self.vault(which).undelete(path, number)
        model.deleted.discard(number)
        model.current = max(model.current, number)

    @rule(which=st.integers(0, 1), path=PATHS, number=st.integers(1, 3))
    def destroy(self, which: int, path: str, number: int) -> None:
        model = self.model.get(path)
        if model is None or number > len(model.values) or model.values[number - 1] is None:
            with pytest.raises(NotFound):
                self.vault(which).destroy(path, number)
            return
        self.vault(which).destroy(path, number)
        model.values[number - 1] = None
        model.deleted.discard(number)
        model.forget(number)

    @rule(which=st.integers(0, 1), path=PATHS, number=st.integers(1, 3))
    def roll_back(self, which: int, path: str, number: int) -> None:
        model = self.model.get(path)
        if model is None or not model.readable(number):
            with pytest.raises(NotFound):
                self.vault(which).rollback(path, number)
            return
        assert self.vault(which).rollback(path, number) == len(model.values) + 1
        self.append(path, cast("str", model.values[number - 1]))

    @rule(which=st.integers(0, 1), path=PATHS, number=st.integers(1, 3), name=st.sampled_from(["x", "y"]))
    def label(self, which: int, path: str, number: int, name: str) -> None:
        model = self.model.get(path)
        if model is None or number > len(model.values) or model.values[number - 1] is None:
            with pytest.raises(NotFound):
                self.vault(which).label(path, name, number)
            return
        self.vault(which).label(path, name, number)
        model.labels[name] = number

    @rule(which=st.integers(0, 1), path=PATHS, to=PATHS)
    def move(self, which: int, path: str, to: str) -> None:
        model = self.model.get(path)
        if model is None or not model.current:
            with pytest.raises(SecretNotFound):
                self.vault(which).move(path, to)
        elif to in self.model:
            with pytest.raises(AlreadyExists):
                self.vault(which).move(path, to)
        else:
            self.vault(which).move(path, to)
            self.model[to] = self.model.pop(path)

    @rule(which=st.integers(0, 1), path=PATHS, at=PLACES)
    def read(self, which: int, path: str, at: int | str | None) -> None:
        model = self.model.get(path, Model())
        number = at if isinstance(at, int) else model.labels.get(at, 0) if at in {"x", "y"} else model.current
        if model.readable(number):
            assert text_of(self.vault(which), path, at) == whole(cast("str", model.values[number - 1]))
            return
        with pytest.raises((SecretNotFound, VersionNotFound, SecretDestroyed)):
            self.vault(which).read(path, at=at)

    @rule(which=st.integers(0, 1))
    def refuse_a_lookalike(self, which: int) -> None:
        if "a" in self.model:
            with pytest.raises(ConfusablePath):
                self.vault(which).write("\u0430", "x")

    @invariant()
    def lists_agree(self) -> None:
        live = sorted(path for path, model in self.model.items() if model.current)
        for vault in self.vaults:
            assert vault.list() == live

    @precondition(lambda self: self.model)
    @rule(which=st.integers(0, 1))
    def histories_agree(self, which: int) -> None:
        for path, model in self.model.items():
            states = [
                "destroyed" if value is None else "deleted" if number in model.deleted else "live"
                for number, value in enumerate(model.values, 1)
            ]
            assert [str(info.state) for info in reversed(self.vault(which).history(path))] == states

    def teardown(self) -> None:
        try:
            if self.vaults:
                result = verify_vault(self.vaults[0].opened)
                assert result.problems == []
                self.vaults[0].log.verify()
            for vault in self.vaults:
                vault.close()
            self.recorder.__exit__()
        finally:
            shutil.rmtree(self.folder)

    def vault(self, which: int) -> Vault:
        return self.vaults[which % len(self.vaults)]

    def append(self, path: str, value: str) -> None:
        model = self.model.setdefault(path, Model())
        model.values.append(value)
        model.current = len(model.values)


TestVault = VaultMachine.TestCase
TestVault.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
