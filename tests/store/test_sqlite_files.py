"""What a SQLite store accepts as its file, what it refuses, and what it leaves on the disk."""

from __future__ import annotations

import os
import random
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import apsw
import pytest

from securecfg.errors import (
    AlreadyExists,
    DestroyPending,
    InvalidPath,
    NotAVault,
    SecurecfgError,
    StoreFailed,
    Tampered,
    UnsupportedFileSystem,
    VaultNotFound,
)
from securecfg.store import Delete, Put, Space, create_sqlite, filesystems, open_sqlite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CANARY = b"canary-0b1f7c55-of-a-data-key"
NOBODY = 65534


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    """A closed store with one publication."""
    path = tmp_path / "a.vault"
    store = create_sqlite(path)
    store.commit([Put(Space.VALUE, i, b"row %d" % i * 100) for i in range(30)], expect=None, head=b"1")
    store.close()
    return path


def refusal(path: str | Path, *, read_only: bool = False) -> SecurecfgError:
    with pytest.raises(SecurecfgError) as caught:
        open_sqlite(path, read_only=read_only)
    assert "\n" not in caught.value.message
    assert "SELECT" not in caught.value.message
    return caught.value


# --- creating ---------------------------------------------------------------------------------------------------------


def test_creates_one_private_file_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = create_sqlite(tmp_path / "a.vault")
        store.commit([], expect=None, head=b"1")
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir() if path.is_file()}
    finally:
        os.umask(before)
    assert modes == {"a.vault": 0o600, "a.vault-wal": 0o600, "a.vault-shm": 0o600}
    store.close()
    assert [path.name for path in tmp_path.iterdir()] == ["a.vault"]


@pytest.mark.parametrize("kind", ["file", "directory", "link", "dangling link", "pipe"])
def test_refuses_to_create_over_anything(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.vault"
    if kind == "file":
        path.write_bytes(b"precious")
    elif kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        target = tmp_path / "target"
        if kind == "link":
            target.write_bytes(b"precious")
        path.symlink_to(target)
    before = sorted(entry.name for entry in tmp_path.iterdir())
    with pytest.raises(AlreadyExists) as caught:
        create_sqlite(path)
    assert caught.value.code == "already-exists"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == before


def test_refuses_to_create_in_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed, match="No such file or directory"):
        create_sqlite(tmp_path / "none" / "a.vault")


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_refuses_a_path_that_no_file_can_have(name: str) -> None:
    for call in (create_sqlite, open_sqlite):
        with pytest.raises(InvalidPath) as caught:
            call(name)
        assert caught.value.code == "invalid-path"


@pytest.mark.parametrize(
    "name", [":memory:", "file:a?mode=memory", "a%20b", "a?immutable=1", "ü-日本", "-wal", "a'b\"c"]
)
def test_a_name_is_only_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    store = create_sqlite(name)
    store.commit([], expect=None, head=b"1")
    store.close()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    for read_only in (False, True):
        store = open_sqlite(name, read_only=read_only)
        assert store.head() == b"1"
        store.close()


# --- opening ----------------------------------------------------------------------------------------------------------


def test_names_a_file_that_does_not_exist(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path / "none" / "a.vault"):
        for read_only in (False, True):
            error = refusal(path, read_only=read_only)
            assert isinstance(error, VaultNotFound)
            assert error.code == "vault-not-found"
            assert str(path) in error.message
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "none")
    assert refusal(dangling).code == "vault-not-found"
    assert not (tmp_path / "none").exists()


def test_a_file_below_a_file_does_not_exist(vault: Path) -> None:
    assert refusal(vault / "x").code == "vault-not-found"


