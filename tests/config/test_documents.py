"""The pages on configuration do what they say: their files are written, their code runs, in order."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from securecfg.config.formats import SUFFIXES
from securecfg.errors import FileMissing
from tests.config.memory_vault import CANARY, MemoryVault

DOCS = Path(__file__).resolve().parents[2] / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(page: str) -> dict[str, Any]:
    """Write each file that a block names in its first line and run each block of Python."""
    vault = MemoryVault({"db/main#password": CANARY}, {"shop/overrides": (b"x: 1", "application/yaml")})
    names: dict[str, Any] = {"vault": vault, "__name__": "page"}
    for language, text in BLOCK.findall((DOCS / page).read_text()):
        if language == "python":
            exec(compile(text, page, "exec", dont_inherit=True), names)  # noqa: S102 - the page is ours
        elif text.startswith("# config/"):
            path = Path(text.partition("\n")[0].removeprefix("# "))
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    return names


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHOP_DATABASE__PORT", "")  # restored afterwards, whatever the page sets
    monkeypatch.delenv("SHOP_PROFILE", raising=False)


def test_the_page_on_loading_works(capsys: pytest.CaptureFixture[str]) -> None:
    names = run("how-to/load-configuration.md")
    assert names["cfg"].x == 1
    said, hint = capsys.readouterr().out.splitlines()
    page = (DOCS / "how-to/load-configuration.md").read_text()
    assert f"# {said}" in page
    assert f"# {hint}" in page


def test_the_page_on_profiles_works() -> None:
    run("how-to/profiles.md")


def test_the_page_on_signatures_reaches_the_trust_file() -> None:
    Path("config").mkdir()
    with pytest.raises(FileMissing, match="allowed_signers"):
        run("how-to/sign-configuration.md")


def test_the_reference_names_every_format() -> None:
    page = (DOCS / "reference/configuration.md").read_text()
    assert [suffix for suffix in SUFFIXES if f"`{suffix}`" not in page] == []
