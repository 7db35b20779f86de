"""What the demonstrations share: a shell in a scratch directory, whose commands are shown with what they print."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Shell:
    """Types commands as somebody of whom this machine knows nothing.

    Args:
        folder: Where.
        secrets: What no command may print.
        environment: What there is beside the programs of this Python.
    """

    def __init__(self, folder: Path, secrets: Iterable[str], environment: Mapping[str, str]) -> None:
        """Prepare the environment."""
        self.folder = folder
        self._secrets = tuple(secrets)
        self.environment = {
            "HOME": str(folder),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            **environment,
        }

    def run(self, *command: str, who: str = "", given: str = "", code: int = 0, is_shown: bool = True) -> str:
        """Type a command, show it and what it prints, check its exit code, and return what it printed.

        Args:
            command: The program and its arguments; `securecfg` and `python` are those that run the demonstration.
            who: As which principal, where it is not the one of the environment.
            given: Its standard input.
            code: The exit code that it is to have.
            is_shown: Whether it is shown.
        """
        program, *arguments = command
        own = {"securecfg": [sys.executable, "-m", "securecfg"], "python": [sys.executable]}
        done = subprocess.run(
            [*own.get(program, [program]), *arguments],
            cwd=self.folder,
            env=self.environment | ({"SECURECFG_AS": who} if who else {}),
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        output = done.stdout + done.stderr
        if is_shown:
            # A script of the demonstration is shown by its name alone.
            shown = [Path(each).name if each.endswith(".py") else each for each in command]
            print(f"    $ {f'SECURECFG_AS={who} ' if who else ''}{shlex.join(shown)}")
            for line in output.splitlines():
                print(f"      {line}")
        assert done.returncode == code, f"exit code {done.returncode} instead of {code}"
        assert not [secret for secret in self._secrets if secret in output], "a secret was printed"
        return output
