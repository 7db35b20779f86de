"""Key ceremonies: people at a terminal one after the other, shares in files, and the transcript that is left."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import securecfg.files
from securecfg.audit.note import parse_note
from securecfg.audit.transcript import _parse, sign_transcript
from securecfg.cli.ceremony_holders import Invited, written
from securecfg.errors import StoreFailed
from securecfg.keys import generate_shares
from securecfg.vault import Vault
from tests.cli.running import CANARY, Terminal

if TYPE_CHECKING:
    from tests.cli.running import Cli

SHARE = re.compile(r"SECURECFG-SHARE-1-[0-9a-f]{16}-\d+of\d+-\d+-[A-Za-z0-9_-]{44}-[0-9a-f]{8}")
ADD = ("key", "ceremony", "add", "--threshold", "2", "--transcript", "t.txt")


def take(terminal: Terminal, name: str, *, slips: int = 0) -> str:
    """Be a holder: read the share, and type the row that is asked for."""
    terminal.expect(f"is for {name}; all others look away, {name} types ")
    seen = len(terminal.shown)
    come(terminal)
    for slip in range(slips + 1):
        terminal.expect("when you have it [Enter] ")
        share: str = SHARE.findall(terminal.shown[seen:])[-1]
        terminal.type("")
        terminal.expect("of your share: ")
        row = int(re.findall(r"row (\d+) of your share: ", terminal.shown)[-1])
        right = share[16 * (row - 1) : 16 * row]
        terminal.type(right if slip == slips else "something else")
    return share


def come(terminal: Terminal) -> None:
    """Come to the terminal: type the number that is asked for."""
    if not (asked := re.findall(r"types (\d+): $", terminal.shown)):
        terminal.expect(": ")
        asked = re.findall(r"types (\d+): $", terminal.shown)
    terminal.type(asked[0])


def give(terminal: Terminal, name: str, share: str) -> None:
    terminal.expect(f"the share of {name}; all others look away, {name} types ")
    come(terminal)
    terminal.expect(f"share of {name}: ")
    terminal.type(share)


def holders(*names: str) -> tuple[str, ...]:
    return tuple(flag for name in names for flag in ("--holder", name))


def private_screens(raw: bytes) -> list[bytes]:
    return re.findall(rb"\x1b\[\?1049h(.*?)\x1b\[\?1049l", raw, re.DOTALL)


def everything_written(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.parent.rglob("*") if path.is_file())


# --- at the terminal --------------------------------------------------------------------------------------------------


def test_shares_are_shown_one_by_one_and_open_the_vault_later(stored: Path, cli: Cli) -> None:
    terminal = Terminal(*ADD, *holders("ana", "ben", "eve"), "--label", "board")
    shares = [take(terminal, name) for name in ("ana", "ben", "eve")]
    assert terminal.end() == 0
    assert "added    slot 3  shamir, 2 of 3" in terminal.shown
    assert cli("key", "list", "--json").json["slots"][2]["label"] == "board"

    recovery = Terminal("key", "ceremony", "recover", *holders("ben", "eve"), "--dry-run", "--key", "shamir:")
    give(recovery, "ben", shares[1])
    give(recovery, "eve", shares[2])
    assert recovery.end() == 0
    assert "would open  slot 3   2 of 3" in recovery.shown


def test_nothing_of_a_share_is_left_on_the_screen_or_on_disk(stored: Path) -> None:
    terminal = Terminal(*ADD, *holders("ana", "ben"))
    shares = [take(terminal, name) for name in ("ana", "ben")]
    assert terminal.end() == 0
    screens = private_screens(terminal.raw)
    assert len(screens) == 2
    left = re.sub(rb"\x1b\[\?1049h.*?\x1b\[\?1049l", b"", terminal.raw, flags=re.DOTALL)
    written = everything_written(stored)
    for share, screen in zip(shares, screens, strict=True):
        # Cleared before the row is typed, and again before the screen is left.
        assert screen.count(b"\x1b[2J\x1b[3J\x1b[H") == 3
        assert screen.endswith(b"\x1b[2J\x1b[3J\x1b[H")
        after = screen.rsplit(b"when you have it", 1)[1]
        for row in (share[start : start + 16].encode() for start in range(48, 86, 16)):
            assert row in screen
            assert row not in after
            assert row not in left
            assert row not in written
        assert share[42:86].encode() not in left + written


def test_a_slip_is_shown_again_and_three_end_it(stored: Path, cli: Cli) -> None:
    terminal = Terminal(*ADD, *holders("ana", "ben"))
    take(terminal, "ana", slips=2)
    take(terminal, "ben")
    assert terminal.end() == 0
    refused = Terminal(*ADD[:-1], "u.txt", *holders("ana", "ben"))
    refused.expect("is for ana")
    come(refused)
    for _ in range(3):
        refused.expect("when you have it")
        refused.type("")
        refused.expect("of your share: ")
        refused.type("wrong")
    assert refused.end() == 2
    assert "ana did not confirm share 1" in refused.shown
    assert not Path("u.txt").exists()
    assert len(cli("key", "list", "--json").json["slots"]) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_who_interrupts_a_ceremony_changes_nothing_and_leaves_a_clean_screen(
    stored: Path, cli: Cli, number: signal.Signals
) -> None:
    terminal = Terminal(*ADD, *holders("ana", "ben", "eve=eve.share"))
    take(terminal, "ana")
    terminal.expect("is for ben")
    come(terminal)
    terminal.expect("when you have it")
    terminal.interrupt(number)
    assert terminal.end() != 0
    assert terminal.raw.rindex(b"\x1b[?1049l") > terminal.raw.rindex(b"when you have it")
    assert len(cli("key", "list", "--json").json["slots"]) == 2
    assert not Path("t.txt").exists()
    assert not Path("eve.share").exists()


def test_who_presses_enter_twice_does_not_see_the_share_of_the_next_one(stored: Path) -> None:
    terminal = Terminal(*ADD, *holders("ana", "ben"), "--dry-run")
    take(terminal, "ana")
    for _ in range(3):
        terminal.expect("is for ben; all others look away, ben types 2: ")
        terminal.type("")
    terminal.type("1")
    terminal.expect("is for ben; all others look away, ben types 2: ")
    terminal.settle()
    assert len(set(SHARE.findall(terminal.shown))) == 1
    come(terminal)
    terminal.expect("when you have it")
    assert len(set(SHARE.findall(terminal.shown))) == 2
    terminal.interrupt()
    assert terminal.end() != 0
    assert terminal.shown.count("when you have it") == 2


def test_a_rehearsal_shows_everything_and_changes_nothing(stored: Path, cli: Cli) -> None:
    terminal = Terminal(*ADD, *holders("ana", "ben", "eve=eve.share"), "--dry-run")
    shares = [take(terminal, name) for name in ("ana", "ben")]
    assert terminal.end() == 0
    assert terminal.shown.count("This is a rehearsal: the share opens nothing.") == 2
    assert "would add  a slot   2 of 3   nothing was changed" in terminal.shown
    assert len(cli("key", "list", "--json").json["slots"]) == 2
    assert not Path("t.txt").exists()
    assert not Path("eve.share").exists()
    recovery = Terminal("key", "ceremony", "recover", *holders("ana", "ben"), "--dry-run", "--key", "shamir:")
    give(recovery, "ana", shares[0])
    give(recovery, "ben", shares[1])
    assert recovery.end() == 7


def test_a_vault_can_be_created_by_a_ceremony_and_be_recovered_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    monkeypatch.chdir(tmp_path)
    creating = Terminal(
        "key", "ceremony", "create", "v", "--admin", "ana", "--threshold", "2", *holders("ana", "ben", "eve"),
        "--transcript", "t.txt",
    )  # fmt: skip
    shares = [take(creating, name) for name in ("ana", "ben", "eve")]
    assert creating.end() == 0
    vkey = re.findall(r"vkey +(\S+) ", creating.shown)[0]
    found = cli("key", "ceremony", "verify", "t.txt", "--vkey", vkey, "--json").json
    assert (found["kind"], found["principal"], found["slot"], found["shares"]) == ("created", "user:ana", 1, 3)

    assert cli("key", "generate", "new.key").code == 0
    recovering = Terminal(
        "key", "ceremony", "recover", *holders("eve", "ana"), "--add-key", "file:new.key", "--transcript", "r.txt",
        "--vault", "v", "--as", "user:ana",
    )  # fmt: skip
    give(recovering, "eve", shares[2])
    give(recovering, "ana", shares[0])
    assert recovering.end() == 0
    flags = ("--vault", "v", "--key", "file:new.key", "--as", "user:ana")
    assert cli("secret", "put", "a", *flags, stdin=CANARY).code == 0
    for arguments in (("--vkey", vkey), flags):
        found = cli("key", "ceremony", "verify", "r.txt", *arguments, "--json").json
        assert (found["kind"], found["slot"], found["new_slot"]) == ("recovered", 1, 2)
        assert [(one["share"], one["name"]) for one in found["holders"]] == [(1, "ana"), (3, "eve")]


def test_a_share_that_is_mistyped_can_be_given_again_and_another_set_is_refused(stored: Path) -> None:
    terminal = Terminal(*ADD, *holders("ana", "ben"))
    shares = [take(terminal, name) for name in ("ana", "ben")]
    assert terminal.end() == 0
    recovery = Terminal("key", "ceremony", "recover", *holders("ana", "ben"), "--dry-run", "--key", "shamir:")
    give(recovery, "ana", shares[0][:-1])
    recovery.expect("this is not a share, or it was altered; share of ana: ")
    recovery.type(shares[0])
    give(recovery, "ben", shares[0])
    recovery.expect("share 1 is given twice")
    recovery.type(shares[1])
    assert recovery.end() == 0


# --- with files and identities ----------------------------------------------------------------------------------------


@pytest.fixture
def board(stored: Path, cli: Cli) -> Path:
    """A project, and the identities of ben and eve."""
    for name in ("ben", "eve"):
        assert cli("identity", "create", name, "--out", f"{name}.identity", "--public", f"{name}.pub").code == 0
    return stored


SEALED = holders("ana=ana.share", "ben=ben.share,identity:ben.pub", "eve=eve.share,identity:eve.pub")


def test_shares_in_files_need_no_terminal(board: Path, cli: Cli) -> None:
    made = cli(*ADD, *SEALED, "--json").json
    assert (made["slot"], made["threshold"], made["shares"]) == (3, 2, 3)
    assert [one["way"].partition(":")[0] for one in made["holders"]] == ["file", "identity", "identity"]
    assert SHARE.fullmatch(Path("ana.share").read_text().strip())
    assert Path("ben.share").read_text().startswith("SECURECFG-SEALED-SHARE-1 ")
    cli("key", "generate", "new.key")
    given = holders("eve=eve.share,identity:eve.identity", "ana=ana.share")
    done = cli(
        "key", "ceremony", "recover", *given, "--add-key", "file:new.key", "--transcript", "r.txt", "--json"
    ).json
    assert done["new_slot"] == 4
    assert cli("secret", "get", "db/main", "--reveal", "--key", "file:new.key", reveals=True).text == CANARY
    wanted = [(one["check"], one["name"]) for one in made["holders"] if one["name"] != "ben"]
    found = cli("key", "ceremony", "verify", "r.txt", "--json").json
    assert [(one["check"], one["name"]) for one in found["holders"]] == wanted


def test_who_holds_a_sealed_share_can_open_it_for_other_commands(board: Path, cli: Cli) -> None:
    assert cli(*ADD, *SEALED).code == 0
    opening = ("key", "ceremony", "open", "ben.share", "--with", "identity:ben.identity")
    assert cli(*opening, "--out", "plain").code == 0
    assert cli("key", "combine", "plain", "ana.share").code == 0
    assert cli(*opening, "--out", "plain", "--json").error == "already-exists"
    assert cli(*opening[:-1], "identity:eve.identity", "--out", "p", "--json").error == "share-refused"
    assert cli(*opening[:-1], "file:x", "--out", "p", "--json").error == "usage"
    assert cli(*opening[:3], "ana.share", *opening[4:], "--out", "p", "--json").error == "share-refused"
    assert not Path("p").exists()


def test_what_fails_leaves_no_share_behind(board: Path, cli: Cli) -> None:
    Path("eve.share").touch()
    assert cli(*ADD, *SEALED, "--json").error == "already-exists"
    assert not Path("ana.share").exists()
    Path("eve.share").unlink()
    Path("t.txt").touch()
    assert cli(*ADD, *SEALED, "--json").error == "already-exists"
    assert not Path("ana.share").exists()
    cli("secret", "put", "x", stdin="y")
    Path("t.txt").unlink()
    denied = cli(*ADD, *SEALED, "--as", "user:nobody", "--json")
    assert denied.code == 5
    assert not Path("ana.share").exists()
    assert len(cli("key", "list", "--json").json["slots"]) == 2


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full when it comes to the transcript."""
    create = securecfg.files.create_private

    def refuse(path: str, content: bytes) -> None:
        if Path(path).suffix == ".txt":
            message = f"cannot write `{path}`: no space left on device"
            raise StoreFailed(message)
        create(path, content)

    monkeypatch.setattr(securecfg.files, "create_private", refuse)


