"""What a machine holds a bundle to: every name of its file, the newest key of the log, role and serial number."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from securecfg import Vault
from securecfg.audit import VerifierKey
from securecfg.errors import BundleExpired, IssuerUnknown, NotABundle, RollbackSuspected, SignatureInvalid, StoreFailed
from securecfg.vault.bundles import opening as bundle_opening
from securecfg.vault.bundles.publishing import Bundles
from securecfg.vault.bundles.state import BundleState, Seen, Trust
from securecfg.vault.commits.epochs import rotate_signing_key
from tests.vault.bundles.published import GRANTS, TTL, WEB, make_publisher
from tests.vault.bundles.test_bundles import another_vault
from tests.vault.world import grant, text_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.vault.bundles.published import Publisher
    from tests.vault.world import World


@pytest.fixture
def publisher(world: World) -> Publisher:
    return make_publisher(world)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this machine records what it has opened."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "securecfg" / "bundles"


def test_a_symbolic_link_in_the_place_of_a_bundle_is_held_to_its_issuer(publisher: Publisher, world: World) -> None:
    publisher.publish()
    publisher.open()
    evil = world.folder / "evil.sealed"
    another_vault(publisher, world, evil)
    publisher.file.unlink()
    publisher.file.symlink_to(evil)
    with pytest.raises(SignatureInvalid, match="another vault"):
        publisher.open()


def test_a_symbolic_link_in_the_place_of_a_vault_is_not_trusted_at_first(publisher: Publisher, world: World) -> None:
    publisher.publish()
    world.path.rename(world.folder / "moved")
    world.path.symlink_to(publisher.file)
    with pytest.raises(IssuerUnknown, match="a vault was opened at this path"):
        publisher.open(world.path)


def test_a_folder_that_a_symbolic_link_leads_to_is_known_by_its_own_name_too(
    publisher: Publisher, world: World
) -> None:
    link = world.folder / "link"
    link.symlink_to(world.folder)
    publisher.publish()
    publisher.open(link / publisher.file.name)
    evil = world.folder / "evil.sealed"
    another_vault(publisher, world, evil)
    publisher.file.unlink()
    publisher.file.symlink_to(evil)
    with pytest.raises(SignatureInvalid, match="another vault"):
        publisher.open()


def test_names_that_were_those_of_two_vaults_open_nothing(publisher: Publisher, world: World) -> None:
    publisher.publish()
    publisher.open()
    evil = world.folder / "evil.sealed"
    another_vault(publisher, world, evil)
    publisher.open(evil)
    publisher.file.unlink()
    publisher.file.symlink_to(evil)
    with pytest.raises(SignatureInvalid, match="two vaults"):
        publisher.open()


def test_a_stolen_signing_key_makes_no_bundles_once_its_successor_was_seen(
    publisher: Publisher, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer = publisher.publish().issuer
    stolen = world.folder / "stolen"
    stolen.mkdir()
    for file in world.path.parent.glob(f"{world.path.name}*"):
        shutil.copy(file, stolen / file.name)
    rotate_signing_key(publisher.vault.authority)
    publisher.publish(replace=True)
    publisher.open()
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("XDG_STATE_HOME", str(stolen / "state"))
        thief = Vault.open(stolen / world.path.name, key=world.key, principal="user:ada", clock=world.clock)
        thief.write("app/a", "forged")
        for _ in range(3):
            rotate_signing_key(thief.authority)
        Bundles(thief.authority).publish("web", stolen / "forged", ttl=TTL)
        thief.close()
    publisher.file.write_bytes((stolen / "forged").read_bytes())
    for given in (None, issuer):
        with pytest.raises(RollbackSuspected, match="does not follow"):
            publisher.open(issuer=given)


def test_an_older_bundle_of_another_role_is_refused_in_its_place(publisher: Publisher, world: World) -> None:
    grant(publisher.vault, GRANTS + GRANTS.replace("web", "jobs"))
    publisher.vault.administration.add_member("jobs", WEB)
    jobs = world.folder / "jobs.sealed"
    publisher.publish(jobs, role="jobs")
    publisher.publish()
    publisher.open()
    publisher.file.write_bytes(jobs.read_bytes())
    with pytest.raises(RollbackSuspected, match="of the role `jobs`"):
        publisher.open()
    assert publisher.open(jobs).bundle.inventory.role == "jobs"


def test_an_issuer_that_was_named_once_is_held_to_later(publisher: Publisher, world: World) -> None:
    done = publisher.publish()
    publisher.open(issuer=done.issuer)
    publisher.open(anchor="required")
    publisher.file.unlink()
    another_vault(publisher, world, publisher.file)
    with pytest.raises(SignatureInvalid, match="another vault"):
        publisher.open()


def test_an_issuer_that_is_named_takes_the_place_of_another(publisher: Publisher, world: World) -> None:
    another_vault(publisher, world, publisher.file)
    publisher.open()
    done = publisher.publish(replace=True)
    publisher.open(issuer=done.issuer)
    assert text_of(publisher.open(), "app/a") == "two"


def test_of_two_who_trust_at_first_the_later_is_held_to_the_earlier(
    publisher: Publisher, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.publish()
    good = publisher.file.read_bytes()
    publisher.file.unlink()
    another_vault(publisher, world, publisher.file)
    record = bundle_opening._record

    def second(*given: object) -> None:
        monkeypatch.setattr(bundle_opening, "_record", record)
        publisher.file.write_bytes(good)
        publisher.open()
        record(*given)  # type: ignore[arg-type]  # what it was called with

    monkeypatch.setattr(bundle_opening, "_record", second)
    with pytest.raises(SignatureInvalid, match="another one was opened at its place"):
        publisher.open()
    assert text_of(publisher.open(), "app/a") == "two"


def test_nothing_is_recorded_of_what_is_unverified(publisher: Publisher, state: Path) -> None:
    publisher.publish()
    publisher.open(issuer="unverified")
    assert not [file for file in state.glob("*") if file.name != "lock"]


def test_another_vault_of_the_same_name_does_not_hold_a_bundle_up(publisher: Publisher, world: World) -> None:
    publisher.publish()
    own = VerifierKey(publisher.vault.log.vkey.name, bytes(range(32)))
    state = BundleState(world.folder / "elsewhere")
    assert state.is_writable()
    trust = Trust(own, (), is_named=False, is_verified=True)
    state.record(Seen(str(own), str(own), "web", 1 << 40, "0" * 64), trust)
    assert text_of(publisher.open(), "app/a") == "two"


def test_a_bundle_from_the_future_of_this_clock_is_refused(publisher: Publisher, world: World) -> None:
    publisher.publish()
    world.clock.advance(timedelta(minutes=-4))
    publisher.open()
    world.clock.advance(timedelta(minutes=-2))
    with pytest.raises(BundleExpired, match="after this clock's time"):
        publisher.open()


def test_what_cannot_be_read_does_not_end_a_row_of_bundles(publisher: Publisher) -> None:
    publisher.publish()
    publisher.publish(publisher.file.with_name("web.sealed.1"), since=publisher.file)
    newer = publisher.file.with_name("web.sealed.1")
    whole = newer.read_bytes()
    for content in (b"", b"SC", whole[: len(whole) // 2]):
        newer.write_bytes(content)
        with pytest.raises(NotABundle):
            publisher.open()
    newer.unlink()
    assert text_of(publisher.open(), "app/a") == "two"


@pytest.mark.parametrize(
    ("name", "value"),
    [("serial", "9"), ("serial", None), ("serial", 1.5), ("key", "x"), ("issuer", 1), ("role", 3), ("digest", None)],
)
def test_a_record_with_another_kind_of_content_is_damaged(
    publisher: Publisher, state: Path, name: str, value: object
) -> None:
    publisher.publish()
    publisher.open()
    for file in state.glob("[pr]*-*"):
        kept = file.read_text()
        file.write_text(json.dumps(json.loads(kept) | {name: value}))
        with pytest.raises(StoreFailed, match="cannot be read"):
            publisher.open()
        file.write_text(kept)