def test_refuses_links_in_a_circle_and_names_too_long(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert isinstance(refusal(tmp_path / "a"), (StoreFailed, VaultNotFound))
    assert refusal(tmp_path / ("n" * 300)).code == "store-failed"


def test_follows_a_link_to_the_file(vault: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(vault)
    store = open_sqlite(link)
    store.commit([], expect=b"1", head=b"2")
    store.close()
    assert link.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.vault", "link"]


@pytest.mark.parametrize("kind", ["directory", "pipe", "socket", "device"])
def test_refuses_what_is_not_a_regular_file_without_touching_it(home: Path, kind: str) -> None:
    path = home / "x"
    listener = socket.socket(socket.AF_UNIX)
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        listener.bind(str(path))
    else:
        path = Path("/dev/zero")
    for read_only in (False, True):
        error = refusal(path, read_only=read_only)
        assert isinstance(error, NotAVault)
        assert error.code == "not-a-vault"
    listener.close()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        b"\0" * 8192,
        b"age-encryption.org/v1\n",
        b"SQLite format 3\0",
        b"SQLite format 3\0" + b"\xff" * 4096,
        b"SQLite format 3\0" + b"\0" * 4096,
        b"\xff\xfe\x00\xd8" * 3000,
        random.Random(1).randbytes(100_000),
    ],
)
def test_refuses_other_files_and_leaves_them_as_they_are(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.vault"
    path.write_bytes(content)
    for read_only in (False, True):
        error = refusal(path, read_only=read_only)
        assert isinstance(error, NotAVault)
        assert error.code == "not-a-vault"
    assert path.read_bytes() == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.vault"]


def test_refuses_another_programs_database_and_leaves_it_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.vault"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE s0(i INTEGER PRIMARY KEY, b BLOB NOT NULL)")
    connection.close()
    content = path.read_bytes()
    assert refusal(path).code == "not-a-vault"
    assert path.read_bytes() == content


def test_refuses_a_file_cut_short_anywhere(vault: Path) -> None:
    content = vault.read_bytes()
    lengths = {0, 1, 15, 16, 20, 99, 100, 511, 512, *range(1000, len(content), 1777), *range(4096, len(content), 4096)}
    for length in sorted(lengths | {len(content) - 1}):
        vault.write_bytes(content[:length])
        error = refusal(vault)
        assert error.code == "not-a-vault", length
        assert vault.read_bytes() == content[:length]


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TABLE x(i)",
        "CREATE INDEX x ON s0(b)",
        "CREATE VIEW x AS SELECT 1",
        "CREATE TRIGGER x AFTER INSERT ON h BEGIN DELETE FROM h; END",
        "DROP TABLE s3",
        "ALTER TABLE s3 ADD COLUMN c",
        "ALTER TABLE s3 RENAME TO t3",
        "ANALYZE",
        "DROP TABLE h; CREATE TABLE h(i, b)",
    ],
)
def test_refuses_a_schema_that_is_not_exactly_ours(vault: Path, change: str) -> None:
    with sqlite3.connect(vault) as connection:
        connection.executescript(change)
    connection.close()
    for read_only in (False, True):
        error = refusal(vault, read_only=read_only)
        assert isinstance(error, Tampered)
        assert error.code == "tampered"


def test_a_schema_that_does_not_parse_is_tampering(vault: Path) -> None:
    with sqlite3.connect(vault) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET sql = 'CREATE TABLE ((((' WHERE name = 's3'")
    connection.close()
    assert refusal(vault).code == "tampered"


def test_a_row_without_content_is_tampering_where_rows_are_listed(vault: Path) -> None:
    """The schema rules it out; a damaged page does not ask."""
    for old, new in (("b BLOB NOT NULL", "b BLOB"), ("b BLOB", "b BLOB NOT NULL")):
        with closing(sqlite3.connect(vault, isolation_level=None)) as connection:
            if new.endswith("NULL"):
                connection.execute("UPDATE s3 SET b = NULL WHERE i = 3")
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute("UPDATE sqlite_schema SET sql = replace(sql, ?, ?) WHERE name = 's3'", (old, new))
    with closing(open_sqlite(vault)) as store, pytest.raises(Tampered) as caught:
        store.scan(Space.VALUE, 3, 3, 1)
    assert caught.value.code == "tampered"


def test_a_row_that_is_not_bytes_or_too_large_is_tampering(vault: Path) -> None:
    with sqlite3.connect(vault) as connection:
        connection.execute("UPDATE s3 SET b = 'text' WHERE i = 3")
        connection.execute("UPDATE s3 SET b = 5 WHERE i = 4")
        connection.execute("UPDATE s3 SET b = zeroblob(20000000) WHERE i = 5")
    connection.close()
    store = open_sqlite(vault)
    for i in (3, 4, 5):
        for read in (
            lambda i=i: store.get(Space.VALUE, i),
            lambda i=i: store.snapshot([(Space.VALUE, i)]),
            lambda i=i: store.get_many([(Space.VALUE, 6), (Space.VALUE, i)]),
            lambda i=i: store.scan(Space.VALUE, i, i, 1),
        ):
            with pytest.raises(Tampered) as caught:
                read()
            assert caught.value.code == "tampered"
    assert store.get(Space.VALUE, 6) == b"row 6" * 100
    store.close()


