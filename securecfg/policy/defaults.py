"""The documents that a new project's vault begins with."""

from __future__ import annotations

from typing import Final

from securecfg.errors import InvalidGrants
from securecfg.policy.documents import Document
from securecfg.policy.grants import name_problem

DEFAULT_RULE: Final = "project-default"


def default_documents(project: str, owner: str) -> list[Document]:
    """Return the policy of a new project: its service may read and list everything.

    Args:
        project: The name of the project's service, without `svc:`.
        owner: The principal who made the vault, `user:NAME`. It is an administrator and needs no grant; the table
            says so to its readers.

    Raises:
        InvalidGrants: One of the names cannot be that of a principal.
    """
    for name in (project, owner.removeprefix("user:")):
        problem = name_problem(name)
        if problem:
            message = f"the name `{name}` {problem}"
            raise InvalidGrants(message, hint="give the project another name")
    text = f"""\
# Who may do what in this vault. `securecfg policy show` prints it, `securecfg policy apply FILE` replaces it.
# {owner} holds role:admin, which may do everything and needs no grant.

[roles.project]
description = "The program itself. Give other services roles of their own, with fewer paths."
members = ["svc:{project}"]

[[roles.project.grants]]
id = "{DEFAULT_RULE}"
actions = ["read", "list"]
paths = ["**"]
"""
    return [Document("project.toml", "grants", text)]
