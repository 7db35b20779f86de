"""A vault in memory, as far as configuration sees one: resolves references, holds documents, counts its calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.errors import AccessDenied, SecretNotFound, SecurecfgError
from securecfg.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from securecfg.config import Reference

CANARY = "canary-7f3a/p@ss word"


class MemoryVault:
    """Secrets by `path`, `path#field`, `path@version` or both; paths under `denied/` are denied."""

    def __init__(
        self, secrets: Mapping[str, str | bytes] | None = None, documents: Mapping[str, tuple[bytes, str]] | None = None
    ) -> None:
        self.secrets = dict(secrets or {})
        self.documents = dict(documents or {})
        self.calls: list[tuple[Reference, ...]] = []

    def resolver(self) -> MemoryVault:
        return self

    def resolve(self, references: Sequence[Reference], /) -> list[Secret[str] | Secret[bytes] | SecurecfgError]:
        self.calls.append(tuple(references))
        return [self._resolve(reference) for reference in references]

    def read_document(self, path: str, /) -> tuple[bytes, str]:
        if path not in self.documents:
            message = f"there is no secret `{path}`"
            raise SecretNotFound(message)
        return self.documents[path]

    def _resolve(self, reference: Reference) -> Secret[str] | Secret[bytes] | SecurecfgError:
        if reference.path.startswith("denied/"):
            return AccessDenied(f"`read` on `{reference.path}` is denied")
        field = "" if reference.field is None else f"#{reference.field}"
        at = "" if reference.at is None else f"@{reference.at}"
        match self.secrets.get(f"{reference.path}{field}{at}"):
            case str(text):
                return Secret(text)
            case bytes(content):
                return Secret(content)
            case _:
                return SecretNotFound(f"there is no secret `{reference.path}`")
