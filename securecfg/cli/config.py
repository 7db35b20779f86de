"""`securecfg config`: what a program's configuration comes to, and where each value is written."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from securecfg.cli.groups import Noun
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.cli.output import printable, write_bytes, write_lines
from securecfg.errors import UsageError
from securecfg.words import counted

if TYPE_CHECKING:
    from securecfg.cli.config_values import Keys
    from securecfg.config import Config, Origin

_PROFILE = click.option("--profile", metavar="NAME", help="The profile that folders are read with.")
_SOURCES = click.argument("sources", nargs=-1, metavar="[SOURCES]...")
_CONFIG = click.option(
    "--config",
    "sources",
    multiple=True,
    metavar="PATH",
    help="A file or folder; else `config/` and `.env` of the project. May be repeated; later ones win.",
)


@click.group(cls=Noun)
def config() -> None:
    """Show and check the configuration of a program, its secrets masked."""


@config.command(
    examples=(
        "securecfg config show                          # config/ and .env of the project",
        "securecfg config show --profile prod --origins",
        "securecfg config show base.toml vault:app/config",
    )
)
@_SOURCES
@_PROFILE
@click.option("--origins", is_flag=True, help="Show where each value is written.")
@common_flags
def show(invocation: Invocation, *, sources: tuple[str, ...], profile: str | None, origins: bool) -> None:
    """Show the merged configuration.

    A secret is shown as the reference that stands for it; what looks like a secret in plain text is masked. No secret
    is read, and the vault is opened only where a document in it is a source.
    """
    from securecfg.cli.config_sources import loaded
    from securecfg.cli.config_values import leaves, mask_tree, show_value
    from securecfg.cli.tables import SHORTEST, lay_out
    from securecfg.config.keys import key_path
    from securecfg.config.origins import locate

    with loaded(invocation, sources, profile) as tree:
        values = [(keys, value, locate(tree, keys).place if origins else "") for keys, value in leaves(tree)]
        result: dict[str, Any] = {"values": mask_tree(tree)}
        if origins:
            result["origins"] = {key_path(keys): place for keys, _, place in values}
        rows = [
            (printable(f"{key_path(keys)} = {show_value(tree, keys, value)}"), printable(place))
            for keys, value, place in values
        ]
    if invocation.is_json:
        invocation.emit(result)
    elif rows:
        write_lines(lay_out(rows, [(0, SHORTEST)]) if origins else [row for row, _ in rows])


@config.command(
    examples=("securecfg config get database.host", "securecfg config get database.password --profile prod --reveal")
)
@click.argument("name", metavar="KEY")
@_CONFIG
@_PROFILE
@click.option("--reveal", is_flag=True, help="Print a secret's value; the read is recorded first.")
@common_flags
def get(invocation: Invocation, *, name: str, sources: tuple[str, ...], profile: str | None, reveal: bool) -> None:
    """Print one value: text as it is, anything else as JSON, a secret as its reference.

    With --reveal a secret is read from the vault, or shown where it stands in plain text, with a newline only on a
    terminal.
    """
    from securecfg.cli.config_sources import load_sources, loaded

    if reveal:
        with loaded(invocation, sources, profile) as tree:
            needs_vault = _needs_vault(tree, name)
        if needs_vault:
            with invocation.open() as vault:
                _print_revealed(invocation, load_sources(sources, profile, vault), name)
        else:
            with loaded(invocation, sources, profile) as tree:
                _print_revealed(invocation, tree, name)
        return
    with loaded(invocation, sources, profile) as tree:
        _print_masked(invocation, tree, name)


@config.command(examples=("securecfg config origin database.host --profile prod",))
@click.argument("name", metavar="KEY")
@_CONFIG
@_PROFILE
@common_flags
def origin(invocation: Invocation, *, name: str, sources: tuple[str, ...], profile: str | None) -> None:
    """Say where a value is written, and which values of lower layers it replaces."""
    from securecfg.cli.config_sources import loaded
    from securecfg.config import origin as origin_of

    with loaded(invocation, sources, profile) as tree:
        found = origin_of(tree, name)
    invocation.emit(
        {"key": name, **_origin_data(found), "shadowed": [_origin_data(each) for each in found.shadowed]},
        printable(found.place),
        *(f"  instead of {printable(each.place)}" for each in found.shadowed),
    )


@config.command(
    examples=("securecfg config check --profile prod", "securecfg config check --model shop.settings:Settings")
)
@_SOURCES
@_PROFILE
@click.option("--model", metavar="MODULE:CLASS", help="Bind it to this dataclass or pydantic model.")
@common_flags
def check(invocation: Invocation, *, sources: tuple[str, ...], profile: str | None, model: str | None) -> None:
    """Say everything that is wrong with a configuration, and where.

    With --model the class is imported, from the working directory too, and all that it needs is bound to it: the
    secrets are read, on your behalf, and recorded as read.
    """
    from securecfg.cli.config_sources import load_sources, loaded, vault_if_any
    from securecfg.cli.config_values import is_plain_secret, leaves
    from securecfg.config.references import ReferringSecret

    with loaded(invocation, sources, profile) as tree:
        values = list(leaves(tree))
        references = sum(isinstance(value, ReferringSecret) for _, value in values)
        exposed = sum(is_plain_secret(tree, keys, value) for keys, value in values)
    if model is not None:
        bound = _import_model(model)
        with vault_if_any(invocation) as vault:
            load_sources(sources, profile, vault, model=bound)
    result = {"value_count": len(values), "reference_count": references, "exposed_count": exposed, "model": model}
    lines = [f"sound  {counted(len(values), 'value')}, {counted(references, 'secret')} among them"]
    if model is not None:
        lines.append(f"fits   {model}")
    if exposed:
        invocation.note(f"note: what looks like secrets in plain text: {exposed}; `securecfg import` moves them")
    invocation.emit(result, *lines)


# --- single values ----------------------------------------------------------------------------------------------------


def _keys_of(tree: Config, key: str) -> Keys:
    from securecfg.config.keys import parse_key_path

    return (
        (key,)
        if key in tree.__dict__
        else tuple(int(part) if part.isdecimal() else part for part in parse_key_path(key))
    )


def _needs_vault(tree: Config, key: str) -> bool:
    from securecfg.cli.config_values import leaves
    from securecfg.config import Config as Section
    from securecfg.config.references import ReferringSecret

    value = tree[key]
    within = [value] if not isinstance(value, Section) else [item for _, item in leaves(value)]
    if len(within) != 1 or isinstance(value, Section | tuple):
        message = f"`{key}` is not a single value"
        raise UsageError(message, hint="`--reveal` prints one value; name one")
    return isinstance(within[0], ReferringSecret)


def _print_masked(invocation: Invocation, tree: Config, key: str) -> None:
    from securecfg.cli.config_values import MASK, mask_value
    from securecfg.secret import Secret

    value = tree[key]
    masked = mask_value(tree, _keys_of(tree, key), value)
    is_secret = isinstance(value, Secret) or masked == MASK
    shown = masked if isinstance(masked, str) else _compact(masked)
    invocation.emit({"key": key, "value": masked, "is_secret": is_secret}, shown)


def _print_revealed(invocation: Invocation, tree: Config, key: str) -> None:
    from securecfg.cli.values import revealed
    from securecfg.secret import Secret

    value = tree[key]
    content = value.reveal() if isinstance(value, Secret) else value
    if not isinstance(content, str | bytes | bool | int | float | None):
        content = str(content)  # a date or a time
    if invocation.is_json:
        shown = revealed(content) if isinstance(content, str | bytes) else content
        invocation.emit({"key": key, "value": shown, "is_secret": isinstance(value, Secret)})
        return
    text = content if isinstance(content, str | bytes) else _compact(content)
    write_bytes(text if isinstance(text, bytes) else text.encode())
    if sys.stdout.isatty():
        write_bytes(b"\n")


def _compact(value: object) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)


def _origin_data(found: Origin) -> dict[str, Any]:
    return {
        "origin": found.place,
        "path": found.path,
        "line": found.line or None,
        "column": found.column or None,
        "variable": found.variable or None,
    }


# --- models -----------------------------------------------------------------------------------------------------------


def _import_model(name: str) -> type[Any]:
    from importlib import import_module

    module, colon, attribute = name.partition(":")
    if not colon or not module or not attribute:
        message = f"`{name}` is not `MODULE:CLASS`"
        raise UsageError(message, hint="for instance `--model shop.settings:Settings`")
    sys.path.insert(0, "")
    try:
        found: Any = import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:  # noqa: BLE001 - it runs the user's own code, whose text may hold anything
        message = f"`{name}` cannot be imported: {type(error).__name__}"
        raise UsageError(message, hint=f"`python -c 'import {module}'` tells more") from None
    finally:
        sys.path.remove("")
    if not isinstance(found, type):
        message = f"`{name}` is not a class"
        raise UsageError(message, hint="name a dataclass or a pydantic model")
    return found
