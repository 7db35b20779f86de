"""A shell in a scratch project, for the commands of a page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_TERMINAL = Path(__file__).with_name("terminal.py")
_ANSWER = re.compile(r"\[[yYnN]/[yYnN]\] (\w+)\n")
_TIME = re.compile(r"(?<!\d)\d\d:\d\d:\d\d(?!\d)")
_DATE = re.compile(r"(?<!\d)20\d\d-\d\d-\d\d(?!\d)")
_TIMEOUT_S = 60

NO_KEYRING: Final = MappingProxyType({"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"})


class Shell:
    """Runs commands one after the other; the folder and exported variables last.

    Args:
        project: Where the first one runs.
        state: An empty folder for what lasts.
        variables: What its commands find in their environment besides; without a bus there is no keyring either.
    """

    def __init__(self, project: Path, state: Path, variables: Mapping[str, str] = NO_KEYRING) -> None:
        self._folder = project
        self._state = state
        programs = str(Path(sys.executable).parent)
        # The terminal of `_converse` says how wide it is, not that of whoever runs the tests.
        inherited = {name: text for name, text in os.environ.items() if name not in {"COLUMNS", "LINES"}}
        self._environment = {
            **inherited,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "LOGNAME": "me",
            "LC_ALL": "C.UTF-8",
            "TERM": "dumb",
            **variables,
        }

    def run(self, command: str, answers: list[str]) -> tuple[int, str]:
        """Run a command, type the answers where there are any, and return exit code and output."""
        lasting = self._state / "lasting"
        script = f"{command}\ncode=$?; {{ export -p; printf 'cd %q\\n' \"$PWD\"; }} > {lasting}; exit $code"
        start = f". {lasting}\n" if lasting.exists() else ""
        shell = ["bash", "-c", start + script]
        if not answers:
            done = subprocess.run(
                shell,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                timeout=_TIMEOUT_S,
                check=False,
            )
            return done.returncode, done.stdout.decode()
        return self._converse(shell, answers)

    def _converse(self, shell: list[str], answers: list[str]) -> tuple[int, str]:
        """Run a command on a terminal and type an answer whenever it asks."""
        master, terminal = os.openpty()
        termios.tcsetwinsize(terminal, (50, 200))
        process = subprocess.Popen(
            [sys.executable, str(_TERMINAL), *shell],
            cwd=self._folder,
            env=self._environment,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        )
        os.close(terminal)
        output, unsaid = b"", [f"{answer}\n".encode() for answer in answers]
        with process, suppress(OSError):  # EIO says that nobody has the terminal open any more
            while piece := os.read(master, 4_096):
                output += piece
                if unsaid and output.endswith(b"] "):
                    os.write(master, unsaid.pop(0))
        os.close(master)
        return process.returncode, output.decode().replace("\r\n", "\n")


def answers_in(output: str) -> list[str]:
    """Return what a page shows to be typed at questions."""
    return _ANSWER.findall(output)


def matches(expected: str, output: str, stand_ins: Mapping[str, str]) -> bool:
    """Tell whether a command printed what its page shows.

    `...` in a line stands for anything, a line of it for any lines; times and dates for any others; how much space is
    between words does not matter.

    Args:
        expected: What the page shows.
        output: What was printed.
        stand_ins: For texts that differ on each machine, the pattern of what may be there.
    """
    lines = [_pattern_of(line.strip(), stand_ins) for line in expected.splitlines()]
    pattern = "".join(r"(?:[^\n]*\n)*?" if line is None else rf"[ \t]*{line}[ \t]*\n" for line in lines)
    return re.fullmatch(pattern, f"{output.rstrip()}\n" if output.strip() else "") is not None


def _pattern_of(line: str, stand_ins: Mapping[str, str]) -> str | None:
    if line == "...":
        return None
    varying = {**stand_ins, "...": r"[^\n]*?"}
    marks = {f"\0{number}\0": pattern for number, pattern in enumerate(varying.values())}
    for mark, text in zip(marks, varying, strict=True):
        line = line.replace(text, mark)
    line = re.sub(r"(?:\\ |[ \t])+", r"[ \\t]+", re.escape(line))
    line = _DATE.sub(r"20\\d\\d-\\d\\d-\\d\\d", line.replace("\\-", "-"))
    line = _TIME.sub(r"\\d\\d:\\d\\d:\\d\\d", line)
    for mark, pattern in marks.items():
        line = line.replace(re.escape(mark), pattern)
    return line
