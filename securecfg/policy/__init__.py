"""Who may do what: grant tables and Cedar policies, decided by the Cedar engine, default deny.

Nothing here reads a file, a clock or a socket. Names are loaded when they are first used, since the engine and what
explains its decisions are large, and most programs need a part of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.lazy import load_names

if TYPE_CHECKING:
    from securecfg.policy.cases import Case, CaseResult, parse_cases, run_cases
    from securecfg.policy.compilation import compile_policy, open_policy
    from securecfg.policy.decisions import Policy
    from securecfg.policy.defaults import default_documents
    from securecfg.policy.documents import Document
    from securecfg.policy.explanation import Clause, Explanation, RuleExplanation
    from securecfg.policy.formatting import format_cedar, format_grants, to_cedar
    from securecfg.policy.patterns import Pattern, parse_pattern, pattern_problem
    from securecfg.policy.requests import Decision, Request
    from securecfg.policy.rules import Rule
    from securecfg.policy.schema import ADMINISTRATIVE_ACTIONS, SCHEMA, SECRET_ACTIONS

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
    "Pattern",
    "Policy",
    "Request",
    "Rule",
    "RuleExplanation",
    "compile_policy",
    "default_documents",
    "format_cedar",
    "format_grants",
    "open_policy",
    "parse_cases",
    "parse_pattern",
    "pattern_problem",
    "run_cases",
    "to_cedar",
]

__getattr__ = load_names(
    __name__,
    {
        "ADMINISTRATIVE_ACTIONS": "securecfg.policy.schema",
        "SCHEMA": "securecfg.policy.schema",
        "SECRET_ACTIONS": "securecfg.policy.schema",
        "Case": "securecfg.policy.cases",
        "CaseResult": "securecfg.policy.cases",
        "Clause": "securecfg.policy.explanation",
        "Decision": "securecfg.policy.requests",
        "Document": "securecfg.policy.documents",
        "Explanation": "securecfg.policy.explanation",
        "Pattern": "securecfg.policy.patterns",
        "Policy": "securecfg.policy.decisions",
        "Request": "securecfg.policy.requests",
        "Rule": "securecfg.policy.rules",
        "RuleExplanation": "securecfg.policy.explanation",
        "compile_policy": "securecfg.policy.compilation",
        "default_documents": "securecfg.policy.defaults",
        "format_cedar": "securecfg.policy.formatting",
        "format_grants": "securecfg.policy.formatting",
        "open_policy": "securecfg.policy.compilation",
        "parse_cases": "securecfg.policy.cases",
        "parse_pattern": "securecfg.policy.patterns",
        "pattern_problem": "securecfg.policy.patterns",
        "run_cases": "securecfg.policy.cases",
        "to_cedar": "securecfg.policy.formatting",
    },
)
