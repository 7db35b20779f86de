"""A policy document, as it is applied into the vault."""

from __future__ import annotations

from typing import Literal

from securecfg.tuples import NamedTuple

DocumentKind = Literal["grants", "cedar", "schema-extension"]


class Document(NamedTuple):
    """A policy document as it is applied into the vault.

    Attributes:
        name: What places in it are called by.
        kind: What its text is.
        text: All of it.
    """

    name: str
    kind: DocumentKind
    text: str
