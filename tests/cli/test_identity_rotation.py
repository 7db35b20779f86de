"""`securecfg identity rotate`: a new key pair that the old one has signed for, and how a vault follows."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import securecfg.cli.identity_rotation
from securecfg.cli.identity_rotation import Rotation, _alone_with
from securecfg.errors import Conflict, StoreFailed
from securecfg.files import write_atomically
from securecfg.keys.identity import IdentityFile, compose_identity_file, read_identity_file
from tests.cli.running import CANARY, Terminal

if TYPE_CHECKING:
    from tests.cli.running import Cli


@pytest.fixture
def web(stored: Path, cli: Cli) -> Path:
    """A project whose slot 3 is sealed to the identity svc:web, in `web` and `web.pub`."""
    assert cli("identity", "create", "svc:web", "--out", "web", "--public", "web.pub").code == 0
    assert cli("key", "add", "identity:web.pub").code == 0
    return stored


def shown(cli: Cli, file: str, *flags: str) -> dict[str, object]:
    outcome = cli("identity", "show", file, *flags, "--json")
    assert outcome.code == 0, outcome.text
    found: dict[str, object] = outcome.json
    return found


def test_the_new_key_pair_takes_the_place_of_the_old_one_in_file_and_vault(web: Path, cli: Cli) -> None:
    before = shown(cli, "web")
    rotated = cli("identity", "rotate", "web", "--public", "new.pub", "--keep", "old", "--json").json
    assert rotated["former_fingerprint"] == before["fingerprint"] != rotated["fingerprint"]
    assert stat.S_IMODE(Path("web").stat().st_mode) == stat.S_IMODE(Path("old").stat().st_mode) == 0o600
    for file in ("web", "new.pub"):
        found = shown(cli, file)
        assert (found["name"], found["fingerprint"]) == ("svc:web", rotated["fingerprint"])
        assert found["former_fingerprints"] == [before["fingerprint"]]
    assert shown(cli, "old")["former_fingerprints"] == []
    # Until the vault has let the new one in, the old one opens it.
    assert cli("vault", "open", "--key", "identity:web", "--json").error == "wrong-key"
    assert cli("vault", "open", "--key", "identity:old").code == 0
    assert cli("key", "add", "identity:new.pub", "--json").json["principal"] == "svc:web"
    assert cli("vault", "open", "--key", "identity:web", "--json").json["principal"] == "svc:web"
    assert cli("key", "remove", "3", "--yes").code == 0
    assert cli("vault", "open", "--key", "identity:old", "--json").error == "wrong-key"
    assert cli("vault", "open", "--key", "identity:web").code == 0


def test_a_chain_leads_from_any_former_fingerprint_to_the_one_of_today(web: Path, cli: Cli) -> None:
    seen = [shown(cli, "web")["fingerprint"]]
    for number in range(9):
        assert cli("identity", "rotate", "web", "--yes").code == 0
        seen.insert(0, shown(cli, "web")["fingerprint"])
        assert shown(cli, "web")["former_fingerprints"] == seen[1:9], number
    for known in seen[:9]:
        assert shown(cli, "web", "--from", str(known))["fingerprint"] == seen[0]
    grouped = "-".join(str(seen[8])[start : start + 4] for start in range(0, 32, 4)).upper()
    assert shown(cli, "web", "--from", grouped)["fingerprint"] == seen[0]
    for unknown in (str(seen[9]), "0" * 32):
        outcome = cli("identity", "show", "web", "--from", unknown, "--json")
        assert (outcome.code, outcome.error) == (8, "signature-invalid")
    assert cli("identity", "show", "web", "--from", "f" * 31, "--json").error == "usage"


def test_export_prints_the_chain_and_opens_what_was_sealed(web: Path, cli: Cli) -> None:
    assert cli("identity", "rotate", "web", "--public", "new.pub", "--yes").code == 0
    assert cli("identity", "export", "web").text == Path("new.pub").read_text()
    Path("exported").write_text(cli("identity", "export", "web").text)
    assert cli("key", "add", "identity:exported").code == 0
    assert cli("vault", "open", "--key", "identity:web").code == 0


def test_the_same_passphrase_protects_the_new_key_pair_and_is_asked_for_once(
    stored: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PW", CANARY)
    made = cli("identity", "create", "ana", "--out", "ana", "--public", "p", "--protect", "passphrase:?env=PW")
    assert made.code == 0
    first = shown(cli, "ana")
    terminal = Terminal("identity", "rotate", "ana", "--yes")
    terminal.expect("passphrase: ")
    terminal.type(CANARY)
    assert terminal.end() == 0
    assert CANARY not in terminal.shown
    assert cli("identity", "rotate", "ana?env=PW", "--public", "new.pub", "--yes").code == 0
    assert shown(cli, "ana")["protection"] == "passphrase"
    assert first["fingerprint"] in shown(cli, "new.pub")["former_fingerprints"]  # type: ignore[operator]  # a list
    assert cli("key", "add", "identity:new.pub").code == 0
    assert cli("vault", "open", "--key", "identity:ana?env=PW").code == 0
    monkeypatch.setenv("PW", "another")
    before = Path("ana").read_bytes()
    assert cli("identity", "rotate", "ana?env=PW", "--yes", "--json").error == "wrong-key"
    assert Path("ana").read_bytes() == before


def test_another_key_can_protect_the_new_key_pair(web: Path, cli: Cli) -> None:
    cli("key", "generate", "k.key")
    rotated = cli("identity", "rotate", "web", "--protect", "file:k.key", "--yes", "--json").json
    assert rotated["protection"] == "file"
    assert cli("identity", "rotate", "web", "--yes").code == 0
    Path("k.key").unlink()
    assert cli("identity", "rotate", "web", "--yes", "--json").error == "file-missing"
    assert cli("identity", "rotate", "web", "--protect", "command:true", "--yes", "--json").error == "invalid-key-uri"


def test_what_cannot_be_undone_is_confirmed(web: Path, cli: Cli) -> None:
    before = Path("web").read_bytes()
    assert cli("identity", "rotate", "web", "--no-input", "--json").error == "confirmation-required"
    assert Path("web").read_bytes() == before
    assert cli("identity", "rotate", "web", "--keep", "old", "--no-input").code == 0
    assert Path("old").read_bytes() == before


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (("--keep", "there"), "already-exists"),
        (("--public", "there"), "already-exists"),
        (("--keep", "kept", "--public", "there"), "already-exists"),
        (("--keep", "kept", "--public", "none/new"), "store-failed"),
        (("--keep", "same", "--public", "same"), "usage"),
        (("--keep", "web"), "usage"),
    ],
)
def test_what_fails_leaves_the_old_key_pair_and_nothing_new(
    web: Path, cli: Cli, flags: tuple[str, ...], error: str
) -> None:
    Path("there").write_text("x")
    before, names = Path("web").read_bytes(), sorted(path.name for path in web.iterdir())
    assert cli("identity", "rotate", "web", *flags, "--yes", "--json").error == error
    assert Path("web").read_bytes() == before
    assert sorted(path.name for path in web.iterdir()) == names


def test_a_link_to_the_file_stays_one(web: Path, cli: Cli) -> None:
    (web / "away").mkdir()
    Path("web").rename(web / "away" / "web")
    Path("web").symlink_to(web / "away" / "web")
    before = Path("web").read_bytes()
    assert cli("identity", "rotate", "web", "--keep", "kept").code == 0
    assert Path("web").is_symlink()
    assert Path("kept").read_bytes() == before != Path("web").read_bytes()


def test_only_its_owner_replaces_an_identity(web: Path, cli: Cli) -> None:
    outcome = cli("identity", "rotate", "web.pub", "--yes", "--json")
    assert outcome.error == "key-provider-refused"
    assert cli("identity", "rotate", "absent", "--yes", "--json").error == "file-missing"
    Path("web").chmod(0o644)
    assert cli("identity", "rotate", "web", "--yes", "--json").error == "key-provider-refused"


def test_a_stranger_cannot_claim_to_be_a_successor(web: Path, cli: Cli) -> None:
    """Whoever has only the public half makes no chain that leads to a key of his own."""
    trusted = shown(cli, "web")["fingerprint"]
    assert cli("identity", "create", "svc:web", "--out", "own", "--public", "own.pub").code == 0
    assert cli("identity", "rotate", "own", "--public", "claim.pub", "--yes").code == 0
    assert cli("identity", "show", "claim.pub", "--from", str(trusted), "--json").code == 8
    stolen = Path("web.pub").read_text().split()[2]
    lines = Path("claim.pub").read_text().split("\n")
    lines[1] = " ".join(("SECURECFG-IDENTITY-PREVIOUS-1", stolen, *lines[1].split()[2:]))
    Path("claim.pub").write_text("\n".join(lines))
    for command in (("identity", "show", "claim.pub"), ("key", "add", "identity:claim.pub")):
        assert cli(*command, "--json").error == "key-provider-refused"


# --- no key pair is lost ----------------------------------------------------------------------------------------------


@pytest.fixture
def far(stored: Path, cli: Cli) -> str:
    """The URI of a key file whose path is valid, and too long for an identity's file once it is quoted."""
    folder = stored.joinpath(*["\N{LATIN SMALL LETTER U WITH DIAERESIS}" * 120] * 6)
    folder.mkdir(parents=True)
    assert cli("key", "generate", str(folder / "k")).code == 0
    return f"file:{folder / 'k'}"


