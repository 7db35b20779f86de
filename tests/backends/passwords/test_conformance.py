"""The public suite of backends, for `1password:` and `bitwarden:` over stand-ins for their programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from securecfg.backends.bitwarden import SESSION_VARIABLE
from securecfg.backends.bitwarden import from_uri as open_bitwarden
from securecfg.backends.onepassword import TOKEN_VARIABLE
from securecfg.backends.onepassword import from_uri as open_onepassword
from securecfg.backends.uri import parse_backend_uri
from securecfg.testing.backend_conformance import BackendConformance, BackendFault
from tests.backends.passwords.recorded import (
    BW_CRASH,
    BW_ERRORS,
    BW_NOT_REACHED,
    BW_TOO_MANY,
    OP_FORBIDDEN,
    OP_NO_HOST,
    OP_SERVER_ERROR,
    OP_TOKEN_DELETED,
    OP_TOO_MANY_NOW,
    bw_item,
    op_item,
)
from tests.backends.passwords.stand_in import SECRET, StandIn, bw_failure, put_bw, put_op

if TYPE_CHECKING:
    from pathlib import Path

    from securecfg.backends import Backend, Content, OpenBackend

SILENT_S = 3.0


def refused(message: str) -> dict[str, Any]:
    return {"out": bw_failure(message), "code": 1}


OP_FAULTS: dict[BackendFault, dict[str, Any]] = {
    BackendFault.UNREACHABLE: {"err": OP_NO_HOST, "code": 1},
    BackendFault.RESET: {"is_killed": True},
    BackendFault.CUT_OFF: {"is_cut": True},
    BackendFault.SILENT: {"sleep_s": SILENT_S},
    BackendFault.BROKEN: {"err": OP_SERVER_ERROR, "code": 1},
    BackendFault.NONSENSE: {"out": "<html>canary</html>"},
    BackendFault.THROTTLED: {"err": OP_TOO_MANY_NOW, "code": 1},
    BackendFault.EXPIRED: {"err": OP_TOKEN_DELETED, "code": 1},
    BackendFault.DENIED: {"err": OP_FORBIDDEN, "code": 1},
}
BW_FAULTS: dict[BackendFault, dict[str, Any]] = {
    BackendFault.UNREACHABLE: refused(BW_NOT_REACHED),
    BackendFault.RESET: {"is_killed": True},
    BackendFault.CUT_OFF: {"is_cut": True},
    BackendFault.SILENT: {"sleep_s": SILENT_S},
    BackendFault.BROKEN: {"err": BW_CRASH, "code": 1},
    BackendFault.NONSENSE: {"out": "<html>canary</html>"},
    BackendFault.THROTTLED: refused(BW_TOO_MANY),
    BackendFault.EXPIRED: refused(BW_ERRORS["locked"]),
    BackendFault.DENIED: refused("Syncing failed: You do not have permission."),
}


class _Passwords(BackendConformance):
    faults: dict[BackendFault, dict[str, Any]]
    stand_in: StandIn

    def fail(self, fault: BackendFault | None, times: int | None = None) -> None:
        shown = self.faults[fault] if fault else None
        self.stand_in.fail(None if times else shown, *[shown or {}] * (times or 0))

    def canaries(self) -> tuple[str, ...]:
        return SECRET, "canary", "maximum number", "FetchError", "Service Account Deleted"


class TestOnePassword(_Passwords):
    faults = OP_FAULTS

    @pytest.fixture(autouse=True)
    def _program(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(TOKEN_VARIABLE, SECRET)
        self.stand_in = StandIn(tmp_path, "op", TOKEN_VARIABLE)

    def backend(self) -> Backend:
        return open_onepassword(parse_backend_uri(f"1password:Test%20Data?program={self.stand_in.path}"))

    def asked(self) -> int:
        return len(self.stand_in.runs())

    def put(self, backend: OpenBackend, path: str, content: Content) -> str:
        return put_op(self.stand_in, path, content)

    def fill(self, count: int) -> None:
        self.stand_in.hold(*[op_item(f"{number:026}", f"many/{number:05}", []) for number in range(count)])


class TestBitwarden(_Passwords):
    """With `sync`, so that there is a server that can fail; without it `bw` answers from its own copy.

    A `sync` is what a call sends, and the first that meets with a fault.
    """

    faults = BW_FAULTS

    @pytest.fixture(autouse=True)
    def _program(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(SESSION_VARIABLE, SECRET)
        self.stand_in = StandIn(tmp_path, "bw", SESSION_VARIABLE)

    def backend(self) -> Backend:
        return open_bitwarden(parse_backend_uri(f"bitwarden:?program={self.stand_in.path}&sync=yes"))

    def asked(self) -> int:
        return sum(run.arguments[0] == "sync" for run in self.stand_in.runs())

    def put(self, backend: OpenBackend, path: str, content: Content) -> str:
        return put_bw(self.stand_in, path, content)

    def fill(self, count: int) -> None:
        ids = (f"1b0d1f0a-0000-4000-8000-{number:012}" for number in range(count))
        self.stand_in.hold(*[bw_item(id_, f"many/{number:05}", notes="x") for number, id_ in enumerate(ids)])
