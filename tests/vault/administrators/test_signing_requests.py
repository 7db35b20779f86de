"""Administrators who sign elsewhere: files that ask for signatures, and what these say."""

from __future__ import annotations

import threading
import time
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Self

import pytest

from securecfg.crypto import Label
from securecfg.errors import Conflict, FileMissing, InvalidMetadata, SignaturesMissing
from securecfg.keys.role_keys import Certificate
from securecfg.keys.trust import Trust
from securecfg.vault.administrators.introductions import IntroducedScope, word_introduction
from securecfg.vault.administrators.replacing import AdministratorChanges
from securecfg.vault.administrators.signing_requests import Request, RequestedSignatures, read_request, write_signatures
from securecfg.vault.administrators.signing_words import to_words
from securecfg.vault.drops.orders import DropOrder
from securecfg.vault.scopes.charters import LIST, READ, Charter, Party
from securecfg.vault.scopes.scopes import Scopes
from securecfg.vault.trust.successions import step_message
from tests.vault.administrators.test_administrators import PEOPLE
from tests.vault.scope_world import accepted_by, pay_world

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from securecfg.vault.trust.signatories import Signatories
    from tests.vault.scope_world import ScopeWorld

world = pay_world
VAULT_ID, SCOPE_ID = b"v" * 16, b"s" * 16
ALICE, BOB, CAROL, DAVE = PEOPLE.identities
TRUST = Trust((ALICE.verifier, BOB.verifier, CAROL.verifier), 2)


def a_charter(path: str = "pay/", role: str = "pay") -> Charter:
    parties = (Party(role, LIST | READ, b"2" * 16, b"k" * 32),)
    return Charter(VAULT_ID, SCOPE_ID, 3, bytes(32), path, False, b"d" * 32, b"e" * 32, parties)


class Elsewhere:
    """People who look into a folder, and sign what they find there."""

    def __init__(self, folder: Path, *names: str, before: Callable[[], None] = lambda: None) -> None:
        """Sign as some people; `before` is called when a charter is asked for."""
        self._folder = folder
        self._names = names
        self._before = before
        self._has_ended = threading.Event()
        self.seen: list[str] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._has_ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._has_ended.wait(0.02):
            for file in self._folder.glob("*.request"):
                try:
                    request = read_request(file)
                except FileMissing:
                    continue
                if request.id not in self.seen:
                    self.seen.append(request.id)
                    if request.to_words()[0].startswith("charter"):
                        self._before()
                    for person in PEOPLE.named(*self._names):
                        write_signatures(file, request, person.verifier, PEOPLE.signers[person.verifier])


def asking(folder: Path, *here: str, wait_s: float = 20) -> Callable[[Trust], Signatories]:
    keys = {person.verifier: PEOPLE.signers[person.verifier] for person in PEOPLE.named(*here)}
    return lambda trust: RequestedSignatures(trust, keys, folder, wait_s=wait_s)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("securecfg.vault.administrators.signing_requests._PAUSE_S", 0.02)


# --- asking -----------------------------------------------------------------------------------------------------------


def test_some_sign_here_and_others_elsewhere(tmp_path: Path) -> None:
    messages = [a_charter().message, a_charter("web/").message]
    with Elsewhere(tmp_path, "carol"):
        signed = asking(tmp_path, "alice")(TRUST).sign(messages, "two charters")
    assert all(TRUST.holds(each, message) for each, message in zip(signed, messages, strict=True))
    assert list(tmp_path.iterdir()) == []


def test_nobody_is_asked_where_enough_are_here(tmp_path: Path) -> None:
    (signed,) = asking(tmp_path / "none", "alice", "bob")(TRUST).sign([a_charter().message], "a charter")
    assert TRUST.holds(signed, a_charter().message)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("names", [(), ("dave",), ("alice",)])
