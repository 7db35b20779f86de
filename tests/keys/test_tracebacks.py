"""A traceback that shows locals, as crash reporters make it, shows no key, passphrase, code or value."""

from __future__ import annotations

import io
import traceback
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import securecfg
from securecfg.cli.ceremony_holders import Invited, collect, hand_out
from securecfg.cli.stage import Stage
from securecfg.crypto import (
    FORM_CHUNKED,
    FORM_INLINE,
    ROOT_SCOPE,
    Argon2Costs,
    ChunkedValueKey,
    DekWrap,
    KeyBytes,
    KeyWrap,
    dek_context,
    open_value,
    seal_value,
    split_secret,
    unwrap_dek,
    value_context,
)
from securecfg.errors import SecurecfgError
from securecfg.keys import (
    CommandProvider,
    CompositeProvider,
    FileProvider,
    Header,
    IdentityProvider,
    Keyring,
    KeyringProvider,
    PassphraseFileProvider,
    PassphraseProvider,
    RecoveryProvider,
    ShamirProvider,
    Share,
    Slot,
    SlotKey,
    WrapContext,
    build_header,
    format_share,
    open_provider,
    rewrap_slot,
    seal_slot,
    unlock,
)
from securecfg.keys.identity import (
    UNPROTECTED,
    IdentityFile,
    PrivateHalf,
    format_identity_file,
    identity_of,
    open_seed,
    read_identity_file,
)
from securecfg.keys.keyfile import format_key, read_key_file
from securecfg.keys.recovery import format_recovery_code, parse_recovery_code
from securecfg.keys.sealed_shares import open_share, parse_sealed_share, seal_share
from securecfg.keys.shares import combine_shares, parse_share, read_share
from securecfg.patience import Patience
from securecfg.secret import Secret
from securecfg.testing.key_services import MemoryKms, MemoryKmsProvider, ServiceFault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PACKAGE = str(Path(securecfg.__file__).parent)
ROOT = KeyBytes(b"canary-root-0123456789abcdefghij")
DEK = KeyBytes(b"canary-dek--0123456789abcdefghij")
KEK = KeyBytes(b"canary-kek--0123456789abcdefghij")
PASSPHRASE = "canary-passphrase"
CODE = format_recovery_code(b"canary-code-01234567")
SHARES = tuple(Share(bytes(8), 2, 3, raw) for raw in split_secret(KEK, 2, 3))
WEB = identity_of("svc:web", KEK)
CONTENT = b"canary-value"
VAULT = bytes(16)
CONTEXT = WrapContext(VAULT, bytes(16))
CHEAP = Argon2Costs(64, 1, 1)
HASTY = Patience(deadline_s=0.1, pauses_s=())
INLINE = value_context(VAULT, ROOT_SCOPE, (1, 1), 1, FORM_INLINE)
CHUNKED = value_context(VAULT, ROOT_SCOPE, (1, 1), 1, FORM_CHUNKED)


class Terminal(io.BytesIO):
    """Takes what is shown, and has typed what is asked for; it may be gone once a share is to be shown."""

    def __init__(self, *, is_gone: bool) -> None:
        super().__init__()
        self._is_gone = is_gone
        self._asked = b""

    def readline(self, _size: int | None = -1, /) -> bytes:
        return self._asked.rpartition(b" types ")[2].rstrip(b": ") + b"\n"

    def write(self, text: Any, /) -> int:  # noqa: ANN401 - any buffer
        if self._is_gone and b"SECURECFG" in text:
            raise OSError
        self._asked = bytes(text)
        return len(text)


class Deaf(Stage):
    """A terminal with a person who always types the same."""

    def __init__(self, answer: str = "x", *, is_gone: bool = False) -> None:
        super().__init__(Terminal(is_gone=is_gone))
        self._answer = answer

    def ask_hidden(self, _what: str) -> str:
        return self._answer


class DamagedKeyring:
    """Keeps a key that was cut off, or none and refuses to take one."""

    def __init__(self, kept: str | None) -> None:
        self._kept = kept

    def get_password(self, _service: str, _username: str, /) -> str | None:
        return self._kept

    def set_password(self, _service: str, _username: str, _password: str, /) -> None:
        raise OSError


