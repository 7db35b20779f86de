"""The program: which commands there are, and the outermost loop that turns every failure into an exit code."""

from __future__ import annotations

import os
import sys

import click

from securecfg.cli.groups import LazyGroup

# Each command: where it lies, and its line in `securecfg --help`; in the order in which people meet them.
COMMANDS = {
    "init": ("securecfg.cli.init:init", "Give this project a vault; no flag is needed."),
    "import": ("securecfg.cli.importing:import_", "Move the secrets of configuration files into the vault."),
    "secret": ("securecfg.cli.secret:secret", "Read, write and version secrets."),
    "rotation": ("securecfg.cli.rotation:rotation", "Replace secrets by new ones, at their targets too."),
    "run": ("securecfg.cli.run:run", "Run a command with the resolved configuration as its environment."),
    "policy": ("securecfg.cli.policy:policy", "Say who may do what, test it, and ask why."),
    "role": ("securecfg.cli.role:role", "Give roles to principals."),
    "audit": ("securecfg.cli.audit:audit", "Show who did what, and prove that the log is whole."),
    "config": ("securecfg.cli.config:config", "Show and check a program's configuration."),
    "sign": ("securecfg.cli.sign:sign", "Sign configuration files."),
    "verify": ("securecfg.cli.sign:verify", "Check the signatures of configuration files."),
    "vault": ("securecfg.cli.vault:vault", "Create, inspect and verify vaults."),
    "sync": ("securecfg.cli.sync:sync", "Make two folders alike, of stores or of the vault."),
    "migrate": ("securecfg.cli.migrate:migrate", "Take a whole mount home, or to another store."),
    "key": ("securecfg.cli.key:key", "Manage the keys that open a vault."),
    "identity": ("securecfg.cli.identity:identity", "Make key pairs that prove who somebody is."),
    "scope": ("securecfg.cli.scope:scope", "Seal parts of a vault for roles."),
    "unlock": ("securecfg.cli.unlock:unlock", "Spare repeated passphrases for a while."),
    "doctor": ("securecfg.cli.doctor:doctor", "Find what is wrong with the installation or the vault."),
}

EXIT_INTERRUPTED = 130  # what shells report of SIGINT
EXIT_PIPE_CLOSED = 141  # and of SIGPIPE

_COMPLETION = "_SECURECFG_COMPLETE"


def _version(context: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's way
    if not value or context.resilient_parsing:
        return
    from importlib.metadata import version

    click.echo(f"securecfg {version('securecfg-vault')}")
    context.exit()


@click.group(
    cls=LazyGroup,
    commands_at=COMMANDS,
    examples=(
        "securecfg init                            # a vault for this project",
        "securecfg import .env config/             # move the secrets of these files into it",
        "securecfg secret put db/main              # asks for the value, or reads it from a pipe",
        "securecfg secret get db/main --reveal",
        "securecfg run -- python app.py            # with every reference resolved",
        'eval "$(_SECURECFG_COMPLETE=bash_source securecfg)"   # completion; also zsh_source, fish_source',
    ),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version and exit."
)
def program() -> None:
    """Keep secrets and configuration in one encrypted file, with a policy and a provable log."""


def run(arguments: list[str]) -> int:
    """Run the program and return its exit code.

    Args:
        arguments: What follows the program's name.
    """
    if sys.stdout is None or sys.stderr is None:
        # Closed by the caller (`>&-`); whatever is opened next must not become the standard output.
        return EXIT_PIPE_CLOSED
    for stream in (sys.stdout, sys.stderr):
        # A path or a message that the terminal's encoding lacks is shown escaped, never a reason to fail.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if _COMPLETION in os.environ:
        program.main(arguments, "securecfg")
    try:
        code = _invoke(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        _silence()
        return EXIT_PIPE_CLOSED
    except (KeyboardInterrupt, click.exceptions.Abort):
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the outermost loop: what nobody expected is reported as a bug
        return _report(error, arguments)
    return code


def _invoke(given: list[str]) -> int:
    try:
        with program.make_context("securecfg", list(given)) as context:
            result = program.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    return result if isinstance(result, int) else 0


def _report(error: Exception, given: list[str]) -> int:
    from securecfg.cli.failures import report

    own = given[: given.index("--")] if "--" in given else given
    try:
        return report(error, is_json="--json" in own)
    except BrokenPipeError:
        _silence()
        return EXIT_PIPE_CLOSED


def _silence() -> None:
    """Let the interpreter's own flush at its end write to nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
