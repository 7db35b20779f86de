"""Changes of the vault's own documents: policy and roles."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from securecfg.audit import Event, VerifierKey, origin_of
from securecfg.crypto import KIND_TEXT
from securecfg.vault.drafts import Content, Drafts, NewVersion
from securecfg.vault.opened import ROLES_PATH
from securecfg.vault.session import Session

if TYPE_CHECKING:
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.publishing import Plan, Publication
    from securecfg.vault.session import Identity


def document(value: object) -> Content:
    """Return the content of a system document."""
    encoded = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return Content(KIND_TEXT, len(encoded), lambda: (encoded,))


def found(opened: OpenVault, creator: Identity) -> None:
    """Write the first record of a new vault and make its creator the administrator."""
    clock = opened.clock

    def plan(publication: Publication) -> Plan:
        new = NewVersion(creator.principal, clock.now_ns())
        plan = Drafts(opened, publication).write(ROLES_PATH, document({"admin": [creator.principal]}), new)
        _, policy = opened.policy()
        session = Session(creator, policy, opened.masker, clock, clock_trusted=True)
        vkey = VerifierKey(origin_of(opened.replica.vault_id), opened.replica.state.epoch_key)
        plan.records = [session.record(Event.VAULT_CREATED, {"vkey": str(vkey)})]
        return plan

    opened.publisher.publish(plan)
