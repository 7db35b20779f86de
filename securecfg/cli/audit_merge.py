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
def merge(invocation: Invocation, *, files: tuple[str, ...]) -> None:
    """Take the records that readers of bundles made into the log, each once.

    Every entry is verified before any is taken: that it is by an identity for which this vault published the bundle,
    and that none before it is missing. A file may be merged again when it has grown. You need the right `audit.read`.
    """
    from securecfg.vault.merging import Merging

    with invocation.open() as vault:
        merging = Merging(vault.authority)
        results = [(file, merging.merge(file, Path(file).name)) for file in files]
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
                }
                for file, merged in results
            ]
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
