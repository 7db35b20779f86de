"""The defects: where, what stands there, what stands there instead, and the test that turns red."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """One planted defect.

    Attributes:
        name: What is wrong.
        file: Where, below `securecfg/`.
        old: What stands there, exactly once.
        new: What stands there instead.
        test: The test that must fail, as pytest names it, below `tests/`.
    """

    name: str
    file: str
    old: str
    new: str
    test: str


MUTANTS = (
    # --- integrity of the state ---
    Mutant(
        "the digest of a history page is not compared",
        "vault/rows.py",
        "        row = verify_digest(row, digest, _A_PAGE)",
        '        row = row or b""',
        "vault/test_rows.py::test_an_older_history_page_put_back_in_place_of_the_newest_is_refused",
    ),
    Mutant(
        "the digest of the manifest is not compared",
        "vault/rows.py",
        "        row = verify_digest(row, digest, _A_MANIFEST)",
        '        row = row or b""',
        "vault/test_rows.py::test_opens_only_the_row_that_was_named[manifest]",
    ),
    Mutant(
        "the digest of a segment is not compared",
        "vault/rows.py",
        '        row = verify_digest(row, digest, "an index segment")',
        '        row = row or b""',
        "vault/test_rows.py::test_opens_only_the_row_that_was_named[segment]",
    ),
    Mutant(
        "the digest of a delta is not compared",
        "vault/rows.py",
        '        row = verify_digest(row, digest, "a delta")',
        '        row = row or b""',
        "reliability/test_tampering.py::test_no_alteration_of_a_row_gives_a_wrong_value_or_goes_unnoticed[delta]",
    ),
    Mutant(
        "a history page is not bound to its path",
        "vault/rows.py",
        "    if history.rec_id != rec_id or history.path != path:",
        "    if history.rec_id != rec_id:",
        "vault/test_rows.py::test_rows_are_bound_to_their_place",
    ),
    Mutant(
        "the records are not compared with the signed root",
        "vault/replica.py",
        "        if tree.root() != checkpoint.root:",
        "        if False:",
        "reliability/test_tampering.py::test_no_alteration_of_a_row_gives_a_wrong_value_or_goes_unnoticed[log]",
    ),
    Mutant(
        "the state is not compared with the signed hash",
        "vault/replica.py",
        "        if checkpoint.state != digest:",
        "        if False:",
        "reliability/test_tampering.py::test_any_byte_of_any_row_of_a_small_vault",
    ),
    Mutant(
        "a handle that lags behind looks for deltas that a compaction has deleted",
        "vault/replica.py",
        "                if index >= base_size:",
        "                if index >= 0:",
        "vault/test_replica.py::test_a_handle_that_lags_behind_a_compaction_catches_up",
    ),
    # --- rollback ---
    Mutant(
        "the anchor is not compared",
        "vault/creation.py",
        "    opened.verify_mark(known.mark)\n",
        "",
        "vault/test_anchor.py::test_an_older_copy_in_the_same_place_is_refused",
    ),
    Mutant(
        "the anchor's consistency proof is not checked",
        "vault/opened.py",
        "            verify_consistency(mark.size, checkpoint.size, mark.root, checkpoint.root, proof)",
        "            del proof",
        "vault/test_anchor.py::test_another_continuation_of_the_same_vault_is_refused",
    ),
    Mutant(
        "an open vault accepts an older head",
        "vault/replica.py",
        "        if checkpoint.size < self.tree.size or state.generation < known.generation:",
        "        if False:",
        "vault/test_anchor.py::test_a_vault_that_goes_back_while_it_is_open_is_refused",
    ),
    Mutant(
        "an anchor that another process recorded meanwhile is taken for a rollback",
        "vault/opened.py",
        "        if mark.size > self.replica.checkpoint.size:\n",
        "        if False:\n",
        "vault/test_replica.py::test_an_anchor_that_is_ahead_of_a_slow_handle_is_no_rollback",
    ),
    Mutant(
        "a torn slot of the anchor counts",
        "vault/anchor.py",
        "hashlib.sha256(body).digest() != raw[SLOT_SIZE - 32 :]:",
        "False:",
        "vault/test_formats.py::test_a_slot_of_an_anchor_with_any_byte_changed_counts_as_absent",
    ),
    # --- durability and atomicity ---
    Mutant(
        "commits are not synced",
        "store/connections.py",
        "    PRAGMA synchronous = FULL;",
        "    PRAGMA synchronous = NORMAL;",
        "reliability/test_crash.py::test_no_crash_loses_tears_or_discloses_anything[101]",
    ),
    Mutant(
        "two writers publish over each other",
        "store/sqlite.py",
        "                if cursor.execute(_GET_HEAD).get != expect:",
        "                if False:",
        "store/test_conformance.py",
    ),
    Mutant(
        "an ambiguous commit cannot be resolved",
        "vault/publisher.py",
        "waiter.fail(CommitUnknown(error.message, request_id=waiter.request_id, hint=_UNKNOWN_HINT))",
        'waiter.fail(CommitUnknown(error.message, request_id="", hint=_UNKNOWN_HINT))',
        "reliability/test_faults.py::test_a_call_that_meets_a_fault_tells_the_truth[write-sync once]",
    ),
    Mutant(
        "rows are swept although they may have been published",
        "vault/staging.py",
        "    condemned = _condemn(opened, stagings)",
        "    condemned = list(stagings)",
        "vault/test_staging.py::test_an_ambiguous_commit_that_took_place_keeps_its_rows",
    ),
    Mutant(
        "a staging that was swept is published",
        "vault/staging.py",
        "            if not mine <= set(publication.stagings):",
        "            if False:",
        "vault/test_staging.py::test_a_staging_that_was_condemned_cannot_be_published",
    ),
    Mutant(
        "a staged change overwrites what another writer did meanwhile",
        "vault/staging.py",
        "                if publication.entry(path) != entry:",
        "                if False:",
        "vault/test_staging.py::test_a_secret_that_changes_while_a_large_value_is_prepared_is_written_again",
    ),
    Mutant(
        "a durable change is reported as a failure",
        "vault/staging.py",
        "            self.sweep_freed()\n        except SecurecfgError as error:",
        "            self.sweep_freed()\n        except KeyError as error:",
        "vault/test_staging.py::test_a_change_that_is_durable_succeeds_even_if_the_sweep_after_it_fails",
    ),
    Mutant(
        "a row that another writer replaced is taken for tampering",
        "vault/publisher.py",
        "                self._verify_unmoved(error)\n",
        "",
        "vault/test_replica.py::test_a_write_goes_on_over_another_write_in_its_middle",
    ),
    Mutant(
        "a path that changes during a listing is left out",
        "vault/index.py",
        "            elif path in self._overlay:\n",
        "            elif path in self._overlay and not self._overlay:\n",
        "vault/test_index.py::test_a_path_that_changes_during_a_scan_is_not_missed",
    ),
    Mutant(
        "a compaction loses what was written during it",
        "vault/index.py",
        "            if log_index >= manifest.base_size:",
        "            if log_index > manifest.base_size:",
        "vault/test_index.py::test_a_rebased_index_keeps_what_the_manifest_does_not_include",
    ),
    Mutant(
        "a batch that fails leaves its first changes",
        "vault/vault.py",
        "            batch.discard()\n            raise\n",
        "            self._writes.apply_batch(batch.discard())\n            raise\n",
        "vault/test_vault.py::test_an_exception_discards_a_batch",
    ),
    Mutant(
        "`expect` is ignored",
        "vault/drafts.py",
        "        if new.expect is not None and new.expect != history.newest:",
        "        if False:",
        "vault/test_vault.py::test_refuses_a_stale_write",
    ),
    Mutant(
        "metadata fills a history page until it cannot be stored",
        "vault/history.py",
        "    if len(versions) <= PAGE_FULL and (len(versions) == 1 or sum(sizes) <= PAGE_BYTES):",
        "    if len(versions) <= PAGE_FULL:",
        "vault/test_vault.py::test_a_secret_with_much_metadata_can_be_written_again_and_again",
    ),
    # --- destruction ---
    Mutant(
        "a destroyed version keeps its data key",
        "vault/drafts.py",
        "        plan.deletes += [Delete(Space.DEK, version.dek_id), Delete(Space.VALUE, version.value_id)]",
        "        plan.deletes += [Delete(Space.VALUE, version.value_id)]",
        "vault/test_maintenance.py::test_destroyed_bytes_are_nowhere_in_the_file",
    ),
    Mutant(
        "destroyed bytes stay in the write-ahead log",
        "vault/maintenance.py",
        "            opened.store.purge()\n",
        "",
        "reliability/test_crash.py::test_no_crash_loses_tears_or_discloses_anything[101]",
    ),
    Mutant(
        "deleted bytes stay in the file",
        "store/connections.py",
        "    PRAGMA secure_delete = ON;",
        "    PRAGMA secure_delete = OFF;",
        "vault/test_maintenance.py::test_destroyed_bytes_are_nowhere_in_the_file",
    ),
    Mutant(
        "a destruction that is not finished is declared so by another",
        "vault/maintenance.py",
        "    if publication.state.generation != seen or publication.members:",
        "    if False:",
        "vault/test_maintenance.py::test_a_destruction_by_another_handle_meanwhile_stays_pending",
    ),
    # --- audit ---
    Mutant(
        "a value is given out without a record",
        "vault/reading.py",
        "        if not fresh:\n            return\n",
        "        return\n",
        "vault/test_vault.py::test_a_read_that_cannot_be_recorded_gives_nothing",
    ),
    Mutant(
        "strict reads are counted only",
        "vault/reading.py",
        "        if not options.strict:\n",
        "        if True:\n",
        "vault/test_vault.py::test_strict_reads_are_all_recorded_first",
    ),
    Mutant(
        "repeats are not counted",
        "vault/reading.py",
        "                hit.count += 1\n",
        "",
        "vault/test_vault.py::test_repeats_are_counted_and_the_counts_recorded_at_the_end",
    ),
    Mutant(
        "a vault that is open for reading only gives values out",
        "vault/reading.py",
        "        if options.read_only:\n",
        "        if options.read_only:\n            return\n        if False:\n",
        "vault/test_vault.py::test_a_vault_that_is_open_for_reading_only_changes_nothing",
    ),
    # --- authority ---
    Mutant(
        "a policy that cannot be evaluated allows",
        "policy/requests.py",
        "    return Decision(allowed=False, error=error, cacheable=False)",
        "    return Decision(allowed=True, error=error, cacheable=False)",
        "policy/test_decisions.py::test_a_forbid_that_cannot_be_evaluated_denies",
    ),
    Mutant(
        "an error of a rule that forbids is overlooked",
        "policy/engine.py",
        '    if verdict.errors or verdict.decision not in {"Allow", "Deny"}:',
        '    if verdict.decision not in {"Allow", "Deny"}:',
        "policy/test_decisions.py::test_a_forbid_that_cannot_be_evaluated_denies",
    ),
    Mutant(
        "an engine that makes no decision allows",
        "policy/engine.py",
        '    if verdict.errors or verdict.decision not in {"Allow", "Deny"}:',
        '    if verdict.decision not in {"Allow", "Deny"} and not verdict.errors:\n'
        "        return Decision(allowed=True)\n"
        "    if verdict.errors:",
        "policy/test_decisions.py::test_an_engine_that_makes_no_decision_denies",
    ),
    Mutant(
        "rules are taken for valid whatever the engine says",
        "policy/cedar.py",
        '        if result["validation_passed"] is True:',
        '        if "validation_passed" in result:',
        "policy/test_cedar.py::test_a_refusal_names_the_rule_and_the_reason",
    ),
    Mutant(
        "the inside of a release that is not known is used",
        "policy/cedar.py",
        '    if not any((folder.parent / f"cedarpy-{release}.dist-info").is_dir() for release in releases):',
        "    if releases is None:",
        "policy/test_cedar.py::test_a_release_that_is_not_known_is_not_looked_into",
    ),
    Mutant(
        "anybody may act for anybody",
        "vault/vault.py",
        '            self._authority.require("impersonate", name)\n',
        "            pass\n",
        "vault/test_vault.py::test_acting_for_another_needs_the_right_and_gives_only_theirs",
    ),
    Mutant(
        "only the first change of a batch is decided on",
        "vault/writing.py",
        "                stamp = self._require([right for wanted in batch for right in wanted.rights])",
        "                stamp = self._require(batch[0].rights)",
        "vault/test_vault.py::test_what_is_denied_changes_nothing",
    ),
    Mutant(
        "a change is published under a policy that no longer holds",
        "vault/writing.py",
        "        if stamp != self._opened.policy_stamp():",
        "        if False:",
        "vault/test_writing.py::test_a_right_that_is_taken_away_before_the_publication_is_gone",
    ),
    Mutant(
        "a read is recorded under a policy that no longer holds",
        "vault/reading.py",
        "            if stamp != self._opened.policy_stamp():",
        "            if False:",
        "vault/test_writing.py::test_a_right_that_is_taken_away_before_the_record_of_a_read_is_gone",
    ),
    Mutant(
        "absence is told to those who may not list",
        "vault/reading.py",
        '            raise self._authority.deny(session, "read", path, decision)\n        try:',
        "            raise self._not_found(path)\n        try:",
        "vault/test_vault.py::test_denied_and_absent_look_the_same_without_the_right_to_list",
    ),
    Mutant(
        "listings show what may not be listed",
        "vault/authority.py",
        "        return [path for path, is_allowed in zip(paths, allowed, strict=True) if is_allowed]",
        "        return [path for path, _ in zip(paths, allowed, strict=True)]",
        "vault/test_vault.py::test_absent_is_not_found_for_who_may_list_and_only_the_listed_are_suggested",
    ),
    Mutant(
        "a clock becomes right by what is published with it",
        "vault/publishing.py",
        '            "published": max(now_ns, replica.state.published),',
        '            "published": now_ns,',
        "vault/test_clock.py::test_a_second_process_with_the_same_wrong_clock_is_not_trusted_either",
    ),
    Mutant(
        "a clock that is behind is not recorded",
        "vault/publisher.py",
        "        publication.add(Plan(records=[notice]))\n",
        "        del notice\n",
        "vault/test_clock.py::test_a_clock_that_is_behind_is_recorded_once_for_each_opening",
    ),
    # --- reading and freshness ---
    Mutant(
        "a kept value is given out after it changed",
        "vault/reading.py",
        "(hit.revision == self._revision() or self._is_still_valid(path, hit))",
        "(True or self._is_still_valid(path, hit))",
        "vault/test_vault.py::test_repeats_see_every_change_whatever_is_kept",
    ),
    Mutant(
        "a kept value is given out after its time to live",
        "vault/reading.py",
        "                and (not hit.expires or hit.expires > self._now_ns())\n",
        "",
        "vault/test_vault.py::test_an_expired_version_is_not_read",
    ),
    Mutant(
        "an expired value is read",
        "vault/reading.py",
        "        if version.expires and version.expires <= self._now_ns() and not allow_expired:",
        "        if False:",
        "vault/test_vault.py::test_an_expired_version_is_not_read",
    ),
    Mutant(
        "lookalikes of new names are not seen",
        "vault/opened.py",
        "                    self.lookalikes.add(path)",
        "                    pass",
        "vault/test_lookalikes.py::test_refuses_a_lookalike_of_what_this_handle_wrote_after_it_looked",
    ),
    Mutant(
        "a closed vault keeps its keys",
        "vault/opened.py",
        "                    with self.replica.lock:\n                        self._forget()\n",
        "                    pass\n",
        "vault/test_closing.py::test_no_key_and_no_value_is_left_in_a_closed_vault[10]",
    ),
    # --- cryptography ---
    Mutant(
        "a nonce is used again",
        "crypto/xaes.py",
        "        return self._seal_with_nonce(os.urandom(NONCE_BYTES), plaintext, aad)",
        "        return self._seal_with_nonce(bytes(NONCE_BYTES), plaintext, aad)",
        "crypto/test_xaes.py::test_the_same_plaintext_never_gives_the_same_box",
    ),
    Mutant(
        "a data key is used for every value",
        "vault/drafts.py",
        "        dek = os.urandom(32)",
        "        dek = bytes(32)",
        "vault/test_rows.py::test_no_two_versions_share_a_data_key",
    ),
    Mutant(
        "the commitment of the history page is not compared",
        "crypto/value.py",
        "        if compare(row[:_RECORD_HEAD_BYTES], head) and compare(expected_commitment, self.commitment):",
        "        if compare(row[:_RECORD_HEAD_BYTES], head):",
        "crypto/test_values.py::test_refuses_another_data_key_and_another_commitment",
    ),
    Mutant(
        "a slot's commitment is not compared",
        "keys/kek.py",
        "    if not hmac.compare_digest(commitment, expected):",
        "    if False:",
        "keys/test_slots.py::test_no_byte_of_a_slot_can_be_changed_unnoticed",
    ),
    Mutant(
        "a share's check is not compared",
        "keys/shares.py",
        "    return share if hmac.compare_digest(format_share(share), text) else None",
        "    return share",
        "keys/test_shares.py::test_any_altered_missing_added_or_swapped_character_is_refused",
    ),
    Mutant(
        "a share beyond the threshold is not compared",
        "keys/shares.py",
        "        if not hmac.compare_digest(interpolate(enough, share.number), share.raw[:-1]):",
        "        if False:",
        "keys/test_shares.py::test_says_what_is_wrong_with_shares",
    ),
    Mutant(
        "what a key protects need not be the identity",
        "keys/identity.py",
        "    if identity_of(identity.name, seed) != identity:",
        "    if False:",
        "vectors/test_format_vectors.py",
    ),
    Mutant(
        "a program that a file names is started",
        "keys/identity.py",
        '_NO_PROTECTION = frozenset({"command", "identity"})',
        '_NO_PROTECTION = frozenset({"identity"})',
        "keys/test_identity.py::test_a_file_starts_no_program_and_leads_to_no_other_identity",
    ),
    Mutant(
        "whoever is acted for is proved too",
        "vault/vault.py",
        "        is_proved = identity.is_proved and name == identity.principal",
        "        is_proved = identity.is_proved",
        "vault/test_identities.py::test_acting_for_another_proves_nothing_of_the_other",
    ),
    Mutant(
        "a slot of several principals proves one",
        "vault/creation.py",
        "    is_proved = provider.kind == KIND_IDENTITY and len(slot.principals) == 1",
        "    is_proved = provider.kind == KIND_IDENTITY and len(slot.principals) > 0",
        "vault/test_identities.py::test_a_slot_that_names_nobody_or_several_proves_nothing",
    ),
    Mutant(
        "the settings of a project start programs",
        "vault/settings.py",
        '    if scheme.lower() == "command":',
        "    if False:",
        "cli/test_key_kinds.py::test_settings_start_no_program",
    ),
    Mutant(
        "a key file's key is no part of the key",
        "keys/providers/passphrase_file.py",
        'hmac.digest(stretch_with(self._passphrase, params), file_key, "sha512")',
        'hmac.digest(stretch_with(self._passphrase, params), b"", "sha512")',
        "keys/test_passphrase_file.py::test_whichever_of_the_two_is_wrong_it_is_the_same_wrong_key",
    ),
    Mutant(
        "a slot that was wrapped anew is not tried",
        "keys/slots.py",
        "    if provider.unwrap(wrapped, context) != key:",
        "    if False:",
        "vault/test_slot_rotation.py::test_a_slot_is_kept_where_the_new_one_would_not_open",
    ),
    Mutant(
        "the header's code is not compared",
        "keys/header.py",
        "        if self.slot_count != len(slot_rows) or not hmac.compare_digest(self.row[_FIELDS.size :], expected):",
        "        if self.slot_count != len(slot_rows):",
        "keys/test_header.py::test_no_byte_can_be_changed_unnoticed",
    ),
    Mutant(
        "a leaf's commitment is not compared",
        "audit/leaf.py",
        "    if not compare_digest(keys[KEY_BYTES:], leaf.commitment):",
        "    if False:",
        "audit/test_leaf.py",
    ),
    Mutant(
        "a consistency proof of anything is accepted",
        "audit/merkle.py",
        "    if last != 0 or not compare_digest(old_computed, old_root) or not compare_digest(new_computed, new_root):",
        "    if last != 0:",
        "audit/test_merkle.py",
    ),
)
