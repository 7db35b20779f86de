from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from securecfg.audit.merkle import TILE_WIDTH
from securecfg.audit.note import parse_vkey
from securecfg.audit.tiles import export_tiles, open_tiles, tile_path
from securecfg.errors import (
    AlreadyExists,
    FileMissing,
    LogTampered,
    LogTruncated,
    SecurecfgError,
    StoreFailed,
    ValueTooLarge,
)
from tests.audit.sample import SampleLog, plain_log, signing_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from subprocess import CompletedProcess

GOCHECK = Path(__file__).parent / "gocheck"


def export(log: SampleLog, directory: Path) -> Path:
    export_tiles(directory, log.leaves, log.checkpoint(), log.vkey)
    return directory


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[SampleLog, Path]:
    log = plain_log(700)
    return log, export(log, tmp_path_factory.mktemp("export") / "tiles")


@pytest.fixture
def copy(exported: tuple[SampleLog, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported[1], tmp_path / "copy"))


class TestPaths:
    @pytest.mark.parametrize(
        ("level", "index", "width", "path"),
        [
            (0, 0, 256, "tile/0/000"),
            (0, 999, 256, "tile/0/999"),
            (0, 1_000, 256, "tile/0/x001/000"),
            (1, 1_234_067, 256, "tile/1/x001/x234/067"),
            (0, 273, 112, "tile/0/273.p/112"),
            ("entries", 0, 1, "tile/entries/000.p/1"),
        ],
    )
    def test_are_those_of_the_specification(self, level: int | str, index: int, width: int, path: str) -> None:
        assert tile_path(level, index, width) == path


class TestAnExport:
    @pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 512])
    def test_verifies(self, size: int, tmp_path: Path) -> None:
        log = plain_log(size)
        assert open_tiles(export(log, tmp_path / "new"), log.vkey).size == size

    def test_has_the_files_that_the_specification_asks_for(self, exported: tuple[SampleLog, Path]) -> None:
        log, directory = exported
        assert {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()} == {
            "checkpoint",
            "vkey",
            "tile/0/000",
            "tile/0/001",
            "tile/0/002.p/188",
            "tile/1/000.p/2",
            "tile/entries/000",
            "tile/entries/001",
            "tile/entries/002.p/188",
        }
        assert parse_vkey((directory / "vkey").read_text().strip()) == log.vkey
        assert (directory / "checkpoint").read_bytes() == log.checkpoint()

    def test_is_readable_by_its_owner_only(self, exported: tuple[SampleLog, Path]) -> None:
        assert stat.S_IMODE(exported[1].stat().st_mode) == 0o700
        for path in exported[1].rglob("*"):
            assert path.is_dir() or stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_can_be_continued_when_the_log_has_grown(self, tmp_path: Path) -> None:
        log = plain_log(300)
        export(log, tmp_path)
        before = (tmp_path / "tile/0/000").stat().st_mtime_ns
        for number in range(300, 600):
            log.append_leaf(f"leaf {number}".encode())
        export(log, tmp_path)
        assert open_tiles(tmp_path, log.vkey).size == 600
        assert (tmp_path / "tile/0/000").stat().st_mtime_ns == before

    def test_is_not_mixed_with_another_log(self, tmp_path: Path, exported: tuple[SampleLog, Path]) -> None:
        log, _ = exported
        for foreign in (b"not a checkpoint", log.checkpoint().replace(b"securecfg/00", b"securecfg/ff")):
            (tmp_path / "checkpoint").write_bytes(foreign)
            with pytest.raises(AlreadyExists):
                export(log, tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]

    @pytest.mark.parametrize("name", ["tile/0/000", "tile/entries/001", "tile/0/002.p/188"])
    @pytest.mark.parametrize("content", [b"", b"x" * 8_192, b"x" * 100_000])
    def test_does_not_write_over_tiles_that_differ(
        self, name: str, content: bytes, copy: Path, exported: tuple[SampleLog, Path]
    ) -> None:
        (copy / name).write_bytes(content)
        with pytest.raises(LogTampered, match="differs from the log"):
            export(exported[0], copy)
        assert (copy / name).read_bytes() == content

    def test_is_not_made_of_a_tampered_log(self, tmp_path: Path) -> None:
        log = plain_log(300)
        log.leaves[299] = b"altered"
        with pytest.raises(LogTampered):
            export(log, tmp_path)
        assert not (tmp_path / "checkpoint").exists()

    def test_is_not_made_of_a_truncated_log(self, tmp_path: Path) -> None:
        log = plain_log(300)
        log.leaves.pop()
        with pytest.raises(LogTruncated):
            export(log, tmp_path)
        assert not (tmp_path / "checkpoint").exists()

    def test_is_not_made_under_another_key(self, tmp_path: Path) -> None:
        log = plain_log(3)
        checkpoint = log.checkpoint()
        log.epoch = 1
        with pytest.raises(LogTampered):
            export_tiles(tmp_path, log.leaves, checkpoint, log.vkey)
        assert list(tmp_path.iterdir()) == []

    def test_is_not_made_of_leaves_that_no_bundle_can_hold(self, tmp_path: Path) -> None:
        log = plain_log(3)
        log.leaves[1] = bytes(65_536)
        with pytest.raises(LogTampered) as caught:
            export(log, tmp_path)
        assert caught.value.index == 1

    def test_names_the_place_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "tile").write_bytes(b"a file where a folder must be")
        with pytest.raises(StoreFailed):
            export(plain_log(3), tmp_path)
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(StoreFailed, match="cannot"):
            export(plain_log(3), tmp_path / "file")
        with pytest.raises(StoreFailed, match="cannot create"):
            export(plain_log(3), Path("/proc/no-such-place"))