def test_waits_only_so_long_and_leaves_nothing_behind(tmp_path: Path, names: tuple[str, ...]) -> None:
    with Elsewhere(tmp_path, *names), pytest.raises(SignaturesMissing, match="1 of the 2"):
        asking(tmp_path, "alice", wait_s=0.3)(TRUST).sign([a_charter().message], "a charter")
    assert not list(tmp_path.glob("*.request"))


def test_an_interruption_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: float) -> None:
        assert len(list(tmp_path.glob("*.request"))) == 1
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        asking(tmp_path)(TRUST).sign([a_charter().message], "a charter")
    assert list(tmp_path.iterdir()) == []


def test_signatures_that_are_none_do_not_count(tmp_path: Path) -> None:
    message = a_charter().message
    request = Request((message,))
    other = Request((a_charter("web/").message,))
    name = request.id[:16]
    key, sign = BOB.verifier.hex(), PEOPLE.signers[BOB.verifier]
    front = f"SECURECFG-SIGNATURES-1 {request.id}\n{key}\n"
    right, wrong = sign(message).hex(), sign(other.messages[0]).hex()
    bad = [
        front + wrong + "\n",
        front,
        front + right[:-2] + "\n",
        front + right + "\n" + right + "\n",
        front.replace(request.id, other.id) + right + "\n",
        front.replace(key, CAROL.verifier.hex()) + right + "\n",
        front.replace(key, "x") + right + "\n",
        "\xff",
        "",
    ]
    for number, text in enumerate(bad):
        (tmp_path / f"{name}.{number}.signatures").write_text(text, encoding="utf-8")
    with pytest.raises(SignaturesMissing):
        asking(tmp_path, "alice", wait_s=0)(TRUST).sign([message], "a charter")
    (tmp_path / f"{name}.x.signatures").write_text(front + right + "\n", encoding="utf-8")
    (signed,) = asking(tmp_path, "alice", wait_s=0)(TRUST).sign([message], "a charter")
    assert TRUST.holds(signed, message)


# --- request files ----------------------------------------------------------------------------------------------------


def test_a_request_says_what_is_signed_and_holds_the_exact_bytes(tmp_path: Path) -> None:
    request = Request((a_charter().message, step_message(VAULT_ID, TRUST, TRUST._replace(serial=1))))
    file = tmp_path / "x.request"
    file.write_text(request.to_text("charters"), encoding="utf-8")
    assert read_request(file) == request
    text = file.read_text(encoding="utf-8")
    assert "# charter, revision 3 (sealed, also from the vault's root), of the scope `pay/`" in text
    assert "# other administrators take over" in text


def test_the_words_of_a_request_persuade_nobody(tmp_path: Path) -> None:
    request = Request((a_charter().message,))
    lie = request.to_text("a charter").replace("pay: list, read", "pay: list").replace("`pay/`", "`lunch/`")
    file = tmp_path / "x.request"
    file.write_text(lie, encoding="utf-8")
    words = read_request(file).to_words()
    assert "  pay: list, read; key 6b6b 6b6b 6b6b 6b6b 6b6b 6b6b 6b6b 6b6b; slot " + (b"2" * 16).hex() in words
    assert words[0].endswith("of the scope `pay/`")


def test_files_that_are_no_requests_are_refused(tmp_path: Path) -> None:
    text = Request((a_charter().message,)).to_text("a charter")
    first, *rest = text.splitlines()
    encoded = urlsafe_b64encode(a_charter("web/").message).decode()
    file = tmp_path / "x.request"
    for bad in (
        "",
        first,
        "\n".join([first, f"bytes {encoded}"]),
        "\n".join([*rest]),
        text.replace("bytes ", "byte "),
        text.replace("bytes ", "bytes *"),
        text + f"bytes {encoded}\n",
        text + "more\n",
        text.replace("SECURECFG-REQUEST-1", "SECURECFG-REQUEST-2"),
    ):
        file.write_text(bad, encoding="utf-8")
        with pytest.raises(InvalidMetadata, match="no request"):
            read_request(file)
    file.write_bytes(b"\xff")
    with pytest.raises(InvalidMetadata):
        read_request(file)
    with pytest.raises(FileMissing):
        read_request(tmp_path / "absent")


