"""An import moves what it says, refuses what it must, and can be taken back until it is confirmed."""

from __future__ import annotations

import os
import resource
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import securecfg
from securecfg.audit import Event
from securecfg.errors import (
    AccessDenied,
    ConfigSyntaxError,
    Conflict,
    FileMissing,
    InvalidPath,
    StaleWrite,
    StoreFailed,
    UndoUnavailable,
    Unsupported,
    UsageError,
)
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
from securecfg.vault.imports.documents import STEPS
from securecfg.vault.imports.steps import Imports
from securecfg.vault.verification import verify_vault
from tests.sources.project import CANARIES, FILES, FOUND, Project, make_project
from tests.vault.world import READER, grant, interrupted, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = str(Path(securecfg.__file__).parent)


def shown(error: BaseException) -> str:
    """Return what a crash reporter would send of an error: every variable of every frame of the package."""
    text = [repr(error)]
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename.startswith(PACKAGE):
            text += map(repr, frame.f_locals.values())
    for other in (error.__cause__, error.__context__):
        text += [shown(other)] if other is not None else []
    return " ".join(text)


def assert_masked(error: BaseException) -> None:
    assert not [canary for canary in CANARIES if canary in shown(error)]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = make_project(tmp_path)
    yield project
    project.world.close()


# --- planning ---------------------------------------------------------------------------------------------------------


def test_a_plan_changes_nothing(project: Project) -> None:
    plan = plan_import(project.vault, project.given)
    assert {finding.path for finding in plan.findings} == FOUND
    assert project.contents() == project.before()
    assert project.vault.list() == []
    assert list_imports(project.vault) == []


def test_a_plan_shows_no_value(project: Project) -> None:
    shown = repr(plan_import(project.vault, project.given))
    assert not [canary for canary in CANARIES if canary in shown]


def test_a_plan_needs_no_vault(project: Project) -> None:
    assert len(plan_import(None, project.given).findings) == len(FOUND)


def test_refuses_a_prefix_that_is_no_path(project: Project) -> None:
    with pytest.raises(InvalidPath):
        plan_import(project.vault, project.given, prefix="a//b")


def test_a_path_that_holds_something_else_is_a_conflict_and_stays_in_the_file(project: Project) -> None:
    project.vault.write("env/DB_PASSWORD", "another")
    plan = plan_import(project.vault, project.given)
    assert [finding.path for finding in plan.conflicts] == ["env/DB_PASSWORD"]
    apply_import(project.vault, plan)
    after = project.contents()[".env"]
    assert b"hunter2-canary" in after
    assert b"${secret:env/STRIPE_API_KEY}" in after
    assert text_of(project.vault, "env/DB_PASSWORD") == "another"


def test_fields_that_differ_are_a_conflict(project: Project) -> None:
    project.vault.write("prod/database/url", {"password": "p@ss/canary:1", "user": "x"})
    [conflict] = plan_import(project.vault, project.given).conflicts
    assert conflict.target == "prod/database/url#password"


def test_a_value_that_is_there_already_is_used_again(project: Project) -> None:
    project.vault.write("env/DB_PASSWORD", "hunter2-canary")
    outcome = import_secrets(project.vault, project.given)
    assert outcome is not None
    assert outcome.secrets == len(FOUND)
    assert len(project.vault.history("env/DB_PASSWORD")) == 1
    undo_import(project.vault)
    assert text_of(project.vault, "env/DB_PASSWORD") == "hunter2-canary"


def test_what_the_caller_may_not_read_is_a_conflict(project: Project) -> None:
    project.vault.write("app/env/DB_PASSWORD", "hunter2-canary")
    grant(project.vault, '[roles.w]\nmembers = ["svc:w"]\n[[roles.w.grants]]\nactions = ["write"]\npaths = ["**"]\n')
    writer = project.world.open("svc:w")
    [conflict] = plan_import(writer, project.given, prefix="app").conflicts
    assert conflict.path == "app/env/DB_PASSWORD"


def test_a_new_path_that_looks_like_another_is_shown(project: Project) -> None:
    project.vault.write("env/DB_PA5SWORD", "x")
    project.vault.write("env/STRIPE_APl_KEY", "x")
    notices = plan_import(project.vault, project.given).notices
    assert [notice.key for notice in notices] == ["STRIPE_API_KEY"]
    assert "looks like `env/STRIPE_APl_KEY`" in notices[0].text


