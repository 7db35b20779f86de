"""Backups that the package makes, opened by a decoder that knows nothing but the pages of the format."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg.keys import PassphraseProvider, generate_key_file, open_provider
from securecfg.secret import Secret
from securecfg.store import Space
from securecfg.vault.backups.backups import Backups
from securecfg.vault.commits.maintenance import compact
from securecfg.vault.keys.changes import KeyChanges
from tests.decoder import KeyFile, Passphrase
from tests.decoder.backup import decode_backup
from tests.decoder.decoder import HEAD, decode_rows
from tests.decoder.place import Place
from tests.decoder.refusals import ChainRefused, Refused, SlotRefused
from tests.vault.scope_world import scope_world

if TYPE_CHECKING:
    from pathlib import Path

    from tests.vault.scope_world import ScopeWorld


@pytest.fixture
def place(tmp_path: Path) -> Place:
    generate_key_file(tmp_path / "backup.key")
    return Place(tmp_path)


def test_each_part_is_one_whole_state(place: Place, tmp_path: Path) -> None:
    folder, uri = tmp_path / "backup", f"file:{tmp_path / 'backup.key'}"
    with place.create() as vault:
        backups = Backups(vault.authority)
        vault.write("a", "1")
        vault.write("large", b"x" * 700_000)
        backups.make(folder, [open_provider(uri), PassphraseProvider(Secret("correct horse"))])
        vault.write("a", "2")
        compact(vault.opened)
        changes = KeyChanges(vault.authority)
        changes.begin_scope_epoch()
        changes.carry_over()
        changes.retire_older()
        changes.rotate_root()
        with vault.batch() as batch:
            for number in range(600):
                batch.write(f"many/{number}", str(number))
        vault.destroy("a", 1)
        backups.make(folder)
        vault.write("a", "3")
        backups.make(folder)
    key = KeyFile(tmp_path / "backup.key")
    for part, contents in enumerate(({1: "1"}, {1: None, 2: "2"}, {1: None, 2: "2", 3: "3"}), start=1):
        rows, state = decode_backup(folder, key, part)
        decoded = decode_rows(rows, place.key)
        versions = decoded.secrets["a"].versions
        assert {number: version.content for number, version in versions.items()} == contents
        assert decoded.secrets["large"].versions[1].content == b"x" * 700_000
        assert decoded.unreferenced == set()
        assert state.taken
        assert decoded.records[-1]["ev"] == "backup.begun"
    by_passphrase, _ = decode_backup(folder, Passphrase("correct horse"))
    assert by_passphrase == decode_backup(folder, key)[0]
    with pytest.raises(SlotRefused):
        decode_backup(folder, place.key)


def test_each_part_has_the_partitions_as_they_were(tmp_path: Path) -> None:
    """Row by row, and with the heads that were in force; the tiles follow from the leaves."""
    world = scope_world(tmp_path, ["web"])
    folder, key = tmp_path / "backup", tmp_path / "backup.key"
    generate_key_file(key)
    states = []
    backups = Backups(world.admin().authority)
    for turn in range(3):
        backups.make(folder, [] if turn else [open_provider(f"file:{key}")])
        states.append({number: rows_of(world, number) for number in world.admin().opened.store.partitions()})
        if not turn:
            world.scopes().create("web", read=["web"], write=["web"])
            world.scopes().create("quiet", read=["web"])
        world.as_member("web").write("web/key", f"{turn}" * 70_000)
    for part, state in enumerate(states, start=1):
        decoded, said = decode_backup(folder, KeyFile(key), part)
        assert {number: line.path for number, line in said.inventory.items()} == dict(
            list({0: "", 1: "web/", 2: "quiet/"}.items())[: len(state) + 1]
        )
        assert set(decode_rows(decoded, KeyFile(tmp_path / "key")).secrets) == set()
        for number, rows in state.items():
            found = decode_backup(folder, KeyFile(key), part, number)[0]
            assert found == rows
    # Nobody has touched the other scope, so the last part has nothing of it.
    assert [said.inventory[number].part for number in (0, 1, 2)] == [3, 3, 2]
    assert {number for number, _, _, _ in said.rows} == {0, 1}
    world.close()


def rows_of(world: ScopeWorld, number: int) -> dict[int, dict[int, bytes]]:
    store = world.admin().opened.store.partition(number)
    rows = {int(space): dict(store.scan(space, 0, 2**63 - 1, 1_000)) for space in Space}
    return rows | {HEAD: {1: store.head() or b""}}


def test_an_altered_or_foreign_part_is_refused(place: Place, tmp_path: Path) -> None:
    folder, other = tmp_path / "backup", tmp_path / "other"
    provider = open_provider(f"file:{tmp_path / 'backup.key'}")
    with place.create() as vault:
        backups = Backups(vault.authority)
        for _ in range(2):
            backups.make(folder, [] if folder.exists() else [provider])
            backups.make(other, [] if other.exists() else [provider])
    key = KeyFile(tmp_path / "backup.key")
    whole = (folder / "000002.part").read_bytes()
    for position in (60, 200, len(whole) // 2, len(whole) - 40):
        altered = bytearray(whole)
        altered[position] ^= 1
        (folder / "000002.part").write_bytes(altered)
        with pytest.raises(Refused):
            decode_backup(folder, key)
    (folder / "000002.part").write_bytes((other / "000002.part").read_bytes())
    with pytest.raises(ChainRefused):
        decode_backup(folder, key)
