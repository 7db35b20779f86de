"""Rows of the index open only as what names them says they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg.errors import Tampered
from securecfg.keys import Keyring
from securecfg.octets import Malformed
from securecfg.store import Put, Space
from securecfg.vault.index.deltas import Delta, parse_delta
from securecfg.vault.index.history import History, older_page_to_bytes, parse_older_page
from securecfg.vault.index.rows import IndexRows, digest_of
from securecfg.vault.index.segments import Entry, Manifest, Segment, build_segment

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.vault.vault import Vault

VAULT_ID = b"v" * 16
ROWS = IndexRows(VAULT_ID, Keyring.generate(1, ()))
OTHER = IndexRows(b"w" * 16, Keyring.generate(1, ()))
ENTRY = Entry(7, 2, b"d" * 32, 1)
HISTORY = History(7, b"app/a", newest=1)
MANIFEST = Manifest(9, (), 0, (), ())

SEALED: dict[str, tuple[Callable[[IndexRows], bytes], Callable[[bytes | None, bytes], object]]] = {
    "manifest": (lambda rows: rows.seal_manifest(MANIFEST), lambda row, digest: ROWS.open_manifest(row, digest, 9)),
    "segment": (
        lambda rows: rows.seal_segment(3, build_segment([(b"a", ENTRY)])),
        lambda row, digest: ROWS.open_segment(row, 3, digest),
    ),
    "history": (
        lambda rows: rows.seal_history(HISTORY),
        lambda row, digest: ROWS.open_history(row, 7, b"app/a", digest),
    ),
    "older page": (
        lambda rows: rows.seal_older_page(7, 0, ()),
        lambda row, digest: ROWS.open_older_page(row, 7, 0, digest),
    ),
    "delta": (lambda rows: rows.seal_delta(Delta(())), ROWS.open_delta),
}


PLAIN: dict[str, tuple[bytes, Callable[[bytes], object], int]] = {
    "manifest": (MANIFEST.to_bytes(), lambda plain: Manifest.parse(plain, 9), 512),
    "segment": (build_segment([(b"a", ENTRY)]), Segment, 4_096),
    "history": (HISTORY.to_bytes(), History.parse, 128),
    "older page": (older_page_to_bytes(7, 0, ()), lambda plain: parse_older_page(plain, 7, 0), 128),
    "delta": (Delta(()).to_bytes(), parse_delta, 64),
}


@pytest.mark.parametrize("kind", PLAIN)
def test_takes_the_fewest_zeros_as_padding_and_no_others(kind: str) -> None:
    plain, parse, multiple = PLAIN[kind]
    assert len(plain) == multiple
    parse(plain)
    for wrong in (plain + bytes(multiple), plain + bytes(1), plain[:-1], plain[:-1] + b"\x01"):
        with pytest.raises(Malformed):
            parse(wrong)


@pytest.mark.parametrize("kind", SEALED)
def test_opens_only_the_row_that_was_named(kind: str) -> None:
    seal, open_row = SEALED[kind]
    row, again = seal(ROWS), seal(ROWS)
    open_row(row, digest_of(row))
    for wrong, digest in (
        (None, digest_of(row)),
        (b"", digest_of(row)),
        (b"", digest_of(b"")),
        (row[:5], digest_of(row[:5])),
        (again, digest_of(row)),
        (row + b"\x00", digest_of(row)),
        (row + b"\x00", digest_of(row + b"\x00")),
        (b"\x00" + row[1:], digest_of(b"\x00" + row[1:])),
        (row[:1] + b"\x02" + row[2:], digest_of(row[:1] + b"\x02" + row[2:])),
    ):
        with pytest.raises(Tampered) as refused:
            open_row(wrong, digest)
        assert refused.value.code == "tampered"


@pytest.mark.parametrize("kind", SEALED)
def test_a_row_of_another_vault_does_not_open(kind: str) -> None:
    seal, open_row = SEALED[kind]
    row = seal(OTHER)
    with pytest.raises(Tampered):
        open_row(row, digest_of(row))


def test_rows_are_bound_to_their_place() -> None:
    row = ROWS.seal_history(HISTORY)
    for rec_id, path in ((8, b"app/a"), (7, b"app/b")):
        with pytest.raises(Tampered):
            ROWS.open_history(row, rec_id, path, digest_of(row))
        with pytest.raises(Tampered):
            ROWS.find_version(row, (rec_id, path), digest_of(row), 1)
    row = ROWS.seal_manifest(MANIFEST)
    with pytest.raises(Tampered):
        ROWS.open_manifest(row, digest_of(row), 10)
    row = ROWS.seal_segment(3, build_segment([(b"a", ENTRY)]))
    with pytest.raises(Tampered):
        ROWS.open_segment(row, 4, digest_of(row))
    row = ROWS.seal_older_page(7, 0, ())
    for rec_id, page in ((8, 0), (7, 1)):
        with pytest.raises(Tampered):
            ROWS.open_older_page(row, rec_id, page, digest_of(row))


def test_no_two_rows_share_a_nonce() -> None:
    assert len({seal(ROWS)[6:30] for seal, _ in SEALED.values() for _ in range(50)}) == 250


def test_an_older_history_page_put_back_in_place_of_the_newest_is_refused(vault: Vault) -> None:
    vault.write("app/a", "1")
    store = vault.opened.store
    entry = vault.opened.entry(b"app/a")
    assert entry is not None
    older = store.get(Space.HISTORY, entry.history_id)
    assert older is not None
    vault.write("app/a", "2")
    entry = vault.opened.entry(b"app/a")
    assert entry is not None
    store.stage([Put(Space.HISTORY, entry.history_id, older)])
    for call in (lambda: vault.read("app/a"), lambda: vault.history("app/a"), lambda: vault.write("app/a", "3")):
        with pytest.raises(Tampered):
            call()


def test_the_value_of_an_older_version_put_back_in_place_of_the_newest_is_refused(vault: Vault) -> None:
    vault.write("app/a", "1")
    vault.write("app/a", "2")
    opened = vault.opened
    entry = opened.entry(b"app/a")
    assert entry is not None
    new, old = opened.history(b"app/a", entry).versions
    for space, pairs in (
        (Space.VALUE, [(new.value_id, old.value_id)]),
        (Space.DEK, [(new.dek_id, old.dek_id)]),
    ):
        for target, source in pairs:
            kept, row = opened.store.get(space, target), opened.store.get(space, source)
            assert kept is not None
            assert row is not None
            opened.store.stage([Put(space, target, row)])
            with pytest.raises(Tampered):
                vault.read("app/a")
            opened.store.stage([Put(space, target, kept)])
    assert vault.read("app/a").version == 2


def test_no_two_versions_share_a_data_key(vault: Vault) -> None:
    for _ in range(3):
        vault.write("app/a", "same")
        vault.write("app/b", "same")
    opened = vault.opened
    keys, rows = set(), set()
    for path in (b"app/a", b"app/b"):
        entry = opened.entry(path)
        assert entry is not None
        for version in opened.history(path, entry).versions:
            keys.add(opened.data_key(version.dek_id))
            rows.add(opened.store.get(Space.VALUE, version.value_id))
    assert len(keys) == len(rows) == 6
