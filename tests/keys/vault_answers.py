"""What the parts of the Vault server for tests have in common: how it refuses."""

from __future__ import annotations

from typing import Any, NoReturn

Given = dict[str, Any]
Answer = dict[str, Any]


class Refusal(Exception):
    """What the server answers instead."""

    def __init__(self, status: int, body: Answer) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


def refuse(status: int, *errors: str) -> NoReturn:
    raise Refusal(status, {"errors": list(errors)})


def refuse_with(status: int, data: Given) -> NoReturn:
    """Refuse with data instead of errors."""
    raise Refusal(status, {"request_id": "", "data": data})
