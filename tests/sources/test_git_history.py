"""Values are found in git history without ever being an argument of a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from securecfg.errors import Unsupported, UsageError
from securecfg.secret import Secret
from securecfg.sources import git_history
from securecfg.sources.git_history import Exposure, find_in_history

if TYPE_CHECKING:
    from pathlib import Path


class Repository:
    """A git repository whose commits are a day apart, from 2024-01-01."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.days = 0
        folder.mkdir()
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments: str) -> str:
        when = f"2024-01-{1 + self.days:02}T12:00:00Z"
        names = {
            "GIT_AUTHOR_NAME": "o",
            "GIT_AUTHOR_EMAIL": "o@x",
            "GIT_COMMITTER_NAME": "o",
            "GIT_COMMITTER_EMAIL": "o@x",
        }
        times = {"GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when, "GIT_CONFIG_GLOBAL": os.devnull}
        command = ["git", "-C", str(self.folder), *arguments]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **names, **times})
        return done.stdout.strip()

    def commit(self, files: dict[str, str], message: str = "change") -> str:
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        self.days += 1
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


def look(repository: Repository, **values: str) -> list[Exposure]:
    return find_in_history(repository.folder, {label: Secret(value) for label, value in values.items()})


def test_finds_the_first_commit_its_day_and_its_path(repository: Repository) -> None:
    repository.commit({"a": "nothing"})
    first = repository.commit({"config/prod.yaml": "password: hunter2-canary\n", "b": "x"})
    repository.commit({"config/prod.yaml": "password: hunter2-canary\nb: 1\n"})
    repository.commit({"config/prod.yaml": "password: gone\n"})
    when = datetime(2024, 1, 2, 12, tzinfo=UTC)
    assert look(repository, pw="hunter2-canary") == [Exposure("pw", first, when, "config/prod.yaml")]


def test_tells_how_long_a_value_has_been_exposed() -> None:
    exposure = Exposure("pw", "0" * 40, datetime(2024, 1, 2, tzinfo=UTC), "a")
    assert exposure.age(datetime(2024, 1, 5, tzinfo=UTC)) == timedelta(days=3)
    assert exposure.age(datetime(2023, 1, 5, tzinfo=UTC)) == timedelta(0)


def test_what_was_never_committed_is_not_found(repository: Repository) -> None:
    repository.commit({"a": "nothing"})
    (repository.folder / "b").write_text("hunter2-canary")
    assert look(repository, pw="hunter2-canary") == []


def test_what_is_only_staged_is_not_found(repository: Repository) -> None:
    repository.commit({"a": "nothing"})
    (repository.folder / "b").write_text("hunter2-canary")
    repository.git("add", "b")
    assert look(repository, pw="hunter2-canary") == []


def test_an_empty_repository_has_nothing(repository: Repository) -> None:
    assert look(repository, pw="hunter2-canary") == []


def test_finds_what_only_another_branch_a_tag_or_a_stash_holds(repository: Repository) -> None:
    repository.commit({"a": "nothing"})
    repository.git("checkout", "-q", "-b", "side")
    repository.commit({"b": "branch-canary"})
    repository.git("checkout", "-q", "--detach", "main")
    repository.commit({"c": "tag-canary"})
    repository.git("tag", "t")
    repository.git("checkout", "-q", "main")
    (repository.folder / "a").write_text("stash-canary")
    repository.git("stash", "-q")
    found = look(repository, x="branch-canary", y="tag-canary", z="stash-canary")
    assert [(each.label, each.path) for each in found] == [("x", "b"), ("y", "c"), ("z", "a")]


def test_finds_what_only_a_merge_brought_in(repository: Repository) -> None:
    repository.commit({"a": "1"})
    repository.git("checkout", "-q", "-b", "side")
    repository.commit({"b": "1"})
    repository.git("checkout", "-q", "main")
    repository.commit({"c": "1"})
    repository.git("merge", "-q", "--no-commit", "side")
    (repository.folder / "a").write_text("evil-merge-canary")
    merge = repository.commit({})
    assert [each.commit for each in look(repository, x="evil-merge-canary")] == [merge]


def test_finds_what_the_root_commit_holds_under_an_odd_name(repository: Repository) -> None:
    root = repository.commit({"ü \t\n:x": "root-canary"})
    assert [(each.commit, each.path) for each in look(repository, x="root-canary")] == [(root, "ü \t\n:x")]


def test_finds_percent_encoded_and_escaped_values_and_those_of_several_lines(repository: Repository) -> None:
    repository.commit(
        {
            "a": "redis://:p%40ss%2Fw@h",
            "d": "redis://:b%40r!+x@h",
            "b": json.dumps({"x": 'qu"o\\te-canary'}),
            "c": "  first\n  second-line\n",
        }
    )
    found = look(repository, url="p@ss/w", url2="b@r!+x", escaped='qu"o\\te-canary', lines="first\nsecond-line\n")
    assert [each.path for each in found] == ["b", "c", "a", "d"]


def test_finds_a_value_that_lies_across_two_reads(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_history, "_CHUNK_BYTES", 16)
    repository.commit({f"f{shift}": "." * shift + f"canary-{shift:02}" + "." * 20 for shift in range(20)})
    values = {f"{shift:02}": f"canary-{shift:02}" for shift in range(20)}
    assert [each.label for each in look(repository, **values)] == sorted(values)


@pytest.mark.parametrize("value", ["", "abc", "12345", "\n\n", "a\nb\nc"])
def test_does_not_look_for_values_that_stand_everywhere(repository: Repository, value: str) -> None:
    repository.commit({"a": "abc 12345 a b c"})
    assert look(repository, pw=value) == []


def test_reports_progress_up_to_the_end(repository: Repository) -> None:
    repository.commit({"a": "1", "b": "2"})
    seen: list[tuple[int, int]] = []
    find_in_history(repository.folder, {"x": Secret("canary")}, progress=lambda done, of: seen.append((done, of)))
    assert seen[-1] == (2, 2)


def test_no_value_is_an_argument_of_a_process(repository: Repository) -> None:
    repository.commit({"a": "argument-canary"})
    arguments: list[str] = []

    def watch(event: str, details: tuple[object, ...]) -> None:
        if event == "subprocess.Popen" and watching:
            arguments.append(repr(details))

    watching = True
    sys.addaudithook(watch)
    try:
        assert look(repository, x="argument-canary")
    finally:
        watching = False
    assert arguments
    assert not any("argument-canary" in each for each in arguments)


def test_refuses_a_folder_without_a_repository(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        find_in_history(tmp_path, {"x": Secret("canary")})
    assert caught.value.code == "usage"


def test_says_when_git_is_missing(repository: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unsupported) as caught:
        look(repository, x="canary")
    assert caught.value.code == "unsupported"


def test_ignores_the_repository_that_the_environment_names(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    repository.commit({"a": "environment-canary"})
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert len(find_in_history(repository.folder, {"x": Secret("environment-canary")})) == 1


def test_settings_of_git_do_not_hide_anything(repository: Repository) -> None:
    for setting, value in {
        "log.showSignature": "true",
        "log.showRoot": "false",
        "log.diffMerges": "off",
        "diff.relative": "true",
        "diff.renames": "copies",
        "color.ui": "always",
        "core.abbrev": "7",
        "core.quotePath": "true",
    }.items():
        repository.git("config", setting, value)
    repository.commit({"sub/ä": "settings-canary", "other/x": "outside-canary"})
    values = {"x": Secret("settings-canary"), "y": Secret("outside-canary")}
    found = find_in_history(repository.folder / "sub", values)
    assert [each.path for each in found] == ["sub/ä", "other/x"]