def test_a_protecting_key_that_the_file_cannot_name_replaces_nothing(web: Path, cli: Cli, far: str) -> None:
    before = Path("web").read_bytes()
    outcome = cli("identity", "rotate", "web", "--protect", far, "--keep", "old", "--public", "p", "--yes", "--json")
    assert outcome.error == "invalid-key-uri"
    assert Path("web").read_bytes() == before
    assert not Path("old").exists()
    assert not Path("p").exists()


def test_no_identity_is_made_whose_file_cannot_be_read(stored: Path, cli: Cli, far: str) -> None:
    outcome = cli("identity", "create", "ana", "--out", "ana", "--public", "p", "--protect", far, "--json")
    assert outcome.error == "invalid-key-uri"
    assert not Path("ana").exists()
    assert not Path("p").exists()


def test_of_two_rotations_at_once_the_second_replaces_nothing(web: Path) -> None:
    first, second = Rotation.open("web", None), Rotation.open("web", None)
    first.write(first.protected(), "first.pub", None)
    with pytest.raises(Conflict):
        second.write(second.protected(), "second.pub", "kept")
    assert read_identity_file("web").identity == read_identity_file("first.pub").identity
    assert not Path("second.pub").exists()
    assert not Path("kept").exists()


def test_who_waits_for_another_rotation_does_not_replace_what_it_wrote(web: Path) -> None:
    first, second = Rotation.open("web", None), Rotation.open("web", None)
    content = compose_identity_file(IdentityFile(first.successor, first.protected(), first.previous))
    with ThreadPoolExecutor(1) as pool:
        with _alone_with("web"):
            waiting = pool.submit(second.write, second.protected(), None, None)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.2)
            write_atomically("web", content)
        with pytest.raises(Conflict):
            waiting.result()
    assert Path("web").read_bytes() == content


def test_no_public_half_is_there_before_its_private_half(web: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        message = "the power fails"
        raise StoreFailed(message)

    rotation = Rotation.open("web", None)
    monkeypatch.setattr(securecfg.cli.identity_rotation, "write_atomically", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)  # whoever dies takes nothing back
    with pytest.raises(StoreFailed):
        rotation.write(rotation.protected(), "new.pub", None)
    assert not Path("new.pub").exists()
