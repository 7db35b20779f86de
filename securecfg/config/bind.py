"""From a configuration to typed objects: `bind` and `get`.

The order is: survey what the model needs, resolve those secrets in one call, convert. Each step goes on after a
problem, and all problems are reported together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from securecfg.config.annotations import is_dataclass_model, is_pydantic_model
from securecfg.config.convert import Converter, Released, accepts_secret, secret_in_plain_field
from securecfg.config.keys import parse_key_path
from securecfg.config.problems import KeyPath, Problems, Redactor
from securecfg.config.references import located, resolve_all, unquoted
from securecfg.config.survey import Survey
from securecfg.errors import ConfigTypeError, SecurecfgError, SettingMissing, UsageError
from securecfg.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securecfg.config.references import Reference
    from securecfg.config.survey import Need
    from securecfg.config.tree import Config

T = TypeVar("T")


def bind(config: Config, model: type[T]) -> T:
    """Return a configuration, or a section of it, as a dataclass or pydantic model.

    The secrets that the model takes are resolved in one call. A dataclass takes no key that it does not have; neither
    does a pydantic model, unless its configuration says `extra="ignore"` or `extra="allow"`.

    Raises:
        ConfigTypeError: A value does not fit, is missing, or has an unknown key.
        SecretInPlainField: A field that is not a `Secret` would get a secret.
        SettingMissing: A secret is needed and there is no vault.
        SecurecfgError: A secret cannot be resolved: it is absent, denied, or its vault unavailable.
        ConfigErrors: Several of these.
        UsageError: `model` is neither a dataclass nor a pydantic model.
    """
    if not is_dataclass_model(model) and not is_pydantic_model(model):
        message = "a configuration binds to a dataclass or a pydantic model"
        raise UsageError(message, hint="use `get(config, path, type)` for a single value")
    bound: T = _bind_value(config, config, model, ())
    return bound


@overload
def get(config: Config, path: str, kind: type[T]) -> T: ...


@overload
def get(config: Config, path: str, kind: Any = ...) -> Any: ...  # noqa: ANN401 - a type form such as `list[int]`


def get(config: Config, path: str, kind: Any = Any) -> Any:
    """Return the value at a dotted path as the type asked for.

    Args:
        config: The configuration or a section of it.
        path: The dotted path, in which a number picks an item of a list.
        kind: What a field of a model could be annotated with. A `Secret` stays unresolved until it is revealed.

    Raises:
        ConfigKeyNotFound: There is no such value.
        ConfigTypeError: It does not fit the type.
        SecretInPlainField: It is a secret, and the type is not.
        ConfigErrors: Several such problems, where the type is a model.
        SecurecfgError: A secret that a model needs cannot be resolved.
    """
    value = config[path]
    if kind is Any:
        return value
    keys = (path,) if path in config.__dict__ else tuple(parse_key_path(path))
    if not isinstance(value, Secret):
        return _bind_value(config, value, kind, keys)
    if accepts_secret(kind):
        return value
    raise secret_in_plain_field(config, keys)


def _bind_value(root: Config, value: Any, annotation: Any, path: KeyPath) -> Any:  # noqa: ANN401 - any value, any annotation
    problems = Problems(root)
    survey = Survey(root, problems)
    survey.walk(value, [annotation], path)
    secrets = _resolve(survey.needed, problems)
    converter = Converter(root, problems, Released(secrets, survey.skipped), Redactor(root, secrets.values()))
    bound = converter.convert(value, annotation, path)
    problems.raise_if_any()
    return bound


def _resolve(needed: list[Need], problems: Problems) -> dict[int, Secret[str] | Secret[bytes]]:
    """Return what each secret stands for, by identity, and report those that cannot be resolved."""
    resolved: dict[int, Secret[str] | Secret[bytes]] = {}
    # One call: a configuration is loaded with one vault. Only configurations merged by hand can have several.
    for resolver in {id(need.secret.resolver): need.secret.resolver for need in needed}.values():
        mine = [need for need in needed if need.secret.resolver is resolver]
        references = unquoted(reference for need in mine for reference in need.secret.references)
        try:
            outcomes = resolve_all(references, resolver, mine[0].secret.origin)
        except SettingMissing as error:
            problems.add(mine[0].path, error)
            continue
        for need in mine:
            secret = _settle(need, outcomes, problems)
            if secret is not None:
                resolved[id(need.secret)] = secret
    return resolved


def _settle(
    need: Need, outcomes: Mapping[Reference, Secret[str] | Secret[bytes] | SecurecfgError], problems: Problems
) -> Secret[str] | Secret[bytes] | None:
    found: dict[Reference, Secret[str] | Secret[bytes]] = {}
    for reference in need.secret.references:
        outcome = outcomes[reference]
        if isinstance(outcome, SecurecfgError):
            problems.add(need.path, located(outcome, need.secret.origin))
        else:
            found[reference] = outcome
    if len(found) < len(need.secret.references):
        return None
    try:
        return need.secret.render(found)
    except ConfigTypeError as error:
        problems.add(need.path, error)
        return None