def test_hard_links_are_shown(project: Project) -> None:
    os.link(project.folder / ".env", project.folder / "copy.env")
    [notice] = plan_import(project.vault, [project.folder / ".env"]).notices
    assert "2 names" in notice.text


def test_the_face_refuses_files_that_cannot_be_read(project: Project) -> None:
    (project.folder / "config" / "bad.json").write_bytes(b'{"a": \xff}')
    with pytest.raises(ConfigSyntaxError, match="not UTF-8"):
        import_secrets(project.vault, project.given)
    with pytest.raises(FileMissing):
        import_secrets(project.vault, [project.folder / "none.yaml"])
    assert project.contents() == project.before()


def test_the_face_refuses_a_conflict(project: Project) -> None:
    project.vault.write("env/DB_PASSWORD", "another")
    with pytest.raises(Conflict, match="env/DB_PASSWORD"):
        import_secrets(project.vault, project.given)
    assert project.contents() == project.before()


def test_other_files_are_moved_where_one_cannot_be_read(project: Project) -> None:
    (project.folder / "config" / "bad.json").write_bytes(b'{"a": \xff}')
    (project.folder / "config" / "worse.yaml").write_bytes(b"a: [\n")
    (project.folder / "config" / "dangling.env").symlink_to("nowhere")
    os.mkfifo(project.folder / "config" / "pipe.yaml")
    plan = plan_import(project.vault, [*project.given, project.folder / "config" / "pipe.yaml"])
    outcome = apply_import(project.vault, plan)
    assert outcome is not None
    assert len(outcome.files) == len(FILES)
    assert [problem.code for problem in plan.problems] == ["store-failed", "config-syntax", "config-syntax"]
    for problem in plan.problems:
        assert_masked(problem)


# --- moving -----------------------------------------------------------------------------------------------------------


def test_nothing_to_move_is_no_import(project: Project) -> None:
    (project.folder / "plain.yaml").write_text("port: 1\n")
    assert import_secrets(project.vault, [project.folder / "plain.yaml"]) is None
    assert list_imports(project.vault) == []


def test_moves_every_secret_and_leaves_the_rest_to_the_byte(project: Project) -> None:
    outcome = import_secrets(project.vault, project.given)
    assert outcome is not None
    assert outcome.state is ImportState.APPLIED
    assert set(project.vault.list()) == FOUND
    assert project.contents()[".env"].decode() == (
        "# payments\nDEBUG=1\nSTRIPE_API_KEY=${secret:env/STRIPE_API_KEY}   # live\n"
        "DB_PASSWORD='${secret:env/DB_PASSWORD}'\n"
    )
    for content in project.contents().values():
        assert not [canary for canary in CANARIES if canary.encode() in content]


def test_a_second_import_finds_nothing(project: Project) -> None:
    import_secrets(project.vault, project.given)
    after = project.contents()
    plan = plan_import(project.vault, project.given)
    assert (plan.findings, plan.conflicts) == ((), ())
    assert import_secrets(project.vault, project.given) is None
    assert project.contents() == after


def test_keeps_a_files_mode_and_its_symbolic_links(project: Project) -> None:
    real = project.folder / "real.env"
    (project.folder / ".env").rename(real)
    (project.folder / ".env").symlink_to("real.env")
    real.chmod(0o640)
    import_secrets(project.vault, [project.folder / ".env"])
    assert (project.folder / ".env").is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    undo_import(project.vault)
    assert (project.folder / ".env").is_symlink()
    assert (real.stat().st_mode & 0o777, real.read_text()) == (0o640, FILES[".env"])


def test_leaves_no_file_beside(project: Project) -> None:
    before = {path.relative_to(project.folder) for path in project.folder.rglob("*")}
    import_secrets(project.vault, project.given)
    assert {path.relative_to(project.folder) for path in project.folder.rglob("*")} == before


def test_no_file_but_the_originals_ever_holds_a_value(project: Project, tmp_path: Path) -> None:
    originals = {project.folder / name for name in FILES}

    def look(step: str, file: str) -> None:
        for path in tmp_path.rglob("*"):
            if path.is_file() and path not in originals:
                content = path.read_bytes()
                assert not [canary for canary in CANARIES if canary.encode() in content], (step, path)

    apply_import(project.vault, plan_import(project.vault, project.given), observe=look)
    look("after", "")
    undo_import(project.vault, observe=look)
    project.vault.close()
    look("closed", "")


def test_a_denied_path_changes_nothing(project: Project) -> None:
    grant(project.vault)
    reader = project.world.open(READER)
    with pytest.raises(AccessDenied):
        import_secrets(reader, project.given)
    assert project.contents() == project.before()
    assert project.vault.list() == []


