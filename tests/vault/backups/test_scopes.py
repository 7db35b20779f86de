"""Backups of vaults with sealed scopes: all of one moment, as sealed as they are, and whole for who may read them."""

from __future__ import annotations

import re
import shutil
import sqlite3
import threading
from contextlib import closing, suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from securecfg.audit import Event
from securecfg.errors import (
    AuditUnavailable,
    Conflict,
    IntegrityError,
    NotAuthenticated,
    RollbackSuspected,
    ScopeSealed,
    SecretNotFound,
    StoreBusy,
    StoreFailed,
    Tampered,
    WrongKey,
)
from securecfg.keys import IdentityProvider, generate_key_file, open_provider
from securecfg.keys.identity import read_identity_file
from securecfg.policy import Document
from securecfg.store import Delete, Put, Space, open_sqlite
from securecfg.vault.adoption import adopt
from securecfg.vault.backups.backups import Backups
from securecfg.vault.backups.copying import VaultCopy
from securecfg.vault.backups.notes import find_chain
from securecfg.vault.backups.parts import open_chain
from securecfg.vault.backups.restoring import Restoring
from securecfg.vault.backups.rows import RowsCopy
from securecfg.vault.closed import Closed
from securecfg.vault.commits.maintenance import compact
from securecfg.vault.creation import open_rows
from securecfg.vault.moves.scopes import ScopeMoves
from securecfg.vault.opened import Options
from securecfg.vault.rekeying.roles import RoleRotation
from securecfg.vault.scopes.adoption import adopt_scopes, compare_scopes
from securecfg.vault.scopes.charters import VOUCHER_ID
from securecfg.vault.scopes.discarding import LostScopes
from securecfg.vault.scopes.formers import has_formers
from securecfg.vault.scopes.registry import read_registry
from securecfg.vault.scopes.scopes import Scopes
from securecfg.vault.session import Identity as Who
from securecfg.vault.state.anchor import AnchorFile
from securecfg.vault.state.replica import HEADER_ID, KEYRING_ID, MANIFEST_ID
from securecfg.vault.vault import Vault
from securecfg.vault.verification import verify_vault
from tests.vault.crash_steps import dying
from tests.vault.scope_world import ScopeWorld, scope_world
from tests.vault.world import ADMIN, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from securecfg.keys import KeyProvider
    from securecfg.store import Staged, Store
    from securecfg.vault.backups.backups import Backup
    from securecfg.vault.backups.inventory import Inventory
    from securecfg.vault.backups.restoring import Restored

    Restore = Callable[..., tuple[ScopeWorld, Restored]]

