"""The engine by its extension alone, against the engine through the public functions of `cedarpy`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from random import Random

import cedarpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securecfg.policy import compile_policy
from securecfg.policy.cedar import (
    KNOWN_RELEASES,
    Engine,
    ExtensionEngine,
    Verdict,
    find_extension,
    load_engine,
)
from securecfg.policy.schema import SCHEMA
from tests.policy.worlds import random_request, random_rule, random_world

SITE = Path(cedarpy.__file__).parents[1]
RELEASE_FOLDER = f"cedarpy-{KNOWN_RELEASES[-1]}.dist-info/METADATA"
PUBLIC = Engine(cedarpy)
EXTENSION = ExtensionEngine(find_extension())
SEEDS = st.integers(0, 2**32)
ENTITY = '{"uid": {"type": "Secret", "id": "a"}, "attrs": {"depth": 1}, "parents": []}'
PERMIT = "permit (principal, action, resource)"


def ask(engine: Engine, rules: str, entities: str = "[]") -> Verdict:
    request = {
        "principal": {"type": "Service", "id": "web"},
        "action": {"type": "Action", "id": "read"},
        "resource": {"type": "Secret", "id": "a"},
        "context": '{"hour": 9, "ticket": {"__extn": {"fn": "ip", "arg": "10.0.0.1"}}}',
    }
    return engine.decide(request, engine.parse_rules(rules), engine.parse_entities(entities))


def test_the_release_that_the_locks_name_is_known() -> None:
    assert version("cedarpy") in KNOWN_RELEASES
    assert isinstance(load_engine(), ExtensionEngine)
    assert load_engine() is load_engine()


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.sampled_from([1, 3, 8, 25]))
def test_both_decide_alike(seed: int, size: int) -> None:
    random = Random(seed)
    world = random_world(random, size)
    by_extension = compile_policy(world.documents, memberships=world.memberships)
    by_public = compile_policy(world.documents, memberships=world.memberships)
    by_extension.compile()._cedar = EXTENSION
    by_public.compile()._cedar = PUBLIC
    for _ in range(20):
        request = random_request(random)
        assert by_extension.decide(request) == by_public.decide(request)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(0, 12))
def test_both_write_the_same_trees(seed: int, size: int) -> None:
    random = Random(seed)
    text = "\n".join(random_rule(random, number) for number in range(size))
    trees = EXTENSION.trees(text)
    assert trees == PUBLIC.trees(text)
    assert [tree["annotations"]["id"] for tree in trees.values()] == [f"r{number}" for number in range(size)]


@pytest.mark.parametrize(
    ("rules", "verdict"),
    [
        ("", Verdict("Deny", [], [])),
        (f"{PERMIT};", Verdict("Allow", ["policy0"], [])),
        (f"{PERMIT}; forbid (principal, action, resource);", Verdict("Deny", ["policy1"], [])),
        (f"{PERMIT} when {{ context.hour == 9 }};", Verdict("Allow", ["policy0"], [])),
        (f'{PERMIT} when {{ context.ticket == ip("10.0.0.1") }};', Verdict("Allow", ["policy0"], [])),
        (f"{PERMIT} unless {{ context.hour == 9 }};", Verdict("Deny", [], [])),
    ],
)
def test_both_tell_what_was_decided_and_why(rules: str, verdict: Verdict) -> None:
    assert ask(PUBLIC, rules) == ask(EXTENSION, rules) == verdict


def test_both_tell_what_could_not_be_evaluated() -> None:
    rules = f"{PERMIT}; {PERMIT} when {{ context.hour + 9223372036854775807 > 0 }};"
    verdict = ask(EXTENSION, rules)
    assert verdict == ask(PUBLIC, rules)
    assert verdict.decision == "Allow"
    assert len(verdict.errors) == 1
    assert "`policy1`" in verdict.errors[0]


@pytest.mark.parametrize(
    ("rules", "refused"),
    [
        (f"{PERMIT};", set()),
        (f"{PERMIT}; {PERMIT} when {{ context.hour }};", {"policy1"}),
        (f'{PERMIT} when {{ context.no }}; {PERMIT}; permit (principal in Team::"a", action, resource);', {"policy0"}),
    ],
)
def test_both_refuse_the_same_rules_in_the_same_words(rules: str, refused: set[str]) -> None:
    found = [set(engine.refusals(rules, engine.parse_schema(SCHEMA)) or []) for engine in (PUBLIC, EXTENSION)]
    assert found[0] == found[1]
    assert {refusal.rule for refusal in found[0]} >= refused
    assert bool(found[0]) is bool(refused)


def test_a_refusal_names_the_rule_and_the_reason() -> None:
    (refusal,) = EXTENSION.refusals(f"{PERMIT} when {{ 1 }};", EXTENSION.parse_schema(SCHEMA)) or []
    assert refusal.rule == "policy0"
    assert "expected Bool" in refusal.text


@pytest.mark.parametrize("engine", [PUBLIC, EXTENSION])
def test_what_does_not_parse_is_an_error(engine: Engine) -> None:
    for parse in (engine.parse_rules, engine.parse_schema, engine.trees):
        with pytest.raises(ValueError, match="unexpected"):
            parse("permit")
    with pytest.raises(ValueError, match="error during entity deserialization"):
        engine.parse_entities("[")


@pytest.mark.parametrize("engine", [PUBLIC, EXTENSION])
def test_an_entity_is_taken_once(engine: Engine) -> None:
    one = engine.parse_entities(f"[{ENTITY}]")
    with pytest.raises(ValueError, match="duplicate entity"):
        one.with_added_json_str(f"[{ENTITY.replace('1', '2')}]")


def test_a_release_that_is_not_known_is_not_looked_into() -> None:
    assert find_extension(("4.12.1",)) is None
    assert find_extension(()) is None


@pytest.mark.parametrize(
    "installed",
    [
        [],
        ["cedarpy.py"],
        ["cedarpy/__init__.py"],
        ["cedarpy/__init__.py", RELEASE_FOLDER],
        ["cedarpy/__init__.py", "cedarpy/_internal.py", RELEASE_FOLDER],
    ],
)
def test_what_is_not_installed_as_a_wheel_installs_it_is_not_looked_into(
    installed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in installed:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert find_extension() is None
    assert type(load_engine.__wrapped__()) is Engine


def run(program: str, *path: Path) -> None:
    """Run a program that finds its modules beside the standard library in some folders only."""
    root = Path(__file__).parents[2]
    folders = [str(folder) for folder in (*path, root)]
    begin = f"import sys; sys.path = [one for one in sys.path if 'site-packages' not in one] + {folders}\n"
    subprocess.run([sys.executable, "-c", begin + program], check=True, cwd=root)


def test_another_release_is_imported_as_a_whole(tmp_path: Path) -> None:
    shutil.copytree(SITE / "cedarpy", tmp_path / "cedarpy")
    (tmp_path / "cedarpy-4.99.0.dist-info").mkdir()
    program = f"""
from securecfg.policy.cedar import Engine, load_engine
engine = load_engine()
assert type(engine) is Engine
assert sys.modules["cedarpy"].__file__.startswith({str(tmp_path)!r})
assert engine.refusals("{PERMIT};", engine.parse_schema({SCHEMA!r})) is None
"""
    run(program, tmp_path)


@pytest.mark.parametrize("first", ["load_engine()", "import cedarpy"])
def test_the_package_may_be_imported_before_and_after(first: str) -> None:
    program = f"""
from securecfg.policy.cedar import ExtensionEngine, load_engine
{first}
engine = load_engine()
assert type(engine) is ExtensionEngine
import cedarpy
from cedarpy import pst
rules = engine.parse_rules("{PERMIT};")
assert type(rules) is cedarpy.PolicySet
request = {{"principal": 'User::"a"', "action": 'Action::"read"', "resource": 'Secret::"a"', "context": {{}}}}
assert cedarpy.is_authorized(request, rules, []).allowed
assert isinstance(rules.to_pst(), pst.PolicySet)
"""
    run(program, SITE)
