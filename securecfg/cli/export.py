"""`securecfg vault export`: the secrets as other programs take them, in the clear or encrypted with age."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import click

from securecfg.cli.groups import Verb
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.cli.output import timestamp, write_bytes
from securecfg.errors import ConfigTypeError, ExtraMissing, StoreFailed, UsageError
from securecfg.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from securecfg.vault.closed import Closed
    from securecfg.vault.exporting import Exported
    from securecfg.vault.values import SecretVersion

_UNUSUAL = re.compile(r"[^A-Z0-9_]")
_BARE = re.compile(r"[A-Za-z0-9_./:@%+,=-]+", re.ASCII)
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "$": "\\$", "`": "\\`", "\n": "\\n", "\r": "\\r"})
_AGE_TIMEOUT_S = 60


@click.command(
    "export",
    cls=Verb,
    examples=(
        "securecfg vault export --format age --recipient age1... --out secrets.age",
        "securecfg vault export prod/ --format dotenv --out prod.env",
        "securecfg vault export --format json --yes | jq .",
    ),
)
@click.argument("prefix", default="")
@click.option(
    "--format", "format_", type=click.Choice(["json", "dotenv", "age"]), required=True, help="age is JSON, encrypted."
)
@click.option("--recipient", "recipients", multiple=True, metavar="KEY", help="Who can open it, as `age -r` takes it.")
@click.option("--out", "-o", metavar="FILE", help="A new file, mode 0600; else standard output.")
@click.option("--dry-run", is_flag=True, help="Only say how much would be given out.")
@common_flags
def export(
    invocation: Invocation,
    *,
    prefix: str,
    format_: str,
    recipients: tuple[str, ...],
    out: str | None,
    dry_run: bool,
) -> None:
    """Give out the current version of every secret, or of those below a prefix, that you may export and read.

    Each is in the log as read before anything is written. What you may list and not export is left out, and so is what
    your key does not open; standard error says which. `age` has to be installed for its format.
    """
    from securecfg.files import create_private
    from securecfg.vault.exporting import export_secrets, find_exportable

    program = _check_age(format_, recipients)
    if invocation.is_json and out is None and not dry_run and format_ != "json":
        message = "standard output cannot be both the export and a JSON object"
        raise UsageError(message, hint="name a file with `--out`")
    with invocation.open() as vault:
        exportable, refused = find_exportable(vault, prefix)
        if dry_run:
            closed = vault.closed(prefix)
            result = {"secret_count": len(exportable), "left_out": [path for path, _ in refused], "is_done": False}
            invocation.emit(
                result | {"not_opened": _described_closed(closed)},
                f"would export  {counted(len(exportable), 'secret')}, {len(refused)} left out",
            )
            _say_closed(invocation, closed)
            return
        if exportable and program is None:
            invocation.confirm(f"Write {counted(len(exportable), 'secret')} in the clear?")
        exported = export_secrets(vault, prefix)
    content = _to_dotenv(exported.versions) if format_ == "dotenv" else _to_json(exported.versions)
    if program is not None:
        content = _encrypt(program, recipients, content)
    if out is None:
        write_bytes(content)
    else:
        create_private(out, content)
        result = {"path": out, "secret_count": len(exported.versions)}
        invocation.emit(
            result
            | {"left_out": [path for path, _ in exported.left_out], "not_opened": _described_closed(exported.closed)},
            f"exported  {counted(len(exported.versions), 'secret')} to {out}",
        )
    _say_left_out(invocation, exported)


def _say_left_out(invocation: Invocation, exported: Exported) -> None:
    for path, error in exported.left_out:
        invocation.note(f"left out  {path}: {error.message}")
    _say_closed(invocation, exported.closed)


def _say_closed(invocation: Invocation, closed: Closed) -> None:
    if closed.is_whole:
        invocation.note("left out  all of the vault outside its sealed scopes: this identity opens scopes only")
    for scope in closed.scopes:
        invocation.note(f"left out  {scope}: the sealed scope does not open with this key")
    unnamed = closed.scope_count - len(closed.scopes)
    if unnamed:
        invocation.note(f"left out  {counted(unnamed, 'sealed scope')} that this identity does not open")


def _described_closed(closed: Closed) -> dict[str, object]:
    return {"vault": closed.is_whole, "scope_count": closed.scope_count, "scopes": list(closed.scopes)}


def _to_json(versions: Sequence[SecretVersion]) -> bytes:
    secrets = [_described(version) for version in versions]
    return json.dumps({"secrets": secrets}, ensure_ascii=False, indent=1).encode() + b"\n"


def _described(version: SecretVersion) -> dict[str, Any]:
    from securecfg.cli.values import revealed, revealed_fields
    from securecfg.secret import Secret

    value = version.value
    described: dict[str, Any] = {"path": version.path, "version": version.version}
    if isinstance(value, Secret):
        described["value"] = revealed(value.reveal())
    else:
        described["fields"] = revealed_fields(value)
    described["created"] = timestamp(version.created)
    described["expires"] = timestamp(version.expires) if version.expires is not None else None
    return described | {"metadata": dict(version.metadata), "content_type": version.content_type or None}


def _to_dotenv(versions: Sequence[SecretVersion]) -> bytes:
    """Return lines of `NAME=value`, named by path and field as `securecfg run` names them.

    Raises:
        ConfigTypeError: A value is no text, or two have the same name.
    """
    from securecfg.secret import Secret

    lines: dict[str, str] = {}
    for version in versions:
        value = version.value
        parts = {"": value} if isinstance(value, Secret) else dict(value)
        for field, secret in parts.items():
            where = f"{version.path}#{field}" if field else version.path
            name = _UNUSUAL.sub("_", "_".join(filter(None, (version.path, field))).upper())
            name = f"_{name}" if name[:1].isdecimal() else name
            if name in lines:
                message = f"`{where}` and another secret are both `{name}`"
                raise ConfigTypeError(message, hint="export them apart, or as JSON")
            content = secret.reveal()
            if not isinstance(content, str) or "\x00" in content:
                message = f"`{where}` is not text that a `.env` file can hold"
                raise ConfigTypeError(message, hint="export it as JSON")
            lines[name] = f"{name}={_quoted(content)}\n"
    return "".join(lines.values()).encode()


def _quoted(content: str) -> str:
    if _BARE.fullmatch(content):
        return content
    if "'" not in content and "\r" not in content:
        return f"'{content}'"
    return f'"{content.translate(_ESCAPES)}"'


def _check_age(format_: str, recipients: Sequence[str]) -> str | None:
    """Return the program that encrypts, or None where nothing is encrypted.

    Raises:
        UsageError: Recipients and format do not fit.
        ExtraMissing: `age` is not installed.
    """
    if format_ != "age":
        if recipients:
            message = "only an export of the format `age` has recipients"
            raise UsageError(message, hint="give `--format age`")
        return None
    if not recipients:
        message = "an export of the format `age` needs a recipient"
        raise UsageError(message, hint="give `--recipient age1...`, as often as needed")
    program = shutil.which("age")
    if program is None:
        message = "the program `age` is not installed"
        raise ExtraMissing(
            message, hint="install age from https://age-encryption.org, or pipe `--format json` elsewhere"
        )
    return program


def _encrypt(program: str, recipients: Sequence[str], content: bytes) -> bytes:
    """Return what age makes of the export; it goes through pipes and never lies in a file."""
    arguments = [program, "--encrypt", "--armor"]
    for recipient in recipients:
        arguments += ["--recipient", recipient]
    try:
        done = subprocess.run(arguments, input=content, capture_output=True, check=False, timeout=_AGE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        done = None
    except OSError as error:
        message = f"cannot run `age`: {error.strerror}"
        raise StoreFailed(message) from None
    if done is None or done.returncode:
        message = "`age` did not encrypt the export"
        raise StoreFailed(message, hint="check the recipients; nothing was written")
    return done.stdout
