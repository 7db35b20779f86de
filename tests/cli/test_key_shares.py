"""`securecfg key split` and `combine`, and a vault that opens with shares."""

from __future__ import annotations

import resource
import shutil
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from securecfg.cli.key_shares import _written
from securecfg.errors import CommitUnknown, StoreBusy
from securecfg.keys import Share, format_share, generate_shares
from tests.cli.running import CANARY, Terminal, call, command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.running import Cli

SPLIT = ("key", "split", "--threshold", "3", "--shares", "5", "--out")


@pytest.fixture
def shared(stored: Path, cli: Cli) -> list[Path]:
    """The files of five shares, three of which open the vault of a project."""
    assert cli(*SPLIT, "shares", "--label", "board").code == 0
    return sorted((stored / "shares").iterdir())


def uri(*files: Path) -> str:
    return "shamir:" + ",".join(map(str, files))


def slots(cli: Cli) -> list[tuple[int, str, str]]:
    return [(slot["slot"], slot["kind"], slot["label"]) for slot in cli("key", "list", "--json").json["slots"]]


# --- split ------------------------------------------------------------------------------------------------------------


def test_split_adds_a_slot_and_writes_one_line_for_each_holder(stored: Path, cli: Cli) -> None:
    outcome = cli(*SPLIT, "shares", "--label", "board", "--json")
    files = sorted((stored / "shares").iterdir())
    assert outcome.json == {
        "slot": 3,
        "kind": "shamir",
        "label": "board",
        "threshold": 3,
        "shares": 5,
        "files": [f"shares/{path.name}" for path in files],
    }
    assert slots(cli)[2] == (3, "shamir", "board")
    assert [path.name for path in files] == [f"share-{number}.txt" for number in range(1, 6)]
    assert stat.S_IMODE((stored / "shares").stat().st_mode) == 0o700
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.read_bytes().count(b"\n") == 1
        assert path.read_text()[45:80] not in outcome.text + outcome.err
    assert cli("vault", "status", "--json").json["slots_by_kind"]["shamir"] == 1


def test_names_of_many_files_are_in_order(project: Path, cli: Cli) -> None:
    assert cli("key", "split", "--threshold", "2", "--shares", "12", "--out", "many").code == 0
    names = sorted(path.name for path in (project / "many").iterdir())
    assert names == [f"share-{number:02}.txt" for number in range(1, 13)]


def test_any_three_of_five_open_the_vault(shared: list[Path], cli: Cli) -> None:
    for chosen in (shared[:3], shared[:1:-1], shared):
        read = cli("secret", "get", "db/main", "--reveal", "--key", uri(*chosen), reveals=True)
        assert (read.code, read.text) == (0, CANARY)
    assert cli("key", "test", uri(*shared[1:4]), "--json").json["slot"] == 3


def test_split_never_writes_over_anything(shared: list[Path], cli: Cli) -> None:
    before = {path: path.read_bytes() for path in shared}
    known = slots(cli)
    for flags in ([], ["--dry-run"]):
        outcome = cli(*SPLIT, "shares", "--json", *flags)
        assert (outcome.code, outcome.error) == (6, "already-exists")
    Path("link").symlink_to("nowhere")
    assert cli(*SPLIT, "link", "--json").error == "already-exists"
    assert {path: path.read_bytes() for path in shared} == before
    assert slots(cli) == known


def test_a_dry_run_changes_nothing(project: Path, cli: Cli) -> None:
    before = slots(cli)
    outcome = cli(*SPLIT, "shares", "--dry-run")
    assert outcome.text == "would add  a slot, 3 of 5   would write  5 files to shares\n"
    assert cli(*SPLIT, "shares", "--dry-run", "--json").json["is_done"] is False
    assert not (project / "shares").exists()
    assert slots(cli) == before


@pytest.mark.parametrize(("threshold", "count"), [("1", "3"), ("4", "3"), ("2", "256")])
def test_split_refuses_sets_that_make_no_sense(project: Path, cli: Cli, threshold: str, count: str) -> None:
    outcome = cli("key", "split", "--threshold", threshold, "--shares", count, "--out", "shares", "--json")
    assert (outcome.code, outcome.error) == (2, "usage")
    assert not (project / "shares").exists()


def test_splitting_is_decided_before_anything_is_looked_up(project: Path, cli: Cli) -> None:
    outcome = cli("key", "split", "--threshold", "9", "--shares", "3", "--out", ".", "--as", "user:eve", "--json")
    assert (outcome.code, outcome.error) == (5, "denied")


def test_a_slot_that_cannot_be_added_leaves_no_files(project: Path, cli: Cli) -> None:
    before = slots(cli)
    outcome = cli(*SPLIT, "shares", "--label", "x" * 256, "--json")
    assert (outcome.code, outcome.error) == (2, "invalid-metadata")
    assert not (project / "shares").exists()
    assert slots(cli) == before


def test_a_share_that_cannot_be_written_leaves_no_slot_and_no_files(project: Path, cli: Cli) -> None:
    before = slots(cli)
    done = subprocess.run(
        command(*SPLIT, "shares", "--json"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40, 40)),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 9, done.stdout
    assert not (project / "shares").exists()
    assert slots(cli) == before


def test_a_vault_that_cannot_be_written_gets_no_slot_and_no_files_are_left(project: Path, cli: Cli) -> None:
    import apsw

    before = slots(cli)
    writer = apsw.Connection(str(project / ".securecfg" / "shop.vault"))
    writer.execute("BEGIN IMMEDIATE")
    outcome = call(*SPLIT, "shares", "--json")
    writer.execute("ROLLBACK")
    writer.close()
    assert (outcome.code, outcome.error) == (9, "store-busy")
    assert not (project / "shares").exists()
    assert slots(cli) == before


