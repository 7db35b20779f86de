"""The log: what happened, sealed, in an order that can be proved.

This face is what writing to the log needs. What only some callers need is imported from its own module when it is used:
`epoch` (a new signing key), `opening` (with the audit key), `verify`, `tiles`, `proof`, `attestation` and `report`.
"""

from securecfg.audit.checkpoint import (
    Checkpoint,
    open_checkpoint,
    open_own_checkpoint,
    origin_of,
    parse_checkpoint,
    sign_checkpoint,
)
from securecfg.audit.events import Category, Decision, Event
from securecfg.audit.leaf import Leaf, parse_delta_hashes, parse_leaf
from securecfg.audit.masking import Masker
from securecfg.audit.merkle import HashReader, Tile, Tree, consistency_proof, leaf_hash, verify_consistency
from securecfg.audit.note import NoteSigner, VerifierKey, parse_vkey, vkey_of
from securecfg.audit.record import Record, Source, Subject, parse_record
from securecfg.audit.sealer import Sealer, audit_public_key, create_sealer

__all__ = [
    "Category",
    "Checkpoint",
    "Decision",
    "Event",
    "HashReader",
    "Leaf",
    "Masker",
    "NoteSigner",
    "Record",
    "Sealer",
    "Source",
    "Subject",
    "Tile",
    "Tree",
    "VerifierKey",
    "audit_public_key",
    "consistency_proof",
    "create_sealer",
    "leaf_hash",
    "open_checkpoint",
    "open_own_checkpoint",
    "origin_of",
    "parse_checkpoint",
    "parse_delta_hashes",
    "parse_leaf",
    "parse_record",
    "parse_vkey",
    "sign_checkpoint",
    "verify_consistency",
    "vkey_of",
]
