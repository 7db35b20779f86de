"""Key files: 32 bytes in one line of text (format, section 4.4)."""

from __future__ import annotations

import errno
import hashlib
import hmac
import os
import stat
from base64 import urlsafe_b64decode, urlsafe_b64encode

from securecfg.crypto import KEY_BYTES, KeyBytes
from securecfg.errors import FileMissing, KeyProviderRefused
from securecfg.files import create_private

_PREFIX = "SECURECFG-KEY-1-"
_TEXT_CHARACTERS = len(_PREFIX) + 43 + 1 + 8
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_CREDENTIAL = 0o440


def generate_key_file(path: str | os.PathLike[str]) -> None:
    """Create a file with a new random key, mode 0600, never over an existing one.

    Raises:
        AlreadyExists: There is something at this path.
        StoreFailed: The file system refuses.
    """
    create_private(path, format_key(os.urandom(KEY_BYTES)).encode() + b"\n")


def read_key_file(path: str | os.PathLike[str]) -> KeyBytes:
    """Return the 32 bytes in a key file.

    Raises:
        FileMissing: There is no such file.
        KeyProviderRefused: Others can read the file, it belongs to someone else, or it is not a key file.
    """
    key = _parse_line(read_private_file(path, _TEXT_CHARACTERS + 1))
    if key is not None:
        return key
    message = f"`{os.fspath(path)}` is not a key file, or was damaged"
    raise KeyProviderRefused(message, hint="make one with `securecfg key generate PATH`, or restore it from a copy")


def _parse_line(content: bytes) -> KeyBytes | None:
    # Its caller raises, from a frame that holds nothing of the content.
    try:
        return parse_key(content[:-1].decode("ascii")) if content.endswith(b"\n") else None
    except ValueError:
        return None


def format_key(key: bytes) -> str:
    """Return 32 bytes as the text of a key file, without its end of line."""
    encoded = urlsafe_b64encode(key).rstrip(b"=").decode()
    return f"{_PREFIX}{encoded}-{hashlib.sha256(key).hexdigest()[:8]}"


def parse_key(text: str) -> KeyBytes:
    """Return the 32 bytes that `format_key` wrote.

    Raises:
        ValueError: The text is anything else.
    """
    message = "not the text of a key"
    if len(text) != _TEXT_CHARACTERS or not text.isascii():
        raise ValueError(message)
    key = KeyBytes(urlsafe_b64decode(text[len(_PREFIX) : len(_PREFIX) + 43] + "="))
    # Comparing what it should have been refuses another prefix, a wrong checksum and a second spelling of the same key.
    if len(key) != KEY_BYTES or not hmac.compare_digest(format_key(key), text):
        raise ValueError(message)
    return key


def read_private_file(path: str | os.PathLike[str], limit_bytes: int) -> bytes:
    """Return the content of a small file that only its owner can read.

    A symbolic link is followed, as mounted secrets are links. Access control lists are not looked at.

    Raises:
        FileMissing: There is no such file.
        KeyProviderRefused: Others can read it, it belongs to someone else, it is not a regular file, it is too large or
            it cannot be read.
    """
    content, status = read_small_file(path, limit_bytes)
    try:
        verify_private(path, status)
    except KeyProviderRefused:
        content = b""  # a traceback that shows locals must not show it
        raise
    return content


def read_small_file(path: str | os.PathLike[str], limit_bytes: int) -> tuple[bytes, os.stat_result]:
    """Return the content of a small regular file, and its status at that moment.

    Raises:
        FileMissing: There is no such file.
        KeyProviderRefused: It is not a regular file, it is too large or it cannot be read.
    """
    name = os.fspath(path)
    try:
        # Without O_NONBLOCK opening a FIFO would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                message = f"`{name}` is not a regular file"
                raise KeyProviderRefused(message)
            # Python's own files set up buffers, which takes longer than to read so little.
            content = more = os.read(descriptor, limit_bytes + 1)
            while more and len(content) <= limit_bytes:
                more = os.read(descriptor, limit_bytes + 1 - len(content))
                content += more
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        message = f"`{name}` does not exist"
        raise FileMissing(message) from None
    except OSError as error:
        content = more = b""  # a traceback that shows locals must not show it
        reason = "the links go in a circle" if error.errno == errno.ELOOP else error.strerror
        message = f"cannot read `{name}`: {reason}"
        raise KeyProviderRefused(message) from None
    if len(content) > limit_bytes:
        content = more = b""  # the same
        message = f"`{name}` is larger than {limit_bytes} bytes"
        raise KeyProviderRefused(message, hint="this is not the file that was meant")
    return content, status


def verify_private(path: str | os.PathLike[str], status: os.stat_result) -> None:
    """Check that a file is its user's own, or root's, and nobody else's to read.

    A credential of systemd is root's with an access list that names the user, which shows as a right of the group; its
    folder is closed to everybody else.

    Raises:
        KeyProviderRefused: It is not.
    """
    name = os.fspath(path)
    if status.st_uid not in {os.geteuid(), 0}:
        message = f"`{name}` belongs to another user"
        raise KeyProviderRefused(message, hint=f"run `chown {os.geteuid()} {name}`, if it is yours")
    if status.st_mode & _OTHERS and not _is_credential(name, status):
        message = f"`{name}` can be read or written by others than its owner"
        raise KeyProviderRefused(message, hint=f"run `chmod 600 {name}`")


def _is_credential(name: str, status: os.stat_result) -> bool:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    is_there = bool(folder) and os.path.dirname(os.path.abspath(name)) == folder  # noqa: PTH100, PTH120 - the file may be a link, which `Path` could follow
    return is_there and status.st_uid == 0 and stat.S_IMODE(status.st_mode) == _CREDENTIAL
