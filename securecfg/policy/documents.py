"""A policy document, as it is applied into the vault."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DocumentKind = Literal["grants", "cedar", "schema-extension"]


@dataclass(frozen=True, slots=True)
class Document:
    """A policy document as it is applied into the vault.

    Attributes:
        name: What places in it are called by.
        kind: What its text is.
        text: All of it.
    """

    name: str
    kind: DocumentKind
    text: str
