"""What kind of file a path names, told by its beginning."""

from __future__ import annotations

import os

BUNDLE_MAGIC = b"SCFP"


def is_bundle(path: str | os.PathLike[str]) -> bool:
    """Return whether a file begins as a bundle does; False where it cannot be read."""
    try:
        # Without O_NONBLOCK, opening a FIFO would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return os.read(descriptor, len(BUNDLE_MAGIC)) == BUNDLE_MAGIC
    except OSError:
        return False
    finally:
        os.close(descriptor)
