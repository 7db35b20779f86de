"""From documents to a policy."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from securecfg.errors import InvalidGrants, InvalidPolicy
from securecfg.policy.problems import Problem, Problems, raise_all
from securecfg.policy.schema import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from securecfg.policy.decisions import Policy
    from securecfg.policy.documents import Document
    from securecfg.policy.roles import Roles


def compile_policy(documents: Sequence[Document], *, memberships: Mapping[str, frozenset[str]] | None = None) -> Policy:
    """Compile documents into a policy.

    Args:
        documents: Grant tables, Cedar policies and schema extensions, each with a name of its own.
        memberships: What the vault's state says of roles: for each `user:NAME`, `svc:NAME` or `role:NAME`, the roles
            (`role:NAME`) that it belongs to. Grant tables can only add to it.

    Raises:
        InvalidGrants: Something is wrong, in grant tables alone; with every problem as `name:line:column: ...`.
        InvalidPolicy: Something else is wrong; likewise.
    """
    # The engine is a large library: it is loaded when a policy is, not when a program imports the vault.
    from securecfg.policy.decisions import Policy
    from securecfg.policy.roles import Roles
    from securecfg.policy.rules import read_documents

    kinds = {document.name: document.kind for document in documents}
    try:
        if len(kinds) < len(documents):
            names = [document.name for document in documents]
            twice = sorted({name for name in names if names.count(name) > 1})
            raise Problems(Problem(name, 1, 1, f"there are two documents called `{name}`") for name in twice)
        rules = read_documents(documents)
        roles = Roles(rules.memberships, memberships)
    except Problems as found:
        in_grants = all(kinds.get(problem.document) == "grants" for problem in found.problems)
        error = InvalidGrants if in_grants else InvalidPolicy
        raise_all(error, found.problems)
    return Policy(rules, roles, _digest(documents, roles))


def _digest(documents: Sequence[Document], roles: Roles) -> str:
    """Return a hash of all that decides; the order of the documents does not."""
    content = {
        "schema": SCHEMA,
        "documents": sorted([document.name, document.kind, document.text] for document in documents),
        "memberships": roles.state(),
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()
