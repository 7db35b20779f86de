"""Files are whole or not there, private, and never in the place of something else."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import threading
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from securecfg.errors import AlreadyExists, FileMissing, StoreFailed, ValueTooLarge
from securecfg.files import (
    create_private,
    create_public,
    give_name,
    read_bounded,
    take_name,
    write_atomically,
    write_beside,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_replaces_a_file_as_a_whole_with_the_mode_given(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomically(path, b"one")
    assert (path.read_bytes(), mode_of(path)) == (b"one", 0o600)
    write_atomically(path, b"two", mode=0o644)
    assert (path.read_bytes(), mode_of(path)) == (b"two", 0o644)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_follows_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"one")
    (tmp_path / "link").symlink_to("real")
    write_atomically(tmp_path / "link", b"two")
    assert (tmp_path / "real").read_bytes() == b"two"
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_puts_nothing_in_the_place_of_what_is_no_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(StoreFailed, match="not a regular file"):
        write_atomically(path, b"x")
    assert not path.is_file()
    with pytest.raises(StoreFailed):
        read_bounded(path, 10)


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed):
        write_atomically(tmp_path / "none" / "a", b"x")
    with pytest.raises(StoreFailed):
        create_private(tmp_path / "none" / "a", b"x")
    assert list(tmp_path.iterdir()) == []


def test_creates_a_private_file_once(tmp_path: Path) -> None:
    path = tmp_path / "key"
    create_private(path, b"x")
    assert (path.read_bytes(), mode_of(path)) == (b"x", 0o600)
    with pytest.raises(AlreadyExists):
        create_private(path, b"y")
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(AlreadyExists):
        create_private(tmp_path / "dangling", b"y")
    assert path.read_bytes() == b"x"


def test_creates_a_public_file_once(tmp_path: Path) -> None:
    path = tmp_path / "line"
    create_public(path, b"first")
    with pytest.raises(AlreadyExists):
        create_public(path, b"second")
    assert path.read_bytes() == b"first"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_reads_no_more_than_the_limit(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bounded(tmp_path / "a", 5) == b"12345"
    with pytest.raises(ValueTooLarge):
        read_bounded(tmp_path / "a", 4)
    with pytest.raises(FileMissing):
        read_bounded(tmp_path / "none", 4)


def test_a_finished_file_takes_the_place_of_a_link_and_not_of_what_it_names(tmp_path: Path) -> None:
    victim, link = tmp_path / "victim", tmp_path / "link"
    victim.write_bytes(b"precious")
    link.symlink_to(victim)
    take_name(write_beside(link, b"new", mode=0o644), link)
    assert (link.is_symlink(), link.read_bytes(), victim.read_bytes()) == (False, b"new", b"precious")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link", "victim"]


@pytest.mark.parametrize("write", [create_private, create_public, write_atomically])
def test_no_traceback_shows_what_could_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, bytes], None]
) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StoreFailed) as refused:
        write(tmp_path / "file", b"canary" + bytes(8))
    own = [frame for frame in traceback.walk_tb(refused.value.__traceback__) if frame[0].f_code.co_filename != __file__]
    assert own
    assert not [frame for frame in own if "canary" in repr(frame[0].f_locals)]
    assert refused.value.__context__ is None
    assert list(tmp_path.iterdir()) == []


def lacking(monkeypatch: pytest.MonkeyPatch, link: int, rename: int = 0) -> None:
    """Let the file system refuse hard links with an error, and exclusive renames with another one."""

    def refuse_link(*_args: object, **_options: object) -> None:
        raise OSError(link, os.strerror(link))

    monkeypatch.setattr(os, "link", refuse_link)
    if rename:

        class Library:
            def renameat2(self, *_args: object) -> int:
                ctypes.set_errno(rename)
                return -1

        def load(*_args: object, **_options: Any) -> Library:  # noqa: ANN401 - those of ctypes
            return Library()

        monkeypatch.setattr(ctypes, "CDLL", load)


FILE_SYSTEMS: dict[str, tuple[int, int]] = {
    "hard links": (0, 0),
    "no hard links": (errno.EPERM, 0),
    "hard links unheard of": (errno.ENOSYS, 0),
    "no exclusive renames either": (errno.EOPNOTSUPP, errno.EINVAL),
    "a kernel without them": (errno.EPERM, errno.ENOSYS),
}


@pytest.fixture(params=FILE_SYSTEMS)
def file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    link, rename = FILE_SYSTEMS[request.param]
    if link:
        lacking(monkeypatch, link, rename)
    return str(request.param)


@pytest.mark.usefixtures("file_system")
def test_a_finished_file_gets_its_name(tmp_path: Path) -> None:
    target = tmp_path / "a"
    give_name(write_beside(target, b"one", mode=0o600), target)
    assert (target.read_bytes(), mode_of(target)) == (b"one", 0o600)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


@pytest.mark.usefixtures("file_system")
@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_a_finished_file_never_gets_the_name_of_something_else(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "a"
    temporary = write_beside(target, b"new", mode=0o600)
    if kind == "file":
        target.write_bytes(b"old")
    elif kind == "link":
        target.symlink_to(tmp_path / "nothing")
    else:
        target.mkdir()
    before = target.lstat()
    with pytest.raises(AlreadyExists):
        give_name(temporary, target)
    assert target.lstat().st_ino == before.st_ino
    assert temporary.read_bytes() == b"new"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([temporary.name, "a"])


@pytest.mark.usefixtures("file_system")
def test_of_many_who_want_a_name_one_gets_it(tmp_path: Path) -> None:
    target = tmp_path / "a"
    temporaries = [write_beside(target, b"%d" % number, mode=0o600) for number in range(16)]
    barrier = threading.Barrier(len(temporaries))
    outcomes: list[bytes | type] = []

    def work(temporary: Path) -> None:
        content = temporary.read_bytes()
        barrier.wait()
        try:
            give_name(temporary, target)
            outcomes.append(content)
        except AlreadyExists as error:
            outcomes.append(type(error))

    threads = [threading.Thread(target=work, args=(temporary,)) for temporary in temporaries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [outcome for outcome in outcomes if isinstance(outcome, bytes)]
    assert target.read_bytes() == winner
    assert len(outcomes) == len(temporaries)


@pytest.mark.parametrize(("link", "rename"), [(errno.EIO, 0), (errno.EPERM, errno.EROFS)])
def test_a_name_that_cannot_be_given_is_given_to_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: int, rename: int
) -> None:
    target = tmp_path / "a"
    temporary = write_beside(target, b"new", mode=0o600)
    lacking(monkeypatch, link, rename)
    with pytest.raises(StoreFailed, match=os.strerror(rename or link)):
        give_name(temporary, target)
    assert not target.exists()
    assert temporary.read_bytes() == b"new"
