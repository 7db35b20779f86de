"""Bundles that the package publishes, read by a decoder that knows nothing but the page of their format."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from securecfg.keys import Purpose
from securecfg.vault.commits.epochs import rotate_signing_key
from tests.decoder import Identity
from tests.decoder.bundle import read_bundle, read_front, read_sessions
from tests.vault.bundles.published import WEB, make_publisher
from tests.vault.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.vault.bundles.published import Publisher


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Publisher]:
    world = World(tmp_path)
    yield make_publisher(world)
    world.close()


def identity(publisher: Publisher) -> Identity:
    return Identity((publisher.world.folder / "svc-web.identity").read_text())


def test_a_bundle_is_what_its_page_says(publisher: Publisher) -> None:
    big = os.urandom(700_000)
    publisher.vault.write("app/big", big)
    for name in ("svc:one", "svc:two"):
        publisher.add(name)
    done = publisher.publish()
    found = read_bundle([publisher.file.read_bytes()], identity(publisher))
    assert (found.serial, found.role) == (done.serial, "web")
    assert found.values["app/a", 2] == b"two"
    assert found.values["app/a", 1] == b"one"
    assert found.values["app/big", 1] == big
    assert found.labels["app/a"] == {"current": 2, "previous": 1}
    assert found.listed == {"app/a", "app/big", "app/f", "app/settings"}
    assert {path for path, _ in found.values} == set(done.paths)


def test_one_that_builds_on_others_is_too_and_after_new_signing_keys(publisher: Publisher) -> None:
    publisher.publish()
    rotate_signing_key(publisher.vault.authority)
    publisher.vault.write("app/a", "three")
    second = publisher.file.with_name("web.sealed.1")
    publisher.publish(second, since=publisher.file)
    files = [publisher.file.read_bytes(), second.read_bytes()]
    found = read_bundle(files, identity(publisher))
    assert found.values["app/a", 3] == b"three"
    assert found.values["app/settings", 1] == b"x: 1"
    assert read_front(files[1]).serial > read_front(files[0]).serial


def test_the_records_of_a_reader_are_what_the_page_says(publisher: Publisher) -> None:
    done = publisher.publish()
    with publisher.open() as bundle:
        bundle.read("app/a")
        bundle.read("app/a")
    replica = publisher.vault.opened.replica
    key = replica.keyring.active(Purpose.AUDIT).key
    ((start, *records),) = read_sessions(publisher.sink.read_bytes(), key, replica.vault_id)
    assert (start["bundle"], start["v"]) == (done.serial, 1)
    assert start["identity"].split(" ")[1] == WEB
    assert [(record["ev"], record["obj"]["path"], record.get("n")) for record in records] == [
        ("secret.read", "app/a", None),
        ("secret.read.counted", "app/a", 1),
    ]