@pytest.mark.usefixtures("full")
def test_a_transcript_that_cannot_be_written_is_printed(board: Path, cli: Cli) -> None:
    outcome = cli(*ADD, *SEALED)
    assert outcome.code == 9
    assert "securecfg-ceremony/1\n" in outcome.err
    assert "the change is made" in outcome.err
    text = outcome.err[outcome.err.index("securecfg-ceremony") :].partition("\nerror:")[0]
    Path("t.txt").write_text(text.rstrip("\n") + "\n")
    assert cli("key", "ceremony", "verify", "t.txt").code == 0


@pytest.mark.usefixtures("full")
def test_a_new_recovery_code_is_shown_though_the_transcript_cannot_be_written(
    board: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli(*ADD, *SEALED).code == 9
    given = holders("ana=ana.share", "ben=ben.share,identity:ben.identity")
    outcome = cli("key", "ceremony", "recover", *given, "--add-key", "recovery:", "--transcript", "r.txt", reveals=True)
    assert outcome.code == 9
    monkeypatch.setenv("CODE", re.findall(r"recovery code (\S+)", outcome.err)[0])
    assert cli("vault", "open", "--key", "recovery:?env=CODE").code == 0


def test_a_transcript_without_a_place_is_refused_before_anybody_comes(board: Path, cli: Cli) -> None:
    for file, error in (("none/t.txt", "store-failed"), ("ana.share", "usage"), ("./ben.share", "usage")):
        assert cli(*ADD[:-1], file, *SEALED, "--json").error == error
    assert not Path("ana.share").exists()
    assert len(cli("key", "list", "--json").json["slots"]) == 2
    assert cli(*ADD, *SEALED).code == 0
    given = holders("ana=ana.share", "ben=ben.share,identity:ben.identity")
    for file in ("none/t.txt", "ana.share"):
        outcome = cli("key", "ceremony", "recover", *given, "--add-key", "recovery:", "--transcript", file)
        assert outcome.code in {6, 9}
    assert len(cli("key", "list", "--json").json["slots"]) == 3


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), RuntimeError()])
def test_share_files_stay_where_the_slot_may_be_there(tmp_path: Path, error: BaseException) -> None:
    invited = [Invited(name, str(tmp_path / name), None) for name in ("ana", "ben")]
    with pytest.raises(type(error)), written(invited, generate_shares(2, 2)):
        raise error
    assert (tmp_path / "ana").exists()
    assert (tmp_path / "ben").exists()


