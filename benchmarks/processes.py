"""Whole processes: `import securecfg`, and the command line beside an empty Python and beside age."""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import securecfg
from benchmarks.rows import alone, interleave, over_floor
from benchmarks.vaults import SERVICE, create, path_of, value_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.rows import Bench, Contender, Row

RUNS = 10
IMPORT = "import time; t = time.perf_counter(); import securecfg; print(time.perf_counter() - t)"


def rows(bench: Bench) -> Iterator[Row]:
    runs = bench.repeats(RUNS)
    # As an installation does. An editable one leaves it to the first run, which may not be allowed to.
    compileall.compile_dir(Path(securecfg.__file__).parent, quiet=1)
    place = create(bench.folder / "processes", 100)
    environment = os.environ | {
        "SECURECFG_VAULT": str(place.vault),
        "SECURECFG_KEY": place.key,
        "SECURECFG_AS": SERVICE,
    }
    program = str(Path(sys.executable).with_name("securecfg"))
    get = [program, "secret", "get", path_of(7), "--reveal"]
    assert output(get, environment) == value_of(7).encode()
    contenders: dict[str, Contender] = {
        "import": lambda: imported(runs),
        "pass": process([sys.executable, "-c", "pass"], environment, runs),
        "help": process([program, "--help"], environment, runs),
        "get": process(get, environment, runs),
    }
    age = shutil.which("age")
    if age:
        contenders["age"] = process(age_decrypt(bench.folder, age), environment, runs)
    found = interleave(contenders, bench.rounds)
    yield alone("`import securecfg`", found["import"], "s", 5e-3)
    floor = ("`python -c pass`", found["pass"])
    yield over_floor("`securecfg --help`", found["help"], floor, 5.0)
    yield over_floor("`securecfg secret get --reveal`, key file", found["get"], floor, 9.0)
    if age:
        yield over_floor("`securecfg secret get --reveal`, key file", found["get"], ("`age -d`", found["age"]))


def imported(runs: int) -> float:
    return sum(float(output([sys.executable, "-c", IMPORT], None)) for _ in range(runs)) / runs


def output(command: list[str], environment: dict[str, str] | None) -> bytes:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment).stdout


def process(command: list[str], environment: dict[str, str], runs: int) -> Contender:
    def run() -> float:
        started = time.perf_counter()
        for _ in range(runs):
            output(command, environment)
        return (time.perf_counter() - started) / runs

    return run


def age_decrypt(folder: Path, age: str) -> list[str]:
    """Return a command that decrypts one value of the same size."""
    identity, sealed = folder / "age-identity", folder / "value.age"
    subprocess.run(["age-keygen", "-o", identity], check=True, stderr=subprocess.DEVNULL)
    public = output(["age-keygen", "-y", str(identity)], None).decode().strip()
    subprocess.run([age, "-r", public, "-o", sealed], check=True, input=value_of(7).encode())
    return [age, "-d", "-i", str(identity), str(sealed)]
