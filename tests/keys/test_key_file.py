"""Section 4.4 of the format, and what a private file is."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securecfg.errors import AlreadyExists, FileMissing, KeyProviderRefused, StoreFailed
from securecfg.keys import generate_key_file
from securecfg.keys.keyfile import format_key, parse_key, read_key_file, read_private_file, verify_private

if TYPE_CHECKING:
    from pathlib import Path

KEY = bytes(range(32))
LINE = format_key(KEY) + "\n"


def private(path: Path, content: bytes | str) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_key_file_is_one_line_as_the_format_says() -> None:
    encoded = base64.urlsafe_b64encode(KEY).decode().rstrip("=")
    assert format_key(KEY) == f"SECURECFG-KEY-1-{encoded}-{hashlib.sha256(KEY).hexdigest()[:8]}"
    assert re.fullmatch(r"SECURECFG-KEY-1-[A-Za-z0-9_-]{43}-[0-9a-f]{8}", format_key(KEY))


def test_a_generated_file_is_private_and_holds_a_new_key(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        generate_key_file(tmp_path / "a")
        generate_key_file(str(tmp_path / "b"))
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o7777 == 0o600
    assert len(read_key_file(tmp_path / "a")) == 32
    assert read_key_file(tmp_path / "a") != read_key_file(tmp_path / "b")


def test_never_writes_over_anything(tmp_path: Path) -> None:
    private(tmp_path / "key", "mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "elsewhere")
    for name in ["key", "dangling"]:
        with pytest.raises(AlreadyExists):
            generate_key_file(tmp_path / name)
    assert (tmp_path / "key").read_text() == "mine"
    assert not (tmp_path / "elsewhere").exists()


def test_says_where_it_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed):
        generate_key_file(tmp_path / "no" / "folder")


@given(st.binary(min_size=32, max_size=32))
def test_what_was_written_reads(key: bytes) -> None:
    assert parse_key(format_key(key)) == key


@pytest.mark.parametrize(
    "content",
    [
        "",
        "\n",
        LINE[:-1],
        LINE[:-2],
        LINE + "\n",
        LINE[:-1] + "\r\n",
        " " + LINE,
        LINE.replace("KEY-1", "KEY-2"),
        LINE.lower(),
        LINE[:-2] + ("0" if LINE[-2] != "0" else "1") + "\n",
        LINE.replace("AAEC", "AAED"),
        # The last of the 43 characters has two bits to spare: another spelling of the same key.
        LINE.replace(LINE[58], chr(ord(LINE[58]) + 1), 1) if LINE[58].isalpha() else "",
        LINE[:30] + "!" + LINE[31:],
        LINE[:30] + "\x00" + LINE[31:],
        LINE[:30] + "é" + LINE[31:],
        b"\xff" * len(LINE),
        os.urandom(68),
    ],
    ids=[
        "empty",
        "only an end of line",
        "no end of line",
        "cut off",
        "two lines",
        "DOS end of line",
        "leading space",
        "another version",
        "lower case",
        "checksum",
        "key",
        "spare bits",
        "character outside the alphabet",
        "NUL",
        "not ASCII",
        "not UTF-8",
        "random",
    ],
)
def test_refuses_a_file_that_is_not_a_key_file(content: str | bytes, tmp_path: Path) -> None:
    path = private(tmp_path / "key", content)
    with pytest.raises(KeyProviderRefused) as refused:
        read_key_file(path)
    assert str(path) in refused.value.message
    assert refused.value.hint


def test_an_error_shows_nothing_of_the_content(tmp_path: Path) -> None:
    path = private(tmp_path / "key", LINE[:-1])
    with pytest.raises(KeyProviderRefused) as refused:
        read_key_file(path)
    assert LINE[16:40] not in f"{refused.value!r} {refused.value.hint}"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o666, 0o777, 0o444])
def test_refuses_a_file_that_others_can_use(mode: int, tmp_path: Path) -> None:
    path = private(tmp_path / "key", LINE)
    path.chmod(mode)
    with pytest.raises(KeyProviderRefused) as refused:
        read_key_file(path)
    assert "chmod 600" in refused.value.hint


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_reads_a_file_that_only_its_owner_can_use(mode: int, tmp_path: Path) -> None:
    path = private(tmp_path / "key", LINE)
    path.chmod(mode)
    assert read_key_file(path) == KEY


def _status(mode: int, owner: int = 0) -> os.stat_result:
    return os.stat_result((0o100_000 | mode, 1, 1, 1, owner, 0, 48, 0, 0, 0))


def test_takes_a_credential_of_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    verify_private(tmp_path / "key", _status(0o440))


@pytest.mark.parametrize(
    ("place", "mode", "owner"),
    [
        ("elsewhere/key", 0o440, 0),
        ("../key", 0o440, 0),
        ("key", 0o640, 0),
        ("key", 0o460, 0),
        ("key", 0o444, 0),
        ("key", 0o441, 0),
        ("key", 0o440, os.geteuid() or 12345),
    ],
)
def test_takes_nothing_else_that_a_group_can_read(
    place: str, mode: int, owner: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(KeyProviderRefused):
        verify_private(tmp_path / place, _status(mode, owner))


def test_takes_no_credential_where_systemd_gives_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (None, ""):
        if folder is None:
            monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
        else:
            monkeypatch.setenv("CREDENTIALS_DIRECTORY", folder)
        with pytest.raises(KeyProviderRefused):
            verify_private(tmp_path / "key", _status(0o440))


def test_refuses_a_file_of_another_user(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("not applicable: only root can give a file away")
    path = private(tmp_path / "key", LINE)
    os.chown(path, 12345, -1)
    with pytest.raises(KeyProviderRefused) as refused:
        read_key_file(path)
    assert "another user" in refused.value.message
    assert "chown" in refused.value.hint


def test_follows_a_link_as_mounted_secrets_are_links(tmp_path: Path) -> None:
    private(tmp_path / "key", LINE)
    (tmp_path / "link").symlink_to("key")
    assert read_key_file(tmp_path / "link") == KEY


def test_refuses_links_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(KeyProviderRefused) as refused:
        read_key_file(tmp_path / "a")
    assert "circle" in refused.value.message


def test_refuses_a_fifo_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "key", 0o600)
    with pytest.raises(KeyProviderRefused) as refused:
        read_key_file(tmp_path / "key")
    assert "regular file" in refused.value.message


def test_refuses_folders_and_devices(tmp_path: Path) -> None:
    for path in [str(tmp_path), "/dev/zero"]:
        with pytest.raises(KeyProviderRefused) as refused:
            read_key_file(path)
        assert "regular file" in refused.value.message


def test_refuses_an_oversized_file_without_reading_it_all(tmp_path: Path) -> None:
    path = private(tmp_path / "key", "")
    os.truncate(path, 1 << 40)
    with pytest.raises(KeyProviderRefused) as refused:
        read_private_file(path, 69)
    assert "larger than 69 bytes" in refused.value.message


def test_says_that_there_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileMissing) as refused:
        read_key_file(tmp_path / "absent")
    assert "absent" in refused.value.message


def test_says_why_it_cannot_read(tmp_path: Path) -> None:
    path = private(tmp_path / "key", LINE)
    with pytest.raises(KeyProviderRefused) as refused:
        read_key_file(path / "below a file")
    assert "ot a directory" in refused.value.message