def test_a_share_file_that_is_gone_keeps_no_other_one_from_being_deleted(tmp_path: Path) -> None:
    invited = [Invited(name, str(tmp_path / name), None) for name in ("ana", "ben")]

    def fail() -> None:
        (tmp_path / "ana").rename(tmp_path / "stick")
        message = "busy"
        raise StoreFailed(message)

    with pytest.raises(StoreFailed, match="busy"), written(invited, generate_shares(2, 2)):
        fail()
    assert not (tmp_path / "ben").exists()


@pytest.mark.parametrize(
    "given",
    [
        ("ana=", "ben=b"),
        ("=a", "ben=b"),
        (" ana=a", "ben=b"),
        ("ana\x1b[2J=a", "ben=b"),
        ("ana=a", "ana=b"),
        ("ana=a", "ben=a"),
        ("ana=a,identity:", "ben=b"),
        ("ana=a",),
    ],
)
def test_refuses_holders_that_are_not_several_people(stored: Path, cli: Cli, given: tuple[str, ...]) -> None:
    assert cli(*ADD, *holders(*given), "--json").code == 2
    assert not Path("t.txt").exists()


def test_what_is_missing_is_said_before_anything_is_done(board: Path, cli: Cli) -> None:
    no_transcript = cli("key", "ceremony", "add", "--threshold", "2", *SEALED, "--json")
    assert no_transcript.error == "setting-missing"
    no_terminal = cli(*ADD, *holders("ana", "ben"), "--no-input", "--json")
    assert no_terminal.error == "setting-missing"
    no_key = cli("key", "ceremony", "recover", "--holder", "ana=a", "--transcript", "r", "--json")
    assert no_key.error == "usage"
    nobody = cli(*ADD, *holders("ana=a,identity:absent.pub", "ben=b"), "--json")
    assert nobody.error == "file-missing"
    assert len(cli("key", "list", "--json").json["slots"]) == 2


