"""A process that imports or undoes and kills itself at a named step: `importing_process.py FOLDER VERB STEP NUMBER`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from securecfg.sources.importing import apply_import, plan_import, undo_import
from tests.sources.project import open_project


def main(folder: str, verb: str, step: str, number: str) -> None:
    project = open_project(Path(folder))
    seen = 0

    def kill(reached: str, _file: str) -> None:
        nonlocal seen
        seen += reached == step
        if reached == step and seen == int(number):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.stdout.write("open\n")
    sys.stdout.flush()
    if verb == "import":
        apply_import(project.vault, plan_import(project.vault, project.given), observe=kill)
    else:
        undo_import(project.vault, observe=kill)
    project.world.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
