"""Signatures of administrators who are elsewhere: a file that asks for them, and files that hold them.

A request is text: what is asked for, in words, and the exact bytes. Whoever signs is shown words that are made from the
bytes again, so the words in the file persuade nobody.
"""

from __future__ import annotations

import binascii
import hashlib
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from securecfg.errors import FileMissing, InvalidMetadata, StoreFailed, ValueTooLarge
from securecfg.files import PUBLIC, read_bounded, write_atomically
from securecfg.keys.trust import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, Trust, join_signatures
from securecfg.octets import var32
from securecfg.tuples import NamedTuple
from securecfg.vault.administrators.signing_words import to_words
from securecfg.vault.trust.signatories import HeldKeys, signatures_missing

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from securecfg.keys.trust import Signatures
    from securecfg.vault.trust.signatories import Sign

    Progress = Callable[[int, int], None]

REQUEST_SUFFIX = ".request"
SIGNATURES_SUFFIX = ".signatures"

_REQUEST = "SECURECFG-REQUEST-1"
_SIGNATURES = "SECURECFG-SIGNATURES-1"
_BYTES = "bytes "
_FILE_BYTES_MAX = 16 << 20
_FILES_MAX = 1_000
_PAUSE_S = 0.5
_NAME_DIGITS = 16


class Request(NamedTuple):
    """What administrators are asked to sign.

    Attributes:
        messages: The exact bytes of each.
    """

    messages: tuple[bytes, ...]

    @property
    def id(self) -> str:
        """What signatures name it by, 64 hexadecimal digits."""
        return hashlib.sha256(b"".join(var32(message) for message in self.messages)).hexdigest()

    def to_words(self) -> list[str]:
        """Return what is to be signed, from the bytes.

        Raises:
            InvalidMetadata: A message is nothing that administrators sign.
        """
        return [line for message in self.messages for line in to_words(message)]

    def to_text(self, summary: str) -> str:
        """Return the content of a file."""
        words = [summary, *self.to_words()]
        return "\n".join(
            [
                f"{_REQUEST} {self.id}",
                *(f"# {line}" for line in words),
                *(_BYTES + urlsafe_b64encode(message).decode() for message in self.messages),
                "",
            ]
        )


def read_request(path: str | os.PathLike[str]) -> Request:
    """Return what a file asks to sign. The words in it are not looked at.

    Raises:
        FileMissing: There is no such file.
        InvalidMetadata: It is no request.
        StoreFailed: It cannot be read.
    """
    with suppress(ValueError, binascii.Error, ValueTooLarge):
        first, *lines = read_bounded(path, _FILE_BYTES_MAX).decode().splitlines()
        asked = [line for line in lines if not line.startswith("# ")]
        messages = tuple(_decode(line.removeprefix(_BYTES)) for line in asked)
        request = Request(messages)
        if messages and all(line.startswith(_BYTES) for line in asked) and first == f"{_REQUEST} {request.id}":
            return request
    message = f"`{path}` is no request for signatures"
    raise InvalidMetadata(message, hint="ask for the file again; it ends in `.request`")


def write_signatures(path: str | os.PathLike[str], request: Request, public_key: bytes, sign: Sign) -> Path:
    """Sign what a request asks for, write the signatures beside its file, and return where.

    Args:
        path: The request's file.
        request: As it was read, and shown to whom the key belongs to.
        public_key: Of the key that signs.
        sign: Signs with it.

    Raises:
        StoreFailed: The file cannot be written.
    """
    place = Path(path).with_name(f"{_name_of(request)}.{public_key.hex()[:_NAME_DIGITS]}{SIGNATURES_SUFFIX}")
    signed = [sign(message).hex() for message in request.messages]
    content = "\n".join([f"{_SIGNATURES} {request.id}", public_key.hex(), *signed, ""]).encode()
    write_atomically(place, content, mode=PUBLIC)
    return place