def test_nothing_is_shown_as_signable_that_administrators_do_not_sign() -> None:
    charter = a_charter().message
    for bad in (
        b"",
        b"rm -rf /",
        charter[:-1],
        charter + b"x",
        Label.VOUCHER.encode() + b"\x00" + bytes(100),
        Label.CHARTER.encode() + b"/keys\x00" + bytes(100),
        a_charter(path="pay\x1b[2J/").message,
        a_charter(role="pay\nadministrator: list").message,
        a_charter(path="pay\u202e/").message,
        step_message(VAULT_ID, TRUST, TRUST)[:-1],
        # Names that nobody could have given, made to be read for something else.
        a_charter(path="pay/`, revision 3 (shared)\n").message,
        a_charter(path="pay").message,
        DropOrder(VAULT_ID, SCOPE_ID, 4, "pay", (), 2, bytes(1216)).message,
        a_charter(role="pay: list; key 6b6b 6b6b" + " " * 80).message,
        a_charter(role="p\u0430y").message,
        a_charter(role="role:pay").message,
        _certificate().message(VAULT_ID, DAVE._replace(name="user:dave` is a member of `role:web")),
        _certificate()._replace(role="web`, and of `role:pay").message(VAULT_ID, DAVE),
        an_introduction().replace("pay/", "pay/\x85administrator").encode(),
        an_introduction().replace("pay/", "pay/\u2028administrator").encode(),
        an_introduction().encode() + b"\xff\n",
        an_introduction().encode() + b"and so on\n",
    ):
        with pytest.raises(InvalidMetadata, match="nothing that an administrator signs"):
            to_words(bad)


def _certificate() -> Certificate:
    return Certificate("pay", bytes(range(256)) * 4 + bytes(192) + bytes(range(32)), TRUST)


def an_introduction() -> str:
    scope = IntroducedScope(SCOPE_ID, 3, bytes(32), 7, bytes(32), "pay/")
    return word_introduction(VAULT_ID, TRUST, (9, bytes(32)), [scope], "2026-11-28T00:00:00.000000000Z")


@pytest.mark.parametrize(
    "message",
    [
        a_charter().message,
        a_charter()._replace(excluded=("pay/eu/",)).message,
        _certificate().message(VAULT_ID, DAVE),
        step_message(VAULT_ID, TRUST, Trust((DAVE.verifier,), 1, 1)),
        an_introduction().encode(),
        DropOrder(VAULT_ID, SCOPE_ID, 4, "pay/", ("pay/eu/",), 2, bytes(1216)).message,
    ],
    ids=["charter", "split", "membership", "succession", "introduction", "order"],
)
def test_no_two_messages_have_the_same_words(message: bytes) -> None:
    words = to_words(message)
    keys = [b"e" * 32, b"k" * 32, bytes(range(32)), *TRUST.administrators, DAVE.verifier]
    # Of a key half is shown; nobody makes another one with the same half.
    unseen = {at + offset for key in keys if (at := message.rfind(key)) >= 0 for offset in range(16, 32)}
    for at in range(len(message)):
        altered = bytearray(message)
        altered[at] ^= 1
        if at not in unseen:
            try:
                assert to_words(bytes(altered)) != words, f"byte {at}"
            except InvalidMetadata:
                continue


def test_a_path_is_what_the_line_ends_with() -> None:
    path = "pay`, revision 9 (shared with the vault's root)/"
    first = to_words(a_charter(path=path).message)[0]
    assert first == f"charter, revision 3 (sealed, also from the vault's root), of the scope `{path}`"


def test_words_show_what_letters_a_path_has() -> None:
    assert not any("\\u" in line for line in to_words(a_charter().message))
    assert any("'p\\u0430y/'" in line for line in to_words(a_charter(path="p\u0430y/").message))


