"""A stand-in for `op` and `bw`, run as a program of its own: it answers as it was told to, and keeps how it was run.

The folder in which it lies says everything: `state.json` what is in the store, `faults.json` what goes wrong, and
`runs` what it was run with. It is copied there with an interpreter in its first line, under the name of the program.
"""

import fcntl
import json
import os
import signal
import sys
import time

PLACE, _, NAME = sys.argv[0].rpartition("/")

Answer = tuple[str, str, int]


def main() -> None:
    fault = next_fault()
    with open(f"{PLACE}/state.json") as held:
        out, err, code = (op if NAME == "op" else bw)(json.load(held), sys.argv[1:])
    if fault:
        time.sleep(fault.get("sleep_s", 0))
        out = out[: len(out) // 2] if fault.get("is_cut") else fault.get("out", "")
        err, code = fault.get("err", ""), fault.get("code", 0)
    sys.stdout.write(out)
    sys.stderr.write(err)
    sys.stdout.flush()
    sys.stderr.flush()
    if fault and fault.get("is_killed"):
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(code)


def next_fault() -> dict | None:
    """Keep how this run was made, and return what is to go wrong in it."""
    with open(f"{PLACE}/runs", "a+") as runs:
        fcntl.flock(runs, fcntl.LOCK_EX)
        run = {"arguments": sys.argv[1:], "variables": dict(os.environ), "folder": os.readlink("/proc/self/cwd")}
        runs.write(json.dumps({**run, "input": sys.stdin.read()}) + "\n")
        with open(f"{PLACE}/faults.json") as planned:
            faults = json.load(planned)
        if not faults["next"]:
            return faults["always"]
        fault = faults["next"].pop(0)
        with open(f"{PLACE}/faults.json", "w") as left:
            json.dump(faults, left)
        return fault


def op(state: dict, arguments: list[str]) -> Answer:
    said = state["errors"]
    flags = {name: value for name, _, value in (word.partition("=") for word in arguments if word.startswith("--"))}
    words = [word for word in arguments if not word.startswith("--")]
    if set(flags) - {"--account"} != {"--vault", "--format", "--cache", "--no-color"} or flags["--format"] != "json":
        return "", said["usage"], 1
    if os.environ.get(state["variable"]) != state["secret"] and flags.get("--account") != state["account"]:
        return "", said["not signed in"], 1
    if flags["--vault"] not in (state["vault"], state["vault id"]):
        return "", said["no vault"] % flags["--vault"], 1
    return op_item(state, words, flags["--vault"])


def op_item(state: dict, words: list[str], vault: str) -> Answer:
    match words:
        case ["item", "list"]:
            hidden = ("fields", "sections")
            shown = [{name: part for name, part in item.items() if name not in hidden} for item in state["items"]]
            return json.dumps(shown, indent=2), "", 0
        case ["item", "get", wanted]:
            found = [item for item in state["items"] if item["id"] == wanted]
            if found:
                return json.dumps(found[0], indent=2), "", 0
            return "", state["errors"]["no item"] % (wanted, vault), 1
    return "", state["errors"]["usage"], 1


def bw(state: dict, arguments: list[str]) -> Answer:
    if arguments[-2:] != ["--nointeraction", "--response"]:
        return "", "Invalid command: nosuch\nSee --help for a list of available commands.", 1
    if os.environ.get(state["variable"]) != state["secret"]:
        return json.dumps({"success": False, "message": state["errors"]["locked"]}), "", 1
    match arguments[:-2]:
        case ["sync"]:
            title = {"noColor": False, "object": "message", "title": "Syncing complete.", "message": None}
            return json.dumps({"success": True, "data": title}), "", 0
        case ["list", ("items" | "folders" | "collections") as what]:
            return json.dumps({"success": True, "data": {"object": "list", "data": state[what]}}), "", 0
    return json.dumps({"success": False, "message": state["errors"]["unknown"]}), "", 1


main()
