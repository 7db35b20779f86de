"""Run a command with a terminal of its own, so that it can ask; started by `shell`, never imported."""

from __future__ import annotations

import fcntl
import os
import sys
import termios

if __name__ == "__main__":
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # standard input becomes what `/dev/tty` names
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - the command of a page