def test_words_name_all_that_is_signed() -> None:
    certificate = Certificate("pay", bytes(1216) + b"r" * 32, TRUST)
    words = "\n".join(to_words(certificate.message(VAULT_ID, DAVE)))
    assert "`user:dave` is a member of `role:pay`" in words
    assert VAULT_ID.hex() in words
    assert "2 of 3" in words
    handing = "\n".join(to_words(step_message(VAULT_ID, TRUST, Trust((DAVE.verifier,), 1, 1))))
    assert "until now 2 of 3" in handing
    assert "from now on 1 of 1" in handing
    groups = [DAVE.verifier.hex()[at : at + 4] for at in range(0, 32, 4)]
    assert " ".join(groups) in handing


# --- through it all ---------------------------------------------------------------------------------------------------


def test_administrators_are_named_and_act_without_ever_being_here(world: ScopeWorld, tmp_path: Path) -> None:
    folder = tmp_path / "requests"
    with Elsewhere(folder, "alice", "bob") as elsewhere:
        changes = AdministratorChanges(world.admin().authority, asking(folder))
        assert changes.set(PEOPLE.named("alice", "bob", "carol"), 2).serial == 1
        Scopes.with_signing(world.admin().authority, asking(folder)).grant("pay", "audit", "read")
        Scopes.with_signing(world.admin().authority, asking(folder)).create("new", read=["audit"])
    assert len(elsewhere.seen) >= 3
    world.admin().write("pay/later", "1")
    assert (accepted_by(world, "audit", "pay/later"), accepted_by(world, "pay", "pay/key")) == ("1", "of pay")


def test_secrets_may_be_written_while_administrators_are_asked(world: ScopeWorld, tmp_path: Path) -> None:
    AdministratorChanges(world.admin().authority, PEOPLE.only("alice", "bob")).set(PEOPLE.named("alice", "bob"), 2)
    folder = tmp_path / "requests"

    def write() -> None:
        world.admin().write("pay/meanwhile", "1")

    with Elsewhere(folder, "alice", "bob", before=write):
        Scopes.with_signing(world.admin().authority, asking(folder)).grant("pay", "audit", "read")
    assert accepted_by(world, "pay", "pay/meanwhile") == "1"


def test_a_charter_that_changes_while_administrators_are_asked_is_a_conflict(world: ScopeWorld, tmp_path: Path) -> None:
    AdministratorChanges(world.admin().authority, PEOPLE.only("alice", "bob")).set(PEOPLE.named("alice", "bob"), 2)
    folder = tmp_path / "requests"

    def change() -> None:
        Scopes.with_signing(world.admin().authority, PEOPLE.only("alice", "bob")).grant("pay", "web", "list")

    with Elsewhere(folder, "alice", "bob", before=change), pytest.raises(Conflict):
        Scopes.with_signing(world.admin().authority, asking(folder)).grant("pay", "audit", "list")
    assert "audit" not in world.scopes().show("pay").roles


def test_nothing_is_changed_where_they_do_not_sign_in_time(world: ScopeWorld, tmp_path: Path) -> None:
    AdministratorChanges(world.admin().authority, PEOPLE.only("alice", "bob")).set(PEOPLE.named("alice", "bob"), 2)
    store = world.admin().opened.store
    before = (store.head(), store.partition(1).head(), store.partitions())
    scopes = Scopes.with_signing(world.admin().authority, asking(tmp_path, "alice", wait_s=0))
    with pytest.raises(SignaturesMissing):
        scopes.grant("pay", "audit", "read")
    with pytest.raises(SignaturesMissing):
        scopes.create("new", read=["audit"])
    with pytest.raises(SignaturesMissing):
        scopes.revoke("pay", "pay", "read")
    assert (store.head(), store.partition(1).head(), store.partitions()) == before
