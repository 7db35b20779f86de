"""Imports of which some secrets go into sealed scopes: into each what belongs there, and back."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from securecfg.crypto import parse_dek
from securecfg.errors import ScopeSealed, SecretNotFound, StaleWrite, UndoUnavailable
from securecfg.sources.import_run import ImportRun
from securecfg.sources.importing import (
    ImportState,
    apply_import,
    confirm_import,
    import_secrets,
    list_imports,
    plan_import,
    resume_imports,
    undo_import,
)
from securecfg.store import Space
from securecfg.vault.imports.steps import Imports
from securecfg.vault.paths import IMPORTS, UNDO_MATERIAL
from securecfg.vault.verification import verify_vault
from tests.vault.copies import copy_of
from tests.vault.scope_world import scope_world
from tests.vault.world import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.vault.scope_world import ScopeWorld

OUTER, INNER, LAST = "hunter2-canary-4711", "hunter3-canary-4712", "hunter4-canary-4713"
CONTENT = f'# é\npassword = "{OUTER}"\n\n[db]\npassword = "{INNER}"  # of the database\n\n[mail]\npassword = "{LAST}"\n'


def make_world(folder: Path) -> ScopeWorld:
    """A scope in the middle of what one file says, which the root reads too."""
    world = scope_world(folder)
    world.scopes().create("app/db", read=["pay"], is_shared=True, list=["audit"])
    return world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ScopeWorld]:
    world = copy_of(make_world, tmp_path / "vaults")
    yield world
    world.close()


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "app.toml"
    file.write_text(CONTENT, encoding="utf-8")
    return file


def test_one_file_goes_into_the_vault_and_into_a_scope(world: ScopeWorld, file: Path) -> None:
    admin = world.admin()
    outcome = import_secrets(admin, [file])
    assert outcome is not None
    assert (outcome.state, outcome.secrets, outcome.files) == (ImportState.APPLIED, 3, (str(file),))
    assert file.read_text(encoding="utf-8") == (
        '# é\npassword = "${secret:app/password}"\n\n'
        '[db]\npassword = "${secret:app/db/password}"  # of the database\n\n'
        '[mail]\npassword = "${secret:app/mail/password}"\n'
    )
    assert (text_of(admin, "app/password"), text_of(admin, "app/mail/password")) == (OUTER, LAST)
    assert text_of(world.as_member("pay"), "app/db/password") == INNER
    assert admin.scope("app/db").list() == ["app/db/password"]
    assert [each.import_id for each in list_imports(admin)] == [outcome.import_id] * 2
    undone = undo_import(admin, outcome.import_id)
    assert (undone.state, undone.secrets) == (ImportState.UNDONE, 3)
    assert file.read_text(encoding="utf-8") == CONTENT
    assert admin.list() == []
    for _, part in admin.parts():
        assert verify_vault(part.opened).problems == []


def test_an_import_of_several_parts_is_confirmed_as_one(world: ScopeWorld, file: Path) -> None:
    admin = world.admin()
    import_secrets(admin, [file])
    assert confirm_import(admin).state is ImportState.CONFIRMED
    assert {each.state for each in list_imports(admin)} == {ImportState.CONFIRMED}
    with pytest.raises(UndoUnavailable):
        undo_import(admin)


def test_the_undo_material_of_a_scope_is_sealed_in_it(world: ScopeWorld, file: Path) -> None:
    admin = world.admin()
    import_secrets(admin, [file])
    audit = world.as_member("audit")
    assert [[secret.path for secret in each.secrets] for each in list_imports(audit)] == [["app/db/password"]]
    opened = audit.opened
    for path, entry in opened.entries(IMPORTS, IMPORTS[:-1] + b"0"):
        row = opened.store.get(Space.DEK, opened.locate(path, entry, 0).version.dek_id) or b""
        assert (parse_dek(row)[0] == 1) == (UNDO_MATERIAL not in path)
    with pytest.raises(ScopeSealed):
        Imports(audit.authority).undo_material(list_imports(audit)[0])
    whole = Imports(admin.authority).undo_material(list_imports(admin)[0]).reveal()
    assert (OUTER in whole, INNER in whole, LAST in whole) == (True, False, True)


def test_who_writes_and_does_not_read_imports_and_cannot_take_it_back(world: ScopeWorld, file: Path) -> None:
    world.scopes().create("app/mail", read=["web"])
    admin = world.admin()
    import_secrets(admin, [file])
    assert text_of(world.as_member("web"), "app/mail/password") == LAST
    with pytest.raises(ScopeSealed):
        undo_import(admin)
    assert LAST not in file.read_text(encoding="utf-8")
    assert text_of(world.as_member("web"), "app/mail/password") == LAST


def test_refuses_what_goes_where_the_key_does_not_write(world: ScopeWorld, file: Path) -> None:
    world.scopes().create("app/mail", read=["web"], write=["web"])
    admin = world.admin()
    with pytest.raises(ScopeSealed, match="`app/mail/password` lies in the sealed scope `app/mail/`") as caught:
        plan_import(admin, [file])
    assert "--prefix" in caught.value.hint
    for member in (world.as_member("web"), world.as_member("pay")):
        with pytest.raises(ScopeSealed) as caught:
            import_secrets(member, [file])
        assert "--key identity:FILE" in caught.value.hint
    assert file.read_text(encoding="utf-8") == CONTENT
    assert (admin.list(), list_imports(admin)) == ([], [])


def test_a_member_imports_into_the_scope_that_it_writes(world: ScopeWorld, file: Path) -> None:
    world.scopes().create("web", read=["web"], write=["web"])
    web = world.as_member("web")
    outcome = import_secrets(web, [file], prefix="web/")
    assert outcome is not None
    assert world.as_member("web").list() == ["web/app/db/password", "web/app/mail/password", "web/app/password"]
    undo_import(web)
    assert file.read_text(encoding="utf-8") == CONTENT
    assert web.list() == []


def test_an_import_that_is_refused_in_one_part_leaves_nothing_in_another(
    world: ScopeWorld, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = world.admin()
    plan = plan_import(admin, [file])
    world.admin().write("app/db/password", "of somebody else")
    with pytest.raises(StaleWrite):
        apply_import(admin, plan)
    assert file.read_text(encoding="utf-8") == CONTENT
    assert admin.list() == ["app/db/password"]
    assert [str(each.state) for each in list_imports(admin)] == ["undone"]
    with pytest.raises(SecretNotFound):
        admin.read("app/password")


@pytest.mark.no_cover
@pytest.mark.parametrize("way", ["resume", "undo"])
def test_wherever_an_import_of_several_parts_dies_it_goes_on_or_back(
    world: ScopeWorld, file: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    for deaths in itertools.count():
        steps = itertools.count()

        def observe(step: str, _file: str, steps: Iterator[int] = steps, deaths: int = deaths) -> None:
            if next(steps) == deaths:
                raise KeyboardInterrupt(step)

        admin = world.admin()
        try:
            apply_import(admin, plan_import(admin, [file]), observe=observe)
        except KeyboardInterrupt:
            if way == "resume":
                resume_imports(world.admin())
                assert (text_of(admin, "app/password"), text_of(admin, "app/db/password")) == (OUTER, INNER)
                assert "canary" not in file.read_text(encoding="utf-8")
        else:
            break
        finally:
            if any(each.state in {ImportState.PLANNED, ImportState.APPLIED} for each in list_imports(world.admin())):
                undo_import(world.admin())
            assert file.read_text(encoding="utf-8") == CONTENT
            assert admin.list() == []
    assert deaths >= 6


def test_an_undo_that_dies_is_finished_by_the_next(
    world: ScopeWorld, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = world.admin()
    import_secrets(admin, [file])
    go_back = ImportRun.go_back
    with monkeypatch.context() as patched:
        calls = itertools.count()

        def die(self: ImportRun) -> object:
            if next(calls):
                raise KeyboardInterrupt
            return go_back(self)

        patched.setattr(ImportRun, "go_back", die)
        with pytest.raises(KeyboardInterrupt):
            undo_import(admin)
    content = file.read_text(encoding="utf-8")
    assert (INNER in content, OUTER in content) == (True, False)
    undo_import(world.admin())
    assert file.read_text(encoding="utf-8") == CONTENT