def private(path: Path, content: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path


def flip(row: bytes, position: int) -> bytes:
    return row[:position] + bytes((row[position] ^ 1,)) + row[position + 1 :]


def tampered_header() -> None:
    provider = PassphraseProvider(Secret(PASSPHRASE), costs=CHEAP)
    rows = seal_slot(VAULT, provider).rows(256, VAULT, ROOT)
    row = build_header(ROOT, rows, vault_id=VAULT, generation=1, first_log_key=bytes(32), created_ns=1)
    unlock(Header.parse(flip(row, 45)), rows, provider)


def tampered_root() -> None:
    SlotKey(KEK, VAULT, bytes(16)).open_root(b"\x52\x01" + bytes(1_184))


def tampered_keyring() -> None:
    row = Keyring.generate(1, ()).seal(ROOT, VAULT, 1)
    Keyring.open(flip(row, 60), ROOT, VAULT, 1)


def tampered_value() -> None:
    row, commitment = seal_value(DEK, INLINE, 0, CONTENT)
    open_value(DEK, INLINE, flip(row, 50), commitment)


def tampered_data_key() -> None:
    ctx = dek_context(VAULT, ROOT_SCOPE, 0, 1)
    unwrap_dek(KeyWrap(bytes(64)), flip(DekWrap(KeyWrap(bytes(64)), VAULT, ROOT_SCOPE, 0).seal(DEK, 1), 20), ctx)


def truncated_chunks() -> None:
    key = ChunkedValueKey(DEK, CHUNKED)
    rows = list(key.seal(0, 600_000, [CONTENT * 50_000]))
    for _ in key.open(key.record, key.commitment, rows[:2]):
        pass


def source_of_another_size() -> None:
    for _ in ChunkedValueKey(DEK, CHUNKED).seal(0, 5, [CONTENT]):
        pass


def source_that_fails() -> None:
    def source() -> Iterator[bytes]:
        yield b"".join([CONTENT, CONTENT])
        message = "the disk went away"
        raise SecurecfgError(message)

    for _ in ChunkedValueKey(DEK, CHUNKED).seal(0, 100, source()):
        pass


def wrapped(provider: Any) -> None:  # noqa: ANN401 - any provider
    provider.unwrap(flip(provider.wrap(ROOT, CONTEXT), -1), CONTEXT)


def slot_of(key: Path) -> Slot:
    return seal_slot(VAULT, FileProvider(key)).slot


def memory(fault: ServiceFault | None = None) -> MemoryKmsProvider:
    service = MemoryKms()
    service.create_key("app")
    service.fail(fault)
    return MemoryKmsProvider(service, "app")


def failures(folder: Path) -> dict[str, Callable[[], object]]:
    key = private(folder / "key", f"{format_key(KEK)}\n".encode())
    damaged = private(folder / "damaged", f"{format_key(KEK)[:-1]}\n".encode())
    long = private(folder / "long", PASSPHRASE.encode() * 1_000)
    binary = private(folder / "binary", PASSPHRASE.encode() + b"\xff")
    text = format_identity_file(IdentityFile(WEB, PrivateHalf(UNPROTECTED, KEK))).encode()
    own, cut, public = (private(folder / f"web{place}", text[:end]) for place, end in enumerate((None, -3, 1_727)))
    readable = private(folder / "readable", text)
    readable.chmod(0o644)
    endless = CommandProvider(["sh", "-c", f"cat {key}; sleep 9"], timeout_s=0.3)
    foreign = FileProvider(key).wrap(ROOT, WrapContext(WEB.fingerprint, bytes(16)))
    protected = PrivateHalf("file:key", KeyBytes(Slot(FileProvider.kind, bytes(16), foreign).to_bytes()))
    share = private(folder / "share", format_share(SHARES[0])[:-1].encode())
    plain = private(folder / "plain", f"{format_share(SHARES[0])}\n".encode())
    holder = Invited("ana", "", None)
    sealed = parse_sealed_share(seal_share(SHARES[0], WEB))
    several = partial(CompositeProvider, patience=HASTY)
    return {
        "header": tampered_header,
        "root": tampered_root,
        "keyring": tampered_keyring,
        "value": tampered_value,
        "data key": tampered_data_key,
        "chunks": truncated_chunks,
        "source of another size": source_of_another_size,
        "source that fails": source_that_fails,
        "wrong passphrase": lambda: wrapped(PassphraseProvider(Secret(PASSPHRASE), costs=CHEAP)),
        "passphrase that is not text": lambda: wrapped(PassphraseProvider(Secret(f"{PASSPHRASE}\ud800"), costs=CHEAP)),
        "wrong key file": lambda: wrapped(FileProvider(key)),
        "damaged key file": lambda: read_key_file(damaged),
        "key file that is too long": lambda: read_key_file(long),
        "missing key file": lambda: seal_slot(VAULT, FileProvider(folder / "absent")),
        "wrong code": lambda: wrapped(RecoveryProvider(Secret(CODE))),
        "mistyped code": lambda: parse_recovery_code(CODE[:-1]),
        "code in a file that is too long": lambda: open_provider(f"recovery:?file={long}").unwrap(bytes(82), CONTEXT),
        "code in a file that is not text": lambda: open_provider(f"recovery:?file={binary}").unwrap(bytes(82), CONTEXT),
        "variable that is not text": lambda: open_provider("passphrase:?env=CANARY").wrap(ROOT, CONTEXT),
        "damaged entry of a keyring": lambda: wrapped(KeyringProvider(DamagedKeyring(format_key(KEK)[:-1]))),
        "keyring that takes nothing": lambda: wrapped(KeyringProvider(DamagedKeyring(None))),
        "shares of another slot": lambda: wrapped(ShamirProvider(lambda: SHARES)),
        "too few shares": lambda: wrapped(ShamirProvider(lambda: SHARES[:1])),
        "forged share": lambda: combine_shares((*SHARES[:2], SHARES[2]._replace(raw=KeyBytes(KEK + b"\x03")))),
        "mistyped share": lambda: parse_share(format_share(SHARES[0])[:-1]),
        "damaged share in a file": lambda: read_share(share),
        "shares that are asked for": lambda: wrapped(open_provider("shamir:", ask=lambda _: format_share(SHARES[0]))),
        "wrong identity": lambda: wrapped(IdentityProvider(own)),
        "damaged identity": lambda: read_identity_file(cut),
        "identity that others can read": lambda: read_identity_file(readable),
        "identity under another key": lambda: open_seed(WEB, PrivateHalf("file:x", KEK), FileProvider(key)),
        "identity that is not the one": lambda: open_seed(WEB, protected, FileProvider(key)),
        "public half only": lambda: IdentityProvider(public).unwrap(IdentityProvider(own).wrap(ROOT, CONTEXT), CONTEXT),
        "wrong passphrase or key file": lambda: wrapped(PassphraseFileProvider(key, Secret(PASSPHRASE), costs=CHEAP)),
        "no passphrase beside a key file": lambda: wrapped(PassphraseFileProvider(key, Secret(""), costs=CHEAP)),
        "wrong key of a program": lambda: wrapped(CommandProvider(["cat", str(key)])),
        "key of a program that fails": lambda: CommandProvider(["sh", "-c", f"cat {key}; exit 1"]).wrap(ROOT, CONTEXT),
        "key of a program that goes on": lambda: endless.wrap(ROOT, CONTEXT),
        "damaged key of a program": lambda: CommandProvider(["cat", str(damaged)]).wrap(ROOT, CONTEXT),
        "endless key of a program": lambda: CommandProvider(["cat", str(long), "/dev/zero"]).wrap(ROOT, CONTEXT),
        "slot of another key pair": lambda: rewrap_slot(VAULT, slot_of(key), bytes(1216), FileProvider(key)),
        "wrong key of a service": lambda: wrapped(memory()),
        "service that refuses": lambda: seal_slot(VAULT, memory(ServiceFault.DENIED)),
        "service that is away": lambda: seal_slot(VAULT, memory(ServiceFault.RESET), HASTY),
        "service that says nothing": lambda: seal_slot(VAULT, memory(ServiceFault.SILENT), HASTY),
        "several wrong keys": lambda: wrapped(several(2, [FileProvider(key), memory()])),
        "several keys, one of them away": lambda: seal_slot(
            VAULT, several(2, [FileProvider(key), memory(ServiceFault.RESET)])
        ),
        "several keys, too few of them": lambda: several(
            2, [FileProvider(key), FileProvider(folder / "absent")]
        ).unwrap(several(2, [FileProvider(key), FileProvider(key)]).wrap(ROOT, CONTEXT), CONTEXT),
        "several keys in a URI": lambda: open_provider(f"composite:2,{PASSPHRASE},{PASSPHRASE}"),
        "several keys in a URI, one of them none": lambda: open_provider(f"composite:2,file:{key},{PASSPHRASE}"),
        "several keys in a URI, one of them twice": lambda: open_provider(f"composite:2,x:{PASSPHRASE},x:{PASSPHRASE}"),
        "share that is not sealed": lambda: parse_sealed_share(format_share(SHARES[0])),
        "sealed share of another identity": lambda: open_share(
            sealed._replace(fingerprint=bytes(16)), IdentityProvider(own)
        ),
        "sealed share of another place": lambda: open_share(
            sealed._replace(place=f"{'0' * 16}-2of3-2"), IdentityProvider(own)
        ),
        "share that is sealed to somebody": lambda: collect(None, [Invited("ben", str(plain), IdentityProvider(own))]),
        "share that nobody confirms": lambda: hand_out(Deaf(), [holder], SHARES[:1], is_rehearsal=False),
        "share on a terminal that is closed": lambda: hand_out(
            Deaf(is_gone=True), [holder], SHARES[:1], is_rehearsal=False
        ),
        "share that is typed wrong": lambda: collect(Deaf(format_share(SHARES[0])[:-1]), [holder]),
        "passphrase in a URI": lambda: open_provider(Secret(f"passphrase:{PASSPHRASE}").reveal()),
    }


def library_locals(error: SecurecfgError) -> str:
    """Return what a traceback shows of the library's frames; what calls the library answers for its own locals."""
    frames = traceback.TracebackException.from_exception(error, capture_locals=True).stack
    return "\n".join(repr(frame.locals) for frame in frames if frame.filename.startswith(PACKAGE))


def test_no_failure_shows_anything_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", f"{PASSPHRASE}\udcff")
    shares = [text for share in SHARES for text in (share.raw.hex()[:40], format_share(share)[45:80])]
    canaries = ["canary", KEK.hex(), format_key(KEK)[16:40], CODE[:9], *shares]
    shown_by = {}
    for name, fail in failures(tmp_path).items():
        with pytest.raises(SecurecfgError) as refused:
            fail()
        error = refused.value
        shown = library_locals(error)
        assert shown, name
        text = f"{shown}\n{error.message}\n{error.hint}"
        shown_by[name] = [canary for canary in canaries if canary in text]
    assert {name: leaked for name, leaked in shown_by.items() if leaked} == {}
