"""Who may do what: grant tables and Cedar policies, decided by the Cedar engine, default deny.

Nothing here reads a file, a clock or a socket.
"""

from securecfg.policy.cases import Case, CaseResult, parse_cases, run_cases
from securecfg.policy.compilation import compile_policy
from securecfg.policy.decisions import Policy
from securecfg.policy.defaults import default_documents
from securecfg.policy.explanation import Clause, Explanation, RuleExplanation
from securecfg.policy.formatting import format_cedar, format_grants, to_cedar
from securecfg.policy.requests import Decision, Request
from securecfg.policy.rules import Document, Rule
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
