"""`securecfg policy`: who may do what, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from securecfg.cli.arguments import Number, parse_moment
from securecfg.cli.groups import Noun
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.cli.output import printable, shown_time, timestamp, write_json, write_lines
from securecfg.cli.signing import administration_of, signing_options
from securecfg.errors import CheckFailed, SecurecfgError, UsageError
from securecfg.words import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from securecfg.cli.signing import SigningOptions
    from securecfg.policy import CaseResult, Document, Explanation, Policy
    from securecfg.vault import Vault


def complete_action(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the actions that begin with what a shell has so far."""
    from securecfg.policy.schema import ACTIONS

    return [action for action in ACTIONS if action.startswith(incomplete)]


@click.group(cls=Noun)
def policy() -> None:
    """Say who may do what, test it, and ask why."""


@policy.command(examples=("securecfg policy apply roles.toml", "securecfg policy apply policies/"))
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@signing_options
@common_flags
def apply(invocation: Invocation, *, paths: tuple[str, ...], signing: SigningOptions) -> None:
    """Replace the policy in the vault by grant tables and Cedar files.

    Takes any mix of files that end in .toml (grant tables), .cedar and .cedarschema (extensions of the schema), and
    folders of them, without test cases. Nothing else remains of the policy before; `rollback` brings it back. Where
    sealed scopes have several administrators, these sign that it reaches them.
    """
    from securecfg.cli.policy_files import read_documents

    with signing.open(invocation) as (vault, sign_for):
        vault.authority.require("policy.write", "")
        documents = read_documents(paths)
        administration = administration_of(vault, sign_for)
        administration.check_policy(documents)
        current = _readable_documents(vault)
        is_new = current is None or _by_name(current) != _by_name(documents)
        revision = administration.apply_policy(documents) if is_new else _current_revision(vault)
    _emit_change(invocation, revision, current, documents, is_new=is_new)


@policy.command(examples=("securecfg policy check roles.toml", "securecfg policy check policies/ --json"))
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@common_flags
def check(invocation: Invocation, *, paths: tuple[str, ...]) -> None:
    """Say everything that is wrong with policy files, and where.

    Needs no vault. With --vault the memberships in it are taken into account.
    """
    from securecfg.cli.policy_files import read_documents

    documents = read_documents(paths)
    compiled = _compile(invocation, documents)
    invocation.emit(
        {"documents": _listed(documents), "rule_count": len(compiled.rules), "digest": compiled.digest},
        f"sound  {counted(len(documents), 'document')}, {counted(len(compiled.rules), 'rule')}",
    )


@policy.command(
    examples=(
        "securecfg policy test cases.toml                      # what the vault's policy answers",
        "securecfg policy test policies/cases.toml --policy policies/    # what these files answer; no vault",
    )
)
@click.argument("cases", nargs=-1, required=True, metavar="CASES...")
@click.option("--policy", "paths", multiple=True, metavar="PATH", help="Files to test; else what is applied.")
@common_flags
def test(invocation: Invocation, *, cases: tuple[str, ...], paths: tuple[str, ...]) -> int:
    """Ask a policy test cases, and compare its answers with what they expect.

    Exits with 6 (`check-failed`) where one differs, with 2 where a file is wrong.
    """
    from securecfg.cli.policy_files import read_cases_file, read_documents
    from securecfg.policy import parse_cases, run_cases

    parsed = [case for path in cases for case in parse_cases(path, read_cases_file(path))]
    if paths:
        compiled = _compile(invocation, read_documents(paths))
    else:
        with invocation.open() as vault:
            compiled = vault.administration.policy()
    return _report_cases(invocation, run_cases(compiled, parsed))


@policy.command(
    examples=(
        "securecfg policy show",
        "securecfg policy show --cedar          # all rules in the language that decides",
        "securecfg policy show --revision 3",
    )
)
@click.option("--revision", type=Number(), metavar="N", help="An earlier revision; else the one in force.")
@click.option("--cedar", "is_cedar", is_flag=True, help="All rules as Cedar text, grant tables too.")
@common_flags
def show(invocation: Invocation, *, revision: int | None, is_cedar: bool) -> None:
    """Print the documents of the policy as they were applied, or its rules."""
    from securecfg.policy import compile_policy, to_cedar

    with invocation.open() as vault:
        documents = vault.administration.policy_documents(revision)
        number = revision or _current_revision(vault)
    if is_cedar:
        text = to_cedar(compile_policy(documents))
        invocation.emit({"revision": number, "cedar": text}, *text.splitlines())
        return
    lines: list[str] = []
    for document in documents:
        # One document alone is printed as it is, so that it can be edited and applied again.
        lines += [f"==> {printable(document.name)} ({document.kind}) <=="] if len(documents) > 1 else []
        lines += document.text.splitlines()
    if not documents:
        invocation.note("no policy is applied: only `role:admin` may do anything")
    invocation.emit({"revision": number, "documents": [document._asdict() for document in documents]}, *lines)


