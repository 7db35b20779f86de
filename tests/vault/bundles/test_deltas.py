"""Bundles that build on others: only what changed, found beside them, and refused on anything else."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from securecfg.errors import (
    AccessDenied,
    AlreadyExists,
    BundleChainBroken,
    NotABundle,
    RollbackSuspected,
    SignatureInvalid,
    Tampered,
)
from securecfg.vault.bundles.exposures import find_known_from_bundles
from securecfg.vault.bundles.format import INDEX, message_key, parse_front
from securecfg.vault.keys.changes import KeyChanges
from tests.vault.bundles.published import GRANTS, OTHER, make_publisher
from tests.vault.world import World, grant, text_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.vault.bundles.published import Publisher

BIG = os.urandom(100_000)


@pytest.fixture
def publisher(world: World) -> Publisher:
    publisher = make_publisher(world)
    publisher.vault.write("app/big", BIG)
    publisher.publish()
    return publisher


def part(publisher: Publisher, number: int) -> Path:
    return publisher.file.with_name(f"{publisher.file.name}.{number}") if number else publisher.file


def publish_part(publisher: Publisher, number: int) -> int:
    """Publish what changed since the part before, and return how many values are in it."""
    return publisher.publish(part(publisher, number), since=part(publisher, number - 1)).value_count


def test_holds_only_what_changed_and_reads_as_a_whole(publisher: Publisher) -> None:
    publisher.vault.write("app/a", "three")
    publisher.vault.write("app/new", "x")
    publisher.vault.delete("app/settings")
    assert publish_part(publisher, 1) == 2
    assert part(publisher, 1).stat().st_size < 20_000 < part(publisher, 0).stat().st_size
    bundle = publisher.open()
    assert bundle.list() == ["app/a", "app/big", "app/f", "app/new"]
    assert text_of(bundle, "app/a") == "three"
    assert text_of(bundle, "app/a", "previous") == "two"
    assert bundle.read("app/big").field("").reveal() == BIG
    assert bundle.read("app/f").field("user").reveal() == "shop"
    with pytest.raises(AccessDenied):
        bundle.read("app/settings")


def test_only_what_is_in_it_is_recorded_as_read_by_the_publisher(publisher: Publisher) -> None:
    before = len(list(publisher.vault.log.records()))
    publisher.vault.write("app/a", "three")
    publish_part(publisher, 1)
    records = [entry.record for entry in publisher.vault.log.records(before)]
    assert [record.obj["path"] for record in records if record.event == "secret.read"] == ["app/a"]


def test_several_build_on_one_another(publisher: Publisher) -> None:
    for number in range(1, 5):
        publisher.vault.write("app/a", f"value {number}")
        assert publish_part(publisher, number) == 1
    bundle = publisher.open()
    assert (text_of(bundle, "app/a"), text_of(bundle, "app/a", "previous")) == ("value 4", "value 3")
    assert bundle.read("app/big").field("").reveal() == BIG
    assert bundle.bundle.path == str(part(publisher, 4))


def test_nobody_needs_to_be_a_recipient_of_what_it_builds_on(publisher: Publisher) -> None:
    publisher.add(OTHER)
    assert publish_part(publisher, 1) == 0
    bundle = publisher.open(key=publisher.key(OTHER))
    assert bundle.read("app/big").field("").reveal() == BIG


def test_a_new_member_opens_nothing_of_what_it_builds_on_but_its_own(publisher: Publisher) -> None:
    old = publisher.open().bundle
    publisher.vault.write("app/big", "new")
    grant(publisher.vault, GRANTS.replace('paths = ["app/**"]', 'paths = ["app/a", "app/big"]'))
    publisher.add(OTHER)
    for number in (1, 2):
        publish_part(publisher, number)
    opened = publisher.open(key=publisher.key(OTHER)).bundle
    lines = [version for secret in opened.inventory.secrets.values() for version in secret.versions]
    held = [version.key for version in lines if version.key] + [
        message_key(opened.file_key, base.bundle_id, number) for base in opened.inventory.bases for number in range(9)
    ]
    messages = {
        (path, version.number): (version.message, old.parts[0][0][version.start :][: version.sealed_length])
        for path, secret in old.inventory.secrets.items()
        for version in secret.versions
    }
    assert {path for path, _ in messages} == {"app/a", "app/big", "app/f", "app/settings", "unlisted/u"}
    end = max(version.start + version.sealed_length for s in old.inventory.secrets.values() for version in s.versions)
    messages["index", 0] = (INDEX, old.parts[0][0][end:])
    assert old.parts[0][1].open(message_key(old.file_key, old.bundle_id, INDEX), *messages["index", 0])
    known = set()
    for name, (number, sealed) in messages.items():
        for key in held:
            with suppress(Tampered):
                old.parts[0][1].open(key, number, sealed)
                known.add(name)
    # `unlisted/u` is still theirs, and so is the version before of what has a new one.
    assert known == {("app/a", 1), ("app/a", 2), ("app/big", 1), ("unlisted/u", 1)}
    assert opened.inventory.to_bytes().find(old.file_key) < 0


def test_a_member_that_left_cannot_open_it(publisher: Publisher) -> None:
    from securecfg.errors import WrongKey

    publisher.add(OTHER)
    publisher.publish(replace=True)
    publisher.vault.administration.remove_member("web", OTHER)
    publish_part(publisher, 1)
    with pytest.raises(WrongKey):
        publisher.open(key=publisher.key(OTHER))
    assert text_of(publisher.open(), "app/a") == "two"


def test_what_is_exposed_is_what_the_delta_opens(publisher: Publisher) -> None:
    grant(publisher.vault, GRANTS.replace('paths = ["app/**"]', 'paths = ["app/a"]'))
    publisher.add(OTHER)
    publish_part(publisher, 1)
    publisher.vault.administration.remove_member("web", OTHER)
    found = find_known_from_bundles(publisher.vault.authority)
    assert [known.path for known in found if known.principal == OTHER] == ["app/a", "unlisted/u"]


def test_values_under_new_data_keys_are_published_again(publisher: Publisher) -> None:
    KeyChanges(publisher.vault.authority).rotate_data("app/f")
    assert publish_part(publisher, 1) <= 1
    assert publisher.open().read("app/f").field("user").reveal() == "shop"


def test_another_secret_under_the_same_name_is_another_value(publisher: Publisher) -> None:
    vault = publisher.vault
    vault.write("app/z", {"user": "other"})
    vault.move("app/f", "app/old")
    vault.move("app/z", "app/f")
    publish_part(publisher, 1)
    bundle = publisher.open()
    assert bundle.read("app/f").field("user").reveal() == "other"
    assert bundle.read("app/old").field("user").reveal() == "shop"


def test_labels_and_rights_are_those_of_the_newest(publisher: Publisher) -> None:
    publisher.vault.label("app/a", "canary", 1)
    grant(publisher.vault, GRANTS.replace('paths = ["app/**"]', 'paths = ["app/a", "app/big"]'))
    assert publish_part(publisher, 1) == 0
    bundle = publisher.open()
    assert bundle.list() == ["app/a", "app/big"]
    assert text_of(bundle, "app/a", "canary") == "one"
    with pytest.raises(AccessDenied):
        bundle.read("app/f")


# --- what is refused --------------------------------------------------------------------------------------------------


def test_builds_only_on_what_this_vault_published_for_the_role(publisher: Publisher, world: World) -> None:
    grant(publisher.vault, GRANTS + GRANTS.replace("web", "jobs"))
    publisher.add("svc:jobs", "jobs")
    folder = world.folder / "other"
    folder.mkdir()
    other = make_publisher(World(folder, world.clock))
    other.publish()
    target = world.folder / "x"
    for role, since in (("jobs", publisher.file), ("web", other.file)):
        with pytest.raises(BundleChainBroken):
            publisher.publish(target, role=role, since=since)
    altered = bytearray(publisher.file.read_bytes())
    altered[-1_500] ^= 1
    (world.folder / "altered").write_bytes(altered)
    altered[200] ^= 1
    (world.folder / "altered-body").write_bytes(altered)
    with pytest.raises(BundleChainBroken):
        publisher.publish(target, since=world.folder / "altered-body")
    (world.folder / "none").write_text("no bundle")
    with pytest.raises(NotABundle):
        publisher.publish(target, since=world.folder / "none")
    assert not target.exists()
    other.world.close()


def test_is_refused_on_another_base(publisher: Publisher) -> None:
    publisher.vault.write("app/a", "three")
    publish_part(publisher, 1)
    kept = part(publisher, 0).read_bytes()
    other = publisher.world.folder / "other"
    publisher.publish(other)
    other.replace(part(publisher, 0))
    with pytest.raises(BundleChainBroken):
        publisher.open()
    # What only vouches for a base may be another one: the newest vouches for its body.
    front = parse_front(kept)
    tail = sum(4 + len(each) for each in (front.statement, front.proof, front.hand_overs))
    part(publisher, 0).write_bytes(kept[:-tail] + bytes(12))
    assert text_of(publisher.open(), "app/a") == "three"
    part(publisher, 0).write_bytes(kept[:100] + b"x" + kept[101:])
    with pytest.raises(BundleChainBroken):
        publisher.open()


def test_a_gap_hides_what_follows_and_an_older_state_is_noticed(publisher: Publisher) -> None:
    for number in (1, 2):
        publisher.vault.write("app/a", f"value {number}")
        publish_part(publisher, number)
    publisher.open()
    part(publisher, 2).rename(part(publisher, 3))
    with pytest.raises(RollbackSuspected):
        publisher.open()
    part(publisher, 3).rename(part(publisher, 2))
    part(publisher, 1).rename(part(publisher, 9))
    with pytest.raises(RollbackSuspected):
        publisher.open()


def test_a_part_of_another_vault_is_refused(publisher: Publisher, world: World) -> None:
    publisher.open()
    folder = world.folder / "other"
    folder.mkdir()
    other = make_publisher(World(folder, world.clock))
    other.publish()
    part(publisher, 1).write_bytes(other.file.read_bytes())
    with pytest.raises(SignatureInvalid, match="another vault"):
        publisher.open()
    other.world.close()


def test_a_chain_has_an_end(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    from securecfg.vault.bundles import publishing as bundles

    monkeypatch.setattr(bundles, "CHAIN_MAX", 3)
    publish_part(publisher, 1)
    publish_part(publisher, 2)
    with pytest.raises(BundleChainBroken, match="as many"):
        publish_part(publisher, 3)


def test_the_newest_decides_how_long_all_may_be_used(publisher: Publisher, world: World) -> None:
    world.clock.advance(timedelta(hours=23))
    publish_part(publisher, 1)
    world.clock.advance(timedelta(hours=23))
    assert text_of(publisher.open(), "app/a") == "two"


def test_nothing_is_published_over_what_others_build_on(publisher: Publisher, world: World) -> None:
    for number in (1, 2):
        publish_part(publisher, number)
    kept = [part(publisher, number).read_bytes() for number in range(3)]
    for number in (0, 1):
        for replace in (True, False):
            with pytest.raises(AlreadyExists) as refused:
                publisher.publish(part(publisher, number), replace=replace)
            assert refused.value.hint
        part(publisher, number).rename(world.folder / "away")
        if number == 0:
            with pytest.raises(AlreadyExists, match=r"web\.sealed\.1` is there"):
                publisher.publish(part(publisher, number))
        (world.folder / "away").rename(part(publisher, number))
    assert [part(publisher, number).read_bytes() for number in range(3)] == kept
    publisher.publish(part(publisher, 2), replace=True)
    publisher.publish(part(publisher, 3))
    assert text_of(publisher.open(), "app/a") == "two"
    # Numbers in other names mean nothing.
    for name in ("2027", "2026"):
        publisher.publish(world.folder / f"jobs.{name}")
