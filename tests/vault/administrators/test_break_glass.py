"""Break-glass: several people open a scope together, and nobody can read in it before the log says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from securecfg.audit import Event
from securecfg.errors import (
    AccessDenied,
    AlreadyExists,
    AuditUnavailable,
    Conflict,
    InvalidKeyUri,
    KeyProviderRefused,
    SecretNotFound,
    SecurecfgError,
    SettingMissing,
    ShareRefused,
    StoreFailed,
    WrongKey,
)
from securecfg.files import create_private
from securecfg.keys import ShamirProvider, format_share, generate_shares
from securecfg.keys.identity import IdentityFile, format_identity_file, generate_identity, protect_seed
from securecfg.policy import Document
from securecfg.vault.administrators.break_glass import look_for_break_glass
from securecfg.vault.administrators.break_glass_sets import BreakGlass, unfinished
from securecfg.vault.commits.publisher import Publisher
from securecfg.vault.rekeying.roles import RoleRotation
from securecfg.vault.rekeying.scopes import ScopeKeyring
from securecfg.vault.scopes.opening import charter_of
from securecfg.vault.scopes.registry import read_registry
from tests.vault.copies import copy_of
from tests.vault.crash_steps import Attempt, crashes, dying
from tests.vault.scope_world import ScopeWorld, scope_world
from tests.vault.world import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from securecfg.keys import Identity, Share
    from securecfg.vault import Vault
    from securecfg.vault.administrators.break_glass import Glass
    from securecfg.vault.scopes.scoped import ScopedVault

NAME = "break-glass"
WHY = "incident 42: payments are down"
ROLES = ("pay", "web", "audit", NAME)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ScopeWorld]:
    world = copy_of(scopes_with_values, tmp_path)
    yield world
    world.close()


def scopes_with_values(folder: Path) -> ScopeWorld:
    """Return a world of two scopes, whose policy knows the role of break-glass and whose vault does not yet."""
    world = scope_world(folder, ("pay", "web"))
    admin = world.admin()
    table = (
        '[roles.{0}]\nmembers = {1}\n[[roles.{0}.grants]]\nactions = ["read", "list", "write", "delete"]\n'
        'paths = ["**"]\n[[roles.{0}.grants]]\nactions = ["audit.read"]\n'
    )
    text = "".join(table.format(role, "[]" if role == NAME else f'["svc:{role}"]') for role in ("pay", "web", NAME))
    admin.administration.apply_policy([Document("grants.toml", "grants", text)])
    world.scopes().create("pay", read=["pay"], write=["pay"])
    world.scopes().create("web", read=["web"], write=["web"])
    world.as_member("pay").write("pay/key", "of pay")
    world.as_member("web").write("web/key", "of web")
    return world


def made(world: ScopeWorld, name: str = "glass") -> tuple[Identity, tuple[Share, ...]]:
    """Return an identity that two of three shares protect, whose file and shares are written."""
    identity, seed = generate_identity(f"svc:{NAME}")
    shares = generate_shares(2, 3)
    private = protect_seed(identity, seed, ShamirProvider(lambda: shares[:2]), "shamir:")
    create_private(world.folder / f"{name}.identity", format_identity_file(IdentityFile(identity, private)).encode())
    for share in shares:
        create_private(world.folder / f"{name}-{share.number}.txt", f"{format_share(share)}\n".encode())
    return identity, shares


def installed(world: ScopeWorld, *paths: str, name: str = "glass", is_renewal: bool = False) -> None:
    glass = BreakGlass(world.admin().authority)
    prepared = glass.prepare(paths, NAME, is_renewal=is_renewal)
    glass.install(prepared, made(world, name)[0])
    world.as_member("pay")  # a reader gives it what was written before
    world.as_member("web")


def key_of(world: ScopeWorld, *numbers: int, name: str = "glass") -> str:
    files = ",".join(str(world.folder / f"{name}-{number}.txt") for number in numbers)
    return f"identity:{world.folder / name}.identity?shares={files}"


def broken(world: ScopeWorld, reason: str = WHY, name: str = "glass", **options: object) -> ScopedVault:
    return cast("ScopedVault", world.open(None, key=key_of(world, 1, 3, name=name), reason=reason, **options))


def looked_at(world: ScopeWorld) -> dict[str, Glass]:
    return {one.path: one for one in look_for_break_glass(world.admin())}


def uses_in(vault: Vault) -> list[tuple[str, str]]:
    return [
        (entry.record.subject.id, str(entry.record.obj["reason"]))
        for entry in vault.log.records()
        if entry.record.event is Event.BREAKGLASS_OPENED
    ]


# --- opening ----------------------------------------------------------------------------------------------------------


def test_k_holders_read_what_it_was_granted_and_nothing_else(world: ScopeWorld) -> None:
    installed(world, "pay")
    vault = broken(world)
    assert vault.list() == ["pay/key"]
    assert text_of(vault, "pay/key") == "of pay"
    assert vault.principal == f"svc:{NAME}"
    with pytest.raises(SecurecfgError):
        vault.write("pay/key", "x")
    with pytest.raises(SecurecfgError):
        vault.read("web/key")


def test_shares_are_asked_for_where_no_files_are_named(world: ScopeWorld) -> None:
    _, shares = made(world)
    glass = BreakGlass(world.admin().authority)
    identity = made(world, "asked")
    glass.install(glass.prepare(["pay"], NAME, is_renewal=False), identity[0])
    world.as_member("pay")
    texts = [format_share(share) for share in identity[1][1:]]
    vault = world.open(
        None, key=f"identity:{world.folder / 'asked.identity'}", reason=WHY, ask=lambda _prompt: texts.pop(0)
    )
    assert text_of(vault, "pay/key") == "of pay"
    assert len(shares) == 3


def test_its_use_is_in_the_log_of_every_scope_before_anything_is_read(world: ScopeWorld) -> None:
    installed(world, "pay", "web")
    broken(world).close()
    for role in ("pay", "web"):
        member = world.as_member(role)
        assert uses_in(member) == [(f"svc:{NAME}", WHY)]
    record = next(
        entry.record for entry in world.as_member("pay").log.records() if entry.record.event is Event.BREAKGLASS_OPENED
    )
    assert (record.subject.is_proved, record.obj["path"], record.obj["role"]) == (True, "pay/", NAME)


@pytest.mark.parametrize("reason", ["", "  ", "a\nb", "x" * 1_001])
def test_without_a_reason_it_is_refused(world: ScopeWorld, reason: str) -> None:
    installed(world, "pay")
    with pytest.raises(SettingMissing, match="for a reason only") as refused:
        broken(world, reason)
    assert "--reason" in refused.value.hint
    assert uses_in(world.as_member("pay")) == []


def test_where_its_use_cannot_be_recorded_it_is_refused(world: ScopeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(world, "pay")
    with pytest.raises(AuditUnavailable, match="only read"):
        broken(world, read_only=True)

    def full(*_: object) -> None:
        message = "the disk is full"
        raise StoreFailed(message)

    with monkeypatch.context() as patched:
        patched.setattr(Publisher, "publish", full)
        with pytest.raises(AuditUnavailable, match="cannot be written"):
            broken(world)


def test_others_need_no_reason_and_leave_no_such_record(world: ScopeWorld) -> None:
    installed(world, "pay")
    world.open(None, key=f"identity:{world.folder / 'pay.identity'}", reason=WHY)
    assert uses_in(world.as_member("pay")) == []


# --- shares -----------------------------------------------------------------------------------------------------------


def test_fewer_wrong_mixed_and_altered_shares_open_nothing(world: ScopeWorld) -> None:
    installed(world, "pay")
    made(world, "other")
    mine, other = (str(world.folder / f"{name}-1.txt") for name in ("glass", "other"))
    second = world.folder / "glass-2.txt"
    file = f"identity:{world.folder / 'glass.identity'}?shares="
    altered = world.folder / "altered.txt"
    create_private(altered, second.read_bytes().replace(b"-2of3-2-", b"-2of3-3-"))
    for shares, error in (
        (mine, ShareRefused),
        (f"{mine},{mine}", ShareRefused),
        (f"{mine},{other}", ShareRefused),
        (f"{mine},{altered}", ShareRefused),
        (f"{world.folder / 'other-1.txt'},{world.folder / 'other-2.txt'}", WrongKey),
        (f"{mine},", InvalidKeyUri),
        ("", InvalidKeyUri),
    ):
        with pytest.raises(error):
            world.open(None, key=f"{file}{shares}", reason=WHY)
    assert uses_in(world.as_member("pay")) == []


def test_shares_are_named_for_an_identity_that_they_protect_only(world: ScopeWorld) -> None:
    made(world)
    shares = key_of(world, 1, 2).partition("?")[2]
    with pytest.raises(KeyProviderRefused, match="no shares protect"):
        world.open(None, key=f"identity:{world.folder / 'pay.identity'}?{shares}")
    with pytest.raises(KeyProviderRefused, match="no passphrase protects"):
        world.open(None, key=f"identity:{world.folder / 'glass.identity'}?env=HOME")
    with pytest.raises(InvalidKeyUri):
        world.open(None, key=f"identity:{world.folder / 'glass.identity'}?env=HOME?{shares}")


# --- looking ----------------------------------------------------------------------------------------------------------


def test_a_use_is_seen_until_it_is_renewed(world: ScopeWorld) -> None:
    assert looked_at(world) == {}
    installed(world, "pay", "web")
    assert {path: (one.uses, one.is_complete, one.is_allowed) for path, one in looked_at(world).items()} == {
        "pay/": ((), True, True),
        "web/": ((), True, True),
    }
    broken(world)
    broken(world)
    uses = looked_at(world)["pay/"].uses
    assert [use.principal for use in uses] == [f"svc:{NAME}"] * 2
    assert uses[0].when < uses[1].when
    installed(world, name="second", is_renewal=True)
    assert [one.uses for one in looked_at(world).values()] == [(), ()]


def test_a_record_that_changes_nothing_hides_no_use(world: ScopeWorld) -> None:
    installed(world, "pay")
    part = broken(world).scope("pay")
    charter = charter_of(part.opened)
    obj = {"path": charter.path, "rev": charter.serial, "digest": charter.digest.hex(), "role": NAME}
    record = part.authority.session().record(Event.SCOPE_CHANGED, obj | {"added": ["list", "read", NAME]})
    part.authority.publish_records([record])
    assert [use.principal for use in looked_at(world)["pay/"].uses] == [f"svc:{NAME}"]


def test_it_is_seen_when_it_would_not_read_everything(world: ScopeWorld) -> None:
    glass = BreakGlass(world.admin().authority)
    glass.install(glass.prepare(["pay"], NAME, is_renewal=False), made(world)[0])
    assert not looked_at(world)["pay/"].is_complete
    with pytest.raises(SecurecfgError):
        text_of(broken(world), "pay/key")
    world.as_member("pay")
    assert looked_at(world)["pay/"].is_complete
    world.admin().administration.apply_policy(
        [Document("grants.toml", "grants", '[roles.pay]\nmembers = ["svc:pay"]\n')]
    )
    assert not looked_at(world)["pay/"].is_allowed


# --- renewing ---------------------------------------------------------------------------------------------------------


def test_after_a_renewal_the_new_shares_open_and_the_old_do_not(world: ScopeWorld) -> None:
    installed(world, "pay")
    old = broken(world)
    text_of(old, "pay/key")
    old.close()
    installed(world, "web", name="second", is_renewal=True)
    world.as_member("pay").write("pay/late", "written later")
    with pytest.raises(WrongKey):
        broken(world)
    new = broken(world, name="second")
    assert {path: text_of(new, path) for path in new.list()} == {
        "pay/key": "of pay",
        "pay/late": "written later",
        "web/key": "of web",
    }
    assert [info.roles[NAME] for info in map(world.scopes().show, ("pay", "web"))] == [
        ("list", "read", "break-glass")
    ] * 2


def test_what_cannot_be_made_is_refused_before_anything_changes(world: ScopeWorld) -> None:
    glass = BreakGlass(world.admin().authority)
    before = world.admin().opened.replica.head
    with pytest.raises(SecretNotFound):
        glass.prepare(["none"], NAME, is_renewal=False)
    with pytest.raises(SecretNotFound, match="no scope is named"):
        glass.prepare([], NAME, is_renewal=False)
    with pytest.raises(SecretNotFound, match="could be renewed"):
        glass.prepare(["pay"], NAME, is_renewal=True)
    with pytest.raises(Conflict, match="policy does not let") as refused:
        glass.prepare(["pay"], "nobody", is_renewal=False)
    assert '"pay/**"' in refused.value.hint
    with pytest.raises(AlreadyExists):
        glass.prepare(["pay"], "web", is_renewal=False)
    assert world.admin().opened.replica.head == before
    with pytest.raises(AccessDenied):
        BreakGlass(world.open("svc:web").authority).prepare(["pay"], NAME, is_renewal=False)
    installed(world, "pay")
    with pytest.raises(AlreadyExists, match="already"):
        glass.prepare(["web"], NAME, is_renewal=False)
    with pytest.raises(Conflict, match="other members or rights"):
        glass.prepare(["pay"], "web", is_renewal=True)
    assert unfinished(world.admin().opened) == {}


def test_whatever_else_the_role_is_granted_opens_by_break_glass_too(world: ScopeWorld) -> None:
    installed(world, "pay")
    world.scopes().grant("web", NAME, "list")
    world.scopes().create("late", read=[NAME])
    roles = [world.scopes().show(path).roles[NAME] for path in ("web", "late")]
    assert roles == [("list", "break-glass"), ("list", "read", "break-glass")]
    broken(world).close()
    assert uses_in(world.as_member("web")) == [(f"svc:{NAME}", WHY)]


def test_a_role_that_has_another_right_too_still_opens_by_break_glass(world: ScopeWorld) -> None:
    installed(world, "pay")
    world.scopes().grant("pay", NAME, "write")
    with pytest.raises(SettingMissing):
        broken(world, "")
    broken(world).write("pay/key", "newer")
    world.scopes().revoke("pay", NAME, "list")
    assert NAME not in world.scopes().show("pay").roles


def test_a_member_who_reads_anyway_is_asked_where_he_writes_by_break_glass(world: ScopeWorld) -> None:
    installed(world, "pay")
    world.scopes().grant("pay", "web", "read")
    world.admin().administration.add_member(NAME, "svc:web")
    broken(world).close()  # lets the new member in, as any member does
    web = world.as_member("web")
    assert text_of(web, "pay/key") == "of pay"
    assert uses_in(world.as_member("pay")) == [(f"svc:{NAME}", WHY)]
    world.scopes().grant("pay", NAME, "write")
    with pytest.raises(SettingMissing):
        world.as_member("web")
    world.open(None, key=f"identity:{world.folder / 'web.identity'}", reason="to write").write("pay/key", "by web")
    assert uses_in(world.as_member("pay"))[-1] == ("svc:web", "to write")


@pytest.mark.no_cover
@pytest.mark.parametrize("is_renewal", [False, True])
def test_wherever_it_dies_a_renewal_finishes_it_and_nobody_else_gets_in(tmp_path: Path, *, is_renewal: bool) -> None:
    (tmp_path / "origin").mkdir()
    origin = scopes_with_values(tmp_path / "origin")
    if is_renewal:
        installed(origin, "pay", "web")
        broken(origin)
    origin.close()
    for crash in crashes(origin, tmp_path):
        with crash as world:
            glass = BreakGlass(dying(world, crash.changes).authority)
            with Attempt(world) as attempt:
                prepared = glass.prepare([] if is_renewal else ["pay", "web"], NAME, is_renewal=is_renewal)
                glass.install(prepared, made(world, "second")[0])
            if attempt.is_done:
                break
            for role in ("pay", "web"):
                assert text_of(world.as_member(role), f"{role}/key") == f"of {role}"
            seen = looked_at(world)
            is_begun = bool(seen or unfinished(world.admin().opened))
            installed(world, *(() if is_begun else ("pay", "web")), name="third", is_renewal=is_begun)
            assert unfinished(world.admin().opened) == {}
            assert {path: (one.uses, one.is_complete) for path, one in looked_at(world).items()} == {
                "pay/": ((), True),
                "web/": ((), True),
            }
            third = broken(world, name="third")
            assert [text_of(third, path) for path in third.list()] == ["of pay", "of web"]
            for name in ("second", *(["glass"] if is_renewal else [])):
                if (world.folder / f"{name}.identity").exists():
                    with pytest.raises(WrongKey):
                        broken(world, name=name)
    assert crash.changes > 4


def test_another_key_of_the_role_keeps_the_mark_and_what_it_reads(world: ScopeWorld) -> None:
    installed(world, "pay")
    before = world.scopes().show("pay").roles[NAME]
    assert "break-glass" in before
    RoleRotation(world.admin().authority).rotate_role(NAME)
    ScopeKeyring(world.admin().authority).rotate("pay")
    assert world.scopes().show("pay").roles[NAME] == before
    world.as_member("pay")
    glass = broken(world)
    assert text_of(glass, "pay/key") == "of pay"
    glass.close()
    with pytest.raises(SettingMissing):
        broken(world, "")
    installed(world, is_renewal=True, name="second")
    assert text_of(broken(world, name="second"), "pay/key") == "of pay"
    assert read_registry(world.admin().opened).unfinished == frozenset()