class RequestedSignatures:
    """Administrators who are asked by files in a folder, beside those whose keys are at hand.

    Args:
        trust: Who the administrators are.
        keys: What signs here, by public key.
        folder: Where requests are written, and signatures come to; made where there is none.
        wait_s: How long to wait for them.
        progress: Yields, while it waits, what is called with the number of signatures there are, and that of those it
            takes.
    """

    def __init__(
        self,
        trust: Trust,
        keys: Mapping[bytes, Sign],
        folder: Path,
        *,
        wait_s: float,
        progress: Callable[[], AbstractContextManager[Progress]] = lambda: nullcontext(lambda _done, _total: None),
    ) -> None:
        """Ask for nothing yet."""
        self.trust = trust
        self._keys = keys
        self._folder = folder
        self._wait_s = wait_s
        self._progress = progress

    def sign(self, messages: Sequence[bytes], summary: str) -> list[Signatures]:
        """Return enough signatures of each message; see `Signatories.sign`.

        The files go when it ends, however it does: what is asked for then has other bytes.

        Raises:
            SignaturesMissing: Too few signatures came in time.
            StoreFailed: The request cannot be written.
        """
        held = [key for key in self._keys if key in self.trust.administrators]
        here = HeldKeys(self.trust._replace(threshold=0), self._keys).sign(messages, summary)
        if len(held) >= self.trust.threshold or not messages:
            return here
        request = Request(tuple(messages))
        self._folder.mkdir(parents=True, exist_ok=True)
        place = self._folder / f"{_name_of(request)}{REQUEST_SUFFIX}"
        try:
            write_atomically(place, request.to_text(summary).encode(), mode=PUBLIC)
            with self._progress() as progress:
                return self._wait(request, here, summary, progress)
        finally:
            for file in [place, *self._folder.glob(f"{_name_of(request)}.*{SIGNATURES_SUFFIX}")]:
                with suppress(OSError):
                    file.unlink()

    def _wait(self, request: Request, here: list[Signatures], summary: str, progress: Progress) -> list[Signatures]:
        end = time.monotonic() + self._wait_s
        while True:
            signed = [join_signatures(those) for those in zip(here, *self._received(request), strict=True)]
            keys = {key for key, _ in signed[0]} & set(self.trust.administrators)
            progress(len(keys), self.trust.threshold)
            if len(keys) >= self.trust.threshold:
                return signed
            if time.monotonic() >= end:
                raise signatures_missing(self.trust.threshold - len(keys), self.trust, summary)
            time.sleep(min(_PAUSE_S, self._wait_s))

    def _received(self, request: Request) -> list[list[Signatures]]:
        """Return the signatures of each administrator who signed all messages."""
        found = []
        for file in sorted(self._folder.glob(f"{_name_of(request)}.*{SIGNATURES_SUFFIX}"))[:_FILES_MAX]:
            signatures = _read_signatures(file, request)
            alone = self.trust._replace(threshold=1)
            if all(alone.holds(one, message) for one, message in zip(signatures, request.messages, strict=True)):
                found.append(signatures)
        return found


def _read_signatures(file: Path, request: Request) -> list[Signatures]:
    """Return what a file holds, an empty signature of each message where it holds something else."""
    with suppress(FileMissing, StoreFailed, ValueTooLarge, ValueError):
        first, key, *lines = read_bounded(file, _FILE_BYTES_MAX).decode("ascii").splitlines()
        public_key, signed = bytes.fromhex(key), [bytes.fromhex(line) for line in lines]
        is_whole = len(public_key) == PUBLIC_KEY_BYTES and all(len(each) == SIGNATURE_BYTES for each in signed)
        if first == f"{_SIGNATURES} {request.id}" and is_whole and len(signed) == len(request.messages):
            return [((public_key, signature),) for signature in signed]
    return [() for _ in request.messages]


def _name_of(request: Request) -> str:
    return request.id[:_NAME_DIGITS]


def _decode(text: str) -> bytes:
    raw = urlsafe_b64decode(text)
    if urlsafe_b64encode(raw).decode() != text:
        raise ValueError
    return raw