def edit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


FILES = ["tile/0/000", "tile/0/002.p/188", "tile/1/000.p/2", "tile/entries/001", "tile/entries/002.p/188"]


class TestAnAlteredExport:
    @pytest.mark.parametrize("name", [*FILES, "checkpoint"])
    @pytest.mark.parametrize(
        "damage",
        [
            edit,
            lambda path: path.unlink(),
            lambda path: path.write_bytes(b""),
            lambda path: path.write_bytes(path.read_bytes()[:-1]),
            lambda path: path.write_bytes(path.read_bytes()[1:]),
            lambda path: path.write_bytes(path.read_bytes() * 2),
            lambda path: os.truncate(path, 20_000_000),
            replace_by_folder,
        ],
    )
    def test_is_refused(
        self, name: str, damage: Callable[[Path], None], copy: Path, exported: tuple[SampleLog, Path]
    ) -> None:
        damage(copy / name)
        with pytest.raises(SecurecfgError) as caught:
            open_tiles(copy, exported[0].vkey)
        assert isinstance(caught.value, LogTampered | LogTruncated | FileMissing | StoreFailed | ValueTooLarge)

    @pytest.mark.parametrize("name", FILES)
    def test_without_a_file_is_truncated(self, name: str, copy: Path, exported: tuple[SampleLog, Path]) -> None:
        (copy / name).unlink()
        with pytest.raises(LogTruncated, match="missing"):
            open_tiles(copy, exported[0].vkey)

    def test_names_the_record(self, copy: Path, exported: tuple[SampleLog, Path]) -> None:
        bundle = (copy / "tile/entries/001").read_bytes()
        (copy / "tile/entries/001").write_bytes(bundle.replace(b"leaf 300", b"leaf 30O"))
        with pytest.raises(LogTampered) as caught:
            open_tiles(copy, exported[0].vkey)
        assert caught.value.index == 300

    def test_is_refused_under_another_key(self, copy: Path, exported: tuple[SampleLog, Path]) -> None:
        stranger = SampleLog(epoch=2)
        (copy / "vkey").write_text(f"{stranger.vkey}\n")
        with pytest.raises(LogTampered):
            open_tiles(copy, stranger.vkey)
        assert signing_key(2).public_key().public_bytes_raw() == stranger.vkey.public_key


@pytest.fixture(scope="session")
def gocheck(tmp_path_factory: pytest.TempPathFactory, program: Callable[[str], str]) -> Path:
    """The checker on golang.org/x/mod; the module is downloaded if the user's Go does not have it yet."""
    scratch = tmp_path_factory.mktemp("gocheck")
    cache = os.environ.get("GOMODCACHE") or str(Path(pwd.getpwuid(os.getuid()).pw_dir, "go/pkg/mod"))
    environment = os.environ | {"HOME": str(scratch), "GOCACHE": str(scratch / "cache")}
    build = [program("go"), "build", "-mod=readonly", "-modcacherw", "-o", str(scratch / "gocheck"), "."]
    built = run(build, cwd=GOCHECK, env=environment | {"GOMODCACHE": cache, "GOPROXY": "off"})
    if built.returncode:
        built = run(build, cwd=GOCHECK, env=environment | {"GOMODCACHE": str(scratch / "mod")})
    if built.returncode:
        pytest.skip(f"needs the Go module golang.org/x/mod: {built.stderr.strip().splitlines()[-1]}")
    return scratch / "gocheck"


def run(command: list[str], cwd: Path | None = None, env: dict[str, str] | None = None) -> CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=90, check=False)


class TestAnIndependentImplementation:
    def test_verifies_100_000_records_and_rejects_an_edited_copy(self, gocheck: Path, tmp_path: Path) -> None:
        log = plain_log(100_000)
        directory = export(log, tmp_path / "tiles")
        sound = run([str(gocheck), str(directory)])
        assert (sound.returncode, sound.stdout) == (0, f"{log.vkey.name} 100000 records\n"), sound.stderr

        for name, word in [
            (tile_path("entries", 100, TILE_WIDTH), "was altered"),
            (tile_path(0, 390, 100_000 % TILE_WIDTH), ""),
            (tile_path(1, 0, TILE_WIDTH), ""),
            ("checkpoint", ""),
        ]:
            good = (directory / name).read_bytes()
            edit(directory / name)
            edited = run([str(gocheck), str(directory)])
            assert edited.returncode != 0, name
            assert word in edited.stderr
            (directory / name).write_bytes(good)
