from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg.config import origin
from securecfg.errors import ConfigSyntaxError, SecretNotFound, SignatureInvalid, Unavailable
from securecfg.sources import load
from tests.config.memory_vault import CANARY, MemoryVault

if TYPE_CHECKING:
    from pathlib import Path

PLUGIN = """
from securecfg.errors import SecretNotFound
from securecfg.sources.load import Document

class Memory:
    def read(self, location):
        if location == "boom":
            raise RuntimeError("connection to x with token abc failed")
        if location == "gone":
            raise SecretNotFound("gone")
        return Document(b"a: " + location.encode(), "application/yaml")

class Broken:
    def __init__(self):
        raise OSError("no network")
"""


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a distribution that adds two schemes."""
    site = tmp_path / "site"
    info = site / "memory_source-1.dist-info"
    info.mkdir(parents=True)
    (site / "memory_source_for_test.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: memory-source\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[securecfg.sources]\nmemory = memory_source_for_test:Memory\n"
        "broken = memory_source_for_test:Broken\nlost = no_such_module_at_all:X\n"
    )
    monkeypatch.syspath_prepend(str(site))


def test_a_source_that_an_entry_point_adds_is_a_layer(tmp_path: Path) -> None:
    (tmp_path / "app.yaml").write_text("a: file\nb: file")
    config = load(tmp_path / "app.yaml", "memory:${secret:k}", vault=MemoryVault({"k": CANARY}))
    assert config.a.reveal() == CANARY
    assert str(origin(config, "a")) == "memory:${secret:k}:1:4"
    assert config.b == "file"


@pytest.mark.parametrize("source", ["memory:boom", "broken:x", "lost:x"])
def test_whatever_a_source_raises_becomes_one_error_without_its_text(source: str) -> None:
    with pytest.raises(Unavailable, match=rf"(?m)^`{source}` cannot be read$") as caught:
        load(source)
    assert caught.value.__cause__ is not None
    assert "token" not in f"{caught.value.message} {caught.value.hint}"


def test_an_error_of_ours_stays_what_it_is() -> None:
    with pytest.raises(SecretNotFound):
        load("memory:gone")


def test_what_a_source_hands_over_is_parsed_strictly() -> None:
    with pytest.raises(ConfigSyntaxError, match=r"^memory:\[:2:1: "):
        load("memory:[")


def test_a_source_cannot_pass_for_signed(tmp_path: Path) -> None:
    (tmp_path / "trust").write_text("")
    with pytest.raises(SignatureInvalid, match="`memory:1` cannot have the signature"):
        load("memory:1", require_signature=tmp_path / "trust")
