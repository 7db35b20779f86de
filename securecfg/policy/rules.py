"""Documents become rules: each one policy of the Cedar language, with an id and a place.

The engine is a large library, which is imported where it is asked: reading grant tables needs none,
nor what cuts Cedar text into statements.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from securecfg.policy.grants import Grant, Membership, id_problem, parse_grants
from securecfg.policy.grants_cedar import grant_to_cedar
from securecfg.policy.patterns import path_problem
from securecfg.policy.problems import MAX_SHOWN, Problem, Problems, did_you_mean
from securecfg.policy.schema import ACTIONS, BUILT_IN_CONTEXT, ROOT, extended_schema, parsed_schema
from securecfg.policy.texts import Places, check_text
from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cedarpy import pst

    from securecfg.policy.cedar import Refusal, Tree
    from securecfg.policy.documents import Document
    from securecfg.policy.statements import Statement

ENTITY_TYPES: Final = ("User", "Service", "Role", "Folder", "Secret")
_PREFIXES: Final = {"User": "user:", "Service": "svc:", "Role": "role:"}


class Rule(NamedTuple):
    """One policy of the Cedar language.

    Attributes:
        id: Unique in the policy.
        cedar: Its text.
        document: Where it comes from.
        line: From 1.
        column: From 1.
        grant: The grant that it was compiled from, if any.
    """

    id: str
    cedar: str
    document: str
    line: int
    column: int
    grant: Grant | None = None

    def problem(self, message: str, hint: str = "") -> Problem:
        """Return a problem at the rule's place."""
        return Problem(self.document, self.line, self.column, message, hint)


class RuleSet:
    """All rules of a policy, in the order of their documents.

    Attributes:
        rules: What they are called and say.
        memberships: What the grant tables say about roles, with document names.
        context_types: Names and Cedar types of the context's attributes.
        kinds: The kind of each document, by name.
    """

    __slots__ = ("_attributes", "_templates", "_trees", "context_types", "kinds", "memberships", "rules")

    def __init__(
        self,
        rules: tuple[Rule, ...],
        memberships: tuple[tuple[str, Membership], ...],
        attributes: Mapping[str, str],
        kinds: Mapping[str, str],
    ) -> None:
        """Take rules, and the attributes that schema extensions add to the context."""
        self.rules = rules
        self.memberships = memberships
        self.context_types: Mapping[str, str] = {**BUILT_IN_CONTEXT, **attributes}
        self.kinds = kinds
        self._attributes = attributes
        self._trees: tuple[Tree, ...] | None = None
        self._templates: tuple[pst.Template, ...] | None = None

    @property
    def trees(self) -> tuple[Tree, ...]:
        """The rules in Cedar's JSON, position by position.

        Raises:
            Problems: The engine does not accept them. It is asked once, when this is first read.
        """
        if self._trees is None:
            self._trees = _validated(self.rules, self._attributes)
        return self._trees

    @property
    def templates(self) -> tuple[pst.Template, ...]:
        """The rules as typed trees, position by position, for the explanation of decisions on rules that are valid."""
        if self._templates is None:
            from cedarpy import policies_to_pst

            templates = policies_to_pst(_text(self.rules)).static_policies
            self._templates = tuple(templates[name] for name in _names(self.rules))
        return self._templates


def read_documents(documents: Sequence[Document]) -> RuleSet:
    """Read and check documents. What only the engine finds is found when the rules' `trees` are first read.

    Raises:
        Problems: Everything else that is wrong with them.
    """
    problems: list[Problem] = []
    rules: list[Rule] = []
    memberships: list[tuple[str, Membership]] = []
    attributes: dict[str, str] = {}
    for document in documents:
        try:
            if document.kind == "schema-extension":
                from securecfg.policy.schema_extension import parse_extension

                attributes |= parse_extension(document.name, document.text, {*BUILT_IN_CONTEXT, *attributes})
            elif document.kind == "grants":
                table = parse_grants(document.name, document.text)
                memberships += ((document.name, membership) for membership in table.memberships)
                rules += (_rule_of(document.name, grant) for grant in table.grants)
            elif document.kind == "cedar":
                rules += read_cedar(document.name, document.text)
            else:
                raise Problems([Problem(document.name, 1, 1, f"`{document.kind}` is no kind of policy document")])
        except Problems as found:
            problems += found.problems
    problems += _repeated(rules)
    if problems:
        raise Problems(problems)
    kinds = {document.name: document.kind for document in documents}
    return RuleSet(tuple(rules), tuple(memberships), attributes, kinds)


def _rule_of(document: str, grant: Grant) -> Rule:
    return Rule(grant.id, grant_to_cedar(grant), document, grant.line, grant.column, grant)


def _repeated(rules: Iterable[Rule]) -> list[Problem]:
    first: dict[str, Rule] = {}
    found: list[Problem] = []
    for rule in rules:
        known = first.setdefault(rule.id, rule)
        if known is not rule:
            place = f"{known.document}:{known.line}:{known.column}"
            found.append(rule.problem(f"the id `{rule.id}` is already at {place}", "give each rule an id of its own"))
    return found


