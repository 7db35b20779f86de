"""What a daemon logs, for operators: a line for each record, as text or JSON, with the fields of CONTRIBUTING.md."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from securecfg.rotation.runner import StepDetails

FIELDS = ("event", "rotator", "from_state", "to_state", "code", "kind", "count", "duration_ms", "size_bytes")

_log = logging.getLogger(__name__)


def log_step(step: StepDetails) -> None:
    """Log a step; a hook for `Daemon`. It does not say which secret: that is in the log of the vault."""
    level = logging.ERROR if step.to == "failed" and step.from_ != step.to else logging.INFO
    extra = {"event": "rotation.stepped", "rotator": step.rotator, "from_state": step.from_, "to_state": step.to}
    _log.log(level, "a rotation went a step", extra=extra | ({"code": step.reason} if step.reason else {}))


class Lines(logging.Formatter):
    """Formats a record as one line.

    Args:
        is_json: As a JSON object; otherwise as text.
    """

    def __init__(self, *, is_json: bool) -> None:
        """Know the form."""
        super().__init__()
        self._is_json = is_json

    def format(self, record: logging.LogRecord) -> str:
        """Return the line. What an exception says is left out: it could quote a value."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        fields = {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        message = record.getMessage()
        if self._is_json:
            whole = {"time": moment, "level": record.levelname.lower(), "message": message, **fields}
            return json.dumps(whole, ensure_ascii=False, default=str)
        told = "".join(f" {name}={value}" for name, value in fields.items())
        line = f"{moment} {record.levelname.lower()} {message}{told}"
        return "".join(character if character.isprintable() else "?" for character in line)


def write_lines(*, is_json: bool) -> None:
    """Write what this library logs to standard error, from INFO on, and nothing of what others log."""
    handler = logging.StreamHandler()
    handler.setFormatter(Lines(is_json=is_json))
    logger = logging.getLogger("securecfg")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    # What others log could quote a path or a value, and Python would write it where nobody takes it.
    logging.getLogger().addHandler(logging.NullHandler())