@policy.command(examples=("securecfg policy history",))
@common_flags
def history(invocation: Invocation) -> None:
    """List the revisions of the policy, newest first."""
    with invocation.open() as vault:
        revisions = vault.administration.policy_revisions()
    invocation.emit_table(
        {
            "revisions": [
                {
                    "revision": each.revision,
                    "created": timestamp(each.created),
                    "author": each.author,
                    "is_current": each.is_current,
                }
                for each in revisions
            ]
        },
        ("REVISION", "APPLIED", "BY", ""),
        [
            (str(each.revision), shown_time(each.created), each.author, "in force" if each.is_current else "")
            for each in revisions
        ],
    )


@policy.command(examples=("securecfg policy rollback 3",))
@click.argument("revision", type=Number())
@signing_options
@common_flags
def rollback(invocation: Invocation, *, revision: int, signing: SigningOptions) -> None:
    """Apply an earlier revision again, as a new one."""
    with signing.open(invocation) as (vault, sign_for):
        vault.authority.require("policy.write", "")
        current = _readable_documents(vault)
        number = administration_of(vault, sign_for).roll_back_policy(revision)
        documents = _readable_documents(vault) or []
    _emit_change(invocation, number, current, documents, is_new=True)


@policy.command(
    examples=(
        "securecfg policy explain read db/main                       # may you, and why",
        "securecfg policy explain read db/main --principal svc:web   # may they; needs the right policy.read",
        "securecfg policy explain read db/main --principal svc:web --context mfa=true --at 2026-01-05T09:00:00Z",
    )
)
@click.argument("action", shell_complete=complete_action)
@click.argument("path", default="")
@click.option("--principal", "asked", metavar="PRINCIPAL", help="About whom: user:NAME or svc:NAME.")
@click.option("--context", "pairs", multiple=True, metavar="NAME=VALUE", help="What the host would say of the request.")
@click.option("--at", "moment", metavar="TIME", help="When, in ISO 8601; else now.")
@common_flags
def explain(
    invocation: Invocation, *, action: str, path: str, asked: str | None, pairs: tuple[str, ...], moment: str | None
) -> None:
    """Say why an action is allowed or denied: the rules that decide, those that come near, and what they need.

    It answers what would be, and grants nothing. A context is written as in a test case:
    mfa=true, purpose="incident 7", source=10.0.0.1.
    """
    context = _parse_context(pairs)
    at = _parse_time(moment)
    with invocation.open() as vault:
        explanation = _explain(vault, action, path, asked=asked, context=context, at=at)
    invocation.emit(explanation.to_data(), *map(printable, str(explanation).splitlines()))


@policy.command("fmt", examples=("securecfg policy fmt policies/", "securecfg policy fmt policies/ --check"))
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--check", "is_check", is_flag=True, help="Change nothing; exit with 6 where something would change.")
@common_flags
def format_(invocation: Invocation, *, paths: tuple[str, ...], is_check: bool) -> int:
    """Put grant tables and Cedar files into their canonical form, in place.

    Comments, order and meaning stay. If one file is wrong, none is changed.
    """
    from securecfg.cli.policy_formatting import format_files

    changed = format_files(paths, is_check=is_check)
    result: dict[str, Any] = {"changed": changed}
    if is_check and changed:
        error = CheckFailed(f"{counted(len(changed), 'file')} not in canonical form", hint="run it without `--check`")
        return _emit_failure(invocation, result, error, *(f"would change  {name}" for name in changed))
    invocation.emit(result, *(f"changed  {name}" for name in changed))
    return 0


# --- applying ---------------------------------------------------------------------------------------------------------


def _compile(invocation: Invocation, documents: list[Document]) -> Policy:
    from securecfg.policy import compile_policy

    if invocation.vault is None:
        return compile_policy(documents)
    with invocation.open() as vault:
        vault.authority.require("policy.read", "")
        return vault.administration.check_policy(documents)


