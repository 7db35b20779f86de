"""The built-in Cedar schema: who may do what to what, and what a rule may look at.

`policies/schema.cedarschema` is a copy of `SCHEMA` for readers and editors; the text here decides.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    import cedarpy

SECRET_ACTIONS: Final = ("read", "list", "write", "delete", "undelete", "destroy", "rotate", "export", "approve")
ADMINISTRATIVE_ACTIONS: Final = (
    "policy.read",
    "policy.write",
    "role.read",
    "role.write",
    "key.manage",
    "mount.manage",
    "audit.read",
    "audit.export",
    "vault.backup",
    "vault.restore",
)
IMPERSONATE: Final = "impersonate"
ACTIONS: Final = (*SECRET_ACTIONS, *ADMINISTRATIVE_ACTIONS, IMPERSONATE)

ROOT: Final = "/"
"""The id of the root folder: `Folder::"/"`. No path is written like this, so nothing else can be meant."""

TIME_ATTRIBUTES: Final = frozenset({"now", "hour", "minute_of_day", "weekday"})

BUILT_IN_CONTEXT: Final = {
    "mfa": "Bool",
    "source": "ipaddr",
    "purpose": "String",
    "now": "datetime",
    "hour": "Long",
    "minute_of_day": "Long",
    "weekday": "Long",
}

# `{context}` takes the attributes of schema extensions.
_TEMPLATE = """\
// Users and services ask; roles contain them. `user:olga` is User::"olga", `svc:web` is Service::"web".
entity Role in [Role];
entity User, Service in [Role];

// The secret `payments/stripe/key` is Secret::"payments/stripe/key". It lies in Folder::"payments/stripe",
// Folder::"payments" and the root, Folder::"/". `depth` counts segments; the tag "1" is the name of the outermost
// folder, "2" that of the folder in it, and so on.
entity Folder in [Folder] {{ path: String, depth: Long }} tags String;
entity Secret in [Folder] {{ path: String, depth: Long }} tags String;

// Set by the host program and the vault, never by the caller. `mfa` is false unless the host says otherwise.
// Times are UTC: `hour` is 0 to 23, `minute_of_day` 0 to 1439, `weekday` 1 (Monday) to 7 (Sunday).
type Context = {{
  mfa: Bool,
  source?: ipaddr,
  purpose?: String,
  now: datetime,
  hour: Long,
  minute_of_day: Long,
  weekday: Long,{context}
}};

action "read", "write", "delete", "undelete", "destroy", "rotate", "export", "approve"
  appliesTo {{ principal: [User, Service], resource: [Secret], context: Context }};

// Listing asks about each secret, and about a folder where one is named.
action "list"
  appliesTo {{ principal: [User, Service], resource: [Secret, Folder], context: Context }};

// Administration is of the whole vault: the resource is always the root folder.
action "policy.read", "policy.write", "role.read", "role.write", "key.manage",
       "mount.manage", "audit.read", "audit.export", "vault.backup", "vault.restore"
  appliesTo {{ principal: [User, Service], resource: [Folder], context: Context }};

// To act for another principal, who is the resource.
action "impersonate"
  appliesTo {{ principal: [User, Service], resource: [User, Service], context: Context }};
"""

SCHEMA: Final = _TEMPLATE.format(context="")


def extended_schema(attributes: Mapping[str, str]) -> str:
    """Return the text of the built-in schema with optional attributes of `Context` added, by name and type."""
    return _TEMPLATE.format(context="".join(f"\n  {name}?: {kind}," for name, kind in attributes.items()))


@cache
def parsed_schema(text: str) -> cedarpy.Schema:
    """Return a schema that is known to be right, parsed."""
    from securecfg.policy.cedar import load_engine

    return load_engine().parse_schema(text)
