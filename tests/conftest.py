"""Every test has a home of its own and no settings from outside; a full run does not forgive skips."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

ROOT = Path(__file__).resolve().parent.parent

REQUIRE_ALL = "SECURECFG_REQUIRE_ALL"
VECTORS = "SECURECFG_VECTORS"
# A skip with this prefix says that the test has no meaning here (another platform), not that something is missing.
NOT_APPLICABLE = "not applicable: "


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what it runs in the background so, and programs that tests interrupt would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-all",
        action="store_true",
        default=os.environ.get(REQUIRE_ALL) == "1",
        help=f"fail where a test would be skipped because something is missing (also {REQUIRE_ALL}=1)",
    )


def _refuse_skip(config: pytest.Config, report: pytest.TestReport | pytest.CollectReport) -> None:
    if not report.skipped or hasattr(report, "wasxfail") or not config.getoption("--require-all"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    if reason.startswith(NOT_APPLICABLE):
        return
    report.outcome = "failed"
    report.longrepr = f"skipped, where nothing may be missing: {reason}"


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes after their argument: as text they are unreadable, and where random they differ between workers."""
    return argname if isinstance(val, bytes) else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse_skip(item.config, report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skip(collector.config, report)
    return report


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty home with the XDG folders in it, and no setting of the developer's own.

    Its path is short: a Unix socket below it must fit into 107 bytes.
    """
    with tempfile.TemporaryDirectory(prefix="sc-") as name:
        path = Path(name)
        for variable, folder in {
            "XDG_CACHE_HOME": ".cache",
            "XDG_CONFIG_HOME": ".config",
            "XDG_DATA_HOME": ".local/share",
            "XDG_RUNTIME_DIR": "run",
            "XDG_STATE_HOME": ".local/state",
        }.items():
            monkeypatch.setenv(variable, str(path / folder))
        (path / "run").mkdir(mode=0o700)
        monkeypatch.setenv("HOME", name)
        # Without a bus address there is no way to the developer's own keyring.
        monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
        for variable in list(os.environ):
            if variable.startswith("SECURECFG_") and variable not in {REQUIRE_ALL, VECTORS}:
                monkeypatch.delenv(variable)
        yield path


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The folder with the test vectors of others."""
    path = Path(os.environ.get(VECTORS) or ROOT.parent / "shared" / "vectors").resolve()
    if not path.is_dir():
        pytest.skip(f"needs the vectors of others: no folder `{path}`; {VECTORS} can name another")
    return path


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """Return the path of a program, or skip the test, saying which program is missing."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            pytest.skip(f"needs the program `{name}`")
        return path

    return find
