"""What a service says when it refuses, for the backend that knows what it means."""

from __future__ import annotations

from securecfg.errors import BackendRefused


class Refusal(BackendRefused):
    """The service refuses, for a reason that the backend may know better by its code.

    Attributes:
        reason: The code.
    """

    reason: str = ""