def test_any_damaged_byte_yields_rows_or_one_of_our_errors(vault: Path) -> None:
    content = vault.read_bytes()
    draw = random.Random(5)
    outcomes: dict[str, int] = {}
    pages = range(0, len(content), 4096)
    for offset in [
        *range(100),
        *pages,
        *(page + 4 for page in pages),
        *(draw.randrange(len(content)) for _ in range(200)),
    ]:
        damaged = bytearray(content)
        damaged[offset] ^= 1 << draw.randrange(8)
        for suffix in ("-wal", "-shm"):
            Path(f"{vault}{suffix}").unlink(missing_ok=True)
        vault.write_bytes(damaged)
        outcome = "read"
        try:
            store = open_sqlite(vault)
        except SecurecfgError as error:
            outcome = error.code
        else:
            try:
                store.snapshot([(Space.VALUE, i) for i in range(30)])
                store.scan(Space.VALUE, 0, 100, 100)
            except SecurecfgError as error:
                outcome = error.code
            store.close()
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    print(outcomes)
    assert set(outcomes) <= {"read", "tampered", "not-a-vault", "store-failed"}
    assert outcomes["tampered"] > 10
    assert outcomes["not-a-vault"] > 15


def test_every_connection_has_every_safety_on(vault: Path) -> None:
    store = open_sqlite(vault)
    cursors = [store._pool.pin.cursor(), store._pool.take(), store._pool.take()]
    with store._pool.writing(1) as writer:
        cursors.append(writer)
        for cursor in cursors:
            settings = {
                name: cursor.execute(f"PRAGMA {name}").get
                for name in (
                    "journal_mode",
                    "synchronous",
                    "secure_delete",
                    "cell_size_check",
                    "mmap_size",
                    "temp_store",
                )
            }
            assert settings == {
                "journal_mode": "wal",
                "synchronous": 2,
                "secure_delete": 1,
                "cell_size_check": 1,
                "mmap_size": 0,
                "temp_store": 2,
            }
            for switch, value in (
                (apsw.SQLITE_DBCONFIG_DEFENSIVE, 1),
                (apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0),
                (apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0),
                (apsw.SQLITE_DBCONFIG_ENABLE_VIEW, 0),
            ):
                assert cursor.connection.config(switch, -1) == value
    store.close()


def test_who_reads_next_gets_the_connection_that_was_written_with(vault: Path) -> None:
    store = open_sqlite(vault)
    store.commit([Put(Space.VALUE, 1, b"new")], expect=b"1", head=b"2")
    with store._pool.writing(1) as writer:
        pass
    reader = store._pool.take()
    assert reader.connection is writer.connection
    store._pool.idle.append(reader)
    store.close()


def test_a_connection_that_is_left_in_a_transaction_is_lent_to_nobody(vault: Path) -> None:
    store = open_sqlite(vault)
    with store._pool.writing(1) as writer:
        writer.execute("BEGIN IMMEDIATE; INSERT OR REPLACE INTO h VALUES (1, x'00')")
    assert store.head() == b"1"
    with pytest.raises(apsw.CursorClosedError):
        writer.execute("COMMIT")
    store.commit([], expect=b"1", head=b"2")
    store.close()


# --- erasing ----------------------------------------------------------------------------------------------------------


def on_disk(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.is_file() and CANARY in path.read_bytes()]


@pytest.mark.parametrize("purges_between", [False, True])
def test_a_purge_leaves_no_trace_of_deleted_rows(tmp_path: Path, purges_between: bool) -> None:
    store = create_sqlite(tmp_path / "a.vault")
    store.commit([Put(Space.DEK, i, CANARY + b"%d" % i) for i in range(40)], expect=None, head=b"1")
    store.commit([Put(Space.VALUE, i, CANARY * 900) for i in range(3)], expect=b"1", head=b"2")
    if purges_between:
        store.purge()
    store.commit([Delete(Space.DEK, i) for i in range(40)], expect=b"2", head=b"3")
    store.commit([Put(Space.VALUE, 0, b"new"), Delete(Space.VALUE, 1), Delete(Space.VALUE, 2)], expect=b"3", head=b"4")
    # A subprocess reads: closing a descriptor of the file here would drop SQLite's locks.
    code = """if True:
        import pathlib, sys
        print(sum(sys.argv[2].encode() in path.read_bytes() for path in pathlib.Path(sys.argv[1]).iterdir()))
    """
    command = [sys.executable, "-c", code, str(tmp_path), CANARY.decode()]
    assert int(subprocess.check_output(command)) > 0
    store.purge()
    assert int(subprocess.check_output(command)) == 0
    store.close()
    assert on_disk(tmp_path) == []


