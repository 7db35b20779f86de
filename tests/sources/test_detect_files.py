"""Which files an import reads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from securecfg.sources.detection import MAX_FILE_BYTES, collect


def names(root: Path, *paths: Path) -> list[str]:
    return [os.path.relpath(file.name, root) for file in collect(paths).files]


def test_reads_a_folder_with_all_below_in_order(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.json", "sub/c.toml", "sub/.env", "sub/x.py", "README"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    assert names(tmp_path, tmp_path) == ["a.json", "b.yaml", "sub/.env", "sub/c.toml"]


@pytest.mark.parametrize("mark", ["securecfg.toml", ".securecfg/local.toml", ".git/HEAD"])
def test_a_file_has_its_place_in_the_project_from_wherever_it_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: str
) -> None:
    file = tmp_path / "shop" / "eu" / "sms.ini"
    file.parent.mkdir(parents=True)
    file.write_text("[a]\nb = c\n")
    assert [each.place for each in collect([file]).files] == [""]
    (tmp_path / "shop" / mark).parent.mkdir(exist_ok=True)
    (tmp_path / "shop" / mark).touch()
    for folder, given in (
        (tmp_path, "shop"),
        (tmp_path, "shop/eu/sms.ini"),
        (file.parent, "sms.ini"),
        (file.parent, ".."),
    ):
        monkeypatch.chdir(folder)
        assert [each.place for each in collect([given]).files if each.name.endswith(".ini")] == ["eu/sms.ini"]
    assert [each.place for each in collect([file]).files] == ["eu/sms.ini"]


def test_the_settings_tell_where_a_project_begins_before_git_does(tmp_path: Path) -> None:
    (tmp_path / "securecfg.toml").touch()
    (tmp_path / "web" / ".git").mkdir(parents=True)
    (tmp_path / "web" / "a.json").write_text("{}")
    assert [each.place for each in collect([tmp_path / "web"]).files] == ["web/a.json"]


def test_a_link_is_called_what_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "securecfg.toml").touch()
    (tmp_path / "releases").mkdir()
    (tmp_path / "releases" / "5.json").write_text("{}")
    (tmp_path / "current.json").symlink_to("releases/5.json")
    assert [each.place for each in collect([tmp_path / "current.json"]).files] == ["current.json"]


@pytest.mark.parametrize("folder", [".git", "node_modules", ".venv", "__pycache__", ".securecfg"])
def test_skips_folders_of_tools_and_dependencies(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "a.json").write_text("{}")
    assert names(tmp_path, tmp_path) == []


def test_reads_a_file_once_whatever_names_it(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: 1")
    (tmp_path / "link.yaml").symlink_to("a.yaml")
    assert names(tmp_path, tmp_path / "a.yaml", tmp_path, tmp_path / "link.yaml") == ["a.yaml"]


def test_a_link_stands_for_the_file_it_names(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("a: 1")
    (tmp_path / "link.yaml").symlink_to("real")
    assert [file.content for file in collect([tmp_path]).files] == [b"a: 1"]


def test_does_not_follow_a_link_to_a_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    (tmp_path / "a.yaml").write_text("")
    assert names(tmp_path, tmp_path) == ["a.yaml"]


def test_keeps_the_mode(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("")
    (tmp_path / "a.yaml").chmod(0o640)
    assert collect([tmp_path]).files[0].mode == 0o640


def test_in_a_folder_what_cannot_be_read_is_a_notice(tmp_path: Path) -> None:
    (tmp_path / "big.json").write_bytes(b" " * (MAX_FILE_BYTES + 1))
    (tmp_path / "binary.ini").write_bytes(b"a\0b")
    (tmp_path / "gone.yaml").symlink_to("nothing")
    (tmp_path / "ok.yaml").write_text("")
    collected = collect([tmp_path])
    assert [Path(file.name).name for file in collected.files] == ["ok.yaml"]
    assert [Path(notice.file).name for notice in collected.notices] == ["big.json", "binary.ini", "gone.yaml"]
    assert collected.problems == ()


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("big.json", "value-too-large"),
        ("binary.ini", "config-syntax"),
        ("missing.yaml", "file-missing"),
        ("pipe.yaml", "store-failed"),
        ("a.py", "config-syntax"),
    ],
)
def test_what_was_named_and_cannot_be_read_is_a_problem(tmp_path: Path, name: str, code: str) -> None:
    (tmp_path / "big.json").write_bytes(b" " * (MAX_FILE_BYTES + 1))
    (tmp_path / "binary.ini").write_bytes(b"a\0b")
    (tmp_path / "a.py").write_text("")
    os.mkfifo(tmp_path / "pipe.yaml")
    collected = collect([tmp_path / name])
    assert collected.files == ()
    assert [problem.code for problem in collected.problems] == [code]
    assert name in collected.problems[0].message
    assert collected.problems[0].exit_code in {2, 3, 9}


def test_a_read_only_file_is_a_problem_before_anything_is_moved(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("")
    path.chmod(0o400)
    assert [problem.code for problem in collect([path]).problems] == ["store-failed"]
