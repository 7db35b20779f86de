"""Files that must never be half written or readable by others.

Everything the library writes beside a vault's own database goes through this module: key files, anchors, rewritten
configuration, exports and reports.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from securecfg.errors import AlreadyExists, FileMissing, StoreFailed, ValueTooLarge

if TYPE_CHECKING:
    from pathlib import Path

PRIVATE = 0o600
PUBLIC = 0o644


def read_bounded(path: str | os.PathLike[str], limit_bytes: int) -> bytes:
    """Return a regular file's bytes, of which there may be at most `limit_bytes`.

    Raises:
        FileMissing: There is no such file.
        ValueTooLarge: The file is larger.
        StoreFailed: It cannot be read, or is not a regular file.
    """
    try:
        # Without O_NONBLOCK, opening a FIFO would wait for a writer.
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                message = f"`{os.fspath(path)}` is not a regular file"
                raise StoreFailed(message)
            content = file.read(min(status.st_size, limit_bytes) + 1)
    except FileNotFoundError:
        message = f"`{os.fspath(path)}` does not exist"
        raise FileMissing(message) from None
    except OSError as error:
        message = f"cannot read `{os.fspath(path)}`: {error.strerror}"
        raise StoreFailed(message) from None
    if len(content) > limit_bytes:
        message = f"`{os.fspath(path)}` is larger than {limit_bytes} bytes"
        raise ValueTooLarge(message)
    return content


def sync_directory(path: str | os.PathLike[str]) -> None:
    """Make the entries of a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: str | os.PathLike[str], content: bytes, *, mode: int = PRIVATE) -> None:
    """Replace a file as a whole: after a crash it holds the old bytes or the new ones.

    The new file gets exactly `mode`; a symbolic link is followed, so that the file it names is replaced.

    Raises:
        StoreFailed: The file system refuses, or something else than a regular file is there; it is untouched.
    """
    from pathlib import Path  # takes longer to import than a vault to open, which only reads

    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        del content  # a traceback that shows locals must not show it
        # A rename would put a file in the place of a device, a pipe or a folder.
        message = f"`{os.fspath(path)}` is not a regular file"
        raise StoreFailed(message, hint="name a file; without one the output goes to standard output")
    temporary = _beside(target)
    failure = _fill(temporary, target, content, mode)
    del content  # the same
    if failure is not None:
        raise failure
    try:
        take_name(temporary, target)
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_beside(target: Path, content: bytes, *, mode: int) -> Path:
    """Write a durable temporary file in the folder of a target, for `take_name` or `give_name`, and return its path.

    Raises:
        StoreFailed: The file system refuses; nothing is left behind.
    """
    temporary = _beside(target)
    failure = _fill(temporary, target, content, mode)
    del content  # a traceback that shows locals must not show it
    if failure is not None:
        raise failure
    return temporary


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")


def _fill(temporary: Path, target: Path, content: bytes, mode: int) -> StoreFailed | None:
    """Return why a file could not be written: its caller raises, from a frame that holds nothing of the content."""
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE)
        try:
            _write_all(descriptor, content)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        return StoreFailed(f"cannot write `{target}`: {error.strerror}")
    return None


def take_name(temporary: Path, target: Path) -> None:
    """Put a finished file in the place of what has its name, durably; of a symbolic link the link, not what it names.

    Raises:
        StoreFailed: The file system refuses.
    """
    try:
        temporary.replace(target)
        sync_directory(target.parent)
    except OSError as error:
        message = f"cannot write `{target}`: {error.strerror}"
        raise StoreFailed(message) from None


def create_private(path: str | os.PathLike[str], content: bytes) -> None:
    """Create a file with mode 0600 and make it durable; never over an existing one.

    Raises:
        AlreadyExists: There is something at this path.
        StoreFailed: The file system refuses; nothing is left behind.
    """
    failure = _create(path, content, PRIVATE)
    del content  # a traceback that shows locals must not show it
    if failure is not None:
        raise failure


def create_public(path: str | os.PathLike[str], content: bytes) -> None:
    """Create a file with mode 0644 and make it durable; never over an existing one.

    Raises:
        As for `create_private`.
    """
    failure = _create(path, content, PUBLIC)
    del content  # a traceback that shows locals must not show it
    if failure is not None:
        raise failure


def _create(path: str | os.PathLike[str], content: bytes, mode: int) -> AlreadyExists | StoreFailed | None:
    """Return why a file could not be created: its caller raises, from a frame that holds nothing of the content."""
    from pathlib import Path

    target = Path(path)
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE)
    except FileExistsError:
        message = f"`{target}` exists already"
        return AlreadyExists(message, hint="choose another path; nothing is ever written over")
    except OSError as error:
        return StoreFailed(f"cannot create `{target}`: {error.strerror}")
    try:
        try:
            _write_all(descriptor, content)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_directory(target.parent)
    except OSError as error:
        with suppress(OSError):
            target.unlink()
        return StoreFailed(f"cannot write `{target}`: {error.strerror}")
    return None


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def give_name(temporary: Path, target: Path) -> None:
    """Give a finished file its name, durably, and never that of something else. Both lie in one folder.

    A hard link does that, or a rename that replaces nothing. Where the file system has neither, as some that are
    mounted over a network, processes that come here are kept apart by a lock; another program that makes a file of this
    name in the moment between the look and the rename loses it.

    Raises:
        AlreadyExists: There is something at the path; the temporary file stays.
        StoreFailed: The file system refuses.
    """
    try:
        _name_exclusively(temporary, target)
        sync_directory(target.parent)
    except FileExistsError:
        message = f"`{target}` exists already"
        raise AlreadyExists(message, hint="choose another path; nothing is ever written over") from None
    except OSError as error:
        message = f"cannot write `{target}`: {error.strerror}"
        raise StoreFailed(message) from None


def _name_exclusively(temporary: Path, target: Path) -> None:
    try:
        os.link(temporary, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
    else:
        temporary.unlink()
        return
    try:
        rename_exclusively(temporary, target)
    except OSError as error:
        if error.errno not in _NO_EXCLUSIVE_RENAME:
            raise
        _rename_under_lock(temporary, target)


def rename_exclusively(temporary: Path, target: Path) -> None:
    """Rename where nothing has the new name, as one step of the file system; Python knows only renames that replace.

    Raises:
        FileExistsError: Something has it.
        OSError: The file system refuses, or knows no such step.
    """
    import ctypes  # few file systems have no hard links

    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if rename(_AT_FDCWD, os.fsencode(temporary), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _rename_under_lock(temporary: Path, target: Path) -> None:
    import fcntl

    claim = target.with_name(f".{target.name}.claim")
    descriptor = os.open(claim, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        temporary.rename(target)
    finally:
        # Whoever waits for this lock finds the target. Without one the claim stays, since another may hold it by now.
        if os.path.lexists(target):
            claim.unlink(missing_ok=True)
        os.close(descriptor)


_NO_HARD_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})
_NO_EXCLUSIVE_RENAME = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS})
_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
