"""One row of a vault that is altered, missing, swapped or replayed: the decoder names the step that finds it."""

from __future__ import annotations

import copy
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from securecfg import Vault
from securecfg.errors import SecurecfgError
from securecfg.keys import RecoveryProvider, generate_recovery_code
from securecfg.vault.commits.epochs import rotate_signing_key
from securecfg.vault.commits.maintenance import compact
from securecfg.vault.keys.slots import Slots
from tests.decoder import KeyFile, Passphrase, RecoveryCode, Refused, decode
from tests.decoder.decoder import (
    DEK,
    DELTA,
    HEAD,
    HISTORY,
    LOG,
    META,
    PART,
    SEALER,
    SEGMENT,
    TILE,
    VALUE,
    Rows,
    decode_rows,
    read_rows,
)
from tests.decoder.place import Place
from tests.decoder.refusals import (
    DataKeyRefused,
    DeltasRefused,
    FormatRefused,
    HeaderRefused,
    HeadRefused,
    HistoryRefused,
    KeyringRefused,
    LeavesRefused,
    ManifestRefused,
    PartRefused,
    SealerRefused,
    SegmentRefused,
    SlotRefused,
    SnapshotRefused,
    SpacesRefused,
    TileRefused,
    ValueRefused,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.no_cover

FOUND_BY: dict[int, type[Refused]] = {
    HEAD: HeadRefused,
    HISTORY: HistoryRefused,
    DEK: DataKeyRefused,
    VALUE: ValueRefused,
    SEGMENT: SegmentRefused,
    DELTA: DeltasRefused,
    LOG: LeavesRefused,
    TILE: TileRefused,
    PART: PartRefused,
}


class Stored:
    """A vault with rows of every kind, now and at a moment before."""

    def __init__(self, folder: Path) -> None:
        self.place = Place(folder)
        with self.place.create() as vault:
            for number in range(100):
                vault.write("a/old", str(number))
            rotate_signing_key(vault.authority)
            with vault.batch() as batch:
                for number in range(300):
                    batch.write(f"b/{number}/{number:0100}", str(number))
            vault.write("a/large", bytes(300_000))
            for number in range(160):
                vault.read("a/old", at=number % 90 + 1)
                vault.label("a/old", "here", number % 90 + 1)
        self.before = read_rows(self.place.path)
        with Vault.open(self.place.path, key=self.place.uri, principal="user:alice") as vault:
            Slots(vault.authority).add(RecoveryProvider(generate_recovery_code()))
            rotate_signing_key(vault.authority)
            compact(vault.opened)
            vault.write("a/new", "1")
            vault.write("a/old", "newest")
        self.rows = read_rows(self.place.path)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield Stored(tmp_path_factory.mktemp("stored"))


@pytest.fixture
def rows(stored: Stored) -> Rows:
    return copy.deepcopy(stored.rows)


def flipped(row: bytes, at: int) -> bytes:
    return row[:at] + bytes([row[at] ^ 1]) + row[at + 1 :]


def test_the_vault_itself_decodes(stored: Stored, rows: Rows) -> None:
    contents = decode_rows(rows, stored.place.key)
    assert all(rows[space] for space in FOUND_BY)
    assert len(contents.secrets) == 303
    assert contents.unreferenced == set()


@pytest.mark.parametrize("space", FOUND_BY)
def test_refuses_any_row_that_is_altered_cut_or_missing(stored: Stored, rows: Rows, space: int) -> None:
    step = max(1, len(rows[space]) // 8)
    for number in sorted(rows[space])[::step]:
        row = rows[space][number]
        for wrong in (flipped(row, len(row) // 2), flipped(row, len(row) - 1), row[:-1], row + b"\0", row[:5]):
            rows[space][number] = wrong
            with pytest.raises(FOUND_BY[space]):
                decode_rows(rows, stored.place.key)
        del rows[space][number]
        with pytest.raises(SnapshotRefused if space == HEAD else FOUND_BY[space]):
            decode_rows(rows, stored.place.key)
        rows[space][number] = row


@pytest.mark.parametrize("space", [HISTORY, DEK, VALUE, LOG, TILE, PART])
def test_refuses_two_rows_that_are_swapped(stored: Stored, rows: Rows, space: int) -> None:
    first, second = sorted(rows[space])[:2] if space != PART else (min(rows[space]), 7)
    rows[space].setdefault(second, b"")
    rows[space][first], rows[space][second] = rows[space][second], rows[space][first]
    with pytest.raises(FOUND_BY[space]):
        decode_rows(rows, stored.place.key)


@pytest.mark.parametrize(
    ("space", "number", "refusal"),
    [(HEAD, 1, HeadRefused), (META, 1, HeaderRefused), (META, 2, KeyringRefused), (META, 3, ManifestRefused)],
    ids=["head", "header", "keyring", "manifest"],
)
def test_refuses_a_row_of_an_earlier_moment(
    stored: Stored, rows: Rows, space: int, number: int, refusal: type[Refused]
) -> None:
    assert stored.before[space][number] != rows[space][number]
    rows[space][number] = stored.before[space][number]
    with pytest.raises(refusal):
        decode_rows(rows, stored.place.key)


def test_refuses_header_slots_and_keyring_of_an_earlier_moment(stored: Stored, rows: Rows) -> None:
    rows[META] = stored.before[META] | {3: rows[META][3]}
    with pytest.raises(HeadRefused):
        decode_rows(rows, stored.place.key)


@pytest.mark.parametrize(
    ("number", "at", "refusal"),
    [
        (1, 0, SnapshotRefused),
        (1, 5, SnapshotRefused),
        (1, 7, HeaderRefused),
        (1, 10, FormatRefused),
        (1, 11, FormatRefused),
        (1, 12, SlotRefused),
        (1, 30, FormatRefused),
        (1, 39, HeaderRefused),
        (1, 50, HeaderRefused),
        (1, 100, HeaderRefused),
        (2, 0, KeyringRefused),
        (2, 1, KeyringRefused),
        (2, 9, KeyringRefused),
        (2, 20, KeyringRefused),
        (3, 0, ManifestRefused),
        (3, 13, ManifestRefused),
        (3, 40, ManifestRefused),
        (255, 0, SnapshotRefused),
        (255, 2, SnapshotRefused),
        (255, 3, SnapshotRefused),
        (255, 4, HeaderRefused),
        (255, 6, HeaderRefused),
        (255, 100, HeaderRefused),
        (256, 0, SlotRefused),
        (256, 1, FormatRefused),
        (256, 2, SlotRefused),
        (256, 19, SlotRefused),
        (256, 40, SlotRefused),
        (256, 60, SlotRefused),
        (256, 255, SnapshotRefused),
    ],
)
def test_refuses_a_flipped_bit_of_header_keyring_manifest_and_slot(
    stored: Stored, rows: Rows, number: int, at: int, refusal: type[Refused]
) -> None:
    rows[META][number] = flipped(rows[META][number], at)
    with pytest.raises(refusal):
        decode_rows(rows, stored.place.key)


@pytest.mark.parametrize("space", [LOG, TILE, SEALER, PART, DELTA])
def test_refuses_a_row_too_many(stored: Stored, rows: Rows, space: int) -> None:
    rows[space][max(rows[space]) + 1] = next(iter(rows[space].values()))
    with pytest.raises({LOG: LeavesRefused, TILE: TileRefused, SEALER: SealerRefused}.get(space, SpacesRefused)):
        decode_rows(rows, stored.place.key)


def test_refuses_a_sealer_that_is_altered(stored: Stored, rows: Rows) -> None:
    number, row = next(iter(rows[SEALER].items()))
    rows[SEALER][number] = flipped(row, 100)
    with pytest.raises(SealerRefused):
        decode_rows(rows, stored.place.key)


def test_names_rows_that_nothing_refers_to(stored: Stored, rows: Rows) -> None:
    for space in (HISTORY, DEK, VALUE, SEGMENT):
        rows[space][2**40] = b"stray"
    found = decode_rows(rows, stored.place.key).unreferenced
    assert found == {(space, 2**40) for space in (HISTORY, DEK, VALUE, SEGMENT)}


def test_refuses_another_key(stored: Stored, tmp_path: Path) -> None:
    other = Place(tmp_path).key
    code = RecoveryCode("0000-0000-0000-0000-0000-0000-0000-0000-0000")
    for key in (other, Passphrase("x"), code):
        with pytest.raises(SlotRefused) as error:
            decode(stored.place.path, key)
        assert error.value.code == "wrong-key"


@pytest.mark.parametrize("line", [b"", b"SECURECFG-KEY-1-\n", b"SECURECFG-KEY-1-" + b"A" * 43 + b"-00000000\n"])
def test_refuses_a_key_file_of_another_form(stored: Stored, tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_bytes(line)
    with pytest.raises(SlotRefused):
        decode(stored.place.path, KeyFile(path))


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE t(x)",
        "CREATE INDEX x ON s3(b)",
        "CREATE VIEW v AS SELECT * FROM h",
        "CREATE TRIGGER t AFTER INSERT ON s6 BEGIN DELETE FROM s6; END",
        "PRAGMA application_id = 1",
        "INSERT INTO h VALUES (2, x'48')",
        "DELETE FROM h",
        "UPDATE s0 SET b = 'text' WHERE i = 1",
    ],
)
def test_refuses_a_database_that_is_no_store(stored: Stored, tmp_path: Path, statement: str) -> None:
    path = tmp_path / "b.vault"
    path.write_bytes(stored.place.path.read_bytes())
    database = sqlite3.connect(path)
    database.execute(statement)
    database.commit()
    database.close()
    with pytest.raises(SnapshotRefused) as error:
        decode(path, stored.place.key)
    assert error.value.code == "not-a-vault"


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0", b"\0" * 5_000], ids=["empty", "magic", "zeros"])
def test_refuses_what_is_no_database(stored: Stored, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "b.vault"
    path.write_bytes(content)
    with pytest.raises(SnapshotRefused):
        decode(path, stored.place.key)


def test_refuses_a_format_that_needs_a_newer_reader(stored: Stored, rows: Rows) -> None:
    rows[META][1] = rows[META][1][:4] + b"\0\3\0\2" + rows[META][1][8:]
    with pytest.raises(FormatRefused) as error:
        decode_rows(rows, stored.place.key)
    assert error.value.code == "unsupported-format"


@pytest.mark.parametrize(
    ("space", "number"),
    [(HEAD, 1), (META, 1), (META, 2), (META, 3), (META, 255), (META, 256), (META, 257), (DELTA, None)],
)
def test_decoder_and_package_give_the_same_code(stored: Stored, tmp_path: Path, space: int, number: int | None) -> None:
    number = max(stored.rows[space]) if number is None else number
    row = stored.rows[space][number]
    places = {0, 1, 2, 5, 7, 10, 11, 12, 30, 39, 50, len(row) // 2, len(row) - 1}
    for wrong in (None, b"", row[:-1], row + b"\0", *(flipped(row, at) for at in sorted(places) if at < len(row))):
        path = tmp_path / "b.vault"
        path.write_bytes(stored.place.path.read_bytes())
        with closing(sqlite3.connect(path)) as database, database:
            table = "h" if space == HEAD else f"s{space}"
            database.execute(f"DELETE FROM {table} WHERE i = ?", [number])  # noqa: S608 - names from this function
            if wrong is not None:
                database.execute(f"INSERT INTO {table} VALUES (?, ?)", [number, wrong])  # noqa: S608 - the same
        with pytest.raises(Refused) as refused:
            decode(path, stored.place.key)
        with pytest.raises(SecurecfgError) as error:
            Vault.open(path, key=stored.place.uri, principal="user:alice", read_only=True)
        assert error.value.code == refused.value.code, refused.value