def test_a_path_that_was_written_since_the_plan_changes_nothing(project: Project) -> None:
    plan = plan_import(project.vault, project.given)
    project.vault.write("env/DB_PASSWORD", "another")
    with pytest.raises(StaleWrite) as stale:
        apply_import(project.vault, plan)
    assert_masked(stale.value)
    assert project.contents() == project.before()
    assert project.vault.list() == ["env/DB_PASSWORD"]


def test_a_file_that_changed_since_the_plan_is_left_and_the_others_are_moved(project: Project) -> None:
    plan = plan_import(project.vault, project.given)
    changed = FILES["config/mail.toml"].encode() + b"# edited\n"
    (project.folder / "config/mail.toml").write_bytes(changed)
    (project.folder / "config/search.ini").unlink()
    outcome = apply_import(project.vault, plan)
    assert outcome is not None
    assert [problem.code for problem in outcome.problems] == ["conflict", "file-missing"]
    assert len(outcome.files) == len(FILES) - 2
    assert (project.folder / "config/mail.toml").read_bytes() == changed
    again = import_secrets(project.vault, project.given)
    assert again is not None
    assert again.secrets == 1
    assert len(project.vault.history("mail/smtp/password")) == 1


def test_a_file_that_cannot_be_written_loses_nothing_and_is_resumed(project: Project) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_disk(step: str, file: str) -> None:
        if step == "rewriting" and file.endswith(("mail.toml", "cache.json")):
            resource.setrlimit(resource.RLIMIT_FSIZE, (8, limits[1]))
        elif step == "rewriting":
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    plan = plan_import(project.vault, project.given)
    try:
        with pytest.raises(StoreFailed) as failed:
            apply_import(project.vault, plan, observe=fill_disk)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "--resume" in failed.value.hint
    assert_masked(failed.value)
    assert (project.folder / "config/mail.toml").read_text() == FILES["config/mail.toml"]
    assert [each.state for each in list_imports(project.vault)] == [ImportState.PLANNED]
    [outcome] = resume_imports(project.vault)
    assert (outcome.state, len(outcome.files)) == (ImportState.APPLIED, len(FILES))
    undo_import(project.vault)
    assert project.contents() == project.before()


def test_many_large_secrets_need_more_than_one_piece(project: Project) -> None:
    lines = [f"KEY_{number}_PASSWORD=canary-{number}-" + "é" * 400 for number in range(300)]
    many = project.folder / "many.env"
    many.write_text("\n".join(lines) + "\n")
    before = many.read_bytes()
    outcome = import_secrets(project.vault, [many])
    assert outcome is not None
    assert outcome.secrets == 300
    assert b"canary" not in many.read_bytes()
    undo_import(project.vault)
    assert many.read_bytes() == before
    assert project.vault.list() == []
    with pytest.raises(UndoUnavailable):
        Imports(project.vault.authority).undo_material(list_imports(project.vault)[0])
    project.vault.log.verify()


# --- taking back ------------------------------------------------------------------------------------------------------


def test_undo_restores_every_byte_and_removes_what_was_written(project: Project) -> None:
    import_secrets(project.vault, project.given)
    outcome = undo_import(project.vault)
    assert outcome.state is ImportState.UNDONE
    assert (outcome.secrets, outcome.problems, outcome.kept) == (len(FOUND), (), ())
    assert project.contents() == project.before()
    assert project.vault.list() == []


def test_an_undone_import_can_be_made_again(project: Project) -> None:
    import_secrets(project.vault, project.given)
    after = project.contents()
    undo_import(project.vault)
    import_secrets(project.vault, project.given)
    assert project.contents() == after
    assert set(project.vault.list()) == FOUND


def test_undo_without_an_import_is_refused(project: Project) -> None:
    with pytest.raises(UndoUnavailable, match="there is no import"):
        undo_import(project.vault)
    with pytest.raises(UndoUnavailable, match="no such import"):
        undo_import(project.vault, "20200101-000000-000000")


def test_undo_after_undo_is_refused(project: Project) -> None:
    outcome = import_secrets(project.vault, project.given)
    assert outcome is not None
    undo_import(project.vault)
    with pytest.raises(UndoUnavailable, match="is undone"):
        undo_import(project.vault, outcome.import_id)