def test_a_purge_waits_for_a_reader_and_says_that_it_could_not(vault: Path) -> None:
    store = open_sqlite(vault)
    store.commit([Delete(Space.VALUE, 1)], expect=b"1", head=b"2")
    reader = apsw.Connection(str(vault))
    assert reader.execute("BEGIN; SELECT count(*) FROM s3").fetchall() == [(29,)]
    store.commit([Delete(Space.VALUE, 2)], expect=b"2", head=b"3")
    with pytest.raises(DestroyPending) as caught:
        store.purge()
    assert caught.value.code == "destroy-pending"
    assert caught.value.exit_code == 9
    assert store.head() == b"3"
    with store._pool.writing(1) as writer:
        assert writer.execute("PRAGMA busy_timeout").get == 5_000
    reader.execute("COMMIT")
    store.purge()
    reader.close()
    store.close()


# --- reading only -----------------------------------------------------------------------------------------------------


def test_reading_only_refuses_every_change_and_sees_the_changes_of_others(vault: Path, tmp_path: Path) -> None:
    writer = open_sqlite(vault)
    reader = open_sqlite(vault, read_only=True)
    before = reader.revision()
    writer.commit([Put(Space.VALUE, 1, b"new")], expect=b"1", head=b"2")
    assert reader.revision() != before
    assert reader.snapshot([(Space.VALUE, 1)]) == (b"2", [b"new"])
    changes: list[Callable[[], object]] = [
        lambda: reader.commit([], expect=b"2", head=b"3"),
        lambda: reader.stage([Delete(Space.VALUE, 1)]),
        reader.purge,
    ]
    for change in changes:
        with pytest.raises(StoreFailed, match="for reading only"):
            change()
    writer.close()
    assert reader.head() == b"2"
    reader.close()
    assert [path.name for path in tmp_path.iterdir()] == ["a.vault"]


@contextmanager
def unprivileged(folder: Path) -> Iterator[None]:
    """Take the right to write away; from root too, who otherwise has every right."""
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o755)
        for path in folder.iterdir():
            path.chmod(0o600)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="securecfg-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


CRASHING = """
import os, sys
from securecfg.store import *
store = create_sqlite(sys.argv[1])
store.commit([Put(Space.VALUE, 1, b"row")], expect=None, head=b"1")
store.purge()
store.commit([Put(Space.VALUE, 1, b"new")], expect=b"1", head=b"2")
os._exit(0)
"""


@pytest.mark.parametrize("state", ["closed", "crashed", "crashed without index", "in use"])
def test_reads_where_nothing_may_be_written(open_folder: Path, state: str) -> None:
    path = open_folder / "a.vault"
    subprocess.run([sys.executable, "-c", CRASHING, str(path)], check=True)
    writer = None
    if state in {"closed", "in use"}:
        writer = open_sqlite(path)
    if writer is not None and state == "closed":
        writer.close()
    if state == "crashed without index":
        Path(f"{path}-shm").unlink()
    before = sorted(entry.name for entry in open_folder.iterdir())
    with unprivileged(open_folder):
        with pytest.raises(StoreFailed):
            open_sqlite(path)
        store = open_sqlite(path, read_only=True)
        assert store.snapshot([(Space.VALUE, 1)]) == (b"2", [b"new"])
        assert store.revision() == store.revision()
        with pytest.raises(StoreFailed, match="for reading only"):
            store.commit([], expect=b"2", head=b"3")
        store.close()
        assert sorted(entry.name for entry in open_folder.iterdir()) == before
    assert not list(Path(tempfile.gettempdir()).glob("securecfg-????????/copy"))
    if writer is not None:
        writer.close()