def test_a_folder_in_no_folder_is_an_error(project: Path, cli: Cli) -> None:
    outcome = cli(*SPLIT, "none/shares", "--json")
    assert (outcome.code, outcome.error) == (9, "store-failed")
    assert len(slots(cli)) == 2


def test_an_ambiguous_commit_keeps_the_only_shares(tmp_path: Path) -> None:
    message = "the store failed"
    with pytest.raises(CommitUnknown) as raised, _written(tmp_path / "shares", generate_shares(2, 2)):
        raise CommitUnknown(message)
    assert len(list((tmp_path / "shares").iterdir())) == 2
    assert str(tmp_path / "shares") in raised.value.hint


def test_an_interruption_after_the_shares_are_written_keeps_them(tmp_path: Path) -> None:
    """It may have come after the commit, and then these are the only shares of a slot that is there."""
    with pytest.raises(KeyboardInterrupt), _written(tmp_path / "shares", generate_shares(2, 2)):
        raise KeyboardInterrupt
    assert len(list((tmp_path / "shares").iterdir())) == 2


def test_an_interruption_while_they_are_written_takes_everything_back(tmp_path: Path) -> None:
    class Interrupted(list[Share]):
        def __iter__(self) -> Iterator[Share]:
            yield self[0]
            raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        _written(tmp_path / "shares", Interrupted(generate_shares(2, 2))),
    ):
        pytest.fail("nothing follows")
    assert not (tmp_path / "shares").exists()


def test_what_was_refused_takes_everything_back(tmp_path: Path) -> None:
    message = "somebody else"
    with pytest.raises(StoreBusy), _written(tmp_path / "shares", generate_shares(2, 2)):
        raise StoreBusy(message)
    assert not (tmp_path / "shares").exists()


# --- combine ----------------------------------------------------------------------------------------------------------


def test_combine_tells_which_slot_opens_and_prints_no_key(shared: list[Path], cli: Cli) -> None:
    given = [str(path) for path in (shared[4], shared[0], shared[2])]
    # The shares alone are enough: whoever uses them may have lost every other key.
    arguments = ("key", "combine", *given, "--key", "file:lost")
    assert cli(*arguments).text == "opens  slot 3   shares  1, 3, 5 of 5, 3 needed\n"
    assert cli(*arguments, "--json").json == {"slot": 3, "threshold": 3, "shares": 5, "given": [1, 3, 5]}


def test_combine_says_what_is_wrong(shared: list[Path], cli: Cli) -> None:
    assert cli(*SPLIT, "other").code == 0
    (other,) = Path("other").glob("share-3*")
    one, two, three, *_ = map(str, shared)
    cases = {
        "2 given": (one, two),
        "twice": (one, two, two),
        "another set": (one, two, str(other)),
    }
    for words, files in cases.items():
        outcome = cli("key", "combine", *files, "--json")
        assert (outcome.code, outcome.error) == (7, "share-refused")
        assert words in outcome.json["error"]["message"]
        assert cli("vault", "open", "--key", uri(*map(Path, files)), "--json").error == "share-refused"
    assert cli("key", "combine", one, two, three).code == 0
    assert cli("key", "combine", one, two, "absent", "--json").error == "file-missing"


def test_an_altered_character_is_refused_and_the_file_named(shared: list[Path], cli: Cli) -> None:
    text = shared[1].read_text()
    for place in range(len(text) - 1):
        shared[1].write_text(text[:place] + ("1" if text[place] == "0" else "0") + text[place + 1 :])
        outcome = cli("key", "combine", *map(str, shared[:3]), "--json")
        assert (outcome.code, outcome.error) == (7, "share-refused")
        assert f"`{shared[1]}`" in outcome.json["error"]["message"]


def test_shares_of_a_removed_slot_open_nothing(shared: list[Path], cli: Cli) -> None:
    assert cli("key", "remove", "3", "--yes").code == 0
    outcome = cli("key", "combine", *map(str, shared), "--json")
    assert (outcome.code, outcome.error) == (7, "wrong-key")


def test_combine_needs_a_vault(shared: list[Path], cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = [str(shutil.copy(path, tmp_path / path.name)) for path in shared]
    monkeypatch.chdir(tmp_path)
    assert cli("key", "combine", *copies, "--json").error == "setting-missing"


def test_shares_are_asked_for_one_by_one(shared: list[Path]) -> None:
    terminal = Terminal("key", "combine")
    for prompt, path in (("share 1: ", shared[0]), ("share 2 of 3: ", shared[3]), ("share 3 of 3: ", shared[1])):
        terminal.expect(prompt)
        terminal.type(path.read_text().strip())
    assert terminal.end() == 0
    assert "opens  slot 3" in terminal.shown
    assert "SECURECFG-SHARE" not in terminal.shown


def test_nobody_is_asked_for_shares_with_no_input(shared: list[Path], cli: Cli) -> None:
    outcome = cli("key", "combine", "--no-input", "--json")
    assert (outcome.code, outcome.error) == (2, "setting-missing")


def test_a_share_is_what_the_library_says_it_is(shared: list[Path]) -> None:
    from securecfg.keys.shares import read_share

    assert [f"{format_share(read_share(path))}\n" for path in shared] == [path.read_text() for path in shared]
