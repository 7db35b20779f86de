"""A stand-in for `op` and `bw`, run as a program of its own: it answers as it was told to, and keeps how it was run.

The folder in which it lies says everything: `state` what is in the store, `faults` what goes wrong, and `runs` how it
was run. It is copied there with an interpreter in its first line, under the name of the program. It imports nothing
that takes time: it is run hundreds of times.
"""

from __future__ import annotations

import fcntl
import marshal
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PLACE, _, NAME = sys.argv[0].rpartition("/")


def main() -> None:
    fault = next_fault()
    with open(f"{PLACE}/state", "rb") as held:
        out, err, code = (op if NAME == "op" else bw)(marshal.load(held), sys.argv[1:])
    if fault:
        time.sleep(fault.get("sleep_s", 0))
        out = out[: len(out) // 2] if fault.get("is_cut") else fault.get("out", "")
        err, code = fault.get("err", ""), fault.get("code", 0)
    sys.stdout.write(out)
    sys.stderr.write(err)
    sys.stdout.flush()
    sys.stderr.flush()
    if fault and fault.get("is_killed"):
        os.kill(os.getpid(), 9)
    os._exit(code)


def next_fault() -> dict[str, Any] | None:
    """Keep how this run was made, and return what is to go wrong in it."""
    with open(f"{PLACE}/runs", "a+") as runs:
        fcntl.flock(runs, fcntl.LOCK_EX)
        run = (sys.argv[1:], dict(os.environ), os.readlink("/proc/self/cwd"), sys.stdin.read())
        runs.write(f"{run!r}\n")
        with open(f"{PLACE}/faults", "rb") as planned:
            always, following = marshal.load(planned)
        if following:
            with open(f"{PLACE}/faults", "wb") as left:
                marshal.dump((always, following[1:]), left)
        chosen: dict[str, Any] | None = following[0] if following else always
        return chosen


def op(state: dict[str, Any], arguments: list[str]) -> tuple[str, str, int]:
    said = state["errors"]
    flags = {name: value for name, _, value in (word.partition("=") for word in arguments if word.startswith("--"))}
    words = [word for word in arguments if not word.startswith("--")]
    if set(flags) - {"--account"} != {"--vault", "--format", "--cache", "--no-color"} or flags["--format"] != "json":
        return "", said["usage"], 1
    if os.environ.get(state["variable"]) != state["secret"] and flags.get("--account") != state["account"]:
        return "", said["not signed in"], 1
    if flags["--vault"] not in (state["vault"], state["vault id"]):
        return "", said["no vault"] % flags["--vault"], 1
    if words[:2] == ["item", "get"] and words[2] not in state["printed"]["item get"]:
        return "", said["no item"] % (words[2], flags["--vault"]), 1
    return state["printed"]["item get"][words[2]] if words[1] == "get" else state["printed"][" ".join(words)], "", 0


def bw(state: dict[str, Any], arguments: list[str]) -> tuple[str, str, int]:
    if arguments[-2:] != ["--nointeraction", "--response"]:
        return "", "Invalid command: nosuch\nSee --help for a list of available commands.", 1
    if os.environ.get(state["variable"]) != state["secret"]:
        return state["errors"]["locked"], "", 1
    return state["printed"][" ".join(arguments[:-2])], "", 0


main()
