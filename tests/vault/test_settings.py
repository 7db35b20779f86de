"""Which settings count: the nearest file upwards, but none that somebody else laid where everybody may."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from securecfg.errors import ConfigError, ConfigTypeError
from securecfg.vault.settings import find_bundle_settings, find_settings, read_project

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


@pytest.mark.parametrize("name", SETTINGS)
def test_what_is_ones_own_wins_and_is_relative_to_the_project(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(SETTINGS[name] + 'service = "svc:a"\nkey = "keyring:"\n')
    (tmp_path / ".securecfg").mkdir()
    (tmp_path / ".securecfg" / "local.toml").write_text('key = "file:b.key"\nas = "user:bo"\n')
    (tmp_path / "below").mkdir()
    project = read_project(tmp_path / "below")
    assert project.file == tmp_path / name
    assert project.local == tmp_path / ".securecfg" / "local.toml"
    assert project.values == {
        "vault": str(tmp_path / "a.vault"),
        "service": "svc:a",
        "key": f"file:{tmp_path / 'b.key'}",
        "as": "user:bo",
    }


def test_shares_of_an_identity_are_relative_to_the_project_too(tmp_path: Path) -> None:
    (tmp_path / "securecfg.toml").write_text('key = "identity:a.identity?shares=b/1.txt,/c/2.txt"\n')
    shares = f"{tmp_path / 'b' / '1.txt'},/c/2.txt"
    assert read_project(tmp_path).values["key"] == f"identity:{tmp_path / 'a.identity'}?shares={shares}"


def test_flags_win_over_variables_over_ones_own_over_what_is_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "securecfg.toml").write_text('vault = "shared"\nkey = "keyring:"\nas = "user:shared"\n')
    (tmp_path / ".securecfg").mkdir()
    (tmp_path / ".securecfg" / "local.toml").write_text('vault = "own"\nas = "user:own"\n')
    assert find_settings(None, None, None) == (str(tmp_path / "own"), "keyring:", "user:own")
    monkeypatch.setenv("SECURECFG_VAULT", "variable")
    monkeypatch.setenv("SECURECFG_AS", "user:variable")
    assert find_settings(None, None, None) == ("variable", "keyring:", "user:variable")
    assert find_settings("flag", "file:k", "user:flag") == ("flag", "file:k", "user:flag")


def test_ones_own_settings_alone_are_no_project(tmp_path: Path) -> None:
    (tmp_path / ".securecfg").mkdir()
    (tmp_path / ".securecfg" / "local.toml").write_text('vault = "own"\n')
    assert read_project(tmp_path).values == {}


def test_ones_own_settings_are_not_somebody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "securecfg.toml").write_text('vault = "shared"\n')
    local = tmp_path / ".securecfg" / "local.toml"
    local.parent.mkdir()
    local.write_text('vault = "own"\n')
    tmp_path.chmod(0o1777)  # who may write here may lay a folder `.securecfg` of their own
    give_away(local, monkeypatch)
    with pytest.raises(ConfigTypeError):
        read_project(tmp_path)


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (b'vault = "x\n', ":1:11: illegal character", "settings are TOML"),
        (b"vault\n", ":1:6: expected '='", "settings are TOML"),
        (b"[a", ": expected ']'", "settings are TOML"),
        (b"\xff", ": the settings are not UTF-8", "settings are TOML"),
        (b"a = " + b"[" * 5_000, ": ", "settings are TOML"),
        (b"vault = 1\n", ": the setting `vault` is not text", 'vault = "..."'),
        (b'valut = "x"\n', ": unknown setting `valut`", "`service`"),
    ],
)
def test_what_is_wrong_with_settings_is_said_with_place_and_hint(
    tmp_path: Path, content: bytes, message: str, hint: str
) -> None:
    path = tmp_path / "securecfg.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        read_project(tmp_path)
    assert refused.value.message.startswith(f"{path}{message}")
    assert hint in refused.value.hint
    assert "codec" not in refused.value.message


def test_paths_may_begin_at_home(tmp_path: Path, home: Path) -> None:
    (tmp_path / "securecfg.toml").write_text('vault = "~/a.vault"\nkey = "file:~/a.key"\n')
    values = read_project(tmp_path).values
    assert values == {"vault": str(home / "a.vault"), "key": f"file:{home / 'a.key'}"}
    (tmp_path / "securecfg.toml").write_text('vault = "~nobody-of-this-name/a.vault"\n')
    assert read_project(tmp_path).values["vault"].endswith("/~nobody-of-this-name/a.vault")


def test_a_table_for_other_tools_is_nobodys_business(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.other]\n")
    tmp_path.chmod(0o1777)
    give_away(tmp_path / "pyproject.toml", monkeypatch)
    assert read_project(tmp_path).values.get("vault") is None


def test_settings_choose_sink_and_issuer_of_the_bundle_that_they_name_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("SECURECFG_AUDIT", "SECURECFG_ISSUER"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "securecfg.toml").write_text('vault = "web.sealed"\naudit = "file:reads.sink"\nissuer = "a+b+c"\n')
    sink = f"file:{tmp_path / 'reads.sink'}"
    assert find_bundle_settings("web.sealed", None, None) == (sink, "a+b+c")
    assert find_bundle_settings(str(tmp_path / "web.sealed"), "x:y", None) == ("x:y", "a+b+c")
    assert find_bundle_settings(str(tmp_path / "other.sealed"), None, None) == ("", "")
    assert find_bundle_settings("web.sealed", "", "") == ("", "")
    monkeypatch.setenv("SECURECFG_ISSUER", "d+e+f")
    assert find_bundle_settings("web.sealed", None, None) == (sink, "d+e+f")
    (tmp_path / "securecfg.toml").write_text('audit = "file:reads.sink"\n')
    assert find_bundle_settings("web.sealed", None, None) == ("", "d+e+f")


def test_settings_make_no_bundle_trusted(tmp_path: Path) -> None:
    (tmp_path / "securecfg.toml").write_text('issuer = "unverified"\n')
    with pytest.raises(ConfigTypeError, match="do not make a bundle trusted"):
        read_project(tmp_path)
