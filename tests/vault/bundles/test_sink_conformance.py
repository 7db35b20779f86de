"""Every sink of records passes the public suite."""

from __future__ import annotations

import os
from base64 import b64decode
from typing import TYPE_CHECKING

import pytest

from securecfg.testing.audit_sink_conformance import AuditSinkConformance, MemorySink
from securecfg.vault.bundles.sinks import FileSink

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class TestFile(AuditSinkConformance):
    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.path = tmp_path / "reads.sink"

    def sink(self) -> FileSink:
        return FileSink(self.path)

    def kept(self) -> Sequence[bytes]:
        return [b64decode(line, validate=True) for line in self.path.read_bytes().split(b"\n")[:-1]]

    def broken(self) -> FileSink:
        sink = FileSink(self.path)
        full = os.open("/dev/full", os.O_RDWR)
        os.dup2(full, sink._descriptor)
        os.close(full)
        return sink


class TestMemory(AuditSinkConformance):
    @pytest.fixture(autouse=True)
    def _place(self) -> None:
        self.memory = MemorySink()

    def sink(self) -> MemorySink:
        return self.memory

    def kept(self) -> Sequence[bytes]:
        return self.memory.entries

    def broken(self) -> MemorySink:
        self.memory.error = OSError("no")
        return self.memory
