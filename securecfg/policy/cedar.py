"""The Cedar engine, as this package asks it.

`cedarpy` is an extension module in Rust under a layer of Python whose typed syntax tree takes longer to import than all
else that a small command does, and a decision needs none of it. So the extension is loaded by itself where the release
is one whose inside is known; any other release is imported as a whole. See docs/decisions/0012.
"""

from __future__ import annotations

import json
import os
from functools import cache
from importlib.machinery import ExtensionFileLoader, PathFinder
from importlib.util import module_from_spec
from typing import TYPE_CHECKING, Any, Final

from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import ModuleType

    import cedarpy

    # A rule, or an expression in one, in Cedar's JSON.
    Tree = Mapping[str, Any]

KNOWN_RELEASES: Final = ("4.12.2",)
"""Releases of `cedarpy` whose extension takes and returns what is written here. The tests compare them."""


class Verdict(NamedTuple):
    """What the engine says of one request.

    Attributes:
        decision: `Allow`, `Deny`, or anything else where it made none.
        reasons: The rules that determine the decision, as the parser numbers them: `policy0`, `policy1`, ...
        errors: What could not be evaluated, in its words.
    """

    decision: str
    reasons: Sequence[str]
    errors: Sequence[str]


class Refusal(NamedTuple):
    """Why a rule does not fit the schema.

    Attributes:
        rule: As the parser numbers it.
        text: In the engine's words.
    """

    rule: str
    text: str


class Engine:
    """The engine through the public functions of `cedarpy`."""

    def __init__(self, module: Any) -> None:  # noqa: ANN401 - see `ExtensionEngine`
        """Take the module."""
        self._module = module
        self.parse_rules: Callable[[str], cedarpy.PolicySet] = module.PolicySet.from_str
        self.parse_entities: Callable[[str], cedarpy.Entities] = module.Entities.from_json_str
        self.parse_schema: Callable[[str], cedarpy.Schema] = module.Schema.from_str

    def trees(self, text: str) -> Mapping[str, Tree]:
        """Return rules that parse in Cedar's JSON, as the parser numbers them."""
        trees: Mapping[str, Tree] = json.loads(self._module.policies_to_json_str(text))["staticPolicies"]
        return trees

    def refusals(self, text: str, schema: cedarpy.Schema) -> list[Refusal] | None:
        """Return why rules are not valid under a schema, or None where they are."""
        result = self._module.validate_policies(text, schema)
        if result.validation_passed:
            return None
        return [Refusal(error.policy_id, error.error) for error in result.errors]

    def decide(self, request: Mapping[str, Any], rules: cedarpy.PolicySet, entities: cedarpy.Entities) -> Verdict:
        """Return what rules say of a request, whose context is Cedar's JSON."""
        result = self._module.is_authorized(request, rules, entities)
        return Verdict(result.decision.value, result.diagnostics.reasons, result.diagnostics.errors)


class ExtensionEngine(Engine):
    """The engine through the functions of the extension module alone."""

    def refusals(self, text: str, schema: cedarpy.Schema) -> list[Refusal] | None:
        """As for `Engine`."""
        result = json.loads(self._module.validate_policies(text, schema))
        if result["validation_passed"] is True:
            return None
        return [Refusal(error["policy_id"], error["error"]) for error in result["errors"]]

    def decide(self, request: Mapping[str, Any], rules: cedarpy.PolicySet, entities: cedarpy.Entities) -> Verdict:
        """As for `Engine`."""
        (answer,) = self._module.is_authorized_batch([request], rules, entities)
        result = json.loads(answer)
        diagnostics = result["diagnostics"]
        return Verdict(result["decision"], diagnostics["reason"], diagnostics["errors"])


def find_extension(releases: Sequence[str] = KNOWN_RELEASES) -> ModuleType | None:
    """Return the extension module of `cedarpy`, without the package around it.

    Args:
        releases: Those that it may be of.

    Returns:
        None where `cedarpy` is of another release, or not installed as its wheel installs it.
    """
    package = PathFinder.find_spec("cedarpy")
    if package is None or not package.submodule_search_locations:
        return None
    folder = package.submodule_search_locations[0]
    installed = os.listdir(os.path.dirname(folder))  # noqa: PTH208, PTH120 - without `pathlib`, as the store
    if not any(f"cedarpy-{release}.dist-info" in installed for release in releases):
        return None
    spec = PathFinder.find_spec("cedarpy._internal", [folder])
    if spec is None or not isinstance(spec.loader, ExtensionFileLoader):
        return None
    extension = module_from_spec(spec)
    spec.loader.exec_module(extension)
    return extension


@cache
def load_engine() -> Engine:
    """Return the engine; the first call loads it."""
    extension = find_extension()
    if extension is not None:
        return ExtensionEngine(extension)
    import cedarpy

    return Engine(cedarpy)
