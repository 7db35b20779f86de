"""Who may do what: grant tables and Cedar policies, decided by the Cedar engine, default deny.

Nothing here reads a file, a clock or a socket.
"""

from securecfg.policy.compilation import compile_policy
from securecfg.policy.decisions import Policy
from securecfg.policy.defaults import default_documents
from securecfg.policy.requests import Decision, Request
from securecfg.policy.rules import Document

__all__ = [
    "Decision",
    "Document",
    "Policy",
    "Request",
    "compile_policy",
    "default_documents",
]
