"""Failures as people and scripts see them: an error, a hint, and one exit code for each family."""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path

import click

from securecfg.errors import ConfigErrors, SecurecfgError, UsageError

EXIT_BUG = 1
_MAIN_NOUN = "secret"  # what `get` and `list` are about when nothing is named


def report(error: Exception, *, is_json: bool) -> int:
    """Print a failure and return the exit code.

    As text it goes to standard error; as JSON it is the one object on standard output.
    """
    if isinstance(error, click.exceptions.NoArgsIsHelpError) and error.ctx is not None:
        click.echo(error.ctx.get_help(), err=True)
        return UsageError.exit_code
    if isinstance(error, click.ClickException):
        error = _from_click(error)
    if isinstance(error, SecurecfgError):
        _print(error.code, error.message, error.hint, is_json=is_json)
        return _exit_code(error)
    _print("bug", _describe_bug(error), _BUG_HINT, is_json=is_json)
    return EXIT_BUG


def _exit_code(error: SecurecfgError) -> int:
    """Return the exit code; several problems of one family have that family's."""
    families = {problem.exit_code for problem in error.problems} if isinstance(error, ConfigErrors) else set()
    return families.pop() if len(families) == 1 else error.exit_code


def _print(code: str, message: str, hint: str, *, is_json: bool) -> None:
    if is_json:
        click.echo(json.dumps({"error": {"code": code, "message": message, "hint": hint}}, ensure_ascii=False))
        return
    click.echo(f"error: {message}", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)


def _from_click(error: click.ClickException) -> UsageError:
    """Return a usage error in the words of this program; what may be a secret is not repeated."""
    context = getattr(error, "ctx", None)
    hint = f"`{context.command_path} --help` shows how it is used" if context is not None else ""
    if isinstance(error, click.NoSuchOption):
        name = error.option_name
        # A value that begins with a dash looks like an option, and is perhaps a password.
        shown = f" `{name}`" if name.startswith("--") and name[2:].replace("-", "").isalpha() else ""
        if error.possibilities:
            hint = "did you mean " + ", ".join(f"`{known}`" for known in sorted(error.possibilities)) + "?"
        return UsageError(f"there is no option{shown}", hint=hint)
    if isinstance(error, click.exceptions.NoSuchCommand):
        near = _near_commands(error)
        if near:
            hint = "did you mean " + " or ".join(f"`{known}`" for known in near) + "?"
        return UsageError(f"there is no command `{error.command_name}`", hint=hint)
    message = error.format_message().removesuffix(".").replace("'", "`")
    return UsageError(message[:1].lower() + message[1:], hint=hint)


def _near_commands(error: click.exceptions.NoSuchCommand) -> list[str]:
    """Return the commands that may be meant. Click itself does not know those that are yet to be imported."""
    from difflib import get_close_matches

    context = error.ctx
    group = context.command if context is not None else None
    if context is None or not isinstance(group, click.Group):
        return []
    secret = group.get_command(context, _MAIN_NOUN)
    if isinstance(secret, click.Group) and error.command_name in secret.commands:
        return [f"{context.command_path} {_MAIN_NOUN} {error.command_name}"]
    return get_close_matches(error.command_name, group.list_commands(context))


_BUG_HINT = "run it again with SECURECFG_DEBUG=1 and report what it prints; no value of a secret is in it"


def _describe_bug(error: Exception) -> str:
    """Return where something unforeseen happened. Its own text may hold anything, so it is not shown."""
    frames = traceback.extract_tb(error.__traceback__)
    if os.environ.get("SECURECFG_DEBUG") == "1":
        for frame in frames:
            click.echo(f"  {frame.filename}:{frame.lineno} in {frame.name}", err=True)
        sys.stderr.flush()
    last = frames[-1] if frames else None
    place = f" at {Path(last.filename).name}:{last.lineno}" if last else ""
    return f"this is a bug in securecfg: {type(error).__name__}{place}"
