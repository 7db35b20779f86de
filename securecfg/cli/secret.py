"""`securecfg secret`: reading, writing and versioning secrets."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from securecfg.cli.arguments import At, Duration, Number, VersionName, parse_pairs
from securecfg.cli.groups import Noun
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.cli.output import printable, shown_size, shown_time, timestamp, write_bytes
from securecfg.errors import UsageError, VersionNotFound
from securecfg.words import brief_age

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from securecfg.vault import SecretVersion, Vault, VersionInfo
    from securecfg.vault.listing import Origin

_AT = click.option("--at", type=At(), metavar="VERSION", help="A version's name, a label, or a moment (ISO 8601).")
_LOOKALIKE = click.option("--allow-lookalike", is_flag=True, help="Accept a new path that looks like an existing one.")


@click.group(cls=Noun)
def secret() -> None:
    """Read, write and version secrets."""


@secret.command(
    examples=(
        "securecfg secret get db/main                    # what is known of it, masked",
        "securecfg secret get db/main --reveal           # the exact value",
        "securecfg secret get db/main --field password --reveal",
        "securecfg secret get db/main --at previous --reveal",
    )
)
@click.argument("path")
@_AT
@click.option("--field", metavar="NAME", help="One field of a value that has fields.")
@click.option("--reveal", is_flag=True, help="Print the value; the read is recorded first.")
@common_flags
def get(invocation: Invocation, *, path: str, at: int | str | datetime | None, field: str | None, reveal: bool) -> None:
    """Show a secret, masked, or print its value.

    Without --reveal nothing is decrypted and no read is recorded; that needs the right to list.
    With it the exact value is printed, with a newline only on a terminal; a value with fields as one JSON object.
    What is mounted is asked for in its store either way, and how old it is where the store gave no answer is told.
    """
    with invocation.open() as vault:
        if reveal:
            _reveal(invocation, vault, path, at, field)
            return
        info = vault.current(path) if at is None else _version_at(vault.history(path), path, at)
    result = {"path": path, **_described(info)}
    lines = [
        f"path      {path}",
        f"version   {printable(str(info.version))}{_shown_labels(info)}",
        f"value     ***  {_shown_size(info)}".rstrip(),
    ]
    if field is not None:
        result["field"] = field
        lines.append(f"field     {field}  ***")
    lines.append(f"state     {info.state}")
    if info.created is not None:
        lines.append(f"created   {shown_time(info.created)}{f' by {info.author}' if info.author else ''}")
    if info.expires is not None:
        lines.append(f"expires   {shown_time(info.expires)}")
    if info.content_type:
        lines.append(f"type      {info.content_type}")
    if info.origin is not None:
        lines.append(f"store     {printable(info.origin.store)}{_shown_age(info.origin)}")
    lines += _shown_metadata(info.metadata)
    invocation.emit(result, *lines)


def _reveal(
    invocation: Invocation, vault: Vault, path: str, at: int | str | datetime | None, field: str | None
) -> None:
    from securecfg.cli.output import write_json
    from securecfg.secret import Secret

    if field is None and not invocation.is_json:
        version, pieces = vault.stream(path, at=at)
        if isinstance(version.value, Secret):
            for piece in pieces:
                write_bytes(piece)
            if sys.stdout.isatty():
                write_bytes(b"\n")
        else:
            from securecfg.cli.values import revealed_fields

            write_json(revealed_fields(version.value))
        return
    version = vault.read(path, at=at)
    if invocation.is_json:
        write_json(_revealed_version(version, field))
        return
    content = version.field(field or "").reveal()
    write_bytes(content.encode() if isinstance(content, str) else content)
    if sys.stdout.isatty():
        write_bytes(b"\n")


def _revealed_version(version: SecretVersion, field: str | None) -> dict[str, Any]:
    from securecfg.cli.values import revealed, revealed_fields
    from securecfg.secret import Secret

    result: dict[str, Any] = {"path": version.path, "version": version.version}
    if field is not None:
        result |= {"field": field, "value": revealed(version.field(field).reveal())}
    elif isinstance(version.value, Secret):
        result["value"] = revealed(version.value.reveal())
    else:
        result["fields"] = revealed_fields(version.value)
    return result | {
        "created": timestamp(version.created),
        "expires": timestamp(version.expires),
        "labels": list(version.labels),
        "metadata": dict(version.metadata),
        "author": version.author,
        "content_type": version.content_type,
    }


@secret.command(
    surplus_hint="a value is never taken from an argument, where others could see it; pipe it in or be asked for it",
    examples=(
        "securecfg secret put db/main                            # asks, and shows nothing",
        'printf %s "$TOKEN" | securecfg secret put api/token --ttl 90d --meta owner=payments',
        "securecfg secret put db/main --field user --field password",
        "securecfg secret put tls/key --file server.key --expect 3",
        "securecfg secret put corp/db --file db.json --expect 6f1c7d42-9a5e    # what a mounted store calls a version",
    ),
)
@click.argument("path")
@click.option("--file", type=click.Path(), help="Read the value from a file, of up to 1 GiB.")
@click.option("--field", "fields", multiple=True, metavar="NAME", help="Write this field only; may be repeated.")
@click.option("--replace", is_flag=True, help="With --field: keep no other fields.")
@click.option("--fields", "is_mapping", is_flag=True, help="Standard input is a JSON object of all fields.")
@click.option(
    "--expect", type=VersionName(0), metavar="VERSION", help="Fail unless the newest is this; 0 for a new secret."
)
@click.option("--ttl", type=Duration(), metavar="DURATION", help="How long it can be read, such as 90d.")
@click.option("--meta", multiple=True, metavar="NAME=TEXT", help="Text to show with it, not secret; may be repeated.")
@click.option("--content-type", default="", metavar="TYPE", help="Of a configuration document: application/yaml.")
@_LOOKALIKE
@common_flags
def put(invocation: Invocation, /, *, path: str, **options: Any) -> None:  # noqa: ANN401 - what the options above declare
    """Write a new version of a secret.

    The value comes from standard input, byte for byte, or is asked for twice on a terminal. It replaces the whole
    value, all fields included; with --field it replaces the named fields and keeps the others, which are read for that,
    and fails if somebody else writes meanwhile. Metadata is kept unless some is given. An empty answer or pipe is
    refused; an empty value is written with --file from an empty file, an empty field with --fields.

    Where the key at hand may only drop values into a sealed scope, the value is handed in for a receipt; see receipt.
    """
    from securecfg.cli.fields import read_fields
    from securecfg.cli.values import note_newline, open_value

    fields: tuple[str, ...] = options["fields"]
    if options["is_mapping"] and fields:
        message = "`--fields` and `--field` exclude each other"
        raise UsageError(message, hint="`--fields` reads all of them from one JSON object")
    if options["replace"] and not fields:
        message = "`--replace` goes with `--field`"
        raise UsageError(message, hint="without `--field` the whole value is replaced in any case")
    metadata = parse_pairs(options["meta"], "metadata", "--meta owner=payments")
    with invocation.open() as vault:
        if vault.may_only_drop(path):
            from securecfg.cli.drops import drop_value

            drop_value(invocation, vault, path, options, metadata)
            return
        _require(vault, "write", path)
        others = read_fields(vault, path) if fields and not options["replace"] else None
        given = open_value(options["file"], fields, is_mapping=options["is_mapping"], is_silent=invocation.is_silent)
        with given as value:
            ttl: timedelta | None = options["ttl"]
            content, expect, content_type = value, options["expect"], options["content_type"]
            if others is not None and isinstance(value, dict):
                content, expect = others.merge(value, expect), others.newest
                content_type = content_type or others.content_type
            number = vault.write(
                path,
                content,
                expect=expect,
                ttl=ttl,
                metadata=metadata or None,
                content_type=content_type,
                allow_lookalike=options["allow_lookalike"] or invocation.is_confirmed,
            )
            note_newline(invocation, value, options["file"])
    invocation.emit({"path": path, "version": number}, printable(f"written  {path}@{number}"))


@secret.command(
    "list", examples=("securecfg secret list", "securecfg secret list payments/", "securecfg secret list --depth 1")
)
@click.argument("prefix", default="")
@click.option("--depth", type=Number(), metavar="N", help="Show so many levels; deeper ones as folders.")
@common_flags
def list_(invocation: Invocation, *, prefix: str, depth: int | None) -> None:
    """List the secrets that you may list, without their values."""
    with invocation.open() as vault:
        paths = vault.list(prefix, depth=depth)
    _emit_paths(invocation, paths)


@secret.command(examples=("securecfg secret search stripe",))
@click.argument("text")
@common_flags
def search(invocation: Invocation, *, text: str) -> None:
    """Find the secrets whose path contains a text, whatever its case."""
    with invocation.open() as vault:
        paths = vault.search(text)
    _emit_paths(invocation, paths)


@secret.command(examples=("securecfg secret history db/main",))
@click.argument("path")
@common_flags
def history(invocation: Invocation, *, path: str) -> None:
    """List all versions of a secret, newest first, without their values."""
    with invocation.open() as vault:
        versions = vault.history(path)
    invocation.emit_table(
        {"path": path, "versions": [_described(info) for info in versions]},
        ("VERSION", "STATE", "CREATED", "EXPIRES", "SIZE", "BY", "LABELS", "METADATA"),
        [
            (
                str(info.version),
                info.state,
                shown_time(info.created),
                shown_time(info.expires),
                _shown_size(info),
                info.author,
                " ".join(info.labels),
                " ".join(f"{name}={text}" for name, text in info.metadata.items()),
            )
            for info in versions
        ],
        shorten=("METADATA", "EXPIRES", "CREATED", "BY", "LABELS"),
    )


@secret.command(
    examples=("securecfg secret diff db/main previous current", "securecfg secret diff db/main 1 2 --reveal")
)
@click.argument("path")
@click.argument("old", type=At())
@click.argument("new", type=At())
@click.option("--reveal", is_flag=True, help="Show the values.")
@common_flags
def diff(
    invocation: Invocation, *, path: str, old: int | str | datetime, new: int | str | datetime, reveal: bool
) -> None:
    """Compare two versions of a secret: what differs, and with --reveal how.

    Both are read, and recorded as read, masked or not.
    """
    from securecfg.cli.differences import compare
    from securecfg.errors import SecurecfgError

    with invocation.open() as vault:
        found = vault.read_many([(path, old), (path, new)])
    versions: list[SecretVersion] = []
    for version in found:
        if isinstance(version, SecurecfgError):
            raise version
        versions.append(version)
    result, rows = compare(versions[0], versions[1], reveal=reveal)
    columns = ("WHAT", "CHANGE", *(printable(f"@{version.version}") for version in versions))
    if rows or invocation.is_json:
        invocation.emit_table(result, columns, rows, shorten=columns[2:])
    else:
        invocation.emit(result, "no difference")


@secret.command(
    examples=("securecfg secret rollback db/main --to 3", "securecfg secret rollback db/main --to previous")
)
@click.argument("path")
@click.option("--to", "to", type=At(), required=True, metavar="VERSION", help="A version's name or a label.")
@common_flags
def rollback(invocation: Invocation, *, path: str, to: int | str | datetime) -> None:
    """Write the value of an old version again, as a new version."""
    if isinstance(to, datetime):
        message = "a rollback goes to a version's name or a label"
        raise UsageError(message, hint=f"`securecfg secret history {path}` lists the versions and their times")
    with invocation.open() as vault:
        number = vault.rollback(path, to)
    invocation.emit({"path": path, "version": number, "from": to}, printable(f"written  {path}@{number}  from {to}"))


@secret.command(examples=("securecfg secret delete db/old", "securecfg secret delete db/main --version 2"))
@click.argument("path")
@click.option("--version", type=VersionName(), metavar="VERSION", help="One version; without it the current one.")
@common_flags
def delete(invocation: Invocation, *, path: str, version: int | str | None) -> None:
    """Delete the current version, or one version; `undelete` brings it back.

    What is mounted is deleted as its store does: as a whole, and for good where the store brings nothing back.
    """
    with invocation.open() as vault:
        vault.delete(path, version)
    invocation.emit({"path": path, "version": version}, f"deleted  {path}{f'@{version}' if version else ''}")


@secret.command(examples=("securecfg secret undelete db/old 4",))
@click.argument("path")
@click.argument("version", type=VersionName())
@common_flags
def undelete(invocation: Invocation, *, path: str, version: int | str) -> None:
    """Bring a deleted version back; of what is mounted the secret with all its versions."""
    with invocation.open() as vault:
        vault.undelete(path, version)
    invocation.emit({"path": path, "version": version}, f"undeleted  {path}@{version}")


@secret.command(examples=("securecfg secret destroy db/old 4", "securecfg secret destroy db/old 4 --yes --no-input"))
@click.argument("path")
@click.argument("version", type=VersionName())
@common_flags
def destroy(invocation: Invocation, *, path: str, version: int | str) -> None:
    """Destroy a version for ever. Copies and backups of the vault made before still hold it.

    Nothing can be destroyed in a store that is mounted.
    """
    from securecfg.cli.backup import note_backups

    with invocation.open() as vault:
        _require(vault, "destroy", path)
        invocation.confirm(f"Destroy version {version} of {path} for ever?")
        vault.destroy(path, version)
        note_backups(invocation, vault)
    invocation.emit({"path": path, "version": version}, f"destroyed  {path}@{version}")


@secret.command(
    examples=("securecfg secret move db/main db/primary", "securecfg secret move db/main payments/db    # into a scope")
)
@click.argument("path")
@click.argument("target")
@_LOOKALIKE
@common_flags
def move(invocation: Invocation, *, path: str, target: str, allow_lookalike: bool) -> None:
    """Give a secret another path, with all its versions.

    Over the edge of a sealed scope they are sealed anew. Whoever could read them before may know them: `securecfg audit
    exposed` lists the secret until it has another value. Into what is mounted, and out of it, a secret goes with its
    one version: it is written there and deleted here.
    """
    with invocation.open() as vault:
        vault.move(path, target, allow_lookalike=allow_lookalike or invocation.is_confirmed)
        is_other_part = vault.authority_over(path).opened is not vault.authority_over(target).opened
    invocation.emit({"path": path, "target": target}, f"moved  {path} -> {target}")
    if is_other_part:
        invocation.note(f"note: who could read {path} may know its values: `securecfg audit exposed`")


@secret.command(examples=("securecfg secret label db/main stable 3", "securecfg secret label db/main stable --remove"))
@click.argument("path")
@click.argument("label")
@click.argument("version", type=VersionName(), required=False)
@click.option("--remove", is_flag=True, help="Take the label away.")
@common_flags
def label(invocation: Invocation, *, path: str, label: str, version: int | str | None, remove: bool) -> None:
    """Make a label point at a version, or take it away."""
    if remove == (version is not None):
        message = "a label needs a version or `--remove`, and not both"
        raise UsageError(message, hint=f"`securecfg secret history {path}` lists the versions")
    with invocation.open() as vault:
        vault.label(path, label, version)
    text = f"removed  {label} from {path}" if version is None else f"labelled  {path}@{version} {label}"
    invocation.emit({"path": path, "label": label, "version": version}, text)


@secret.command(
    examples=(
        "securecfg secret receipt 9c1185a5c5e9fc54612808977ee8f548",
        "securecfg secret receipt 9c1185a5c5e9fc54612808977ee8f548 --json",
    )
)
@click.argument("receipt")
@common_flags
def receipt(invocation: Invocation, *, receipt: str) -> None:
    """Say what became of a value that was dropped into a sealed scope.

    Whoever only drops is told whether it still waits. Whoever may list the path is told which version it became, or why
    it was refused.
    """
    from securecfg.cli.drops import describe_drop

    with invocation.open() as vault:
        dropped = vault.find_drop(receipt)
    result, line = describe_drop(receipt, dropped)
    invocation.emit(result, line)


def _require(vault: Vault, action: str, path: str) -> None:
    """Let the policy decide before anything is asked or read, so that nobody prepares what they may not do."""
    from securecfg.vault.paths import path_to_bytes

    path_to_bytes(path)
    vault.authority_over(path).require(action, path)


def _emit_paths(invocation: Invocation, paths: list[str]) -> None:
    invocation.emit({"secrets": [{"path": path} for path in paths]}, *paths)


def _version_at(versions: list[VersionInfo], path: str, at: int | str | datetime) -> VersionInfo:
    """Return the version that a read would return, without reading it."""
    if isinstance(at, datetime):
        found = [info for info in versions if _was_there(info, at)]
    else:
        name = str(at)
        # By its name first, as stores do; a text names no version of the vault itself.
        found = [info for info in versions if info.version == at or (info.origin and info.version == name)]
        found = found or [info for info in versions if name in info.labels]
    if found:
        return found[0]
    message = f"`{path}` has no such version"
    raise VersionNotFound(message, hint=f"`securecfg secret history {path}` lists its versions")


def _was_there(info: VersionInfo, at: datetime) -> bool:
    if info.created is None or info.created > at:
        return False
    if info.origin is not None:  # a store does not say since when a version is deleted
        return info.state == "live"
    return info.deleted is None or info.deleted > at


def _described(info: VersionInfo) -> dict[str, Any]:
    described = {
        "version": info.version,
        "state": str(info.state),
        "created": timestamp(info.created),
        "expires": timestamp(info.expires),
        "deleted": timestamp(info.deleted),
        "labels": list(info.labels),
        "metadata": dict(info.metadata),
        "author": info.author,
        "content_type": info.content_type,
        "size_bytes": info.size_bytes,
    }
    if info.origin is None:
        return described
    store, served, fetched = info.origin
    return described | {"store": store, "served": str(served), "fetched": timestamp(fetched)}


def _shown_labels(info: VersionInfo) -> str:
    return f"  ({printable(', '.join(info.labels))})" if info.labels else ""


def _shown_size(info: VersionInfo) -> str:
    return "" if info.size_bytes is None else shown_size(info.size_bytes)


def _shown_age(origin: Origin) -> str:
    from securecfg.clock import SystemClock, to_ns

    age_s = max(0, SystemClock().now_ns() - to_ns(origin.fetched)) // 1_000_000_000
    return "" if origin.served == "store" else f"  ({origin.served}, {brief_age(age_s)} old)"


def _shown_metadata(metadata: Mapping[str, str]) -> list[str]:
    return [f"metadata  {printable(name)}={printable(text)}" for name, text in metadata.items()]
