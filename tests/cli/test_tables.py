"""What is drawn on a terminal fits it; what goes through a pipe is whole."""

from __future__ import annotations

import io
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securecfg.cli.tables import SHORTEST, join, lay_out, shortened, shrink, width, write_table
from tests.cli.running import CANARY, Cli, Terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LABEL = "the build server in the basement"
PRINCIPALS = ("svc:build-server", "svc:shop", "svc:worker")
OWNER = "the-payments-team-of-the-fourth-floor"


@pytest.fixture
def busy(stored: Path, cli: Cli, home: Path) -> Path:
    """A project whose tables are wide."""
    cli("key", "generate", str(home / "b.key"))
    speaks = [word for name in PRINCIPALS for word in ("--principal", name)]
    assert cli("key", "add", f"file:{home / 'b.key'}", "--label", LABEL, *speaks).code == 0
    assert cli("secret", "put", "db/main", "--ttl", "90d", "--meta", f"owner={OWNER}", stdin=CANARY).code == 0
    return stored


TABLES = {
    "secret history db/main": ("VERSION", "live", "user:ana"),
    "key list": ("MAY SPEAK FOR", "anyone", "svc:build-"),
    "role list": ("MEMBER", "user:ana", "svc:shop"),
    "policy history": ("REVISION", "in force"),
    "audit show": ("user:ana", "policy.appl", "allowed"),
}


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize("command", TABLES)
def test_no_line_is_folded_on_a_terminal(busy: Path, command: str, columns: int) -> None:
    terminal = Terminal(*command.split(), columns=columns)
    assert terminal.end() == 0
    lines = terminal.shown.splitlines()
    assert max(map(width, lines)) <= columns
    for word in TABLES[command]:
        assert word in terminal.shown


def test_what_matters_least_is_shortened_first(busy: Path) -> None:
    shown = {}
    for columns in (80, 110, 200):
        terminal = Terminal("secret", "history", "db/main", columns=columns)
        assert terminal.end() == 0
        shown[columns] = terminal.shown
    assert f"owner={OWNER}" in shown[200]
    assert "owner=the-" in shown[110] != shown[200]
    assert "Z" in shown[110]  # times are whole
    assert "current" in shown[80]
    assert OWNER not in shown[80]


def test_the_log_keeps_paths_longer_than_reasons(busy: Path) -> None:
    terminal = Terminal("audit", "show", "--action", "write", columns=80)
    assert terminal.end() == 0
    assert "db/main@1" in terminal.shown
    assert "db/main@2 expires 20" in terminal.shown
    assert "by admin" not in terminal.shown


@pytest.mark.parametrize("command", ["key list", "secret history db/main", "audit show"])
def test_a_pipe_gets_everything(busy: Path, cli: Cli, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    outcome = cli(*command.split())
    whole = {
        "key list": (LABEL, *PRINCIPALS),
        "secret history db/main": (f"owner={OWNER}",),
        "audit show": ("by admin",),
    }
    assert all(word in outcome.text for word in whole[command])
    assert "\N{HORIZONTAL ELLIPSIS}" not in outcome.text
    assert "\x1b" not in outcome.text


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_nothing_is_bold_where_nobody_wants_it(
    project: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    bold = Terminal("key", "list")
    bold.end()
    monkeypatch.setenv(name, value)
    plain = Terminal("key", "list")
    plain.end()
    assert (b"\x1b[1m" in bold.raw, b"\x1b" in plain.raw) == (True, False)


# --- the parts --------------------------------------------------------------------------------------------------------


@contextmanager
def on_terminal(columns: int = 40, encoding: str = "utf-8") -> Iterator[Callable[[], list[str]]]:
    """Make standard output take itself for a terminal; yields what returns the lines on it."""

    class Tty(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    buffer = io.BytesIO()
    stream = Tty(buffer, encoding=encoding)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        patch.setenv("COLUMNS", str(columns))
        patch.setenv("NO_COLOR", "1")
        yield lambda: buffer.getvalue().decode(stream.encoding).splitlines()


def test_columns_that_hold_nothing_are_left_out() -> None:
    with on_terminal() as printed:
        write_table(("A", "B", "C"), [("1", "", "x"), ("2", "", "")])
    assert printed() == ["A  C", "1  x", "2"]


def test_a_table_without_rows_is_its_heading() -> None:
    with on_terminal() as printed:
        write_table(("A", "B"), [])
    assert printed() == ["A  B"]


def test_a_cell_cannot_move_the_cursor() -> None:
    with on_terminal() as printed:
        write_table(("A",), [("x\x1b[2Jy",), ("\u202ez",)])
    assert printed() == ["A", "x\\x1b[2Jy", "\\u202ez"]


@settings(deadline=None)
@given(
    st.lists(st.tuples(*[st.text(st.characters(categories=["L", "Mn", "N", "P"]), max_size=30)] * 3), min_size=1),
    st.integers(min_value=1, max_value=120),
)
def test_no_line_is_wider_than_the_terminal(rows: list[tuple[str, ...]], columns: int) -> None:
    with on_terminal(columns):
        lines = lay_out(rows, [(2, SHORTEST), (0, SHORTEST)])
    assert len(lines) == len(rows)
    assert max(map(width, lines)) <= columns


def test_a_line_that_fits_is_left_as_it_is() -> None:
    assert shrink([10, 20, 30], [(2, 11), (1, 11)], 64) == [10, 20, 30]
    assert shrink([10, 20, 30], [(2, 11), (1, 11)], 63) == [10, 20, 29]
    assert shrink([10, 20, 30], [(2, 11), (1, 11)], 40) == [10, 15, 11]
    assert shrink([10, 20, 30], [(2, 11), (1, 11)], 10) == [10, 11, 11]
    assert shrink([5, 20], [(1, 11)], 10) == [5, 11]


@pytest.mark.parametrize(
    ("text", "most", "expected"),
    [
        ("password", 8, "password"),
        ("password", 7, "passwo\N{HORIZONTAL ELLIPSIS}"),
        ("pass word", 6, "pass\N{HORIZONTAL ELLIPSIS}"),
        ("パスワード", 10, "パスワード"),
        ("パスワード", 9, "パスワー\N{HORIZONTAL ELLIPSIS}"),
        ("パスワード", 8, "パスワ\N{HORIZONTAL ELLIPSIS}"),
        ("e\N{COMBINING ACUTE ACCENT}a", 2, "e\N{COMBINING ACUTE ACCENT}a"),
        ("password", 1, "\N{HORIZONTAL ELLIPSIS}"),
        ("password", 0, ""),
    ],
)
def test_what_is_shortened_ends_with_an_ellipsis(text: str, most: int, expected: str) -> None:
    with on_terminal():
        assert shortened(text, most) == expected


def test_the_ellipsis_is_one_that_the_terminal_has() -> None:
    with on_terminal(encoding="ascii"):
        assert shortened("password", 7) == "pass..."
        assert shortened("password", 2) == ""


def test_cells_of_wide_characters_begin_in_the_same_column() -> None:
    assert join(("パ", "x"), (4, 1)) == "パ    x"
    assert join(("ab", "x"), (4, 1)) == "ab    x"
