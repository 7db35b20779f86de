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


def refuse_network(path: str) -> None:
    """Refuse a file on a network file system.

    Where the system does not list its mounts (anything but Linux) nothing is checked.

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
    """Return the type of the file system that holds a file, or an empty string where that is not known."""
    try:
        with open(MOUNTS, encoding="utf-8", errors="surrogateescape") as file:
            mounts = file.read()
        number = os.stat(path).st_dev
    except OSError:
        return ""
    return mounted_type(mounts, os.path.realpath(path), f"{os.major(number)}:{os.minor(number)}")


def mounted_type(mounts: str, path: str, device: str) -> str:
    """Return the file system type for a real path, from the text of `mountinfo` (proc_pid_mountinfo(5)).

    The mount of the file's own device decides; some file systems number their files otherwise, and then the longest
    mount point above the path does.
    """
    best = ("", -1, -1)
    for line in mounts.splitlines():
        left, separator, right = line.partition(" - ")
        fields = left.split(" ")
        if not separator or len(fields) < 6:  # noqa: PLR2004 - the fixed fields before the optional ones
            continue
        point = _unescaped(fields[4]).rstrip("/")
        if path == point or path.startswith(point + "/"):
            # A later mount on the same point hides the earlier one.
            found = (right.split(" ", 1)[0], fields[2] == device, len(point))
            if found[1:] >= best[1:]:
                best = found
    return best[0]


def _unescaped(field: str) -> str:
    """Return a field of `mountinfo` whose spaces and such stand as octal numbers."""
    if "\\" not in field:
        return field
    raw = field.encode("utf-8", "surrogateescape")
    return re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), raw).decode("utf-8", "surrogateescape")
