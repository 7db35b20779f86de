"""A mount comes home by processes that are killed at random moments: all of it, nothing twice, readable throughout."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from securecfg.errors import SecretNotFound
from securecfg.mounts import Mount, Mounts
from securecfg.vault.vault import Vault
from securecfg.vault.verification import verify_vault
from tests.conftest import ROOT
from tests.reliability.migration_worker import FOLDER, fill
from tests.vault.world import ADMIN, World, text_of

IS_EXHAUSTIVE = "SECURECFG_EXHAUSTIVE" in os.environ
SECRETS, KILLS = (10_000, 40) if IS_EXHAUSTIVE else (600, 4)
_LIMIT_S = 600


@pytest.fixture
def values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    from securecfg.backends import uri

    monkeypatch.setitem(uri.BUILT_IN, "memory", "tests.mounts.memory")
    monkeypatch.chdir(ROOT)
    values = {f"{number % 7}/{number:05}": f"value {number}" for number in range(SECRETS)}
    (tmp_path / "values").write_text(json.dumps(values), "utf-8")
    fill(tmp_path / "values")
    return values


@pytest.mark.timeout(_LIMIT_S)
def test_what_dies_on_the_way_home_is_home_in_the_end(tmp_path: Path, values: dict[str, str]) -> None:
    world = World(tmp_path)
    world.make_key()
    with Vault.create(world.path, key=world.key, admin=ADMIN) as vault:
        Mounts(vault.authority).add(Mount(FOLDER, ("memory:one",)))
    draw, kills, sample = random.Random(7), 0, sorted(values)[:: max(SECRETS // 20, 1)]
    command = [sys.executable, "-m", "tests.reliability.migration_worker"]
    reference = Vault.open(world.path, key=world.key, principal=ADMIN, cache_values=0)
    whole_s = 0.0
    while True:
        process = subprocess.Popen(
            [*command, str(world.path), world.key, str(tmp_path / "values")], stdout=subprocess.PIPE, bufsize=0
        )
        assert process.stdout is not None
        with process:
            assert process.stdout.readline()  # it is at work
            started = time.monotonic()
            if kills < KILLS:
                try:
                    process.wait(draw.uniform(0.0, whole_s or 2.0))
                except subprocess.TimeoutExpired:
                    process.kill()
                    kills += 1
            process.communicate()
        whole_s = max(whole_s, time.monotonic() - started)
        # Whatever died: references that were valid are valid, here and in the process that had them before.
        for name in sample:
            assert reference.ref(FOLDER + name).reveal() == values[name]
        if process.returncode == 0:
            break
    reference.close()
    with Vault.open(world.path, key=world.key, principal=ADMIN) as vault:
        assert vault.opened.mounts() == {}
        assert [path.removeprefix(FOLDER) for path in vault.list(FOLDER)] == sorted(values)
        assert all(len(vault.history(FOLDER + name)) == 1 for name in values)
        assert all(text_of(vault, FOLDER + name) == value for name, value in values.items())
        report = verify_vault(vault.opened)
        assert report.problems == []
        with pytest.raises(SecretNotFound):
            vault.read(f"{FOLDER}none")
    left = Path(f"{world.path}.mounts")
    assert not [path for path in left.rglob("*") if path.is_file()] if left.is_dir() else True
    print(f"{kills} kills on the way of {SECRETS} secrets")
