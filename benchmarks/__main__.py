"""Measure the rows of the speed table: `python -m benchmarks [--only TOPIC,...] [--rounds N] [--scale N]`.

Writes `benchmarks/results.md` and draws `benchmarks/results.svg` where everything was measured, or where told. The
vaults of the scale runs are built in `build/` and thrown away; SECURECFG_BENCH_DIR names a folder that keeps them.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from importlib import import_module
from pathlib import Path

from benchmarks.report import Machine, draw, write
from benchmarks.rows import ROUNDS, SCALES, Bench, Row
from benchmarks.vaults import use_state_below

# In the order of the report; `peers`, `stores`, `config_load` and `processes` need what the bench group installs.
TOPICS = {
    "reads": "Reads",
    "peers": "Reads beside other clients",
    "writes": "Writes and durable records",
    "sizes": "Opening and memory",
    "provider_opens": "Opening with each kind of key",
    "key_changes": "Changing keys",
    "scopes": "Sealed scopes",
    "stores": "Stores of others",
    "rotations": "Rotation",
    "policy_decisions": "Policy",
    "audit_verify": "The log",
    "processes": "Import and command line",
    "config_load": "Configuration",
    "store_rows": "The store alone",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(TOPICS), help=f"topics, of {', '.join(TOPICS)}")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--scale", type=int, default=SCALES[-1], help="the largest number of secrets")
    parser.add_argument("--output", type=Path, help="the folder for the results; given by default for a whole run only")
    options = parser.parse_args()
    topics = options.only.split(",")
    if unknown := set(topics) - set(TOPICS):
        parser.error(f"no such topic: {', '.join(sorted(unknown))}")
    # All of them first: whatever is missing shows before anything is measured.
    modules = {topic: import_module(f"benchmarks.{topic}") for topic in topics}
    output = options.output or (Path(__file__).parent if set(topics) == set(TOPICS) else None)
    cache = os.environ.get("SECURECFG_BENCH_DIR")
    root = Path(cache) if cache else Path(__file__).resolve().parent.parent / "build"
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix="bench-") as folder:
        use_state_below(Path(folder))
        bench = Bench(Path(folder), options.rounds, options.scale, Path(cache) if cache else None)
        machine = Machine.look(bench.folder)
        found: dict[str, list[Row]] = {}
        for topic in topics:
            print(f"\n{TOPICS[topic]}", flush=True)
            found[TOPICS[topic]] = measured = []
            for row in modules[topic].rows(bench):
                print(row, flush=True)
                measured.append(row)
        machine.look_again()
    if output is not None:
        (output / "results.md").write_text(write(found, machine, bench))
        (output / "results.svg").write_text(draw(found))


if __name__ == "__main__":
    main()
