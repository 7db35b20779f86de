"""Introductions where several administrators sign, and where others took their place meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from securecfg.errors import RollbackSuspected, SignaturesMissing
from securecfg.keys import open_provider
from securecfg.keys.trust import Trust
from securecfg.policy import Document
from securecfg.vault.administrators.break_glass_sets import BreakGlass
from securecfg.vault.administrators.introduced import accept_introduction
from securecfg.vault.administrators.introducing import introduce
from securecfg.vault.administrators.introductions import read_introduction
from securecfg.vault.administrators.signing_words import to_words
from securecfg.vault.scopes.opening import trusts_of
from securecfg.vault.scopes.scoped_administration import ScopedAdministration
from securecfg.vault.state.anchor import state_directory
from tests.vault.administrators.test_administrators import ALL, PEOPLE, hand_over
from tests.vault.administrators.test_break_glass import NAME, broken, made
from tests.vault.administrators.test_introductions import move, written
from tests.vault.scope_world import pay_world
from tests.vault.world import text_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from securecfg.keys.trust import Signatures
    from securecfg.vault.administrators.introductions import Introduction
    from securecfg.vault.trust.signatories import Signatories
    from tests.vault.scope_world import ScopeWorld

world = pay_world


def signed(world: ScopeWorld, principal: str | None = "svc:pay") -> Path:
    """Return a file with an introduction that the people have signed, for everybody where nobody is named."""
    file = world.folder / f"{principal}.introduction"
    file.write_bytes(introduce(world.admin().authority, principal, ALL).content)
    return file


def key(world: ScopeWorld) -> str:
    return f"identity:{world.folder / 'pay.identity'}"


def told(world: ScopeWorld, file: Path) -> Introduction:
    return read_introduction(file, open_provider(key(world)))


def test_it_takes_as_many_signatures_as_administrators_have_to_give(world: ScopeWorld) -> None:
    hand_over(world)
    for signing in (None, PEOPLE.only("alice"), PEOPLE.only("alice", "dave")):
        with pytest.raises(SignaturesMissing, match="an introduction to 1 scope"):
            introduce(world.admin().authority, "svc:pay", signing)
    trust = told(world, signed(world)).trust
    assert trust is not None
    assert (trust.threshold, len(trust.administrators), trust.serial) == (2, 3, 1)


def test_who_signs_elsewhere_is_shown_what_it_says(world: ScopeWorld) -> None:
    seen: list[list[str]] = []

    class Watched:
        def __init__(self, trust: Trust) -> None:
            self.trust = trust

        def sign(self, messages: Sequence[bytes], summary: str) -> list[Signatures]:
            seen.extend(map(to_words, messages))
            return ALL(self.trust).sign(messages, summary)

    def watch(trust: Trust) -> Signatories:
        return Watched(trust)

    hand_over(world)
    introduce(world.admin().authority, "svc:pay", watch)
    ((first, *lines),) = seen
    assert first == "an introduction to the vault and its scopes"
    assert lines[-1].endswith(" pay/")


def test_an_introduction_of_before_leads_to_the_successors(world: ScopeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    file, everybody = written(world), written(world, None)
    hand_over(world)
    move(monkeypatch, world)
    pay = world.open(None, key=key(world), introduction=file, anchor="required")
    assert text_of(pay, "pay/key") == "of pay"
    assert trusts_of(pay.opened)[-1].serial == 1
    assert world.open(introduction=everybody, anchor="required").list() == ["pay/key"]


def test_one_of_today_is_taken_by_a_new_machine_and_by_one_that_knew_those_before(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.as_member("pay").close()
    hand_over(world)
    file = signed(world)
    pay = world.open(None, key=key(world), introduction=file)
    assert trusts_of(pay.opened)[-1].serial == 1
    move(monkeypatch, world)
    assert text_of(world.open(None, key=key(world), introduction=file, anchor="required"), "pay/key") == "of pay"
    accept_introduction(world.path, told(world, file))
    assert world.open(introduction=signed(world, None)).list() == ["pay/key"]


def test_successors_that_nobody_before_has_signed_are_refused(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forger names himself as the administrators of tomorrow."""
    hand_over(world)
    right = told(world, signed(world))
    assert right.trust is not None
    world.as_member("pay").close()
    strangers = tuple(identity.verifier for identity in PEOPLE.named("dave"))
    later, instead = Trust(strangers, 1, 2), right.trust._replace(administrators=strangers, threshold=1)
    before = administrators_file()
    for trust in (later, instead):
        monkeypatch.setattr(
            "securecfg.vault.administrators.introductions.read_introduction",
            lambda *_, trust=trust: right._replace(trust=trust),
        )
        for name, opener in ((None, key(world)), ("user:ada", world.key)):
            with pytest.raises(RollbackSuspected):
                world.open(name, key=opener, introduction="forged")
    with pytest.raises(RollbackSuspected):
        accept_introduction(world.path, right._replace(trust=instead))
    accept_introduction(world.path, right._replace(trust=later))
    assert administrators_file() == before


def administrators_file() -> bytes:
    (file,) = Path(state_directory(), "administrators").iterdir()
    return file.read_bytes()


def test_several_administrators_make_break_glass(world: ScopeWorld) -> None:
    hand_over(world)
    text = '[roles.{0}]\n[[roles.{0}.grants]]\nactions = ["read", "list"]\npaths = ["**"]\n'
    documents = [Document("grants.toml", "grants", text.format(NAME) + text.format("pay"))]
    ScopedAdministration(world.admin().authority, ALL).apply_policy(documents)
    identity = made(world)[0]
    alone = BreakGlass(world.admin().authority, PEOPLE.only("alice"))
    with pytest.raises(SignaturesMissing):
        alone.install(alone.prepare(["pay"], NAME, is_renewal=False), identity)
    together = BreakGlass(world.admin().authority, ALL)
    together.install(together.prepare([], NAME, is_renewal=True), identity)
    world.as_member("pay")
    assert text_of(broken(world), "pay/key") == "of pay"
