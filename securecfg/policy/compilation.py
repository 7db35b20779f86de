"""From documents to a policy."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from securecfg.policy.problems import Problem, Problems, raise_invalid
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
    policy = open_policy(documents, memberships=memberships)
    policy.compile()
    return policy


def open_policy(documents: Sequence[Document], *, memberships: Mapping[str, frozenset[str]] | None = None) -> Policy:
    """Return the policy of documents that `compile_policy` accepted when they were applied.

    The rules are validated and compiled when they are first asked. So a session of an administrator, who needs no rule,
    does without the engine.

    Args:
        documents: As for `compile_policy`.
        memberships: Likewise.

    Raises:
        InvalidGrants, InvalidPolicy: As for `compile_policy`, for what is found without the engine.
    """
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
        raise_invalid(found.problems, kinds)
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
