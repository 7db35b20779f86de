"""What stands in git history is marked with its version, listed until it is rotated, and recorded."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from securecfg.sources.importing import apply_import, import_secrets, plan_import, resume_imports, undo_import
from securecfg.vault.imports.exposures import Exposures, Mark
from tests.sources.project import Project, make_project
from tests.vault.world import READER, grant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WHEN = datetime(2024, 1, 2, 12, tzinfo=UTC)


@pytest.fixture
def project(tmp_path: Path, program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A project of which all but one file is committed."""
    git = program("git")
    project = make_project(tmp_path)
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_DATE", WHEN.isoformat())
        monkeypatch.setenv(f"GIT_{name}_NAME", "ana")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "ana@example.org")
    for arguments in (["init", "-q"], ["add", ".env", "config/prod.yaml"], ["commit", "-q", "-m", "all"]):
        subprocess.run([git, *arguments], cwd=project.folder, check=True, capture_output=True, timeout=60)
    yield project
    project.world.close()


def exposed(project: Project) -> list[str]:
    return [mark.target for mark in Exposures(project.vault.authority).unrotated()]


ALL = ["env/DB_PASSWORD", "env/STRIPE_API_KEY", "prod/database/password", "prod/database/url#password"]


def test_a_plan_tells_what_is_exposed_since_when(project: Project) -> None:
    plan = plan_import(project.vault, project.given, history=True)
    assert sorted(plan.exposures) == ALL
    exposure = plan.exposures["prod/database/url#password"]
    assert (exposure.committed, exposure.path) == (WHEN, "config/prod.yaml")
    assert exposed(project) == []


def test_an_import_marks_what_is_exposed(project: Project) -> None:
    import_secrets(project.vault, project.given, history=True)
    exposures = Exposures(project.vault.authority)
    marks = exposures.unrotated()
    assert [mark.target for mark in marks] == ALL
    assert {(mark.version, mark.since, len(mark.commit)) for mark in marks} == {(1, WHEN, 40)}
    assert marks[0].days(WHEN + timedelta(days=3, hours=5)) == 3
    assert marks[0].days(WHEN - timedelta(days=3)) == 0
    records = [entry.record for entry in project.vault.log.records() if entry.record.event == "exposure.marked"]
    assert [record.obj["path"] for record in records] == [
        "env/STRIPE_API_KEY",
        "env/DB_PASSWORD",
        "prod/database/url",
        "prod/database/password",
    ]


def test_an_interrupted_import_marks_when_it_goes_on(project: Project) -> None:
    def stop(step: str, file: str) -> None:
        raise KeyboardInterrupt

    plan = plan_import(project.vault, project.given, history=True)
    with pytest.raises(KeyboardInterrupt):
        apply_import(project.vault, plan, observe=stop)
    assert exposed(project) == []
    resume_imports(project.vault)
    assert exposed(project) == ALL


def test_a_rotated_secret_leaves_the_list_and_that_is_recorded_once(project: Project) -> None:
    import_secrets(project.vault, project.given, history=True)
    project.vault.write("env/DB_PASSWORD", "rotated")
    assert exposed(project) == exposed(project) == [target for target in ALL if target != "env/DB_PASSWORD"]
    closed = [entry.record.obj for entry in project.vault.log.records() if entry.record.event == "exposure.closed"]
    assert closed == [{"path": "env/DB_PASSWORD", "ver": 2}]


def test_the_same_value_again_is_no_rotation(project: Project) -> None:
    import_secrets(project.vault, project.given, history=True)
    project.vault.write("env/DB_PASSWORD", "hunter2-canary")
    project.vault.write("prod/database/url", {"password": "p@ss/canary:1", "user": "new"})
    assert exposed(project) == ALL
    project.vault.write("prod/database/url", {"password": "new", "user": "new"})
    project.vault.rollback("prod/database/password", 1)
    assert exposed(project) == [target for target in ALL if target != "prod/database/url#password"]


def test_a_rotated_secret_leaves_the_list_although_the_old_value_was_destroyed(project: Project) -> None:
    import_secrets(project.vault, project.given, history=True)
    project.vault.write("env/DB_PASSWORD", "rotated")
    project.vault.destroy("env/DB_PASSWORD", 1)
    assert "env/DB_PASSWORD" not in exposed(project)


def test_what_is_deleted_is_not_listed_until_it_is_back(project: Project) -> None:
    import_secrets(project.vault, project.given, history=True)
    project.vault.delete("env/DB_PASSWORD")
    assert "env/DB_PASSWORD" not in exposed(project)
    project.vault.undelete("env/DB_PASSWORD", 1)
    assert exposed(project) == ALL


def test_an_undone_import_leaves_nothing_on_the_list(project: Project) -> None:
    import_secrets(project.vault, project.given, history=True)
    undo_import(project.vault)
    assert exposed(project) == []
    import_secrets(project.vault, project.given)
    assert exposed(project) == ALL  # the same values, in their second version


def test_marks_are_shown_to_those_who_may_list(project: Project) -> None:
    import_secrets(project.vault, project.given, history=True, prefix="app")
    grant(project.vault)
    assert len(Exposures(project.world.open(READER).authority).unrotated()) == 4
    assert Exposures(project.world.open("svc:stranger").authority).unrotated() == []


def test_a_read_only_vault_lists_and_closes_nothing(project: Project) -> None:
    import_secrets(project.vault, project.given, history=True)
    project.vault.write("env/DB_PASSWORD", "rotated")
    reader = project.world.open(read_only=True)
    size = reader.opened.replica.checkpoint.size
    assert "env/DB_PASSWORD" not in [mark.target for mark in Exposures(reader.authority).unrotated()]
    project.vault.opened.refresh()
    assert project.vault.opened.replica.checkpoint.size == size


def test_a_mark_that_stands_is_not_made_again(project: Project) -> None:
    project.vault.write("a", "x")
    mark = Mark("a", "", 1, "0" * 40, WHEN, "a.yaml")
    exposures = Exposures(project.vault.authority)
    exposures.mark([mark])
    size = project.vault.opened.replica.checkpoint.size
    exposures.mark([mark])
    assert project.vault.opened.replica.checkpoint.size == size
    assert exposures.unrotated() == [mark]


def test_a_moved_secret_keeps_its_mark(project: Project) -> None:
    import_secrets(project.vault, project.given, history=True)
    project.vault.move("env/DB_PASSWORD", "db/password")
    project.vault.write("env/DB_PASSWORD", "a new secret at the old path")
    assert exposed(project) == sorted({*ALL, "db/password"} - {"env/DB_PASSWORD"})
    project.vault.write("db/password", "rotated")
    assert exposed(project) == [target for target in ALL if target != "env/DB_PASSWORD"]
    assert exposed(project) == [target for target in ALL if target != "env/DB_PASSWORD"]
