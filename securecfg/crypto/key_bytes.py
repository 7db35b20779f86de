"""Key material that masks itself where Python shows a variable."""

from __future__ import annotations

import os
from typing import NoReturn

from securecfg.crypto.derive import KEY_BYTES


class KeyBytes(bytes):
    """Bytes of a key, masked in `repr` and `str`: a traceback that shows locals does not show the key.

    Everything else is as for `bytes`; slices and derived values are plain bytes.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        """Show the size."""
        return f"<key of {len(self)} bytes>"

    __str__ = __repr__

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        """Refuse: keys are not pickled."""
        message = "a key cannot be pickled"
        raise TypeError(message)


def generate_key() -> KeyBytes:
    """Return 32 random bytes: a root key or a data key."""
    return KeyBytes(os.urandom(KEY_BYTES))
