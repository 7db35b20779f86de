"""The log: what happened, sealed, in an order that can be proved.

This face is what writing to the log needs. Checking and handing it out have faces of their own, loaded when used:
`securecfg.audit.verify`, `securecfg.audit.tiles`, `securecfg.audit.proof` and `securecfg.audit.report`.
"""

from securecfg.audit.checkpoint import Checkpoint, open_checkpoint, origin_of, parse_checkpoint, sign_checkpoint
from securecfg.audit.events import Category, Decision, Event
from securecfg.audit.leaf import Leaf, derive_leaf_key, open_leaf, parse_leaf
from securecfg.audit.masking import Masker
from securecfg.audit.merkle import (
    HashReader,
    Tile,
    Tree,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)
from securecfg.audit.note import VerifierKey, parse_vkey, vkey_of
from securecfg.audit.record import Record, Source, Subject, parse_record
from securecfg.audit.sealer import Sealer, audit_public_key, create_audit_key, create_sealer, open_sealer

__all__ = [
    "Category",
    "Checkpoint",
    "Decision",
    "Event",
    "HashReader",
    "Leaf",
    "Masker",
    "Record",
    "Sealer",
    "Source",
    "Subject",
    "Tile",
    "Tree",
    "VerifierKey",
    "audit_public_key",
    "consistency_proof",
    "create_audit_key",
    "create_sealer",
    "derive_leaf_key",
    "inclusion_proof",
    "leaf_hash",
    "open_checkpoint",
    "open_leaf",
    "open_sealer",
    "origin_of",
    "parse_checkpoint",
    "parse_leaf",
    "parse_record",
    "parse_vkey",
    "sign_checkpoint",
    "verify_consistency",
    "verify_inclusion",
    "vkey_of",
]
