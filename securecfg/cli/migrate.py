"""`securecfg migrate`: a whole mount comes home, or goes to another store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from securecfg.cli.groups import Verb
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from securecfg.mounts.migration import Homecome, Report
    from securecfg.mounts.transfer import Survey
    from securecfg.vault import Vault


@click.command(
    "migrate",
    cls=Verb,
    examples=(
        "securecfg migrate corp/ --dry-run                    # what would come along, and what not",
        "securecfg migrate corp/ --versions all",
        "securecfg migrate corp/ --to 'awssm:?region=eu-west-1'",
    ),
)
@click.argument("folder")
@click.option("--to", "uris", multiple=True, metavar="URI", help="Another store, and those that hold the same.")
@click.option(
    "--versions", type=click.Choice(["current", "all"]), default="current", help="all takes earlier live ones along."
)
@click.option("--dry-run", is_flag=True, help="Only say what would come along, and what not.")
@common_flags
def migrate(invocation: Invocation, *, folder: str, uris: tuple[str, ...], versions: str, dry_run: bool) -> int:
    """Take everything that is mounted at a folder into the vault itself, at the same paths, and end the mount.

    Programs notice nothing: until the one transaction that changes it every path is read in the store, after it in the
    vault. With --to everything goes into another store, which is mounted then. Nothing is deleted in the old store.
    Interrupted, the same command goes on. Needs the right `mount.manage`, and `read` and `write` on every path.
    """
    takes_versions = versions == "all"
    with invocation.open() as vault:
        if uris:
            return _rehouse(invocation, vault, folder, uris, takes_versions=takes_versions, dry_run=dry_run)
        return _come_home(invocation, vault, folder, takes_versions=takes_versions, dry_run=dry_run)


# --- home -------------------------------------------------------------------------------------------------------------


def _come_home(invocation: Invocation, vault: Vault, folder: str, *, takes_versions: bool, dry_run: bool) -> int:
    from securecfg.mounts.migration import Homecoming, finish_homecoming

    if not dry_run:
        done = finish_homecoming(vault, folder, invocation.progress)
        if done is not None:
            invocation.note("note: the migration was interrupted after its transaction, and is finished now")
            return _emit(invocation, folder, None, done)
    home = Homecoming(vault, folder, invocation.progress, takes_versions=takes_versions)
    report = home.survey() if dry_run else home.fetch()
    _show(invocation, report)
    if dry_run:
        return _emit(invocation, folder, report, None)
    if not report.obstacles:
        lost = f", without {counted(len(report.lost), 'thing')} named above" if report.lost else ""
        invocation.confirm(f"Take {counted(report.secrets, 'secret')} home and end the mount{lost}?")
    return _emit(invocation, folder, report, home.take_over(report))


def _show(invocation: Invocation, report: Report) -> None:
    from securecfg.cli.output import printable

    for lost in report.obstacles:
        invocation.note(printable(f"in the way  {lost.name}: {lost.reason}"))
    for lost in report.lost:
        invocation.note(printable(f"left behind  {lost.name}: {lost.what}: {lost.reason}"))
    if report.passed_over:
        invocation.note(f"left behind  {counted(report.passed_over, 'name')} in the store that are no paths")


def _emit(invocation: Invocation, folder: str, report: Report | None, done: Homecome | None) -> int:
    from securecfg.cli.output import printable
    from securecfg.errors import Conflict

    result: dict[str, Any] = {"folder": folder, "is_done": done is not None}
    lines: list[str] = []
    if report is not None:
        result |= {
            "secret_count": report.secrets,
            "version_count": report.versions,
            "in_the_way": [lost._asdict() for lost in report.obstacles],
            "left_behind": [lost._asdict() for lost in report.lost],
            "passed_over": report.passed_over,
        }
    if done is None and report is not None:
        what = f"{counted(report.secrets, 'secret')} with {counted(report.versions, 'version')}"
        lines = [f"would take home  {what}, {len(report.lost)} left behind, {len(report.obstacles)} in the way"]
    if done is not None:
        result |= {
            "secret_count": done.secrets,
            "verified_count": done.verified,
            "late": done.late,
            "is_store_checked": done.is_store_checked,
        }
        lines = [f"home  {counted(done.secrets, 'secret')} below {folder}, {done.verified} read back and compared"]
    invocation.emit(result, *lines)
    for name in done.late if done is not None else ():
        invocation.note(printable(f"late  {name}: it has changed in the store since it was fetched"))
    if done is not None and not done.is_store_checked:
        invocation.note("note: the store could not be asked whether anything has changed there meanwhile")
    return Conflict.exit_code if (report is not None and report.obstacles) or (done is not None and done.late) else 0


# --- elsewhere --------------------------------------------------------------------------------------------------------


def _rehouse(
    invocation: Invocation, vault: Vault, folder: str, uris: Sequence[str], *, takes_versions: bool, dry_run: bool
) -> int:
    from securecfg.cli.copying import describe, show
    from securecfg.cli.output import printable
    from securecfg.errors import Conflict
    from securecfg.mounts.transfer import Rehousing

    way = Rehousing(vault, folder, uris, invocation.progress, takes_versions=takes_versions)
    survey = way.survey()
    show(invocation, survey.plan)
    _note_lost(invocation, survey)
    result = describe(survey.plan, None) | {
        "folder": folder,
        "earlier_version_count": survey.versions,
        "in_the_way": [item.name for item in survey.obstacles],
        "left_behind": [{"name": name, "what": what} for name, what in survey.lost],
    }
    if dry_run:
        if invocation.is_json:
            invocation.emit(result)
        return Conflict.exit_code if survey.obstacles else 0
    if not survey.obstacles:
        invocation.confirm(f"Copy {counted(len(survey.plan.todo), 'secret')} and mount the new store at {folder}?")
    count, lost = way.run(survey)
    for name, what in lost:
        invocation.note(printable(f"left behind  {name}: {what}"))
    invocation.emit(
        result | {"is_done": True, "secret_count": count},
        f"moved  {counted(count, 'secret')}; {folder} is in the new store, and nothing was deleted in the old one",
    )
    return 0


def _note_lost(invocation: Invocation, survey: Survey) -> None:
    from securecfg.cli.output import printable

    for name, what in survey.lost:
        invocation.note(printable(f"left behind  {name}: {what}"))