def _readable_documents(vault: Vault) -> list[Document] | None:
    """Return the applied documents, or None where the caller may write the policy and not read it."""
    if not vault.authority.session().decide("policy.read", "").allowed:
        return None
    return vault.administration.policy_documents()


def _current_revision(vault: Vault) -> int:
    return next((each.revision for each in vault.administration.policy_revisions() if each.is_current), 0)


def _by_name(documents: Sequence[Document]) -> dict[str, Document]:
    return {document.name: document for document in documents}


def _listed(documents: Sequence[Document]) -> list[dict[str, str]]:
    return [{"name": document.name, "kind": document.kind} for document in documents]


def _emit_change(
    invocation: Invocation, revision: int, old: list[Document] | None, new: list[Document], *, is_new: bool
) -> None:
    from securecfg.cli.policy_files import list_changes

    changes = list_changes(old, new) if old is not None else []
    signs = {"added": "+", "removed": "-", "changed": "~"}
    done = f"applied  revision {revision}" if is_new else f"unchanged  revision {revision} stays in force"
    invocation.emit(
        {
            "revision": revision,
            "is_new": is_new,
            "documents": _listed(new),
            "changes": [{"change": change, "what": what} for change, what in changes],
        },
        *(f"{signs[change]} {printable(what)}" for change, what in changes),
        done,
    )


# --- testing ----------------------------------------------------------------------------------------------------------


def _report_cases(invocation: Invocation, results: Sequence[CaseResult]) -> int:
    failed = sum(not result.passed for result in results)
    listed = {
        "cases": [
            {
                "name": result.case.name,
                "place": result.case.place,
                "passed": result.passed,
                "allowed": result.decision.allowed,
                "by": list(result.decision.rules),
                "failure": result.failure,
            }
            for result in results
        ]
    }
    if not failed:
        invocation.emit(listed, f"passed  {counted(len(results), 'case')}")
        return 0
    hint = "`securecfg policy explain` tells why a policy answers as it does"
    error = CheckFailed(f"{failed} of {len(results)} cases failed", hint=hint)
    if not invocation.is_json:
        for each in results:
            if not each.passed:
                write_lines([printable(f"{each.case.place}: {each.case.name}"), printable(f"  {each.failure}")])
    return _emit_failure(invocation, listed, error)


def _emit_failure(invocation: Invocation, result: dict[str, Any], error: SecurecfgError, *lines: str) -> int:
    """Print a result that is a failure: with `--json` both in one object."""
    if not invocation.is_json:
        invocation.emit({}, *lines)
        raise error
    write_json(result | {"error": {"code": error.code, "message": error.message, "hint": error.hint}})
    return error.exit_code


# --- explaining -------------------------------------------------------------------------------------------------------


def _explain(
    vault: Vault, action: str, path: str, *, asked: str | None, context: Mapping[str, object], at: datetime | None
) -> Explanation:
    from securecfg.policy.problems import did_you_mean
    from securecfg.policy.requests import misshapen
    from securecfg.policy.schema import ACTIONS
    from securecfg.vault.paths import check_principal

    vault.opened.refresh()
    session = vault.authority.session()
    request = session.request(action, path)
    if asked is not None and asked != vault.principal:
        vault.authority.require("policy.read", "")
        request = request._replace(principal=check_principal(asked))
    request = request._replace(context={**request.context, **context}, now=at or request.now)
    problem = misshapen(request)
    if problem is not None:
        raise UsageError(problem, hint=did_you_mean(action, ACTIONS) if action not in ACTIONS else "")
    return session.policy.explain(request)


def _parse_time(text: str | None) -> datetime | None:
    moment = parse_moment(text) if text is not None else None
    if text is not None and moment is None:
        message = "`--at` is not a moment"
        raise UsageError(message, hint="for instance `2026-01-31T12:00:00Z`")
    return moment


def _parse_context(pairs: Sequence[str]) -> dict[str, object]:
    """Return `NAME=VALUE` arguments as a context: values of TOML, and what is none as text."""
    import tomllib
    from decimal import Decimal

    context: dict[str, object] = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator or not name or name in context:
            message = "a context is given as `NAME=VALUE`, each name once"
            raise UsageError(message, hint="for instance `--context mfa=true`")
        try:
            context[name] = tomllib.loads(f"value = {text}", parse_float=Decimal)["value"]
        except (tomllib.TOMLDecodeError, RecursionError):
            context[name] = text
    return context