def test_too_few_shares_and_the_wrong_kind_of_file_are_refused(board: Path, cli: Cli) -> None:
    assert cli(*ADD, *SEALED).code == 0
    recover = ("key", "ceremony", "recover", "--dry-run", "--json")
    assert cli(*recover, *holders("ana=ana.share")).error == "share-refused"
    assert cli(*recover, *holders("ana=ana.share", "ben=ben.share")).error == "usage"
    assert cli(*recover, *holders("ana=ana.share,identity:ben.identity", "eve=eve.share")).error == "usage"
    public = holders("ana=ana.share", "ben=ben.share,identity:ben.pub")
    assert cli(*recover, *public).error == "key-provider-refused"
    Path("ana.share").chmod(0o644)
    private = holders("ana=ana.share", "ben=ben.share,identity:ben.identity")
    assert cli(*recover, *private).error == "key-provider-refused"
    Path("ana.share").chmod(0o600)
    assert cli(*recover, *private).json["is_done"] is False


# --- the transcript ---------------------------------------------------------------------------------------------------


def test_a_transcript_is_verified_offline_also_after_the_signing_key_changed(
    board: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    vkey = cli("audit", "verify", "--json").json["first_vkey"]
    assert cli("key", "rotate", "audit").code == 0
    assert cli(*ADD, *SEALED).code == 0
    assert cli("key", "rotate", "audit").code == 0
    assert cli("secret", "put", "x", stdin="y").code == 0
    assert cli("key", "ceremony", "verify", "t.txt", "--json").json["compared_with_vault"] is True
    later = cli("audit", "verify", "--json").json["vkey"]
    Path("vkey").write_text(f"{vkey}\n")
    monkeypatch.setenv("SECURECFG_VAULT", "no.vault")
    for given in (vkey, "vkey"):
        assert cli("key", "ceremony", "verify", "t.txt", "--vkey", given, "--json").json["compared_with_vault"] is False
    assert cli("key", "ceremony", "verify", "t.txt", "--vkey", later, "--json").code == 8


def test_an_altered_transcript_and_one_of_another_vault_are_refused(
    board: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli(*ADD, *SEALED).code == 0
    whole = Path("t.txt").read_text()
    Path("t.txt").write_text(whole.replace(" ana\n", " eva\n"))
    assert cli("key", "ceremony", "verify", "t.txt", "--json").error == "signature-invalid"
    Path("t.txt").write_text(whole)
    (board.parent / "other").mkdir()
    monkeypatch.chdir(board.parent / "other")
    assert cli("init").code == 0
    outcome = cli("key", "ceremony", "verify", str(board / "t.txt"), "--json")
    assert (outcome.code, outcome.error) == (8, "signature-invalid")


def test_a_vault_that_went_back_does_not_continue_a_transcript(board: Path, cli: Cli) -> None:
    vault = board / cli("vault", "status", "--json").json["vault"]
    before = vault.read_bytes()
    assert cli(*ADD, *SEALED).code == 0
    vault.write_bytes(before)
    assert cli("vault", "adopt", "--yes").code == 0
    outcome = cli("key", "ceremony", "verify", "t.txt", "--json")
    assert outcome.code == 8
    assert outcome.error in {"log-truncated", "log-tampered"}


@pytest.mark.parametrize("is_earlier", [False, True])
def test_a_stolen_signing_key_that_was_replaced_makes_no_transcript_of_a_later_time(
    board: Path, cli: Cli, *, is_earlier: bool
) -> None:
    if is_earlier:
        assert cli("key", "rotate", "audit").code == 0
    with Vault.open() as vault:
        stolen = vault.opened.replica.signer
    assert cli("key", "rotate", "audit").code == 0
    assert cli(*ADD, *SEALED).code == 0
    honest = _parse(parse_note(Path("t.txt").read_bytes()).text)
    first, *others = honest.holders
    forged = honest._replace(
        holders=(first._replace(name="mallory"), *others), hand_overs=honest.hand_overs[: int(is_earlier)]
    )
    Path("forged.txt").write_bytes(sign_transcript(forged, stolen))
    assert cli("key", "ceremony", "verify", "t.txt").code == 0
    outcome = cli("key", "ceremony", "verify", "forged.txt", "--json")
    assert (outcome.code, outcome.error) == (8, "signature-invalid")


def test_a_transcript_holds_no_secret(board: Path, cli: Cli) -> None:
    assert cli(*ADD, *SEALED).code == 0
    share = Path("ana.share").read_text().strip()
    text = Path("t.txt").read_text()
    assert share[-8:] in text
    assert share[42:86] not in text
    assert all(share[start : start + 8] not in text for start in range(42, 78, 4))
