"""The steps of an import in the vault: what others change in between, and documents of many rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from securecfg.errors import AccessDenied
from securecfg.sources.importing import import_secrets, list_imports, undo_import
from securecfg.vault.imports.steps import Imports
from securecfg.vault.verification import verify_vault
from tests.vault.world import grant, text_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from securecfg.vault import Vault
    from tests.vault.world import World

IMPORTER = "svc:importer"
GRANTS = """
[roles.importer]
members = ["svc:importer"]
[[roles.importer.grants]]
actions = ["read", "write", "list"{}]
paths = ["**"]
"""
TEXT = 'password = "hunter2-canary-4711"\n'


def import_file(vault: Vault, folder: Path) -> str:
    """Import a file and return the path of its secret."""
    (folder / "app.toml").write_text(TEXT, encoding="utf-8")
    assert import_secrets(vault, [folder / "app.toml"]) is not None
    (path,) = vault.list()
    return path


def test_nothing_is_deleted_under_a_policy_that_is_in_force_no_longer(
    world: World, vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant(vault, GRANTS.format(', "delete"'))
    importer, delete = world.open(IMPORTER), Imports._delete
    publisher, path = importer.opened.publisher, import_file(importer, tmp_path)
    publish = publisher.publish

    def publish_later(*arguments: Any) -> object:  # noqa: ANN401 - those of the step
        monkeypatch.setattr(publisher, "publish", publish)
        grant(vault, GRANTS.format(""))
        return publish(*arguments)

    def overtaken(imports: Imports, versions: Sequence[tuple[str, int]]) -> None:
        monkeypatch.setattr(publisher, "publish", publish_later)
        delete(imports, versions)

    monkeypatch.setattr(Imports, "_delete", overtaken)
    with pytest.raises(AccessDenied):
        undo_import(importer)
    assert text_of(vault, path) == "hunter2-canary-4711"


def test_documents_of_an_import_that_take_many_rows_are_whole(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("securecfg.vault.drafts.INLINE_LIMIT_BYTES", 16)
    import_file(vault, tmp_path)
    assert [str(each.state) for each in list_imports(vault)] == ["applied"]
    undo_import(vault)
    assert [str(each.state) for each in list_imports(vault)] == ["undone"]
    assert (tmp_path / "app.toml").read_text(encoding="utf-8") == TEXT
    report = verify_vault(vault.opened)
    assert (report.problems, report.orphans) == ([], {})
