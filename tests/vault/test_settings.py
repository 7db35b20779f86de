"""Which settings count: the nearest file upwards, but none that somebody else laid where everybody may."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from securecfg.errors import ConfigTypeError
from securecfg.vault.settings import read_project

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = {
    "securecfg.toml": 'vault = "a.vault"\n',
    "pyproject.toml": '[tool.securecfg]\nvault = "a.vault"\n',
}

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such modes")


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a file another user's; who is not root becomes another user instead."""
    me = os.geteuid()
    if me == 0:
        os.chown(path, 12_345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: me + 1)


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_another_user_where_everybody_may_write_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / name).write_text(SETTINGS[name])
    tmp_path.chmod(0o1777)
    assert read_project(tmp_path / "project").values["vault"] == str(tmp_path / "a.vault")
    give_away(tmp_path / name, monkeypatch)
    with pytest.raises(ConfigTypeError) as refused:
        read_project(tmp_path / "project")
    assert refused.value.place == str(tmp_path / name)
    tmp_path.chmod(0o755)
    assert read_project(tmp_path / "project").values["vault"] == str(tmp_path / "a.vault")


def test_a_table_for_other_tools_is_nobodys_business(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.other]\n")
    tmp_path.chmod(0o1777)
    give_away(tmp_path / "pyproject.toml", monkeypatch)
    assert read_project(tmp_path).values.get("vault") is None
