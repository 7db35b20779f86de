"""Export of a log in the layout of c2sp.org/tlog-tiles, which programs of others verify, and its verification.

    checkpoint                  the newest signed checkpoint
    vkey                        the verifier key that it is signed with
    tile/<L>/<N>[.p/<W>]        hash tiles
    tile/entries/<N>[.p/<W>]    entry bundles: each leaf with a 16-bit length in front

Records stay sealed: the export shows order and completeness, sizes and numbers, and no content.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from securecfg.audit.checkpoint import open_checkpoint, parse_checkpoint
from securecfg.audit.merkle import HASH_BYTES, MAX_LEAF_BYTES, TILE_HEIGHT, TILE_WIDTH, build_tiles
from securecfg.audit.note import MAX_NOTE_BYTES
from securecfg.audit.verify import verify_tree
from securecfg.errors import AlreadyExists, FileMissing, LogTampered, LogTruncated, StoreFailed, ValueTooLarge
from securecfg.files import read_bounded, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from securecfg.audit.checkpoint import Checkpoint
    from securecfg.audit.note import VerifierKey

_ENTRIES = "entries"
_LENGTH_BYTES = 2
_MAX_BUNDLE_BYTES = TILE_WIDTH * (MAX_LEAF_BYTES + _LENGTH_BYTES)


def tile_path(level: int | str, index: int, width: int) -> str:
    """Return the path of a tile or entry bundle below an export's directory, c2sp.org/tlog-tiles.

    Args:
        level: From 0, or `entries`.
        index: From 0.
        width: How many hashes or entries it holds, from 1 to 256.
    """
    digits = f"{index % 1_000:03d}"
    while index >= 1_000:  # noqa: PLR2004 - three digits to a path element
        index //= 1_000
        digits = f"x{index % 1_000:03d}/{digits}"
    return f"tile/{level}/{digits}" + (f".p/{width}" if width < TILE_WIDTH else "")


def export_tiles(directory: Path, leaves: Iterable[bytes], checkpoint: bytes, vkey: VerifierKey) -> None:
    """Write a log to a directory, in which an earlier export of the same log may lie.

    What is written is checked on the way, and the checkpoint is written last: a directory whose checkpoint is the new
    one is complete.

    Args:
        directory: Made if it does not exist.
        leaves: All leaf rows from 0, in order; more than the checkpoint covers are not read.
        checkpoint: The signed note.
        vkey: The key that signed it.

    Raises:
        AlreadyExists: The directory holds the export of another log.
        LogTampered: The checkpoint is not signed by this key, or the leaves do not hash to its root.
        LogTruncated: There are fewer leaves than the checkpoint says.
        StoreFailed: The file system refuses.
    """
    head = open_checkpoint(checkpoint, [vkey])
    _refuse_other_log(directory, head)
    _make_directory(directory)

    def write(level: int, index: int, hashes: bytes) -> None:
        _write_once(directory / tile_path(level, index, len(hashes) // HASH_BYTES), hashes)

    if build_tiles(head.size, _write_entries(directory, head.size, leaves), write) != head.root:
        message = "the records do not hash to the signed root"
        raise LogTampered(message)
    _write(directory / "vkey", f"{vkey}\n".encode())
    _write(directory / "checkpoint", checkpoint)


def open_tiles(directory: Path, vkey: VerifierKey) -> Checkpoint:
    """Verify an exported log as a whole and return its checkpoint.

    Args:
        directory: The export.
        vkey: The key that is trusted; the file `vkey` in the directory proves nothing by itself.

    Raises:
        FileMissing: There is no checkpoint.
        LogTampered: The checkpoint is not signed by this key, or a leaf or tile does not belong to its tree.
        LogTruncated: A file of the tree is missing.
        StoreFailed: A file cannot be read.
    """
    checkpoint = open_checkpoint(read_bounded(directory / "checkpoint", MAX_NOTE_BYTES), [vkey])

    def tile(level: int, index: int) -> bytes:
        width = min(TILE_WIDTH, (checkpoint.size >> TILE_HEIGHT * level) - index * TILE_WIDTH)
        first = index * TILE_WIDTH << TILE_HEIGHT * level
        return _read(directory / tile_path(level, index, width), width * HASH_BYTES, first)

    verify_tree(checkpoint, _read_entries(directory, checkpoint.size), tile)
    return checkpoint


def _write_entries(directory: Path, size: int, leaves: Iterable[bytes]) -> Iterator[bytes]:
    """Pass the leaves on, and write each bundle when it is full or the last one."""
    bundle = bytearray()
    for index, leaf in enumerate(islice(leaves, size)):
        if len(leaf) > MAX_LEAF_BYTES:
            message = f"record {index} is longer than {MAX_LEAF_BYTES} bytes"
            raise LogTampered(message, index=index)
        bundle += len(leaf).to_bytes(_LENGTH_BYTES) + leaf
        width = index % TILE_WIDTH + 1
        if width == TILE_WIDTH or index + 1 == size:
            _write_once(directory / tile_path(_ENTRIES, index // TILE_WIDTH, width), bytes(bundle))
            bundle.clear()
        yield leaf


def _read_entries(directory: Path, size: int) -> Iterator[bytes]:
    for first in range(0, size, TILE_WIDTH):
        width = min(TILE_WIDTH, size - first)
        bundle = _read(directory / tile_path(_ENTRIES, first // TILE_WIDTH, width), _MAX_BUNDLE_BYTES, first)
        at = 0
        for index in range(first, first + width):
            end = at + _LENGTH_BYTES + int.from_bytes(bundle[at : at + _LENGTH_BYTES])
            if at + _LENGTH_BYTES > len(bundle) or end > len(bundle):
                message = f"the entry bundle ends before record {index} does"
                raise LogTampered(message, index=index)
            yield bundle[at + _LENGTH_BYTES : end]
            at = end
        if at != len(bundle):
            message = f"the entry bundle goes on after record {first + width - 1}"
            raise LogTampered(message, index=first + width - 1)


def _refuse_other_log(directory: Path, head: Checkpoint) -> None:
    try:
        earlier = parse_checkpoint(read_bounded(directory / "checkpoint", MAX_NOTE_BYTES))
    except FileMissing:
        return
    except LogTampered:
        earlier = None
    if earlier is None or earlier.origin != head.origin:
        message = f"`{directory}` holds something else than an export of this log"
        raise AlreadyExists(message, hint="export into an empty directory")


def _read(path: Path, limit_bytes: int, first: int) -> bytes:
    try:
        return read_bounded(path, limit_bytes)
    except FileMissing:
        message = f"`{path}` with the records from {first} on is missing"
        raise LogTruncated(message) from None
    except ValueTooLarge:
        message = f"`{path}` is larger than such a file can be"
        raise LogTampered(message, index=first) from None


def _write_once(path: Path, content: bytes) -> None:
    """Write a file that never changes: one that is there already must be the same."""
    try:
        if read_bounded(path, len(content)) == content:
            return
    except FileMissing:
        _write(path, content)
        return
    except ValueTooLarge:
        pass
    message = f"`{path}` from an earlier export differs from the log"
    raise LogTampered(message, hint="one of the two was altered: verify both")


def _write(path: Path, content: bytes) -> None:
    _make_directory(path.parent)
    write_atomically(path, content)


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        message = f"cannot create `{path}`: {error.strerror}"
        raise StoreFailed(message) from None
