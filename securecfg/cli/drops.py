"""Dropping values into sealed scopes, and asking what became of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from securecfg.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securecfg.cli.invocation import Invocation
    from securecfg.vault import Vault
    from securecfg.vault.drops.dropping import Dropped


def drop_value(
    invocation: Invocation, vault: Vault, path: str, options: Mapping[str, Any], metadata: Mapping[str, str]
) -> None:
    """Hand in the value that a person or a pipe gives, and print its receipt.

    Raises:
        UsageError: An option needs what is there already, of which who drops sees nothing.
    """
    from securecfg.cli.values import note_newline, open_value

    if options["expect"] is not None:
        message = "what is dropped has no number yet"
        raise UsageError(message, hint="leave out `--expect`")
    if options["allow_lookalike"]:
        message = "whether a path looks like another one is seen when the value is taken in"
        raise UsageError(message, hint="leave out `--allow-lookalike`")
    if options["fields"] and not options["replace"]:
        message = "the other fields cannot be kept where one may only drop"
        raise UsageError(message, hint="give all of them with `--fields`, or replace them with `--replace`")
    given = open_value(
        options["file"], options["fields"], is_mapping=options["is_mapping"], is_silent=invocation.is_silent
    )
    with given as value:
        receipt = vault.drop(
            path, value, ttl=options["ttl"], metadata=metadata or None, content_type=options["content_type"]
        )
        note_newline(invocation, value, options["file"])
    invocation.emit({"path": path, "receipt": receipt.id}, f"dropped  {path}; receipt {receipt.id}")


def describe_drop(receipt: str, dropped: Dropped) -> tuple[dict[str, object], str]:
    """Return what became of a dropped value, as data and in words."""
    result: dict[str, object] = {"receipt": receipt, "state": dropped.state.value}
    if dropped.path:
        result["path"] = dropped.path
    if dropped.version:
        result["version"] = dropped.version
        return result, f"written  {dropped.path}@{dropped.version}"
    if dropped.reason:
        result["reason"] = dropped.reason
        return result, f"refused  {dropped.path or receipt}: {dropped.reason}"
    if dropped.state.value == "waiting":
        return result, f"waiting  {receipt}"
    return result, f"gone  {receipt}: taken in or refused, or never there; who lists the scope can see which"
