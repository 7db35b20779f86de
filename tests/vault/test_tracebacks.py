"""A traceback that shows locals, as crash reporters make it, shows no key that was just made."""

from __future__ import annotations

import io
import os
import secrets
import traceback
from base64 import b64encode
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

import securecfg
from securecfg.errors import SecurecfgError, StoreFailed
from securecfg.keys import open_provider
from securecfg.store.memory import MemoryStore
from securecfg.vault.bundles import parts as bundle_parts
from securecfg.vault.bundles import publishing as bundles
from securecfg.vault.commits import staging
from securecfg.vault.commits.staging import StagingArea
from securecfg.vault.creation import create_rows
from securecfg.vault.drafts import Drafts
from tests.vault.bundles.published import TTL, make_publisher
from tests.vault.drops.drop_world import drop_world
from tests.vault.world import InterruptedStore, World, interrupted

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.store import Store
    from securecfg.vault.vault import Vault

PACKAGE = str(Path(securecfg.__file__).parent)
KEY = b"canary-key-0123456789abcdefghijk"


@pytest.fixture
def known_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever draws as many random bytes as a key has gets the canary."""
    for module, name in ((os, "urandom"), (secrets, "token_bytes")):
        draw = getattr(module, name)
        monkeypatch.setattr(module, name, lambda size, draw=draw: KEY if size == len(KEY) else draw(size))


class Huge(io.BytesIO):
    """A file that says it is longer than a value may be."""

    def seek(self, offset: int, whence: int = 0) -> int:
        return super().seek(offset, whence) + (2 << 30 if whence else 0)


def fail() -> None:
    message = "the disk is full"
    raise StoreFailed(message)


def shown_by(call: Callable[[], object], *canaries: str) -> list[str]:
    """Return the functions of the package whose locals show a canary in the traceback of a call that fails."""
    with pytest.raises(SecurecfgError) as failed:
        call()
    frames = traceback.TracebackException.from_exception(failed.value, capture_locals=True).stack
    ours = [frame for frame in frames if frame.filename.startswith(PACKAGE)]
    assert ours
    return [frame.name for frame in ours if any(text in str(frame.locals) for text in canaries or ("canary",))]


@pytest.mark.usefixtures("known_keys")
def test_a_creation_that_fails_does_not_show_the_root_key(world: World) -> None:
    world.make_key()
    store = InterruptedStore(MemoryStore())
    store.interrupt("commit", None, fail)
    assert shown_by(lambda: create_rows(cast("Store", store), [open_provider(world.key)], 1)) == []


@pytest.mark.usefixtures("known_keys")
def test_a_write_that_fails_does_not_show_the_data_key(vault: Vault) -> None:
    assert shown_by(lambda: vault.write("app/a", Huge())) == []


@pytest.mark.parametrize("length", [32, 200_000], ids=["small", "large"])
def test_a_read_of_what_a_hostile_writer_has_described_shows_no_value(
    vault: Vault, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = secrets.token_hex(length // 2)
    seal = Drafts._seal_value

    def described(*given: object) -> object:
        return seal(*given)._replace(metadata=b"{no json")  # type: ignore[arg-type]  # passed on

    with monkeypatch.context() as hostile:
        hostile.setattr(Drafts, "_seal_value", described)
        vault.write("app/described", value)
    for read in (vault.read, vault.stream):
        assert shown_by(partial(read, "app/described"), value) == []


def test_a_drop_that_fails_shows_no_value(tmp_path: Path) -> None:
    world = drop_world(tmp_path)
    web = world.as_member("web")
    web.drop("pay/x", "fine")
    assert web._boxes is not None
    box = web._boxes.get("pay/x")
    store = InterruptedStore(box._store)
    box._store = store
    store.interrupt("commit", None, fail)
    value = "canary " * 10
    assert shown_by(lambda: web.drop("pay/x", value)) == []
    for path, given in (("pay/../x", value), ("other", value), ("pay/x", value * 50_000)):
        assert shown_by(partial(web.drop, path, given)) == []
    assert shown_by(lambda: web.drop("pay/x", {"canary": 5})) == []  # type: ignore[dict-item]  # a number is no value
    assert shown_by(lambda: web.drop("pay/x", value, ttl=timedelta(days=-1))) == []
    assert shown_by(lambda: world.admin().drop("pay/x", value)) == []
    world.scopes().revoke("pay", "web", "drop")
    assert shown_by(lambda: web.drop("pay/x", value)) == []
    web.close()
    assert shown_by(lambda: web.drop("pay/x", value)) == []
    world.close()


@pytest.mark.usefixtures("known_keys")
def test_a_large_change_that_fails_does_not_show_the_key_of_a_part(
    world: World, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "STAGE_LIMIT_OPERATIONS", 1)
    other, store = interrupted(world)
    area = StagingArea(other.opened)
    area.allocate()
    store.interrupt("stage", None, fail)
    assert shown_by(lambda: area.stage_parts([("app/a", 1)])) == []
    assert vault.list() == []


@pytest.mark.usefixtures("known_keys")
def test_a_bundle_that_cannot_be_recorded_shows_neither_its_key_nor_a_value(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = make_publisher(world)
    publisher.publish()
    for path in ("app/x", "app/y"):
        publisher.vault.write(path, "canary-value")
    monkeypatch.setattr(bundle_parts, "_AT_ONCE", 1)
    vault, store = interrupted(world)

    def fail_after(commits: int) -> None:
        store.interrupt("commit", None, fail if not commits else lambda: fail_after(commits - 1))

    encoded = b64encode(KEY).decode()[:40]
    for commits in range(3):
        fail_after(commits)
        target = publisher.file.with_name("web.sealed.1")
        since = publisher.file
        publish = partial(bundles.Bundles(vault.authority).publish, "web", target, ttl=TTL, since=since)
        assert shown_by(publish, "canary", encoded) == []
        assert not target.exists()


def test_a_bundle_that_does_not_open_shows_no_key(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = make_publisher(world)
    with monkeypatch.context() as patch:
        patch.setattr(os, "urandom", lambda size, draw=os.urandom: KEY if size == len(KEY) else draw(size))
        publisher.publish()
    world.clock.advance(TTL)
    assert shown_by(publisher.open, "canary") == []
