from __future__ import annotations

import re
from pathlib import Path

import pytest

from securecfg.errors import InvalidGrants
from securecfg.policy import (
    SCHEMA,
    CaseResult,
    Document,
    Policy,
    Request,
    compile_policy,
    default_documents,
    format_cedar,
    format_grants,
    parse_cases,
    run_cases,
)
from tests.policy.worlds import START

ROOT = Path(__file__).parents[2]
POLICIES = ROOT / "policies"
PAGES = [
    ROOT / "docs/security/policy.md",
    ROOT / "docs/how-to/write-policies.md",
    ROOT / "docs/reference/grant-tables.md",
]


def shipped() -> Policy:
    return compile_policy(
        [
            Document("roles.toml", "grants", (POLICIES / "roles.toml").read_text()),
            Document("default.cedar", "cedar", (POLICIES / "default.cedar").read_text()),
        ]
    )


def results() -> list[CaseResult]:
    return list(run_cases(shipped(), parse_cases("cases.toml", (POLICIES / "cases.toml").read_text())))


@pytest.mark.parametrize("result", results(), ids=lambda result: result.case.name)
def test_a_shipped_case_holds(result: CaseResult) -> None:
    assert result.failure == ""


def test_the_shipped_schema_is_the_built_in_one() -> None:
    assert (POLICIES / "schema.cedarschema").read_text().endswith("\n\n" + SCHEMA)


def test_the_shipped_documents_are_in_canonical_form() -> None:
    roles, default = (POLICIES / "roles.toml").read_text(), (POLICIES / "default.cedar").read_text()
    assert format_grants("roles.toml", roles) == roles
    assert format_cedar("default.cedar", default) == default


def test_a_new_project_lets_its_service_read_and_list_everything() -> None:
    policy = compile_policy(default_documents("shop", "user:me"), memberships={"user:me": frozenset({"role:admin"})})
    for action in ("read", "list"):
        decision = policy.decide(Request("svc:shop", action, "prod/database/url", {}, START))
        assert (decision.allowed, decision.rules, decision.cacheable) == (True, ("project-default",), True)
    assert not policy.decide(Request("svc:shop", "write", "prod/database/url", {}, START)).allowed
    assert not policy.decide(Request("svc:other", "read", "prod/database/url", {}, START)).allowed
    assert policy.decide(Request("user:me", "destroy", "prod/database/url", {}, START)).rules == ("admin",)


@pytest.mark.parametrize("document", default_documents("shop", "user:me"), ids=lambda document: document.name)
def test_a_new_projects_documents_are_in_canonical_form(document: Document) -> None:
    assert format_grants(document.name, document.text) == document.text


def blocks(language: str) -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for number, match in enumerate(
            re.finditer(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL), 1
        ):
            found.append((f"{page.stem}-{number}", match[1]))
    return found


@pytest.mark.parametrize(("name", "text"), blocks("toml"))
def test_a_table_in_the_documentation_is_right(name: str, text: str) -> None:
    if "[[cases]]" in text:
        assert parse_cases(name, text)
    else:
        assert compile_policy([Document(name, "grants", text)]).digest


@pytest.mark.parametrize(("name", "text"), blocks("cedar"))
def test_a_policy_in_the_documentation_is_right(name: str, text: str) -> None:
    if "type Context" in text:
        assert compile_policy([Document(name, "schema-extension", text)]).digest
    else:
        extension = "type Context = { ticket?: String, approvers?: Set<String> };"
        documents = [Document(name, "cedar", text), Document("x", "schema-extension", extension)]
        assert compile_policy(documents).digest


@pytest.mark.parametrize(("name", "text"), blocks("python"))
def test_a_program_in_the_documentation_runs(name: str, text: str) -> None:
    exec(compile(text, name, "exec"), {})  # noqa: S102 - the documentation's own text


@pytest.mark.parametrize(
    "names", [('x"]\n[roles.admin]', "user:me"), ("a b", "user:me"), ("shop", "user:me\n[x]"), ("", "user:a")]
)
def test_a_projects_name_cannot_write_policy(names: tuple[str, str]) -> None:
    with pytest.raises(InvalidGrants) as caught:
        default_documents(*names)
    assert caught.value.code == "invalid-grants"
