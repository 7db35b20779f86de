"""Power cuts at any moment of a vault's life: `python -m tests.reliability.crash --images 100000`.

A workload runs over a file system that takes notes. From the notes, states of the disk after a crash are made, and
each must open with the key, hold everything that was acknowledged, nothing in part, a log that verifies and nothing
readable. What was destroyed must be gone from every file.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

from securecfg.audit import Event, VerifierKey, origin_of
from securecfg.audit.opening import RecordOpener
from securecfg.audit.sealer import sealer_id_of
from securecfg.audit.verify import History, verify_tree
from securecfg.errors import NotAVault
from securecfg.keys import Purpose, RecoveryProvider, generate_recovery_code, open_provider
from securecfg.keys.keyfile import generate_key_file
from securecfg.policy import Document
from securecfg.store import Space, create_sqlite, open_sqlite
from securecfg.testing.crash import MEMORY_FOLDER, Recorder, explore
from securecfg.vault.administration import found
from securecfg.vault.commits.maintenance import compact
from securecfg.vault.creation import create_rows, open_rows
from securecfg.vault.keys.changes import KeyChanges
from securecfg.vault.keys.slots import Slots
from securecfg.vault.opened import Options
from securecfg.vault.reading import Reads
from securecfg.vault.rekeying.compromise import Compromise
from securecfg.vault.session import Identity
from securecfg.vault.state.replica import StoredTree
from securecfg.vault.values import as_number
from securecfg.vault.vault import Vault
from securecfg.vault.verification import verify_vault
from tests.reliability.snapshots import Snapshot, rows_of_version, snapshot
from tests.vault.world import ADMIN, GRANTS, ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from securecfg.store import Operation, Store
    from securecfg.testing.crash import Recording, Report, Syncs
    from securecfg.vault.opened import OpenVault

CANARIES = (b"canary-path", b"canary-value", b"canary-metadata", b"canary-label", b"canary-role", b"user:ada")
HOUR_NS = 3_600 * 1_000_000_000
STEPS = 26
IMAGES_PER_WORKLOAD = 6_250
_NEVER_CREATED = -1
_MAKE_A_VERSION = {
    Event.VAULT_CREATED,
    Event.SECRET_WRITTEN,
    Event.SECRET_ROLLED_BACK,
    Event.POLICY_APPLIED,
    Event.KEY_SLOT_REMOVED,
    Event.KEY_COMPROMISED,
}


@dataclass(slots=True)
class Moment:
    """What an acknowledgement promises.

    Attributes:
        state: Everything that the vault held then.
        size: The number of records then.
        least_size: The number of records from which on the vault may hold that.
        given_out: How many values had been given out for the first time.
        gone: Bytes that may be in no file any more.
    """

    state: Snapshot
    size: int
    least_size: int
    given_out: int
    gone: tuple[bytes, ...]


@dataclass(slots=True)
class Story:
    """A recorded workload and what each of its acknowledgements promises."""

    key: str
    clock: ManualClock
    recording: Recording
    moments: list[Moment] = field(default_factory=list)


class SplitStore:
    """A store with a planted defect: the log comes in a transaction of its own, after the change."""

    def __init__(self, store: Store) -> None:
        """Stand in front of `store`."""
        self._store = store

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def commit(self, operations: Sequence[Operation], *, expect: bytes | None, head: bytes) -> None:
        """Publish the change, then its records."""
        log = [operation for operation in operations if operation.space in {Space.LOG, Space.TILE, Space.SEALER}]
        self._store.commit([one for one in operations if one not in log], expect=expect, head=head)
        self._store.stage(log)


class ForgetfulReads(Reads):
    """Reads with a planted defect: the value is given out without a record, which is to come later."""

    def _record(self, findings: object) -> None:
        """Record nothing yet."""


def record(folder: Path, seed: int, syncs: Syncs = "honest", defect: str = "") -> Story:
    """Run a workload and return its story."""
    key = folder / f"key{seed}"
    generate_key_file(key)
    path = folder / f"{seed}.vault"
    clock = ManualClock()
    with Recorder(syncs) as recorder:
        sqlite = create_sqlite(path, vfs=recorder.vfs_name)
        store = cast("Store", SplitStore(sqlite)) if defect == "split" else sqlite
        provider = open_provider(f"file:{key}")
        create_rows(store, [provider], clock.now_ns())
        opened, slot = open_rows(store, provider, None, clock, Options())
        vault = Vault(opened, Identity(ADMIN, slot=slot.slot_id.hex()))
        found(opened, vault.authority.identity)
        story = Story(f"file:{key}", clock, recorder.recording)
        reads = ForgetfulReads if defect == "forgetful" else Reads
        workload = _Workload(vault, random.Random(seed), story, reads)
        workload.acknowledge(recorder)
        for number in range(STEPS):
            workload.step()
            if number == STEPS - 1:
                vault.authority.flush()
            workload.acknowledge(recorder)
        vault.close()
    return story


class _Workload:
    """Steps of every kind, in an order that a seed chooses."""

    def __init__(self, vault: Vault, draw: random.Random, story: Story, reads: type[Reads]) -> None:
        self._vault = vault
        self._draw = draw
        self._story = story
        self._reads = reads
        self._gone: list[bytes] = []
        self._given_out = 0
        self._count = 0
        self._kinds: list[Callable[[], object]] = []
        self._has_parts = False

    def acknowledge(self, recorder: Recorder) -> None:
        opened = self._vault.opened
        size, moments = opened.replica.checkpoint.size, self._story.moments
        # A change is one with its record; where a step has several, it may be there from the first on.
        least = moments[-1].size + 1 if self._has_parts else size
        moments.append(Moment(snapshot(opened), size, least, self._given_out, tuple(self._gone)))
        self._has_parts = False
        recorder.acknowledge(len(moments) - 1)

    def step(self) -> None:
        if not self._kinds:
            self._kinds = [
                *(self._write, self._write, self._large, self._small_batch, self._staged_batch, self._destroy),
                *(self._move, self._compact, self._policy, self._read, self._delete, self._label, self._roll_back),
                *(self._rotate_root, self._rotate_scope, self._rotate_data, self._remove_a_key, self._compromise),
            ]
            self._draw.shuffle(self._kinds)
        self._count += 1
        kind = self._kinds.pop() if self._vault.list() else self._write
        kind()

    def _path(self) -> str:
        return f"canary-path/{self._draw.randrange(6)}"

    def _existing(self) -> str:
        return self._draw.choice(self._vault.list())

    def _write(self) -> None:
        metadata = {"canary-metadata": "canary-metadata"} if self._count % 2 else None
        self._vault.write(self._path(), f"canary-value {self._count}", metadata=metadata)

    def _large(self) -> None:
        self._vault.write("canary-path/large", b"canary-value" * 6_000)

    def _small_batch(self) -> None:
        with self._vault.batch() as batch:
            for _ in range(3):
                batch.write(self._path(), f"canary-value {self._count}")

    def _staged_batch(self) -> None:
        with self._vault.batch() as batch:
            for number in range(16):
                batch.write(f"canary-path/batch/{number % 5}", f"canary-value {self._count} {number}")

    def _destroy(self) -> None:
        path = self._existing()
        number = as_number(self._vault.history(path)[0].version)
        rows = rows_of_version(self._vault.opened, path, number)
        self._vault.destroy(path, number)
        # Pieces, since a row may lie in several pages.
        self._gone += [rows.data_key[6:38], rows.value[4:36]]

    def _move(self) -> None:
        self._vault.move(self._existing(), f"canary-path/moved/{self._count}")

    def _compact(self) -> None:
        compact(self._vault.opened)

    def _policy(self) -> None:
        text = GRANTS + f"[roles.canary-role-{self._count}]\nmembers = []\n"
        self._vault.administration.apply_policy([Document("grants.toml", "grants", text)])

    def _read(self) -> None:
        """Give a value out through a handle of its own, so that every time is the first."""
        reader = Vault(self._vault.opened, Identity(ADMIN))
        reader._reads = self._reads(reader.authority)
        reader.read(self._existing())
        self._given_out += 1

    def _delete(self) -> None:
        self._vault.delete(self._existing())

    def _label(self) -> None:
        path = self._existing()
        self._vault.label(path, "canary-label", self._vault.history(path)[0].version)

    def _roll_back(self) -> None:
        path = self._existing()
        self._vault.rollback(path, as_number(self._vault.history(path)[0].version))

    def _rotate_root(self) -> None:
        KeyChanges(self._vault.authority).rotate_root()

    def _rotate_scope(self) -> None:
        changes = KeyChanges(self._vault.authority)
        changes.begin_scope_epoch()
        changes.carry_over()
        changes.retire_older()

    def _rotate_data(self) -> None:
        path = self._existing()
        number = as_number(self._vault.history(path)[0].version)
        rows = rows_of_version(self._vault.opened, path, number)
        KeyChanges(self._vault.authority).rotate_data(path)
        self._gone += [rows.data_key[6:38], rows.value[4:36]]

    def _compromise(self) -> None:
        """Replace every key and encrypt every version anew."""
        path = self._existing()
        rows = rows_of_version(self._vault.opened, path, as_number(self._vault.history(path)[0].version))
        Compromise(self._vault.authority).declare()
        self._gone += [rows.data_key[6:38], rows.value[4:36]]
        self._has_parts = True

    def _remove_a_key(self) -> None:
        """Add a key and remove it, so that every key of the vault changes."""
        slots = Slots(self._vault.authority)
        slots.remove(slots.add(RecoveryProvider(generate_recovery_code())))
        self._has_parts = True


class Check:
    """Holds one image after another to a story."""

    def __init__(self, story: Story) -> None:
        """Know the story."""
        self._story = story
        self._provider = open_provider(story.key)
        self._clock = ManualClock(story.clock.ns + 2 * HOUR_NS)
        self._looked_at = 0

    def __call__(self, folder: Path, acknowledged: tuple[object, ...]) -> None:
        """Find fault with an image by an error."""
        self._looked_at += 1
        newest = int(str(acknowledged[-1])) if acknowledged else _NEVER_CREATED
        _verify_silence(folder, self._story.moments[newest].gone if acknowledged else ())
        (path,) = folder.glob("*.vault")
        try:
            store = open_sqlite(path)
        except NotAVault:
            assert not acknowledged, "a vault that was created is none"
            return
        try:
            if store.head() is None:
                assert not acknowledged, "a vault that was created is empty"
                return
            opened, _ = open_rows(store, self._provider, None, self._clock, Options())
            self._verify(opened, newest)
        finally:
            store.close()
        if newest >= 0:
            _verify_silence(folder, self._story.moments[newest].gone)

    def _verify(self, opened: OpenVault, newest: int) -> None:
        moments = self._story.moments
        state, size = snapshot(opened), opened.replica.checkpoint.size
        if newest == _NEVER_CREATED:
            assert size <= moments[0].size
            return
        # The step under way may be done, in part of its commits.
        after = moments[min(newest + 1, len(moments) - 1)]
        assert state in {moments[newest].state, after.state}, "a change is lost, or there in part"
        least = after.least_size if state == after.state != moments[newest].state else moments[newest].size
        assert least <= size <= after.size, "a change and its record are not one"
        assert opened.replica.state.stagings == (), "what was prepared is left behind"
        assert not opened.is_destruction_pending, "a destruction is left undone"
        self._verify_log(opened, state, newest)
        if self._looked_at % 8 == 0:
            self._verify_use(opened, state)

    def _verify_log(self, opened: OpenVault, state: Snapshot, newest: int) -> None:
        checkpoint = opened.replica.checkpoint
        leaves = [row for _, row in opened.store.scan(Space.LOG, 0, checkpoint.size, checkpoint.size + 1)]
        verify_tree(checkpoint, leaves, StoredTree(opened.store).tile)
        if self._looked_at % 16 == 0:
            self._verify_records(opened, leaves, state, newest)

    def _verify_records(self, opened: OpenVault, leaves: list[bytes], state: Snapshot, newest: int) -> None:
        """Open every record; there are as many versions as they speak of."""
        rows = [row for _, row in opened.store.scan(Space.SEALER, 0, 2**63 - 1, 1_000)]
        sealers = {sealer_id_of(row): row for row in rows}
        opener = RecordOpener(opened.replica.keyring.all(Purpose.AUDIT), opened.replica.vault_id, sealers.get)
        history = History(VerifierKey(origin_of(opened.replica.vault_id), opened.replica.header.first_log_key))
        recorded = reads = 0
        for index, leaf in enumerate(leaves):
            history.add(leaf, opener)
            record = opener.open_row(leaf, index)
            if record.event is Event.BATCH_WRITTEN:
                recorded += int(str(record.obj["count"]))
            recorded += record.event in _MAKE_A_VERSION
            reads += record.event is Event.SECRET_READ
        assert recorded == sum(len(versions) - 1 for _, versions in state), "versions and records do not agree"
        assert reads >= self._story.moments[newest].given_out, "a value was given out without a record"

    def _verify_use(self, opened: OpenVault, state: Snapshot) -> None:
        """The vault goes on as if nothing had happened."""
        vault = Vault(opened, Identity(ADMIN))
        assert vault.write("after/the/crash", "canary-value")
        compact(opened)
        assert len(snapshot(opened)) == len(state) + 1
        assert verify_vault(opened).orphans == {}, "rows are left that nothing references"
        vault.close()


def _verify_silence(folder: Path, gone: Sequence[bytes]) -> None:
    for file in folder.iterdir():
        content = file.read_bytes()
        for canary in CANARIES:
            assert canary not in content, "something is readable"
        for bytes_gone in gone:
            assert bytes_gone not in content, "something destroyed is still there"


def explored(folder: Path, *, count: int, seed: int, syncs: Syncs = "honest", defect: str = "") -> Report:
    """Record one workload and explore its images."""
    story = record(folder, seed, syncs, defect)
    return explore(story.recording, Check(story), count=count, seed=seed)


def _work(task: tuple[int, int]) -> Report:
    seed, count = task
    parent = MEMORY_FOLDER if MEMORY_FOLDER.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="securecfg-crash-", dir=parent) as folder:
        return explored(Path(folder), count=count, seed=seed)


def main() -> int:
    """Explore as many distinct images as asked for, in several processes, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.monotonic()
    digests: set[bytes] = set()
    kinds: dict[str, int] = {}
    violations = 0
    seed = options.seed
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        while len(digests) < options.images:
            left = options.images - len(digests)
            per_task = min(IMAGES_PER_WORKLOAD, -(-left // options.jobs))
            tasks = [(seed + number, per_task) for number in range(-(-left // per_task))]
            seed += len(tasks)
            for report in pool.imap_unordered(_work, tasks):
                digests |= report.digests
                for kind, number in report.kinds.items():
                    kinds[kind] = kinds.get(kind, 0) + number
                violations += report.violation_count
                for violation in report.violations:
                    print(f"{violation.problem} (event {violation.image.point}, {violation.image.kind})")
                rate = len(digests) / (time.monotonic() - started)
                print(f"{len(digests):>8} distinct images, {violations} violations, {rate:.0f}/s", flush=True)
    shown = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
    print(
        f"crash: {len(digests)} distinct images ({shown}) of {seed - options.seed} workloads: {violations} violations"
    )
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
