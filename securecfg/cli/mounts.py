"""`securecfg vault mount`, `unmount`, `mounts` and `prefetch`: stores of others under folders of the vault."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from securecfg.cli.arguments import Duration, Number, written_duration
from securecfg.cli.groups import Verb
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.cli.output import timestamp
from securecfg.errors import ScopeSealed, SecurecfgError, UsageError
from securecfg.words import brief_age, counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from securecfg.backends import Capabilities, OpenBackend
    from securecfg.mounts import Mount, Rules
    from securecfg.mounts.usage import Numbers
    from securecfg.secret import Secret
    from securecfg.vault import Vault

_SECONDS = {"max_age": "max_age_s", "refresh": "refresh_s", "keep": "keep_s", "missing": "missing_s"}
_OTHERS = ("calls_per_s", "calls_per_day", "is_offline", "is_watched")
_NAMED_MOST = 5


class _Answered(NamedTuple):
    """What became of asking a backend for its listing.

    Attributes:
        took_s: How long that took.
        secrets: How many secrets it has; 0 where it gave an error.
        passed_over: How many names in it are no paths.
        error: What it gave instead.
    """

    took_s: float
    secrets: int = 0
    passed_over: int = 0
    error: SecurecfgError | None = None

    def to_json(self) -> dict[str, Any]:
        failure = self.error
        return {
            "is_answered": failure is None,
            "took_ms": round(self.took_s * 1_000),
            "secret_count": self.secrets if failure is None else None,
            "passed_over_count": self.passed_over,
            "error": None
            if failure is None
            else {"code": failure.code, "message": failure.message, "hint": failure.hint},
        }


class _Copied(NamedTuple):
    """What there is of sealed copies.

    Attributes:
        number: How many open.
        oldest: When the oldest of them was fetched.
        newest: When the newest was.
    """

    number: int
    oldest: datetime | None
    newest: datetime | None


@click.command(
    cls=Verb,
    examples=(
        "securecfg vault mount corp/ vault:secret/team",
        "securecfg vault mount corp/ vault:secret/team 'vault:secret/team?address=https://standby.internal:8200'",
        "securecfg vault mount corp/ 'awssm:?region=eu-west-1' --max-age 5m --keep 7d --calls-per-day 5000",
        "securecfg vault mount corp/ --replace --offline      # the rest of the mount stays as it is",
        "securecfg vault mount corp/ vault:secret/team --credential VAULT_TOKEN    # asks for it, and shows nothing",
    ),
)
@click.argument("folder")
@click.argument("uris", nargs=-1, metavar="URI...")
@click.option("--max-age", type=Duration(), metavar="DURATION", help="How long a value is used without asking: 60s.")
@click.option("--refresh", type=Duration(), metavar="DURATION", help="How much longer while it is asked for anew: 60s.")
@click.option(
    "--keep", type=Duration(), metavar="DURATION", help="How old one may be while nobody answers: 1d; 0s for none."
)
@click.option(
    "--missing", type=Duration(), metavar="DURATION", help="How long it is believed that there is no secret: 5s."
)
@click.option("--calls-per-s", type=Number(0), metavar="N", help="Calls of a process a second: 100; 0 for any number.")
@click.option("--calls-per-day", type=Number(0), metavar="N", help="Calls a day, of all processes; 0 for any number.")
@click.option(
    "--offline/--online", "is_offline", default=None, help="Never ask the store: use what is known of it, until --keep."
)
@click.option("--watch/--no-watch", "is_watched", default=None, help="Ask at once for what the store says has changed.")
@click.option(
    "--credential", "names", multiple=True, metavar="NAME", help="Seal what this variable would hold; may be repeated."
)
@click.option("--credentials", "is_mapping", is_flag=True, help="Standard input is a JSON object of all of them.")
@click.option("--no-credentials", "has_none", is_flag=True, help="With --replace: none, but those of the platform.")
@click.option("--replace", is_flag=True, help="Change a mount that is there; what is not given stays.")
@click.option("--check/--no-check", "is_checked", default=True, help="Ask the store once whether it answers: yes.")
@common_flags
def mount(invocation: Invocation, /, *, folder: str, uris: tuple[str, ...], **options: Any) -> None:  # noqa: ANN401 - what the options above declare
    """Put a store that somebody else keeps under a folder of the vault, with its policy and its log.

    Several URIs name places that hold the same: the first is written, and the others are asked for values, in their
    order, while it gives no answer. It takes the right mount.manage, which is as much as to write all that may be read
    below the folder.

    A URI holds no credentials; it says where they are. Or the vault has them: --credential asks for one, as of a value
    of a secret, or takes it from a pipe, without a newline at its end. Nothing shows it afterwards.

    What the store says when it is asked does not matter for the mount: it is there afterwards either way.
    """
    from securecfg.mounts import Mount, Mounts
    from securecfg.mounts.table import find_mount

    if not uris and not options["replace"]:
        message = "no store is named"
        raise UsageError(message, hint="give its URI, such as `vault:secret/team`")
    if options["has_none"] and (options["names"] or options["is_mapping"]):
        message = "`--no-credentials` goes with no others"
        raise UsageError(message, hint="`--credential` replaces one that the mount has")
    with invocation.open() as vault:
        _verify_whole(vault)
        mounts = Mounts(vault.authority)
        there = mounts.all()  # so that nobody is asked who may not mount
        old = find_mount(there, folder) if options["replace"] else Mount(folder, uris)
        kept = {} if options["has_none"] else dict(old.credentials)
        wanted = old._replace(
            backends=uris or old.backends,
            rules=_rules(old.rules, options),
            credentials=kept | _credentials(invocation, options),
        )
        made = mounts.replace(wanted) if options["replace"] else mounts.add(wanted)
        is_asked = options["is_checked"] and not made.rules.is_offline
        answers = [_ask(made, uri) for uri in made.backends] if is_asked else []
    result = {
        "folder": made.folder,
        "backends": list(made.backends),
        "rules": made.rules._asdict(),
        "credentials": sorted(made.credentials),
        "checks": [{"uri": uri, **answer.to_json()} for uri, answer in zip(made.backends, answers, strict=False)],
    }
    lines = [f"mounted  {made.folder}   from  {', '.join(made.backends)}"]
    lines += [
        f"answers  {uri}   {_held(answer)}, in {_in_ms(answer)}"
        for uri, answer in zip(made.backends, answers, strict=False)
        if answer.error is None
    ]
    invocation.emit(result, *lines)
    if not invocation.is_json:
        for uri, answer in zip(made.backends, answers, strict=False):
            if answer.error is not None:
                hint = f" ({answer.error.hint})" if answer.error.hint else ""
                invocation.note(f"warning: `{uri}` did not list its secrets: {answer.error.message}{hint}")


@click.command(cls=Verb, examples=("securecfg vault unmount corp/",))
@click.argument("folder")
@common_flags
def unmount(invocation: Invocation, *, folder: str) -> None:
    """End a mount. What its store holds stays there; the sealed copies of it beside the vault are erased."""
    from securecfg.mounts import Mounts

    with invocation.open() as vault:
        _verify_whole(vault)
        ended = Mounts(vault.authority).remove(folder)
    stores = ", ".join(ended.backends)
    invocation.emit(
        {"folder": folder, "backends": list(ended.backends)},
        f"unmounted  {folder}   what {stores} holds stays there",
    )


@click.command(
    cls=Verb,
    examples=(
        "securecfg vault mounts",
        "securecfg vault mounts --check       # ask each backend now, and say how long it took",
        "securecfg vault mounts --json",
    ),
)
@click.option("--check", "is_checked", is_flag=True, help="Ask each backend to list its secrets, and say how it went.")
@common_flags
def mounts(invocation: Invocation, *, is_checked: bool) -> None:
    """List what is mounted where, by which rules, what each store can do, and the sealed copies that there are.

    Only rules that differ from what goes without saying are shown. A mount without copies has nothing to hand out while
    its store gives no answer.
    """
    from securecfg.mounts import Mounts

    with invocation.open() as vault:
        _verify_whole(vault)
        shown = [_look(vault, one, is_checked=is_checked) for one in Mounts(vault.authority).all()]
        now = vault.opened.clock.now_ns()
    columns = ["FOLDER", "BACKEND", "RULES", "COPIES", "CALLS", *(["ANSWER"] if is_checked else []), "CAN"]
    rows = [row for one in shown for row in one.rows(now)]
    invocation.emit_table(
        {"mounts": [one.to_json() for one in shown]}, columns, rows, shorten=("CAN", "RULES", "BACKEND")
    )
    for one in shown:
        if one.hidden:
            invocation.note(f"warning: {_told_hidden(one)}")


@click.command(
    cls=Verb,
    examples=(
        "securecfg vault prefetch corp/",
        "securecfg vault prefetch corp/web/ corp/db",
        "securecfg vault prefetch --json      # from all mounts",
    ),
)
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@common_flags
def prefetch(invocation: Invocation, *, paths: tuple[str, ...]) -> None:
    """Fetch what you may read from mounted stores into sealed copies, for a time without them, and show none of it.

    A PATH is a secret, or a folder that ends in `/`. Each store is asked in as few calls as it allows, and not for what
    is fresh. What you may not read, or what is not there, is passed over. Reads are in the log when they come.

    The copies serve for as long as --max-age and, where no answer comes, --keep of the mount say.
    """
    with invocation.open() as vault:
        _verify_whole(vault)
        known = vault.prefetch(paths or ("",))
    invocation.emit({"known_count": known}, f"known  {counted(known, 'secret')}")


class _Shown(NamedTuple):
    """A mount as it is shown.

    Attributes:
        mount: Which.
        handles: Its backends, or why one cannot be opened.
        answers: What each says, where they were asked.
        copies: What there is of sealed copies.
        usage: What it has cost, by day.
        hidden: Secrets of the vault itself below the folder, which nobody sees: those that the caller may list.
        hidden_count: How many there are.
    """

    mount: Mount
    handles: list[OpenBackend | SecurecfgError]
    answers: list[_Answered | None]
    copies: _Copied
    usage: dict[str, Numbers]
    hidden: list[str]
    hidden_count: int

    def to_json(self) -> dict[str, Any]:
        return {
            "folder": self.mount.folder,
            "backends": [
                {"uri": uri, **_described(handle)} | ({} if answer is None else {"check": answer.to_json()})
                for uri, handle, answer in zip(self.mount.backends, self.handles, self.answers, strict=True)
            ],
            "rules": _differing(self.mount.rules),
            "credentials": sorted(self.mount.credentials),
            "copies": {
                "count": self.copies.number,
                "oldest": timestamp(self.copies.oldest),
                "newest": timestamp(self.copies.newest),
            },
            "usage": {day: numbers._asdict() for day, numbers in self.usage.items()},
            "hidden_count": self.hidden_count,
            "hidden": self.hidden,
        }

    def rows(self, now_ns: int) -> list[tuple[str, ...]]:
        words = [_told_rule(name, value) for name, value in _differing(self.mount.rules).items()]
        rules = " ".join([*words, *(f"{name}=***" for name in sorted(self.mount.credentials))])
        first = (self.mount.folder, rules, _told_copies(self.copies, now_ns), _told_usage(self.usage, now_ns))
        rows: list[tuple[str, ...]] = []
        for uri, handle, answer in zip(self.mount.backends, self.handles, self.answers, strict=True):
            folder, told, copies, calls = first
            can = handle.message if isinstance(handle, SecurecfgError) else _told_capabilities(handle.capabilities)
            answered = [] if answer is None else [_told_answer(answer)]
            rows.append((folder, uri, told, copies, calls, *answered, can))
            first = ("", "", "", "")
        return rows


def _look(vault: Vault, one: Mount, *, is_checked: bool) -> _Shown:
    from securecfg.mounts.copies import copies_of
    from securecfg.mounts.table import PATIENCE, hidden_below
    from securecfg.mounts.usage import Usage

    handles: list[OpenBackend | SecurecfgError] = []
    for uri in one.backends:
        try:
            handles.append(one.open(uri, PATIENCE))
        except SecurecfgError as error:
            handles.append(error)
    answers = [_ask(one, uri) if is_checked else None for uri in one.backends]
    copies = copies_of(vault.opened, one)
    fetched = sorted(copy.fetched_ns for copy in copies.all()) if copies is not None else []
    hidden = hidden_below(vault.opened, one.folder)
    usage = Usage(copies.folder, vault.opened.clock).days() if copies is not None else {}
    listed = vault.authority.filter_listed(hidden)
    return _Shown(one, handles, answers, _copied(fetched), usage, listed, len(hidden))


def _copied(fetched: Sequence[int]) -> _Copied:
    from securecfg.clock import to_datetime

    if not fetched:
        return _Copied(0, None, None)
    return _Copied(len(fetched), to_datetime(fetched[0]), to_datetime(fetched[-1]))


def _ask(mount: Mount, uri: str) -> _Answered:
    """List what a backend has, as the mount would: with its patience, and with no policy but the right to mount."""
    from securecfg.mounts.table import PATIENCE

    start = time.monotonic()
    try:
        names = mount.open(uri, PATIENCE).list()
    except SecurecfgError as error:
        return _Answered(time.monotonic() - start, error=error)
    return _Answered(time.monotonic() - start, len(names.paths), names.passed_over)


def _credentials(invocation: Invocation, options: dict[str, Any]) -> dict[str, Secret[str]]:
    """Return the credentials that a person or a pipe gives, by name.

    Raises:
        UsageError: One is no text.
        SettingMissing: There is nothing to read and nobody to ask.
    """
    from securecfg.cli.values import open_value
    from securecfg.secret import Secret

    names: tuple[str, ...] = options["names"]
    if not names and not options["is_mapping"]:
        return {}
    if names and options["is_mapping"]:
        message = "`--credentials` and `--credential` exclude each other"
        raise UsageError(message, hint="`--credentials` reads all of them from one JSON object")
    with open_value(None, names, is_mapping=options["is_mapping"], is_silent=invocation.is_silent) as given:
        texts = dict(given) if isinstance(given, dict) else {}
    if not all(isinstance(text, str) for text in texts.values()):
        message = "a credential is text"
        raise UsageError(message)
    return {name: Secret(str(text).removesuffix("\n"), label=name) for name, text in texts.items()}


def _rules(old: Rules, options: dict[str, Any]) -> Rules:
    given: dict[str, Any] = {name: options[name] for name in _OTHERS if options[name] is not None}
    for option, name in _SECONDS.items():
        duration: timedelta | None = options[option]
        if duration is not None:
            given[name] = duration // timedelta(seconds=1)
    return old._replace(**given)


def _differing(rules: Rules) -> dict[str, Any]:
    usual = rules._field_defaults
    return {name: value for name, value in rules._asdict().items() if value != usual[name]}


def _described(handle: OpenBackend | SecurecfgError) -> dict[str, Any]:
    if isinstance(handle, SecurecfgError):
        return {"store": None, "capabilities": None, "error": {"code": handle.code, "message": handle.message}}
    can = handle.capabilities._asdict()
    kinds = sorted(str(kind) for kind in handle.capabilities.kinds)
    return {"store": handle.name, "capabilities": can | {"kinds": kinds, "deletes": str(can["deletes"])}}


def _told_capabilities(can: Capabilities) -> str:
    words = [" ".join(sorted(str(kind) for kind in can.kinds))]
    named = ("writes", "creates", "compares", "keeps_versions", "labels", "metadata", "watches")
    words += [name.replace("keeps_", "") for name in named if getattr(can, name)]
    words += [f"deletes ({can.deletes})"] if can.deletes != "none" else []
    words += [f"reads {can.reads_at_once} at once"] if can.reads_at_once > 1 else []
    return ", ".join(words)


def _told_rule(name: str, value: object) -> str:
    if isinstance(value, bool):
        return name.removeprefix("is_")
    if name in _SECONDS.values():
        return f"{name.removesuffix('_s').replace('_', '-')}={written_duration(int(str(value)))}"
    return f"{name.replace('_', '-')}={value}"


def _told_copies(copies: _Copied, now_ns: int) -> str:
    from securecfg.clock import to_ns

    if copies.oldest is None or copies.newest is None:
        return "0"
    ages = [brief_age(max(0, now_ns - to_ns(each)) // 1_000_000_000) for each in (copies.newest, copies.oldest)]
    return f"{copies.number}, {' to '.join(dict.fromkeys(ages))} old"


def _told_usage(usage: Mapping[str, Numbers], now_ns: int) -> str:
    from securecfg.clock import to_datetime
    from securecfg.mounts.usage import Numbers, total

    today = usage.get(to_datetime(now_ns).date().isoformat(), Numbers())
    return f"{today.calls:,} today, {total(usage).calls:,} in {counted(len(usage), 'day')}"


def _told_answer(answer: _Answered) -> str:
    if answer.error is not None:
        return f"{answer.error.code}, in {_in_ms(answer)}"
    return f"{_held(answer)}, in {_in_ms(answer)}"


def _held(answer: _Answered) -> str:
    over = f" and {counted(answer.passed_over, 'name')} that are no paths" if answer.passed_over else ""
    return f"{counted(answer.secrets, 'secret')}{over}"


def _in_ms(answer: _Answered) -> str:
    return f"{round(answer.took_s * 1_000)} ms"


def _told_hidden(one: _Shown) -> str:
    named = ", ".join(f"`{path}`" for path in one.hidden[:_NAMED_MOST])
    there = f"{counted(one.hidden_count, 'secret')} of the vault itself below `{one.mount.folder}`"
    return f"nobody sees {there}{f', such as {named}' if named else ''}; unmount it to reach them"


def _verify_whole(vault: Vault) -> None:
    """Refuse who opens sealed scopes and not the vault itself: it has no mounts.

    Raises:
        ScopeSealed: The key at hand does not open the vault itself.
    """
    if not vault.is_by_root:
        message = "the key at hand opens sealed scopes, and not the vault itself, which has the mounts"
        raise ScopeSealed(message, hint="give a key of the vault itself with `--key`")
