"""The start of a process, before anything large is imported."""

from __future__ import annotations

import gc
import os
import sys

# Objects made by imports live as long as the process: looking for garbage among them takes a tenth of a small command.
_OBJECTS_BEFORE_COLLECTION = 100_000


def main(arguments: list[str] | None = None) -> int:
    """Run the program and return its exit code.

    Args:
        arguments: What follows the program's name; None takes it from the process, which is then the program's own.
    """
    if arguments is not None:
        from securecfg.cli.program import run

        return run(arguments)
    gc.set_threshold(_OBJECTS_BEFORE_COLLECTION)
    code = main(sys.argv[1:])
    # Every vault is closed and every byte is written by now. To take apart what was imported would take longer than
    # the read of a secret, and serves nobody.
    os._exit(code)
