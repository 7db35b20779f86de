"""A sealed scope with a drop box, and rows for it as anybody with a pen could make them."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from securecfg.crypto import KIND_TEXT, KeyBytes
from securecfg.keys import IdentityProvider, Purpose
from securecfg.keys.identity import read_identity_file, signing_key_of
from securecfg.store import Put, Space, open_sqlite
from securecfg.vault.drops.rows import Drop, Place, row_id_at, seal_drop, waiting_rows
from securecfg.vault.scopes.memberships import find_roles
from tests.vault.copies import copy_of
from tests.vault.scope_world import ROLES, ScopeWorld, scope_world

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from securecfg.keys.role_keys import RoleKey
    from securecfg.vault import Vault

SCOPE = 1


def drop_world(folder: Path, roles: Iterable[str] = ROLES) -> ScopeWorld:
    """Return a world in which `pay` reads and writes its scope, `web` drops into it, and `audit` has nothing in it."""
    world = scope_world(folder, roles)
    world.scopes().create("pay", read=["pay"], write=["pay"], drop=["web"])
    return world


@pytest.fixture
def box_world(tmp_path: Path) -> Iterator[ScopeWorld]:
    """That world. A module that wants it as its `world` says so: `world = box_world`."""
    world = copy_of(drop_world, tmp_path)
    yield world
    world.close()


def rows_waiting(world: ScopeWorld) -> list[tuple[int, bytes]]:
    """Return the rows that wait, the oldest first."""
    with closing(open_sqlite(world.path)) as store:
        return list(waiting_rows(store.partition(SCOPE)))


def put_rows(world: ScopeWorld, rows: Iterable[tuple[int, bytes]]) -> None:
    """Put rows among those that wait, as whoever may write the file can."""
    with closing(open_sqlite(world.path)) as store:
        store.partition(SCOPE).stage([Put(Space.GRANT, number, row) for number, row in rows])


def role_key(world: ScopeWorld, name: str) -> RoleKey:
    """Return a role's key as a member comes to it."""
    with closing(open_sqlite(world.path)) as store:
        vault_id = world.admin().opened.replica.vault_id
        ((key, _),) = find_roles(store, vault_id, IdentityProvider(world.folder / f"{name}.identity"))
        return key


def signer(world: ScopeWorld, name: str) -> Callable[[bytes], bytes]:
    """Return what signs with somebody's identity."""
    private = read_identity_file(world.folder / f"{name}.identity").private
    assert private is not None
    return signing_key_of(private.content).sign


def forged_row(world: ScopeWorld, **changes: Any) -> tuple[int, bytes]:  # noqa: ANN401 - fields of a drop, and keys
    """Return a row as `web` would make it, but for some changes.

    Args:
        world: Where.
        changes: Fields of the drop; or `role_key`, `sign`, `epoch`, `scope_id`, `time_ms`, `row_id`, `put_at` and
            `public_key`.
    """
    opened = world.admin().scope("pay").opened
    keys = {entry.epoch: entry.key for entry in opened.replica.keyring.keys if entry.purpose == Purpose.VALUE}
    epoch = changes.pop("epoch", max(keys))
    key = changes.pop("role_key", None) or role_key(world, "web")
    sign = changes.pop("sign", None) or signer(world, "web")
    row_id = row_id_at(changes.pop("time_ms", world.clock.now_ns() // 1_000_000), 7)
    place = Place(changes.pop("scope_id", opened.replica.vault_id), epoch, changes.pop("row_id", row_id))
    put_at = changes.pop("put_at", place.row_id)
    public_key = changes.pop("public_key", None)
    drop = Drop("pay/forged", KIND_TEXT, KeyBytes(b"forged"), "", None, 0, "svc:web", "web")._replace(**changes)
    return put_at, seal_drop(drop, place, public_key or keys[epoch], key.signer.sign, sign)


def collected(world: ScopeWorld) -> Vault:
    """Return the scope as who reads and writes opens it, which takes in what waits."""
    return world.as_member("pay").scope("pay")