def test_a_folder_that_cannot_be_written_is_named_with_what_to_do(open_folder: Path) -> None:
    path = open_folder / "a.vault"
    create_sqlite(path).close()
    with unprivileged(open_folder):
        if os.geteuid() == NOBODY:
            os.seteuid(0)
            os.chown(path, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        path.chmod(0o600)
        error = refusal(path)
    assert type(error) is StoreFailed
    assert error.message == f"cannot use `{path}`: its folder cannot be written"
    assert error.hint.startswith("let this user write the folder")


# --- file systems -----------------------------------------------------------------------------------------------------

MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:25 / /srv/share rw shared:9 - nfs4 server:/export rw
31 22 0:26 / /srv/share/local rw - tmpfs tmpfs rw
32 22 0:27 / /mnt/with\\040space rw - fuse.sshfs host: rw
33 22 0:28 / /hidden rw - ext4 /dev/vdb rw
34 33 0:29 / /hidden rw - 9p host rw
35 22 0:30 / /mnt/größe rw - nfs host rw
36 22 0:31 / /mnt/größe\\040zwei rw - cifs host rw
a line that is no mount
"""


@pytest.mark.parametrize(
    ("path", "device", "expected"),
    [
        ("/home/a.vault", "254:0", "ext4"),
        ("/srv/share/a.vault", "0:25", "nfs4"),
        ("/srv/share", "0:25", "nfs4"),
        ("/srv/shared", "254:0", "ext4"),
        ("/srv/share/local/a", "0:26", "tmpfs"),
        ("/mnt/with space/a", "0:27", "fuse.sshfs"),
        ("/mnt/with space/a", "9:99", "fuse.sshfs"),
        ("/hidden/a", "9:99", "9p"),
        ("/mnt/größe/a", "0:30", "nfs"),
        ("/mnt/größe zwei/a", "0:31", "cifs"),
    ],
)
def test_finds_the_type_of_the_file_system(path: str, device: str, expected: str) -> None:
    assert filesystems.mounted_type(MOUNTS, path, device) == expected


@pytest.mark.parametrize("name", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse", "fuse.sshfs", "virtiofs"])
def test_network_file_systems_are_known(name: str) -> None:
    assert filesystems.is_network(name)


@pytest.mark.parametrize("name", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "apfs", ""])
def test_local_file_systems_are_known(name: str) -> None:
    assert not filesystems.is_network(name)


def test_a_network_file_system_is_for_reading_only(
    vault: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = home / "mountinfo"
    mounts.write_text(f"1 1 0:0 / {os.path.realpath(tmp_path)} rw - nfs4 server:/export rw\n")
    monkeypatch.setattr(filesystems, "MOUNTS", mounts)
    with pytest.raises(UnsupportedFileSystem, match="nfs4") as caught:
        open_sqlite(vault)
    assert caught.value.code == "unsupported-file-system"
    assert caught.value.exit_code == 10
    with pytest.raises(UnsupportedFileSystem):
        create_sqlite(tmp_path / "b.vault")
    assert [path.name for path in tmp_path.iterdir()] == ["a.vault"]
    store = open_sqlite(vault, read_only=True)
    assert store.head() == b"1"
    store.close()
    assert [path.name for path in tmp_path.iterdir()] == ["a.vault"]


# --- what goes wrong while it is open ---------------------------------------------------------------------------------


def test_reads_go_on_where_a_write_found_the_file_moved(vault: Path) -> None:
    store = open_sqlite(vault)
    vault.rename(vault.with_name("elsewhere"))
    for _ in range(2):
        with pytest.raises(StoreFailed):
            store.commit([], expect=b"1", head=b"2")
        assert store.head() == b"1"
        assert store.get(Space.VALUE, 3) == b"row 3" * 100
    vault.with_name("elsewhere").rename(vault)
    store.commit([], expect=b"1", head=b"2")
    store.close()


def test_a_read_that_is_late_for_a_closed_store_fails_as_one_of_this_library(vault: Path) -> None:
    store = open_sqlite(vault)
    pool = store._pool
    cursor = pool.take()  # as by a thread that stood still until nobody waited for it any more
    pool._cursors.discard(cursor)
    store.close()
    with pytest.raises(SecurecfgError):
        store._fail(cursor, apsw.CursorClosedError("closed"))


@pytest.mark.parametrize("table", ["h", "s3"])
def test_a_cell_with_text_that_is_none_is_damage(vault: Path, table: str) -> None:
    with closing(sqlite3.connect(vault)) as other:
        other.execute(f"UPDATE {table} SET b = CAST(x'ff' AS TEXT)")  # noqa: S608 - one of two names
        other.commit()
    store = open_sqlite(vault)
    with pytest.raises(Tampered):
        store.head() if table == "h" else store.get(Space.VALUE, 3)
    with pytest.raises(Tampered):
        store.head() if table == "h" else store.get_many([(Space.VALUE, 3), (Space.VALUE, 4)])
    if table == "h":
        with pytest.raises(SecurecfgError):
            store.commit([], expect=b"1", head=b"2")
    store.close()
