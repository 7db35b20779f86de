"""Find secrets in configuration files: what is one, where it stands, and where it goes."""

from __future__ import annotations

from securecfg.sources.detection.plan import MAX_FILE_BYTES, Finding, Notice, Plan, SourceFile, find_secrets
from securecfg.sources.detection.rules import Confidence
from securecfg.sources.detection.scalars import Format
from securecfg.sources.detection.walk import Collected, collect

__all__ = [
    "MAX_FILE_BYTES",
    "Collected",
    "Confidence",
    "Finding",
    "Format",
    "Notice",
    "Plan",
    "SourceFile",
    "collect",
    "find_secrets",
]
