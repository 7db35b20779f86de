"""`securecfg sign` and `securecfg verify`: signatures beside configuration files, as `ssh-keygen -Y` makes them."""

from __future__ import annotations

import binascii
from typing import TYPE_CHECKING

import click

from securecfg.cli.groups import Verb
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.errors import FileMissing, SecurecfgError, SignatureInvalid, ValueTooLarge

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEY_BYTES_MAX = 64 << 10
_TRUST_BYTES_MAX = 16 << 20
_PUBLIC = 0o644


@click.command(
    cls=Verb,
    examples=(
        "securecfg sign config/*.yaml --key ~/.ssh/id_ed25519",
        "securecfg verify config/*.yaml --signers allowed_signers",
    ),
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@common_flags
def sign(invocation: Invocation, *, files: tuple[str, ...]) -> None:
    """Sign configuration files: writes FILE.sig beside each.

    The signature is what `ssh-keygen -Y sign -n securecfg-config@v1` makes, and what `load(..., require_signature=)`
    asks for.
    """
    from securecfg.crypto.sshsig import MAX_MESSAGE_BYTES, sign_message
    from securecfg.files import read_bounded, write_atomically
    from securecfg.sources.load import NAMESPACE

    pem = read_bounded(invocation.key or "", _KEY_BYTES_MAX)
    contents = {file: read_bounded(file, MAX_MESSAGE_BYTES) for file in files}
    passphrase = _ask_passphrase(invocation, pem)
    signatures = {
        file: sign_message(content, pem, namespace=NAMESPACE, passphrase=passphrase)
        for file, content in contents.items()
    }
    for file, signature in signatures.items():
        write_atomically(f"{file}.sig", signature, mode=_PUBLIC)
    invocation.emit(
        {"files": [{"file": file, "signature": f"{file}.sig"} for file in files]},
        *(f"signed  {file}  in {file}.sig" for file in files),
    )


# No vault is involved, so what opens one elsewhere is the signer's key here.
for _option in sign.params:
    if isinstance(_option, click.Option) and _option.name == "key":
        _option.required, _option.metavar, _option.help = True, "PRIVATE_KEY", "A private key of OpenSSH."


@click.command(cls=Verb, examples=("securecfg verify config/*.yaml --signers allowed_signers",))
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--signers", required=True, metavar="ALLOWED_SIGNERS", help="The trust file, as `ssh-keygen` reads it.")
@common_flags
def verify(invocation: Invocation, *, files: tuple[str, ...], signers: str) -> None:
    """Check the signatures beside configuration files (FILE.sig)."""
    from securecfg.files import read_bounded

    trusted = read_bounded(signers, _TRUST_BYTES_MAX)
    found: dict[str, str] = {}
    failures: list[SecurecfgError] = []
    for file in files:
        try:
            found[file] = _verify_file(file, trusted, signers)
        except (SignatureInvalid, FileMissing, ValueTooLarge) as error:
            failures.append(error)
    if failures and not invocation.is_json:
        invocation.emit({}, *_lines(found))
    if len(failures) == 1:
        raise failures[0]
    if failures:
        lines = "".join(f"\n  {failure.message}" for failure in failures)
        message = f"{len(failures)} of {len(files)} files are not as somebody trusted signed them{lines}"
        raise SignatureInvalid(message, hint=failures[0].hint)
    invocation.emit({"files": [{"file": file, "signer": signer} for file, signer in found.items()]}, *_lines(found))


def _verify_file(file: str, trusted: bytes, trust_file: str) -> str:
    from securecfg.clock import SystemClock
    from securecfg.crypto.sshsig import MAX_MESSAGE_BYTES, verify_signature
    from securecfg.files import read_bounded
    from securecfg.sources.load import MAX_SIGNATURE_BYTES, NAMESPACE

    content = read_bounded(file, MAX_MESSAGE_BYTES)
    try:
        signature = read_bounded(f"{file}.sig", MAX_SIGNATURE_BYTES)
    except FileMissing:
        message = f"`{file}` has no signature"
        raise SignatureInvalid(message, hint=f"sign it: `securecfg sign {file} --key PRIVATE_KEY`") from None
    except ValueTooLarge:
        message = f"`{file}.sig` is too large for a signature"
        raise SignatureInvalid(message) from None
    try:
        return verify_signature(
            content,
            signature,
            allowed_signers=trusted,
            namespace=NAMESPACE,
            now_ns=SystemClock().now_ns(),
            source=trust_file,
        )
    except SignatureInvalid as error:
        message = f"`{file}`: {error.message}"
        raise SignatureInvalid(message, hint=error.hint) from None


def _lines(found: dict[str, str]) -> Iterator[str]:
    return (f"signed  {file}  by {signer}" for file, signer in found.items())


def _ask_passphrase(invocation: Invocation, pem: bytes) -> bytes | None:
    """Ask for the passphrase of a key that has one; without anybody to ask the key itself says what is missing."""
    if invocation.ask is None or not _has_passphrase(pem):
        return None
    return invocation.ask("passphrase of the signing key").encode()


def _has_passphrase(pem: bytes) -> bool:
    """Return whether a key in OpenSSH's format is encrypted: after the magic it names its cipher (PROTOCOL.key)."""
    magic = b"openssh-key-v1\x00"
    try:
        blob = binascii.a2b_base64(b"".join(pem.split(b"\n")[1:-2]))
    except ValueError:
        return False
    return blob.startswith(magic) and not blob[len(magic) + 4 :].startswith(b"none")
