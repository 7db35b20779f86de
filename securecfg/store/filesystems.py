"""Which file systems a vault may be written on.

SQLite's write-ahead log needs memory that all openers share and locks that all of them see; network file systems
give neither, and damage follows without a warning.
"""

from __future__ import annotations

import os
import re

from securecfg.errors import UnsupportedFileSystem

MOUNTS = "/proc/self/mountinfo"
# Cluster file systems are here too: their locks may be right, the shared memory is not.
NETWORK = frozenset({
    "9p", "afs", "ceph", "cifs", "coda", "fuse", "fuseblk", "gfs2", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4",
    "ocfs2", "smb3", "smbfs", "virtiofs",
})  # fmt: skip
_CHUNK_BYTES = 1 << 16


def refuse_network(path: str) -> None:
    """Refuse a file on a network file system.

    Where the system does not list its mounts (anything but Linux) nothing is checked.

    Args:
        path: The file, or a folder, without symbolic links on the way to it.

    Raises:
        UnsupportedFileSystem: The file lies on one.
    """
    name = file_system_of(path)
    if is_network(name):
        message = f"`{path}` lies on a network file system ({name}), where a vault must not be written"
        raise UnsupportedFileSystem(message, hint="keep the vault on a local disk, or open it for reading only")


def is_network(name: str) -> bool:
    """Return whether a file system of this type reaches beyond this machine's kernel."""
    return name in NETWORK or name.startswith("fuse.")


def file_system_of(path: str) -> str:
    """Return the type of the file system that holds a file, or an empty string where that is not known.

    Args:
        path: The file, without symbolic links on the way to it.
    """
    try:
        mounts = _read(MOUNTS)
        number = os.stat(path).st_dev
    except OSError:
        return ""
    return mounted_type(mounts, path, f"{os.major(number)}:{os.minor(number)}")


def mounted_type(mounts: str, path: str, device: str) -> str:
    """Return the file system type for a real path, from the text of `mountinfo` (proc_pid_mountinfo(5)).

    The mount of the file's own device decides; some file systems number their files otherwise, and then the longest
    mount point above the path does.
    """
    lines = mounts.splitlines()
    own = [line for line in lines if f" {device} " in line]
    return _innermost(own, path, device) or _innermost(lines, path)


def _innermost(lines: list[str], path: str, device: str | None = None) -> str:
    """Return the type of the mount with the longest mount point above a path, on a device if one is named."""
    best = ("", -1)
    for line in lines:
        left, separator, right = line.partition(" - ")
        fields = left.split(" ")
        if not separator or len(fields) < 6 or device not in {None, fields[2]}:  # noqa: PLR2004 - the fixed fields before the optional ones
            continue
        point = _unescaped(fields[4]).rstrip("/")
        # A later mount on the same point hides the earlier one.
        if (path == point or path.startswith(point + "/")) and len(point) >= best[1]:
            best = (right.split(" ", 1)[0], len(point))
    return best[0]


def _read(name: str) -> str:
    """Return the text of a file of the kernel's, without the buffers that take as long to set up as it to read."""
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = [os.read(descriptor, _CHUNK_BYTES)]
        while chunks[-1]:
            chunks.append(os.read(descriptor, _CHUNK_BYTES))
    finally:
        os.close(descriptor)
    return b"".join(chunks).decode("utf-8", "surrogateescape")


def _unescaped(field: str) -> str:
    """Return a field of `mountinfo` whose spaces and such stand as octal numbers."""
    if "\\" not in field:
        return field
    raw = field.encode("utf-8", "surrogateescape")
    return re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), raw).decode("utf-8", "surrogateescape")
