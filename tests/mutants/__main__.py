"""Plant each defect in a copy of the package and see its test fail: `python -m tests.mutants [NAME ...]`."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from tests.mutants.catalogue import MUTANTS

if TYPE_CHECKING:
    from tests.mutants.catalogue import Mutant

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("securecfg", "tests", "policies", "pyproject.toml")
FAILED_TESTS = 1
_IGNORED = shutil.ignore_patterns("__pycache__", "corpus", "*.pyc")


def main() -> int:
    """Run the mutants whose names contain one of the words given, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    chosen = [one for one in MUTANTS if not options.names or any(name in one.name for name in options.names)]
    with tempfile.TemporaryDirectory(prefix="securecfg-mutants-") as scratch:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(options.jobs):
            copies.put(_copy(Path(scratch) / str(number)))
        healthy = copies.get()
        problem = _run(healthy, sorted({mutant.test for mutant in chosen}))
        copies.put(healthy)
        if problem:
            print(f"the tests fail without any defect:\n{problem}")
            return 1

        def plant(mutant: Mutant) -> str:
            copy = copies.get()
            try:
                outcome = _plant(copy, mutant)
            finally:
                copies.put(copy)
            print(f"{outcome or 'found':<12} {mutant.name}", flush=True)
            return outcome

        with ThreadPoolExecutor(options.jobs) as pool:
            outcomes = list(pool.map(plant, chosen))
    survivors = [f"  {outcome}: {one.name}" for one, outcome in zip(chosen, outcomes, strict=True) if outcome]
    print(f"mutants: {len(chosen)} planted, {len(chosen) - len(survivors)} found")
    print("\n".join(survivors), end="\n" if survivors else "")
    return 1 if survivors else 0


def _copy(target: Path) -> Path:
    target.mkdir()
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=_IGNORED)
        else:
            shutil.copy(ROOT / name, target / name)
    return target


def _plant(copy: Path, mutant: Mutant) -> str:
    """Return what is wrong: nothing where the test found the defect."""
    file = copy / "securecfg" / mutant.file
    healthy = file.read_text("utf-8")
    if healthy.count(mutant.old) != 1:
        return "not planted"
    try:
        file.write_text(healthy.replace(mutant.old, mutant.new), "utf-8")
        return "" if _run(copy, [mutant.test]) else "survived"
    finally:
        file.write_text(healthy, "utf-8")


def _run(copy: Path, tests: list[str]) -> str:
    """Run tests in a copy; return the end of what pytest says where some fail, nothing where all pass.

    Raises:
        RuntimeError: The tests could not be run.
    """
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", "--tb=line"]
    done = subprocess.run(
        [*command, *(f"tests/{test}" for test in tests)],
        cwd=copy,
        # A defect may show only where a process dies after one step out of many: none is left out.
        env={
            **os.environ,
            "PYTHONPATH": str(copy),
            "PYTHONDONTWRITEBYTECODE": "1",
            "SECURECFG_EXHAUSTIVE": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in {0, FAILED_TESTS}:
        message = f"pytest could not run {tests}: {done.stdout[-2_000:]}{done.stderr[-2_000:]}"
        raise RuntimeError(message)
    return done.stdout[-2_000:] if done.returncode else ""


if __name__ == "__main__":
    sys.exit(main())
