"""Who may do what: grant tables and Cedar policies, decided by the Cedar engine, default deny.

Nothing here reads a file, a clock or a socket. Names are loaded when they are first used, since the engine and what
explains its decisions are large, and most programs need a part of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from securecfg.policy.cases import Case, CaseResult, parse_cases, run_cases
    from securecfg.policy.compilation import compile_policy
    from securecfg.policy.decisions import Policy
    from securecfg.policy.defaults import default_documents
    from securecfg.policy.documents import Document
    from securecfg.policy.explanation import Clause, Explanation, RuleExplanation
    from securecfg.policy.formatting import format_cedar, format_grants, to_cedar
    from securecfg.policy.requests import Decision, Request
    from securecfg.policy.rules import Rule
    from securecfg.policy.schema import ADMINISTRATIVE_ACTIONS, SCHEMA, SECRET_ACTIONS

_HOMES = {
    "ADMINISTRATIVE_ACTIONS": "schema",
    "SCHEMA": "schema",
    "SECRET_ACTIONS": "schema",
    "Case": "cases",
    "CaseResult": "cases",
    "Clause": "explanation",
    "Decision": "requests",
    "Document": "documents",
    "Explanation": "explanation",
    "Policy": "decisions",
    "Request": "requests",
    "Rule": "rules",
    "RuleExplanation": "explanation",
    "compile_policy": "compilation",
    "default_documents": "defaults",
    "format_cedar": "formatting",
    "format_grants": "formatting",
    "parse_cases": "cases",
    "run_cases": "cases",
    "to_cedar": "formatting",
}

__all__ = [
    "ADMINISTRATIVE_ACTIONS",
    "SCHEMA",
    "SECRET_ACTIONS",
    "Case",
    "CaseResult",
    "Clause",
    "Decision",
    "Document",
    "Explanation",
    "Policy",
    "Request",
    "Rule",
    "RuleExplanation",
    "compile_policy",
    "default_documents",
    "format_cedar",
    "format_grants",
    "parse_cases",
    "run_cases",
    "to_cedar",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever has the name
    """Load a name from its home, once."""
    home = _HOMES.get(name)
    if home is None:
        message = f"module `{__name__}` has no attribute `{name}`"
        raise AttributeError(message)
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
