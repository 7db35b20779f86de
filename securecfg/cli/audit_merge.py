"""`securecfg audit merge`: the records of those who read bundles, into the log."""

from __future__ import annotations

from pathlib import Path

import click

from securecfg.cli.groups import Verb
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.words import counted


@click.command("merge", cls=Verb, examples=("securecfg audit merge reads.sink", "securecfg audit merge web-*.sink"))
@click.argument("files", nargs=-1, required=True, type=click.Path(), metavar="FILE...")
@common_flags
def merge(invocation: Invocation, *, files: tuple[str, ...]) -> int:
    """Take the records that readers of bundles made into the log, each once.

    Every session is verified before any of it is taken: that it is by an identity for which this vault published the
    bundle, and that no entry before another is missing. One that is not sound is refused with exit code 8, and the
    others are taken. A file may be merged again when it has grown. What was read of sealed scopes goes into their own
    logs. You need the right `audit.read`.
    """
    from securecfg.errors import Conflict, FileMissing, LogTampered, StoreFailed, ValueTooLarge
    from securecfg.vault.bundles.merging import merge_into_parts

    results, failed = [], []
    with invocation.open() as vault:
        for file in files:
            try:
                results.append((file, merge_into_parts(vault, file, Path(file).name)))
            except (FileMissing, StoreFailed, ValueTooLarge, Conflict) as error:
                failed.append((file, error))
    if not results:
        raise failed[0][1]
    invocation.emit(
        {
            "files": [
                {
                    "path": file,
                    "record_count": merged.records,
                    "known_count": merged.known,
                    "session_count": merged.sessions,
                    "unfinished_count": merged.unfinished,
                    "damaged_count": merged.damaged,
                    "foreign_count": len(merged.foreign),
                    "refused": [
                        {"session": session, "error": refusal.code, "message": refusal.message}
                        for session, refusal in merged.refused
                    ],
                }
                for file, merged in results
            ],
            "failed": [
                {"path": file, "error": failure.code, "message": failure.message, "hint": failure.hint}
                for file, failure in failed
            ],
        },
        *(
            f"merged  {file}   {counted(merged.records, 'record')}, {merged.known} known before, "
            f"of {counted(merged.sessions, 'session')}"
            for file, merged in results
        ),
    )
    for file, merged in results:
        if merged.unfinished:
            said = f"{counted(merged.unfinished, 'session')} without an end: in use, killed, or cut off"
            invocation.note(f"note: {file}: {said}")
        if merged.damaged:
            invocation.note(f"warning: {file}: {counted(merged.damaged, 'line')} cut off by a crash, or damaged")
        if merged.foreign:
            sessions = counted(len(merged.foreign), "session")
            said = f"{sessions} that no key of this vault opens: another vault's, or damaged"
            invocation.note(f"note: {file}: {said}")
        for session, refusal in merged.refused:
            invocation.note(f"error: {file}: session {session}: {refusal.message}")
    for file, failure in failed:
        invocation.note(f"error: {file}: {failure.message}")
    if any(merged.refused for _, merged in results):
        return LogTampered.exit_code
    return failed[0][1].exit_code if failed else 0