def read_cedar(document: str, text: str) -> list[Rule]:
    """Cut Cedar text into rules that parse and have an id; they are not validated yet.

    Raises:
        Problems: Everything that is wrong with it.
    """
    import cedarpy

    from securecfg.policy.statements import split_statements, wrong_token

    check_text(document, text)
    places = Places(document, text)
    problems: list[Problem] = []
    rules: list[Rule] = []
    for statement in split_statements(document, text):
        if len(problems) >= MAX_SHOWN:
            break
        cedar = text[statement.start : statement.end]
        try:
            parsed = cedarpy.policies_to_pst(cedar)
        except ValueError as error:
            token = wrong_token(statement, text, complaint)
            problems.append(places.problem(token.start, _said(error)))
            continue
        template = parsed.static_policies.get("policy0")
        if template is None:
            hint = "name the principal and resource, or use a role"
            problems.append(places.problem(statement.start, "templates with `?principal` are not supported", hint))
            continue
        problem = _id_problem(template)
        if problem:
            problems.append(places.problem(statement.start, *problem))
            continue
        rules.append(Rule(template.annotations["id"], cedar, document, *places.at(statement.start)))
        problems += _entity_problems(statement, places)
    if problems:
        raise Problems(sorted(problems))
    return rules


def complaint(cedar: str) -> str:
    """Return why the engine cannot parse a text, or an empty string."""
    import cedarpy

    try:
        cedarpy.policies_to_pst(cedar)
    except ValueError as error:
        return _said(error)
    return ""


def _said(error: ValueError) -> str:
    return str(error).removeprefix("cedarpy: ").partition("\n")[0]


def _id_problem(template: pst.Template) -> tuple[str, str] | None:
    rule = template.annotations.get("id", "")
    if not rule:
        return "a policy has no `@id`", 'put `@id("NAME")` in front: decisions and the log call it by this name'
    problem = id_problem(rule)
    return (problem, "") if problem else None


def _entity_problems(statement: Statement, places: Places) -> list[Problem]:
    """Find entities that can never be: they would silently match nothing."""
    found: list[Problem] = []
    tokens = statement.tokens
    for type_token, mark, name in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if mark.text != "::" or name.kind != "string" or "\\" in name.text:
            continue
        entity_id, type_name = name.text[1:-1], type_token.text
        written = f"{type_name}::{name.text}"
        prefix = _PREFIXES.get(type_name)
        if prefix and entity_id.startswith(prefix):
            bare = entity_id.removeprefix(prefix)
            message, hint = f"`{written}` names its type twice", f'write `{type_name}::"{bare}"`'
        elif type_name == "Folder" and entity_id in {"", ROOT}:
            message, hint = f"`{written}` is not the root folder" if not entity_id else "", f'it is `Folder::"{ROOT}"`'
        elif type_name in {"Folder", "Secret"}:
            problem = path_problem(entity_id)
            message, hint = f"`{written}` {problem}" if problem else "", "paths have no slash in front or at the end"
        else:
            continue
        if message:
            found.append(places.problem(type_token.start, message, hint))
    return found


def _text(rules: Sequence[Rule]) -> str:
    return "\n".join(rule.cedar for rule in rules)


def _names(rules: Sequence[Rule]) -> Iterator[str]:
    """Yield what the parser calls rules: it numbers them in the order of the text."""
    return (f"policy{position}" for position in range(len(rules)))


def _validated(rules: Sequence[Rule], attributes: Mapping[str, str]) -> tuple[Tree, ...]:
    from securecfg.policy.cedar import load_engine

    text, engine = _text(rules), load_engine()
    refusals = engine.refusals(text, parsed_schema(extended_schema(attributes)))
    if refusals is not None:
        raise Problems(_validation_problems(rules, refusals, attributes))
    trees = engine.trees(text)
    return tuple(trees[name] for name in _names(rules))


def _validation_problems(
    rules: Sequence[Rule], refusals: Iterable[Refusal], attributes: Mapping[str, str]
) -> list[Problem]:
    found: dict[tuple[int, str], Problem] = {}
    for refusal in refusals:
        position = int(refusal.rule.removeprefix("policy"))
        rule = rules[position]
        said = refusal.text.removeprefix(f"for policy `{refusal.rule}`, ").partition("\n")[0]
        # The engine repeats itself for every action that a rule covers.
        said = re.sub(r" for Action::\"[^\"]*\"", "", said)
        problem = rule.problem(f"rule `{rule.id}`: {said}", _validation_hint(said, attributes))
        found.setdefault((position, said), problem)
    return sorted(found.values())


def _validation_hint(said: str, attributes: Mapping[str, str]) -> str:
    name = next(iter(re.findall(r"`([^`]+)`", said)), "")
    if " in context" in said and "attribute" in said:
        return did_you_mean(name, {*BUILT_IN_CONTEXT, *attributes})
    if "unrecognized entity type" in said:
        return did_you_mean(name, ENTITY_TYPES)
    if "unrecognized action" in said:
        return did_you_mean(name.removeprefix('Action::"').removesuffix('"'), ACTIONS)
    return ""