def test_a_file_that_changed_since_is_refused_and_keeps_its_secrets(project: Project) -> None:
    import_secrets(project.vault, project.given)
    toml = project.folder / "config/mail.toml"
    edited = toml.read_bytes() + b"# edited\n"
    toml.write_bytes(edited)
    outcome = undo_import(project.vault)
    assert outcome.state is ImportState.APPLIED
    assert [problem.code for problem in outcome.problems] == ["undo-unavailable"]
    assert_masked(outcome.problems[0])
    assert project.contents() == project.before() | {"config/mail.toml": edited}
    assert project.vault.list() == ["mail/smtp/password"]
    toml.write_bytes(edited.removesuffix(b"# edited\n"))
    assert undo_import(project.vault).state is ImportState.UNDONE
    assert project.contents() == project.before()
    assert project.vault.list() == []


def test_a_rotated_secret_stays_when_its_file_is_restored(project: Project) -> None:
    import_secrets(project.vault, project.given)
    project.vault.write("env/DB_PASSWORD", "rotated")
    assert undo_import(project.vault).kept == ("env/DB_PASSWORD",)
    assert text_of(project.vault, "env/DB_PASSWORD") == "rotated"


def test_a_secret_that_another_import_refers_to_stays(project: Project) -> None:
    first = import_secrets(project.vault, [project.folder / ".env"])
    assert first is not None
    copy = project.folder / "other" / ".env"
    copy.parent.mkdir()
    copy.write_text(FILES[".env"])
    import_secrets(project.vault, [copy])
    assert set(undo_import(project.vault, first.import_id).kept) == {"env/DB_PASSWORD", "env/STRIPE_API_KEY"}
    assert len(project.vault.list()) == 2


def test_what_was_destroyed_does_not_come_back(project: Project) -> None:
    import_secrets(project.vault, project.given)
    material = Imports(project.vault.authority)
    project.vault.destroy("mail/smtp/password", 1)
    with pytest.raises(UndoUnavailable):
        undo_import(project.vault)
    with pytest.raises(UndoUnavailable, match="destroyed"):
        material.undo_material(list_imports(project.vault)[0])
    assert b"toml-canary" not in project.contents()["config/mail.toml"]
    assert verify_vault(project.vault.opened).problems == []


def test_what_an_interrupted_import_needs_is_not_destroyed(project: Project) -> None:
    plan = plan_import(project.vault, project.given)

    def stop(step: str, _file: str) -> None:
        if step == "rewriting":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply_import(project.vault, plan, observe=stop)
    with pytest.raises(Conflict, match="interrupted import"):
        project.vault.destroy("mail/smtp/password", 1)
    assert project.vault.read("mail/smtp/password").version == 1


def test_undo_needs_the_rights_to_read_and_delete(project: Project) -> None:
    import_secrets(project.vault, project.given, prefix="app")
    after = project.contents()
    grant(project.vault)
    with pytest.raises(AccessDenied):
        undo_import(project.world.open(READER))
    assert project.contents() == after


def test_undo_is_recorded_as_reading_before_a_file_changes(project: Project) -> None:
    import_secrets(project.vault, project.given)
    seen: list[int] = []

    def count(step: str, file: str) -> None:
        if step == "restoring" and not seen:
            events = [entry.record.event for entry in project.vault.log.records()]
            seen.append(events.count(Event.SECRET_READ))

    undo_import(project.vault, observe=count)
    assert seen == [len(FOUND)]


def test_an_undo_that_cannot_write_a_file_goes_on_later(project: Project) -> None:
    import_secrets(project.vault, project.given)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_disk(step: str, file: str) -> None:
        if step == "restoring":
            resource.setrlimit(resource.RLIMIT_FSIZE, (8, limits[1]))

    try:
        with pytest.raises(StoreFailed) as failed:
            undo_import(project.vault, observe=fill_disk)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert_masked(failed.value)
    assert [each.state for each in list_imports(project.vault)] == [ImportState.UNDOING]
    [outcome] = resume_imports(project.vault)
    assert outcome.state is ImportState.UNDONE
    assert project.contents() == project.before()
    assert project.vault.list() == []


def test_a_file_that_became_a_pipe_is_refused(project: Project) -> None:
    import_secrets(project.vault, project.given)
    (project.folder / ".env").unlink()
    os.mkfifo(project.folder / ".env")
    [problem] = undo_import(project.vault).problems
    assert problem.code == "conflict"


def test_a_read_only_vault_takes_no_import(project: Project) -> None:
    reader = project.world.open(read_only=True)
    with pytest.raises(Unsupported) as refused:
        import_secrets(reader, project.given)
    assert_masked(refused.value)
    assert project.contents() == project.before()


