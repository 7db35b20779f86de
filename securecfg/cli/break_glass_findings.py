"""What `doctor` and `vault status` say of break-glass roles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from securecfg.cli.findings import Finding, Grade
from securecfg.cli.output import shown_time, timestamp
from securecfg.errors import SecurecfgError
from securecfg.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from securecfg.vault import Vault
    from securecfg.vault.administrators.break_glass import Glass

_RENEW = "`securecfg scope break-glass --renew`"
_NAME = "break-glass"


def look_at_break_glass(vault: Vault) -> Iterator[Finding]:
    """Look at the break-glass roles of an open vault's scopes.

    Raises:
        Tampered, LogTampered: What is in a scope is not what it should be.
    """
    from securecfg.vault.administrators.break_glass import look_for_break_glass
    from securecfg.vault.administrators.break_glass_sets import unfinished

    glasses = list(look_for_break_glass(vault))
    findings = [finding for glass in glasses for finding in _judge(glass)]
    if any(not path for path, _ in vault.parts()):
        for role, paths in unfinished(vault.opened).items():
            message = (
                f"the making or the renewal of `role:{role}` for {', '.join(f'`{p}`' for p in paths)} was cut short"
            )
            findings.append(Finding(_NAME, Grade.WARNING, message, f"{_RENEW} finishes it"))
    yield from findings
    if glasses and not findings:
        names = sorted({f"`{glass.path}`" for glass in glasses})
        yield Finding(_NAME, Grade.OK, f"ready for {', '.join(names)}, and not used since it was made")


def uses_of(vault: Vault) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the uses of break-glass that no renewal has followed, as programs and as people are shown them."""
    from securecfg.vault.administrators.break_glass import look_for_break_glass

    try:
        used = [glass for glass in look_for_break_glass(vault) if glass.uses]
    except SecurecfgError as error:
        # What is wrong with a scope other commands say; this one tells of the whole vault all the same.
        return [], [f"break-glass  cannot be told: {error.message}"]
    objects = [
        {"path": one.path, "role": one.role, "use_count": len(one.uses), "since": timestamp(one.uses[0].when)}
        for one in used
    ]
    return objects, [f"break-glass  {_told(one)}; {_RENEW}" for one in used]


def _judge(glass: Glass) -> Iterator[Finding]:
    where = f"`role:{glass.role}` in `{glass.path}`"
    if glass.uses:
        hint = f"find out why (`securecfg audit show --scope {glass.path}`), then run {_RENEW}"
        yield Finding(_NAME, Grade.WARNING, _told(glass), hint)
    if not glass.is_allowed:
        hint = f"`securecfg policy explain read {glass.path}NAME --principal svc:{glass.role}` says what is missing"
        yield Finding(_NAME, Grade.WARNING, f"the policy does not let {where} list and read", hint)
    if not glass.is_complete:
        message = f"{where} does not open what was written before it was granted"
        hint = "open the vault once with the identity of another reader of the scope"
        yield Finding(_NAME, Grade.WARNING, message, hint)


def _told(glass: Glass) -> str:
    times = counted(len(glass.uses), "time")
    since: Sequence[str] = (shown_time(glass.uses[0].when), shown_time(glass.uses[-1].when))
    span = f"at {since[0]}" if len(glass.uses) == 1 else f"between {since[0]} and {since[1]}"
    return f"`role:{glass.role}` has opened `{glass.path}` {times}, {span}, and was not renewed since"
