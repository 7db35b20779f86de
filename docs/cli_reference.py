"""Print the reference of the command line: `python docs/cli_reference.py > docs/reference/cli.md`.

A test holds that the page is what this prints.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from securecfg.cli.invocation import common_flags
from securecfg.cli.program import program

if TYPE_CHECKING:
    from collections.abc import Iterator

INTRODUCTION = """\
# The command line

`securecfg NOUN VERB`. This page is printed from the commands themselves by `docs/cli_reference.py`.

## Settings

Which vault, which key and on whose behalf is taken from the flags `--vault`, `--key` and `--as`; then from the
variables `SECURECFG_VAULT`, `SECURECFG_KEY` and `SECURECFG_AS`; then from `.securecfg/local.toml`, which is one's own;
then from `securecfg.toml`, or `[tool.securecfg]` of `pyproject.toml`, in the working directory or the nearest folder
above it. `securecfg init` writes both files. What each setting means:
[Configuration](configuration.md#which-vault-key-and-principal).

## Output

Results go to standard output, messages to standard error. `--json` prints one object, on one line unless it goes to a
terminal; lists are objects under a plural key (`secrets`, `versions`, `slots`, `records`, `checks`); moments are ISO
8601 in UTC. A failure is then `{"error": {"code", "message", "hint"}}` on standard output, too; see the
[errors](errors.md). A value is a text, or `{"base64": TEXT}` where it is not UTF-8.

`secret get` shows a mask and decrypts nothing without `--reveal`. With it the exact bytes are printed, followed by a
newline on a terminal only; a value with fields is printed as one JSON object. Values are never taken from an
argument, and no error repeats an argument that may be one.

## Questions

A passphrase or a value is asked for on the terminal and never shown. `--no-input` never asks: what cannot be undone
then needs `--yes`, and a missing passphrase or value is an error. The policy decides before anything is asked or
looked up.

## Exit codes

| code | meaning |
|---|---|
| 0 | done |
| 1 | a bug; run again with `SECURECFG_DEBUG=1` and report what it prints, which holds no value |
| 2 | usage: arguments, paths, policies, configuration files, a missing confirmation |
| 3 | not found, or expired |
| 4 | nobody says who is asking, or the key may not speak for them |
| 5 | denied |
| 6 | conflict |
| 7 | sealed: no key that was given opens the vault |
| 8 | damaged, altered, or older than what this machine has seen |
| 9 | not available now |
| 10 | not supported here |
| 130 | interrupted |
| 141 | who read the output went away |

`securecfg doctor` exits with the code of the gravest problem, notes and warnings being none. Several problems at
once, as in a configuration, have the code that they share, or else 2. `securecfg run` exits as its command does.

## Shell completion

```text
eval "$(_SECURECFG_COMPLETE=bash_source securecfg)"             # in ~/.bashrc
eval "$(_SECURECFG_COMPLETE=zsh_source securecfg)"              # in ~/.zshrc
_SECURECFG_COMPLETE=fish_source securecfg | source              # in ~/.config/fish/config.fish
```
"""


def render() -> str:
    """Return the page."""
    context = click.Context(program, info_name="securecfg")
    parts = [
        INTRODUCTION,
        "## Common flags\n",
        "Every command takes them, after the verb.\n",
        _table(_common_options()),
    ]
    for name in program.list_commands(context):
        command = program.get_command(context, name)
        if command is not None:
            parts += _describe(command, f"securecfg {name}", 2)
    return "\n".join(parts)


def _describe(command: click.Command, path: str, level: int) -> Iterator[str]:
    yield f"{'#' * level} {path}\n"
    yield f"{_plain(command.help or '')}\n"
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            verb = command.get_command(context, name)
            if verb is not None:
                yield from _describe(verb, f"{path} {name}", level + 1)
        return
    context = click.Context(command, info_name=path)
    usage = " ".join(piece for piece in command.collect_usage_pieces(context) if piece != "[OPTIONS]")
    examples = "\n".join(getattr(command, "examples", ()))
    yield f"```text\n{f'{path} {usage}'.strip()}\n```\n"
    shared = {option.name for option in _common_options()}
    options = [one for one in command.params if isinstance(one, click.Option) and one.name not in shared]
    if options:
        yield _table(options)
    if examples:
        yield f"```text\n{examples}\n```\n"


def _table(options: list[click.Option]) -> str:
    rows = [
        f"| {_spelling(option)} | {_cell(option.help or '')}{' Required.' if option.required else ''} |"
        for option in options
    ]
    return "\n".join(("| option | |", "|---|---|", *rows, ""))


def _spelling(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in option.opts)
    if option.is_flag:
        return names
    metavar = option.make_metavar(click.Context(program))
    return names[:-1] + f" {_cell(metavar)}`"


def _common_options() -> list[click.Option]:
    command = click.command()(common_flags(lambda _invocation: None))
    return [one for one in command.params if isinstance(one, click.Option)]


def _plain(text: str) -> str:
    """Return a help text without click's marks, its lines joined as click joins them."""
    paragraphs = text.replace("\b\n", "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(render())