def test_a_policy_that_changes_meanwhile_is_asked_again(project: Project) -> None:
    vault, store = interrupted(project.world)
    store.interrupt("stage", None, lambda: grant(project.vault))
    outcome = import_secrets(vault, project.given)
    assert outcome is not None
    assert outcome.secrets == len(FOUND)
    vault.opened.refresh()
    assert set(vault.list()) == FOUND


# --- confirming -------------------------------------------------------------------------------------------------------


def test_confirming_ends_undo_and_destroys_its_material(project: Project) -> None:
    outcome = import_secrets(project.vault, project.given)
    assert outcome is not None
    material = Imports(project.vault.authority)
    assert "hunter2-canary" in material.undo_material(list_imports(project.vault)[0]).reveal()
    assert confirm_import(project.vault).state is ImportState.CONFIRMED
    with pytest.raises(UndoUnavailable, match="destroyed"):
        material.undo_material(list_imports(project.vault)[0])
    with pytest.raises(UndoUnavailable, match="is confirmed"):
        undo_import(project.vault, outcome.import_id)
    with pytest.raises(UndoUnavailable):
        confirm_import(project.vault)
    assert set(project.vault.list()) == FOUND


def test_an_interrupted_import_cannot_be_confirmed(project: Project) -> None:
    def stop(step: str, file: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply_import(project.vault, plan_import(project.vault, project.given), observe=stop)
    with pytest.raises(Conflict, match="interrupted"):
        confirm_import(project.vault)


def test_imports_are_listed_to_those_who_may_list_their_paths(project: Project) -> None:
    import_secrets(project.vault, project.given, prefix="app")
    grant(project.vault)
    assert len(list_imports(project.world.open(READER))) == 1
    assert list_imports(project.world.open("svc:stranger")) == []


def test_resuming_is_left_to_those_who_may(project: Project) -> None:
    def stop(step: str, file: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply_import(project.vault, plan_import(project.vault, project.given, prefix="app"), observe=stop)
    grant(project.vault)
    assert resume_imports(project.world.open(READER)) == []
    assert project.contents() == project.before()


def test_two_processes_do_not_take_the_same_step(project: Project) -> None:
    outcome = import_secrets(project.vault, project.given)
    assert outcome is not None
    [seen] = list_imports(project.vault)
    undo_import(project.vault)
    with pytest.raises(Conflict, match="another process"):
        Imports(project.vault.authority).confirm(seen)


def test_a_process_that_resumes_what_another_still_does_is_no_harm(project: Project) -> None:
    other = project.world.open()

    def resume_elsewhere(step: str, file: str) -> None:
        if step == "rewritten":
            resume_imports(other)

    plan = plan_import(project.vault, project.given)
    outcome = apply_import(project.vault, plan, observe=resume_elsewhere)
    assert outcome is not None
    assert (outcome.state, outcome.secrets, outcome.problems) == (ImportState.APPLIED, len(FOUND), ())
    undo_import(project.vault)
    assert project.contents() == project.before()


def test_a_process_that_undoes_what_another_still_does_wins(project: Project) -> None:
    other = project.world.open()

    def undo_elsewhere(step: str, file: str) -> None:
        if step == "rewritten" and file.endswith(".ini"):
            undo_import(other)

    with pytest.raises(Conflict, match="taken the import"):
        apply_import(project.vault, plan_import(project.vault, project.given), observe=undo_elsewhere)
    assert project.contents() == project.before()
    assert project.vault.list() == []


def test_every_step_of_the_table_has_its_own_record() -> None:
    assert {str(event) for event in STEPS.values() if event} == {"import.applied", "import.undone", "import.confirmed"}


def test_the_log_tells_of_every_step(project: Project) -> None:
    import_secrets(project.vault, [project.folder / ".env"])
    undo_import(project.vault)
    import_secrets(project.vault, [project.folder / ".env"])
    confirm_import(project.vault)
    events = [str(entry.record.event) for entry in project.vault.log.records()]
    steps = [event for event in events if event.startswith("import.")]
    assert steps == [
        "import.planned",
        "import.applied",
        "import.undone",
        "import.planned",
        "import.applied",
        "import.confirmed",
    ]
    project.vault.log.verify()


def test_history_needs_a_repository(project: Project) -> None:
    with pytest.raises(UsageError, match="git repository"):
        plan_import(project.vault, project.given, history=True)
