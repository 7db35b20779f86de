"""`securecfg run`: a command with the resolved configuration as its environment."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from securecfg.cli.groups import Verb
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.errors import FileMissing, StoreFailed

if TYPE_CHECKING:
    from collections.abc import Mapping


@click.command(
    cls=Verb,
    context_settings={"allow_interspersed_args": False},
    examples=(
        "securecfg run -- python app.py",
        "securecfg run --profile prod -- python app.py",
        "securecfg run --config settings.toml --as svc:worker -- ./worker",
    ),
)
@click.option("--profile", metavar="NAME", help="The profile that directories are read with.")
@click.option(
    "--config",
    "sources",
    multiple=True,
    metavar="PATH",
    help="A file or folder; else `config/` and `.env` of the project.",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@common_flags
def run(invocation: Invocation, *, profile: str | None, sources: tuple[str, ...], command: tuple[str, ...]) -> None:
    """Run a command with the resolved configuration as its environment.

    Names of `.env` stay as they are; `database.url` of any other file is DATABASE_URL. What the environment already has
    stays. All secrets are read with one record in the log, on behalf of the project's service (`service` in
    securecfg.toml) unless --as says otherwise. The command takes this program's place, so that signals and its exit
    code are its own.
    """
    from securecfg.cli.config_sources import load_sources
    from securecfg.cli.environment import to_environment
    from securecfg.vault.settings import read_project

    program = shutil.which(command[0])
    if program is None:
        message = f"there is no program `{command[0]}`"
        raise FileMissing(message, hint="give the command as it is typed, after `--`")
    service = os.environ.get("SECURECFG_AS") or read_project(Path.cwd()).values.get("service")
    with invocation.open(principal=service) as vault:
        variables = to_environment(load_sources(sources, profile, vault))
    kept = sorted(name for name, text in variables.items() if os.environb.get(name.encode(), text) != text)
    if kept:
        invocation.note(f"note: already in the environment, and kept: {', '.join(kept)}")
    _take_place(program, command, {name.encode(): text for name, text in variables.items()} | dict(os.environb))


def _take_place(program: str, command: tuple[str, ...], environment: Mapping[bytes, bytes]) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execve(program, command, environment)  # noqa: S606 - the caller's own command, as an argument list
    except OSError as error:
        message = f"cannot run `{command[0]}`: {error.strerror}"
        raise StoreFailed(message) from None