WEB, PAY = 1, 2


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScopeWorld]:
    """Two scopes that the vault's key does not read; `audit` may list one of them, and is a member of nothing else."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    world = scope_world(tmp_path)
    scopes = world.scopes()
    scopes.create("web", read=["web"], write=["web"])
    scopes.create("pay", read=["pay"])
    scopes.grant("pay", "audit", "list")
    world.as_member("web").write("web/key", "of web")
    world.admin().write("pay/key", "of pay")
    world.admin().write("app/key", "of the vault")
    generate_key_file(tmp_path / "backup.key")
    yield world
    world.close()


@pytest.fixture
def recipient(world: ScopeWorld) -> KeyProvider:
    return open_provider(f"file:{world.folder / 'backup.key'}")


@pytest.fixture
def folder(world: ScopeWorld) -> Path:
    return world.folder / "backup"


def back_up(world: ScopeWorld, folder: Path, recipient: KeyProvider) -> Backup:
    return Backups.of(world.admin()).make(folder, [] if folder.exists() else [recipient])


@pytest.fixture
def restore(
    world: ScopeWorld, folder: Path, recipient: KeyProvider, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Restore]:
    """Restores a state on a machine that knows nothing of the vault, and is where the test goes on."""
    worlds: list[ScopeWorld] = []

    def restore(part: int | None = None, before: Callable[[], None] = lambda: None) -> tuple[ScopeWorld, Restored]:
        place = world.folder / f"restored-{part}"
        place.mkdir()
        monkeypatch.setenv("XDG_STATE_HOME", str(place / "state"))
        before()
        for file in (*world.folder.glob("*.identity"), world.folder / "key"):
            shutil.copy(file, place)
        there = ScopeWorld(place, world.clock)
        worlds.append(there)
        restoring = Restoring(folder, recipient, world.clock)
        return there, restoring.restore(restoring.find(part=part), there.path, ADMIN)

    yield restore
    for there in worlds:
        there.close()


def inventory_of(world: ScopeWorld, folder: Path, part: int = -1) -> Inventory:
    part_file = open_chain(folder)[part]
    chain = find_chain(world.admin().opened, part_file.header.chain_id)
    assert chain is not None
    return part_file.open_inventory(chain.inventory_key)


def stage(world: ScopeWorld, number: int, operations: list[Staged]) -> None:
    """Change rows of a partition as somebody does who may write the file, and nothing else."""
    with closing(open_sqlite(world.path)) as store:
        store.partition(number).stage(operations)


# --- what a backup holds ----------------------------------------------------------------------------------------------


def test_everybody_reads_in_a_restored_vault_what_they_could_read(
    world: ScopeWorld, folder: Path, recipient: KeyProvider, restore: Restore
) -> None:
    world.as_member("web").write("web/large", b"x" * 700_000)
    done = back_up(world, folder, recipient)
    assert (done.scope_count, done.scopes) == (2, ("pay/", "web/"))
    world.as_member("web").write("web/key", "later")
    there, restored = restore()
    assert [(scope.path, scope.was_opened, scope.needs_adoption) for scope in restored.scopes] == [
        ("web/", True, False),
        ("pay/", True, False),
    ]
    assert text_of(there.as_member("web"), "web/key") == "of web"
    assert there.as_member("web").read("web/large").field("").reveal() == b"x" * 700_000
    assert text_of(there.as_member("pay"), "pay/key") == "of pay"
    assert there.as_member("audit").list() == ["pay/key"]
    for path in ("web/key", "pay/key"):
        with pytest.raises(ScopeSealed):
            there.admin().read(path)
    with pytest.raises(ScopeSealed):
        there.as_member("audit").read("pay/key")
    for _, part in there.admin().parts():
        report = verify_vault(part.opened)
        assert (report.problems, report.orphans) == ([], {})
        part.log.verify()
    assert there.as_member("web").write("web/key", "after the restore") == 2
    there.scopes().grant("pay", "web", "read")


def test_who_has_both_keys_of_a_role_reads_in_a_restored_vault_what_a_former_slot_was_granted(
    world: ScopeWorld, folder: Path, recipient: KeyProvider, restore: Restore
) -> None:
    RoleRotation(world.admin().authority).rotate_role("web")
    assert has_formers(world.admin().scope("web").opened.store)
    back_up(world, folder, recipient)
    there, _ = restore()
    assert has_formers(there.admin().scope("web").opened.store)
    assert text_of(there.as_member("web"), "web/key") == "of web"


def test_a_part_opens_no_value_of_a_scope_for_its_recipients(
    world: ScopeWorld, folder: Path, recipient: KeyProvider
) -> None:
    """What is in a part of a scope is what is in the file, row by row."""
    back_up(world, folder, recipient)
    restoring = Restoring(folder, recipient, world.clock)
    held: dict[tuple[int, Space, int], bytes] = {}

    def take(number: int, puts: Sequence[Put]) -> None:
        held.update({(number, put.space, put.id): put.row for put in puts})

    restoring._rows.copy(1, take)
    with closing(open_sqlite(world.path)) as store:
        for (number, space, id_), row in held.items():
            if number:
                assert store.partition(number).get(space, id_) == row
    assert {number for number, _, _ in held} == {0, WEB, PAY}


def test_a_scope_that_did_not_change_costs_nothing_in_a_later_part(
    world: ScopeWorld, folder: Path, recipient: KeyProvider
) -> None:
    for number in range(100):
        world.admin().write(f"pay/{number}", "x" * 1_000)
    first = back_up(world, folder, recipient)
    second = back_up(world, folder, recipient)
    assert second.row_count < first.row_count / 10
    held = {each.number: each for each in inventory_of(world, folder)}
    assert (held[0].part, held[WEB].part, held[PAY].part) == (2, 1, 1)
    assert held[0].grants_part == 1
    world.admin().write("pay/1", "new")
    third = back_up(world, folder, recipient)
    assert third.row_count < first.row_count / 10
    held = {each.number: each for each in inventory_of(world, folder)}
    assert (held[0].part, held[WEB].part, held[PAY].part, held[PAY].grants_part) == (3, 1, 3, 1)


def test_values_that_wait_in_a_drop_box_are_in_the_backup(
    world: ScopeWorld, folder: Path, recipient: KeyProvider, restore: Restore
) -> None:
    """They come without a new head of the scope."""
    world.scopes().create("box", read=["pay"], write=["pay"], drop=["audit"])
    back_up(world, folder, recipient)
    head = world.admin().opened.store.partition(3).head()
    world.as_member("audit").drop("box/first", "dropped")
    assert world.admin().opened.store.partition(3).head() == head
    back_up(world, folder, recipient)
    held = {each.number: each for each in inventory_of(world, folder)}
    assert (held[PAY].part, held[3].part, held[3].grants_part) == (1, 2, 2)
    there, _ = restore(2)
    assert text_of(there.as_member("pay"), "box/first") == "dropped"


def test_who_may_only_drop_values_makes_no_backup_and_is_told_that_there_is_more(world: ScopeWorld) -> None:
    world.scopes().create("box", read=["pay"], write=["pay"], drop=["audit"])
    world.scopes().revoke("pay", "audit", "list")
    only = world.as_member("audit")
    with pytest.raises(ScopeSealed):
        Backups.of(only)
    assert (only.list(), only.closed()) == ([], Closed(is_whole=True, scope_count=1, scopes=("box/",)))


def test_each_state_has_the_scopes_as_they_were(
    world: ScopeWorld, folder: Path, recipient: KeyProvider, restore: Restore
) -> None:
    back_up(world, folder, recipient)
    world.as_member("web").write("web/key", "second")
    world.scopes().create("new", read=["audit"])
    world.admin().write("new/key", "of new")
    back_up(world, folder, recipient)
    world.scopes().revoke("web", "web", "read")
    world.scopes().grant("pay", "web", "read")
    text_of(world.as_member("pay"), "pay/key")
    back_up(world, folder, recipient)
    restoring = Restoring(folder, recipient, world.clock)
    assert [restoring.scopes(state) for state in restoring.states()] == [
        ["pay/", "web/"],
        *[["new/", "pay/", "web/"]] * 2,
    ]
    first, _ = restore(1)
    assert text_of(first.as_member("web"), "web/key") == "of web"
    assert first.as_member("audit").list() == ["pay/key"]
    second, _ = restore(2)
    assert text_of(second.as_member("web"), "web/key") == "second"
    assert text_of(second.as_member("audit"), "new/key") == "of new"
    third, _ = restore(3)
    assert text_of(third.as_member("web"), "pay/key") == "of pay"
    with pytest.raises(ScopeSealed):
        third.as_member("web").write("web/key", "x") and third.as_member("web").read("web/key")


def test_keys_and_destructions_of_a_scope_between_parts(
    world: ScopeWorld, folder: Path, recipient: KeyProvider, restore: Restore
) -> None:
    web = world.as_member("web")
    for number in range(30):
        web.write(f"web/{number}", str(number))
    back_up(world, folder, recipient)
    web.destroy("web/1", 1)
    compact(web.opened)
    world.scopes().grant("web", "audit", "read")
    text_of(world.as_member("web"), "web/2")
    world.scopes().revoke("web", "audit", "list")
    world.as_member("web").write("web/3", "newer")
    back_up(world, folder, recipient)
    for part, three in ((1, "3"), (2, "newer")):
        there, _ = restore(part)
        member = there.as_member("web")
        assert text_of(member, "web/3") == three
        assert text_of(member, "web/29") == "29"
        report = verify_vault(member.opened)
        assert (report.problems, report.orphans, report.sealed) == ([], {}, 0)


def test_the_vault_says_which_scopes_are_in_its_backups_to_those_who_may_know(
    world: ScopeWorld, folder: Path, recipient: KeyProvider
) -> None:
    text = '[roles.backup]\nmembers = ["svc:backup"]\n[[roles.backup.grants]]\nactions = ["vault.backup"]\n'
    world.admin().administration.apply_policy([Document("backup.toml", "grants", text)])
    back_up(world, folder, recipient)
    (note,) = Backups.of(world.admin()).list()
    assert (note.scope_count, note.scopes) == (2, ("pay/", "web/"))
    blind = Backups.of(world.open("svc:backup"))
    (note,) = blind.list()
    assert (note.scope_count, note.scopes) == (2, ())
    done = blind.make(folder)
    assert (done.scope_count, done.scopes) == (2, ())
    world.admin().write("pay/key", "newer")
    stage(world, PAY, [Delete(Space.META, VOUCHER_ID)])
    with pytest.raises(Tampered) as refused:
        blind.make(folder)
    assert "pay" not in refused.value.message


# --- of one moment ----------------------------------------------------------------------------------------------------


class Watched:
    """A store in which something happens before each look at the vault, or at one partition."""

    def __init__(self, store: Store, number: int, action: Callable[[], object]) -> None:
        self._store, self._number, self._action = store, number, action

    def partition(self, number: int) -> Store:
        part = self._store.partition(number)
        return cast("Store", Watched(part, number, self._action)) if number == self._number else part

    def snapshot(self, keys: list[tuple[Space, int]]) -> object:
        self._action()
        return self._store.snapshot(keys)

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


def watched_backups(world: ScopeWorld, number: int, action: Callable[[], object]) -> Backups:
    """Return the backups of a vault in which something happens whenever it or one scope is looked at."""
    store = cast("Store", Watched(open_sqlite(world.path), number, action))
    opened, slot = open_rows(store, open_provider(world.key), world.path, world.clock, Options())
    vault = Vault(opened, Who(ADMIN, slot=slot.slot_id.hex()))
    world.vaults.append(vault)
    return Backups(vault.authority)


@pytest.mark.no_cover
@pytest.mark.parametrize("times", [1, 3, 1_000])
def test_what_moves_between_scopes_meanwhile_is_in_one_of_them(
    world: ScopeWorld, folder: Path, recipient: KeyProvider, restore: Restore, times: int
) -> None:
    """The value is always in the scope or in the vault; a copy of the two at different moments could miss it."""
    admin = world.admin()
    admin.write("pay/moving", "0")
    count = [0]
    is_moving = threading.Lock()

    def move() -> None:
        if count[0] < times and is_moving.acquire(blocking=False):
            try:
                count[0] += 1
                with suppress(StoreBusy, Conflict):
                    here, there = ("pay/moving", "app/moving") if count[0] % 2 else ("app/moving", "pay/moving")
                    admin.write(there, str(count[0]))
                    admin.delete(here)
            finally:
                is_moving.release()

    backups = watched_backups(world, PAY, move)
    backups.make(folder, [recipient])
    there, _ = restore()
    found = [path for path in there.admin().list() if path.endswith("moving")]
    assert found
    assert len(found) <= 2


def test_every_part_is_of_one_moment_while_members_write(
    world: ScopeWorld, folder: Path, recipient: KeyProvider, restore: Restore
) -> None:
    """A number is written into the vault first and into a scope then, so the scope is never ahead."""
    stop = threading.Event()
    failures: list[BaseException] = []
    admin = world.admin()
    for path in ("app/count", "pay/count"):
        admin.write(path, "0")

    def write() -> None:
        try:
            count = 0
            while not stop.is_set():
                count += 1
                admin.write("app/count", str(count))
                admin.write("pay/count", str(count))
        except BaseException as error:
            failures.append(error)
            raise

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(3):
            back_up(world, folder, recipient)
    finally:
        stop.set()
        thread.join()
    assert failures == []
    for part in range(1, 4):
        there, _ = restore(part)
        ahead = int(text_of(there.admin(), "app/count")) - int(text_of(there.as_member("pay"), "pay/count"))
        assert ahead in {0, 1}


# --- scopes that are made, moved, interrupted and gone ----------------------------------------------------------------


def test_scopes_that_are_sealed_split_and_merged_between_parts(
    world: ScopeWorld, folder: Path, recipient: KeyProvider, restore: Restore
) -> None:
    admin = world.admin()
    for path in ("old/a", "old/b"):
        admin.write(path, f"of {path}")
    world.as_member("web").write("web/sub/key", "of web/sub")
    identity = IdentityProvider(world.folder / "web.identity")

    def moves() -> ScopeMoves:
        return ScopeMoves(world.admin().authority)

    steps: list[Callable[[], object]] = [
        lambda: None,
        lambda: moves().seal("old", roles={"read": ["pay"]}),
        lambda: moves().split("web", "web/sub", reader=identity),
        lambda: moves().merge("web/sub", reader=identity),
    ]
    for step in steps:
        step()
        back_up(world, folder, recipient)
    states = Restoring(folder, recipient, world.clock)
    assert [states.scopes(state) for state in states.states()] == [
        ["pay/", "web/"],
        ["old/", "pay/", "web/"],
        ["old/", "pay/", "web/", "web/sub/"],
        ["old/", "pay/", "web/"],
    ]
    for part in range(1, len(steps) + 1):
        there, restored = restore(part)
        assert all(scope.was_opened for scope in restored.scopes)
        assert there.admin().list() == ["app/key", "old/a", "old/b", "pay/key", "web/key", "web/sub/key"]
        assert text_of(there.as_member("web"), "web/sub/key") == "of web/sub"
        old = there.admin() if part == 1 else there.as_member("pay")
        assert text_of(old, "old/b") == "of old/b"


def test_a_scope_that_was_given_up_is_in_no_later_part_and_in_the_earlier_ones(
    world: ScopeWorld, folder: Path, recipient: KeyProvider, restore: Restore
) -> None:
    back_up(world, folder, recipient)
    with closing(open_sqlite(world.path)) as store:
        part = store.partition(PAY)
        part.stage([Delete(Space.META, KEYRING_ID)])
    scopes = LostScopes(world.admin().authority)
    scopes.discard(scopes.judge("pay"))
    back_up(world, folder, recipient)
    states = Restoring(folder, recipient, world.clock)
    assert [states.scopes(state) for state in states.states()] == [["pay/", "web/"], ["web/"]]
    later, _ = restore(2)
    assert later.scopes().paths() == ["web/"]
    with pytest.raises(ScopeSealed, match="given up"):
        later.admin().write("pay/key", "unsealed")
    earlier, _ = restore(1)
    assert earlier.scopes().paths() == ["pay/", "web/"]
    assert earlier.as_member("audit").list() == ["pay/key"]


def interrupt_making(world: ScopeWorld) -> None:
    """Let the making of a scope die where the vault has a note of it and its partition has no head."""
    for changes in range(100):
        if "new/" in read_registry(world.admin().opened).making:
            break
        with suppress(StoreFailed, AuditUnavailable):
            Scopes(dying(world, changes).authority).create("new", read=["audit"])
    with pytest.raises(SecretNotFound):
        world.scopes().show("new")


def test_a_scope_whose_making_was_interrupted_is_made_in_the_restored_vault(
    world: ScopeWorld, folder: Path, recipient: KeyProvider, restore: Restore
) -> None:
    interrupt_making(world)
    assert back_up(world, folder, recipient).scopes == ("pay/", "web/")
    there, _ = restore()
    there.scopes().create("new", read=["audit"])
    there.admin().write("new/key", "of new")
    assert text_of(there.as_member("audit"), "new/key") == "of new"


# --- what is refused --------------------------------------------------------------------------------------------------


def altered(store: Store, space: Space, id_: int | None = None) -> list[Staged]:
    """Return what alters one row of a space: the one given, or the last."""
    ids = range(2**63) if id_ is None else range(id_, id_ + 1)
    number, row = store.scan(space, ids.start, ids.stop - 1, 10_000)[-1]
    return [Put(space, number, row[:-1] + bytes((row[-1] ^ 1,)))]


def exchanged(store: Store) -> list[Staged]:
    """Return what puts another row in the place of the header."""
    row = store.get(Space.META, KEYRING_ID)
    assert row is not None
    return [Put(Space.META, HEADER_ID, row)]


def copy(vault: Vault, folder: Path | None, recipient: KeyProvider) -> None:
    """Make a backup, or without a folder copy the rows as who has no key of any scope."""
    if folder is None:
        list(VaultCopy(vault.opened, (), None).items())
    else:
        Backups.of(vault).make(folder, [recipient])


HARM: dict[str, Callable[[Store], list[Staged]]] = {
    "without a voucher": lambda _: [Delete(Space.META, VOUCHER_ID)],
    "with an altered voucher": lambda store: altered(store, Space.META, VOUCHER_ID),
    "with an altered header": lambda store: altered(store, Space.META, HEADER_ID),
    "with another header": exchanged,
    "without a header": lambda _: [Delete(Space.META, HEADER_ID)],
    "with an altered keyring": lambda store: altered(store, Space.META, KEYRING_ID),
    "with an altered manifest": lambda store: altered(store, Space.META, MANIFEST_ID),
    "with an altered slot": lambda store: altered(store, Space.META, 257),
    "without a slot": lambda _: [Delete(Space.META, 258)],
    "with an altered record": lambda store: altered(store, Space.LOG),
    "without its last record": lambda store: [Delete(Space.LOG, store.scan(Space.LOG, 0, 2**63 - 1, 10_000)[-1][0])],
    "without its first record": lambda _: [Delete(Space.LOG, 0)],
    "with an altered delta": lambda store: altered(store, Space.DELTA),
    "without a delta": lambda store: [Delete(Space.DELTA, store.scan(Space.DELTA, 0, 2**63 - 1, 10_000)[-1][0])],
}


@pytest.mark.parametrize("has_key", [True, False], ids=["opened", "closed"])
@pytest.mark.parametrize("harm", HARM)
def test_no_backup_is_made_of_a_scope_that_is_not_as_it_was_signed(
    world: ScopeWorld, folder: Path, recipient: KeyProvider, harm: str, *, has_key: bool
) -> None:
    admin = world.admin()
    with closing(open_sqlite(world.path)) as store:
        store.partition(PAY).stage(HARM[harm](store.partition(PAY)))
    with pytest.raises(IntegrityError, match="the sealed scope `pay/`"):
        copy(admin, folder if has_key else None, recipient)
    assert not folder.exists() or list(folder.iterdir()) == []


def named_by_its_head(store: Store) -> tuple[SimpleNamespace]:
    """Return the id of a scope as its signed head has it."""
    (found,) = re.findall(rb"securecfg/([0-9a-f]{32})\n", store.head() or b"")
    return (SimpleNamespace(vault_id=bytes.fromhex(found.decode())),)


@pytest.mark.parametrize("harm", HARM)
def test_a_backup_of_such_a_scope_is_noticed_when_it_is_read(
    world: ScopeWorld,
    folder: Path,
    recipient: KeyProvider,
    restore: Restore,
    monkeypatch: pytest.MonkeyPatch,
    harm: str,
) -> None:
    """Made by a program that checks nothing."""
    with closing(open_sqlite(world.path)) as store:
        store.partition(PAY).stage(HARM[harm](store.partition(PAY)))

    class Careless(RowsCopy):
        def __init__(self, store: Store, scope_id: bytes, *args: Any, is_scope: bool) -> None:  # noqa: ANN401 - those of a copy
            super().__init__(store, scope_id, *args, is_scope=False)
            self._has_marks = is_scope

        def _copy_log(self, size: int) -> Iterator[bytes]:
            with suppress(Tampered):
                yield from super()._copy_log(size)

        def _copy_deltas(self, *args: Any) -> list[bytes] | None:  # noqa: ANN401 - those of a copy
            with suppress(Tampered):
                return super()._copy_deltas(*args)
            return []

    with monkeypatch.context() as careless:
        careless.setattr("securecfg.vault.backups.copying.RowsCopy", Careless)
        careless.setattr("securecfg.vault.backups.copying.VaultCopy._verify_scope", lambda *_: None)
        careless.setattr("securecfg.vault.backups.copying.read_header", named_by_its_head)
        back_up(world, folder, recipient)
    restoring = Restoring(folder, recipient, world.clock)
    with pytest.raises(Tampered, match="the sealed scope `pay/` in the backup is damaged"):
        restoring.verify(restoring.find())
    with pytest.raises(Tampered, match="the sealed scope `pay/` in the backup is damaged"):
        restore()


def put_back(world: ScopeWorld, number: int, change: Callable[[], object]) -> None:
    """Change a scope, and put back what it was before, as somebody who may write the file."""
    before = world.folder / "before.vault"
    with closing(open_sqlite(world.path)) as store:
        store.purge()
    shutil.copy(world.path, before)
    change()
    put_in_place(world, before, number, number)


def put_in_place(world: ScopeWorld, other: Path, source: int, target: int) -> None:
    """Put a partition of a file in the place of one of the vault."""
    with closing(sqlite3.connect(world.path)) as connection:
        connection.execute("ATTACH DATABASE ? AS other", (str(other),))
        connection.execute("DELETE FROM p WHERE n = ?", (target,))
        connection.execute("DELETE FROM g WHERE i = ?", (target,))
        connection.execute("INSERT INTO p SELECT ?, s, i, b FROM other.p WHERE n = ?", (target, source))
        connection.execute("INSERT INTO g SELECT ?, b FROM other.g WHERE i = ?", (target, source))
        connection.commit()


def test_no_backup_is_made_of_a_scope_that_went_back(world: ScopeWorld, folder: Path, recipient: KeyProvider) -> None:
    world.close()

    def change() -> None:
        world.admin().write("pay/key", "newer")
        world.close()

    put_back(world, PAY, change)
    with pytest.raises(RollbackSuspected, match="the sealed scope `pay/`"):
        back_up(world, folder, recipient)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("has_key", [True, False], ids=["opened", "closed"])
def test_no_backup_is_made_of_a_scope_in_the_place_of_another(
    world: ScopeWorld, folder: Path, recipient: KeyProvider, *, has_key: bool
) -> None:
    world.close()
    shutil.copy(world.path, world.folder / "copy.vault")
    put_in_place(world, world.folder / "copy.vault", WEB, PAY)
    with pytest.raises(Tampered, match="another scope lies in its place"):
        copy(world.admin(), folder if has_key else None, recipient)


@pytest.mark.parametrize("known", ["by the anchor", "by the part before", "by its name alone"])
def test_no_backup_is_made_of_a_vault_that_lost_a_scope(
    world: ScopeWorld, folder: Path, recipient: KeyProvider, monkeypatch: pytest.MonkeyPatch, known: str
) -> None:
    if known == "by the part before":
        back_up(world, folder, recipient)
    if known != "by the anchor":
        monkeypatch.setenv("XDG_STATE_HOME", str(world.folder / "another machine"))
    world.close()
    with closing(sqlite3.connect(world.path)) as connection:
        connection.execute("DELETE FROM p WHERE n = ?", (PAY,))
        connection.execute("DELETE FROM g WHERE i = ?", (PAY,))
        connection.commit()
    with pytest.raises(Tampered, match="the sealed scope `pay/` is not there"):
        back_up(world, folder, recipient)


@pytest.mark.parametrize("space", [Space.VALUE, Space.HISTORY, Space.DEK])
def test_a_row_that_only_the_index_names_is_missed_when_it_is_restored(
    world: ScopeWorld, folder: Path, recipient: KeyProvider, restore: Restore, space: Space
) -> None:
    with closing(open_sqlite(world.path)) as store:
        part = store.partition(PAY)
        last = part.scan(space, 0, 2**62, 10_000)[-1][0]
        part.stage([Delete(space, last)] if space is Space.DEK else altered(part, space))
    back_up(world, folder, recipient)
    with pytest.raises(Tampered, match="the sealed scope `pay/` in the backup is damaged"):
        restore()
    assert list((world.folder / "restored-None").glob("*.vault*")) == []


def test_who_has_nothing_but_an_identity_makes_no_backup(
    world: ScopeWorld, folder: Path, recipient: KeyProvider
) -> None:
    world.scopes().grant("pay", "web", "list")
    for name in ("pay", "web"):  # one scope, and two
        member = world.as_member(name)
        with pytest.raises(ScopeSealed, match="a backup is of the whole vault"):
            Backups.of(member).make(folder, [recipient])
    with pytest.raises(ScopeSealed):
        Backups(world.as_member("pay").authority)
    assert not folder.exists()


def test_a_partition_that_the_vault_does_not_name_comes_along_unopened(
    world: ScopeWorld, folder: Path, recipient: KeyProvider, restore: Restore
) -> None:
    world.close()
    shutil.copy(world.path, world.folder / "copy.vault")
    put_in_place(world, world.folder / "copy.vault", WEB, 9)
    done = back_up(world, folder, recipient)
    assert (done.scope_count, done.scopes) == (3, ("pay/", "web/"))
    _, restored = restore()
    assert [(scope.path, scope.was_opened) for scope in restored.scopes] == [
        ("web/", True),
        ("pay/", True),
        ("", False),
    ]


@pytest.mark.parametrize("known", ["nothing", "the same", "more", "another"])
def test_a_scope_that_no_key_opens_is_refused_too_where_more_was_known(
    world: ScopeWorld, folder: Path, recipient: KeyProvider, restore: Restore, known: str
) -> None:
    """An anchor of a scope is found by its id, whether or not the vault names it."""
    mark = world.admin().scope("web").opened.mark()
    scope_id = world.admin().scope("web").opened.replica.vault_id
    world.close()
    shutil.copy(world.path, world.folder / "copy.vault")
    put_in_place(world, world.folder / "copy.vault", WEB, 9)
    back_up(world, folder, recipient)

    def remember() -> None:
        marks = {"the same": mark, "more": mark._replace(size=mark.size + 1), "another": mark._replace(root=bytes(32))}
        if known in marks:
            AnchorFile(scope_id, world.folder / "elsewhere.vault").replace(marks[known])

    _, done = restore(before=remember)
    (closed,) = [scope for scope in done.scopes if not scope.was_opened]
    assert closed.needs_adoption is (known in {"more", "another"})


def test_the_log_of_each_scope_says_that_it_was_restored(
    world: ScopeWorld, folder: Path, recipient: KeyProvider, restore: Restore
) -> None:
    done = back_up(world, folder, recipient)
    there, _ = restore()
    member = there.as_member("pay")
    records = [entry.record for entry in member.log.records()]
    (told,) = [record for record in records if record.event is Event.VAULT_RESTORED]
    assert (told.obj["backup"], told.obj["part"], told.subject.id) == (done.backup, 1, ADMIN)


# --- accepting what was restored --------------------------------------------------------------------------------------


def test_a_restored_scope_is_refused_where_more_was_known_until_it_is_adopted(
    world: ScopeWorld, folder: Path, recipient: KeyProvider
) -> None:
    back_up(world, folder, recipient)
    text_of(world.as_member("pay"), "pay/key")
    world.as_member("web").write("web/key", "newer")
    world.close()
    restoring = Restoring(folder, recipient, world.clock)
    for path in (world.path, world.folder / "elsewhere.vault"):
        world.path.unlink(missing_ok=True)
        done = restoring.restore(restoring.find(), path, ADMIN, reason="the disk broke")
        assert {scope.path: scope.needs_adoption for scope in done.scopes} == {"pay/": True, "web/": True}
        for name in ("pay", "web"):
            with pytest.raises(RollbackSuspected):
                member(world, name, path)
        adopt(path, open_provider(world.key), ADMIN, clock=world.clock)
        assert text_of(member(world, "web", path), "web/key") == "of web"
        assert text_of(member(world, "pay", path), "pay/key") == "of pay"


def member(world: ScopeWorld, name: str, path: Path) -> Vault:
    return world.open(None, key=f"identity:{world.folder / name}.identity", path=path)


def identity(world: ScopeWorld, name: str) -> KeyProvider:
    return open_provider(f"identity:{world.folder / name}.identity")


@pytest.fixture
def gone_back(world: ScopeWorld, folder: Path, recipient: KeyProvider, monkeypatch: pytest.MonkeyPatch) -> ScopeWorld:
    """A vault that was restored to its place by somebody else than the members, who have seen more of it."""
    back_up(world, folder, recipient)
    for _ in range(4):
        text_of(world.as_member("pay"), "pay/key")
    world.as_member("web").write("web/key", "newer")
    world.as_member("audit").list()
    world.close()
    world.path.unlink()
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("XDG_STATE_HOME", str(world.folder / "another machine"))
        restoring = Restoring(folder, recipient, world.clock)
        restoring.restore(restoring.find(), world.path, ADMIN)
    return world


def test_a_member_accepts_the_scopes_that_its_identity_opens(gone_back: ScopeWorld) -> None:
    world = gone_back
    with pytest.raises(RollbackSuspected):
        world.as_member("pay")
    (would,) = compare_scopes(world.path, identity(world, "pay"), clock=world.clock)
    with pytest.raises(RollbackSuspected):
        world.as_member("pay")
    assert would.path == "pay/"
    assert would.recorded_size is not None
    (done,) = adopt_scopes(world.path, identity(world, "pay"), reason="the disk broke", clock=world.clock)
    assert (done.path, done.recorded_size) == (would.path, would.recorded_size)
    pay = world.as_member("pay")
    assert text_of(pay, "pay/key") == "of pay"
    (told,) = [entry.record for entry in pay.log.records() if entry.record.event is Event.SCOPE_ADOPTED]
    assert (told.subject.id, told.subject.is_proved, told.obj["reason"]) == ("svc:pay", True, "the disk broke")
    assert (told.obj["path"], told.obj["old_size"]) == ("pay/", would.recorded_size)
    # The same machine still refuses the scope that nobody has accepted on it.
    with pytest.raises(RollbackSuspected):
        world.as_member("web")


def test_who_may_only_list_accepts_a_scope_too_and_changes_nothing_in_it(gone_back: ScopeWorld) -> None:
    world = gone_back
    with pytest.raises(RollbackSuspected):
        world.as_member("audit")
    adopt_scopes(world.path, identity(world, "audit"), clock=world.clock)
    audit = world.as_member("audit")
    assert audit.list() == ["pay/key"]
    assert verify_vault(audit.opened).problems == []
    assert text_of(world.as_member("pay"), "pay/key") == "of pay"


def test_an_adoption_accepts_neither_what_is_not_signed_nor_other_administrators(
    gone_back: ScopeWorld, tmp_path_factory: pytest.TempPathFactory
) -> None:
    world = gone_back
    stage(world, PAY, [Delete(Space.META, VOUCHER_ID)])
    with pytest.raises(Tampered):
        adopt_scopes(world.path, identity(world, "pay"), clock=world.clock)
    other = scope_world(tmp_path_factory.mktemp("other"))
    public = read_identity_file(world.folder / "pay.identity").identity
    other.admin().administration.add_member("pay", "svc:pay", identity=public, replace=True)
    other.scopes().create("pay", read=["pay"])
    other.close()
    shutil.copy(other.path, world.path)
    with pytest.raises(RollbackSuspected, match="not the vault whose administrators are known"):
        adopt_scopes(world.path, identity(world, "pay"), clock=world.clock)


def test_who_is_no_member_adopts_nothing(gone_back: ScopeWorld) -> None:
    world = gone_back
    with pytest.raises(NotAuthenticated):
        adopt_scopes(world.path, identity(world, "pay"), "svc:web", clock=world.clock)
    with pytest.raises(WrongKey):
        adopt_scopes(world.path, open_provider(world.key), clock=world.clock)
    with pytest.raises(WrongKey):
        adopt(world.path, identity(world, "pay"), "svc:pay", clock=world.clock)


def test_an_adoption_that_dies_leaves_the_scope_refused(gone_back: ScopeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world = gone_back

    def fail(*_: object) -> None:
        raise OSError(28, "no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("securecfg.vault.scopes.adoption.AnchorFile.replace", fail)
        with pytest.raises(StoreFailed):
            adopt_scopes(world.path, identity(world, "pay"), clock=world.clock)
    with pytest.raises(RollbackSuspected):
        world.as_member("pay")
    adopt_scopes(world.path, identity(world, "pay"), clock=world.clock)
    assert text_of(world.as_member("pay"), "pay/key") == "of pay"
