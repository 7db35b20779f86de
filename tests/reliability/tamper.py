"""Every byte of every row of a small vault, flipped once: `python -m tests.reliability.tamper`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.reliability.tampering import flip_bytes, make_sample


def main() -> int:
    """Flip every byte and report what noticed it; an exception shows a byte that nothing noticed."""
    with tempfile.TemporaryDirectory() as folder:
        noticed = flip_bytes(make_sample(Path(folder), is_small=True), step=1)
    for what, count in sorted(noticed.items()):
        print(f"{count:>6}  {what}")
    print(f"tamper: {sum(noticed.values())} bytes flipped, each noticed, no wrong value")
    return 0


if __name__ == "__main__":
    sys.exit(main())
