"""What the rotator `exec` runs in tests, copied behind a `#!` line.

Tokens are the lines of a file, beside a file `down` where they are out of reach.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from typing import NoReturn

told = json.load(sys.stdin)
with open(os.environ["SECURECFG_VALUES"], encoding="utf-8") as pipe:
    given = json.load(pipe)
folder, step = told["options"]["folder"], told["step"]
place = f"{folder}/tokens"


def answer(**more: object) -> NoReturn:
    json.dump({"v": 1, **more}, sys.stdout)
    sys.exit()


def accepted() -> set[str]:
    with open(place, encoding="utf-8") as file:
        return {*file.read().split()}


def accept(tokens: set[str]) -> None:
    with open(place, "w", encoding="utf-8") as file:
        file.write("\n".join(tokens))


if step != "propose" and "down" in os.listdir(folder):  # noqa: PTH208 - it starts sooner without `pathlib`
    answer(error="target-unavailable")
match step:
    case "propose":
        answer(value={**(given["current"] or {}), "token": secrets.token_urlsafe(24)})
    case "apply":
        accept(accepted() | {given["pending"]["token"]})
    case "verify":
        if given["value"]["token"] not in accepted():
            answer(error="credential-refused")
    case "retire":
        accept(accepted() - {given["previous"]["token"]})
answer()
