from __future__ import annotations

import datetime as dt
import ipaddress
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NewType

import pytest

from securecfg.config import Config, Layer, Reference, bind, get, merge
from securecfg.config.from_dotenv import parse_dotenv
from securecfg.config.from_toml import parse_toml
from securecfg.config.from_yaml import parse_yaml
from securecfg.errors import (
    AccessDenied,
    ConfigErrors,
    ConfigTypeError,
    SecretInPlainField,
    SecretNotFound,
    SecurecfgError,
    SettingMissing,
    UsageError,
    VaultClosed,
)
from securecfg.secret import Secret
from tests.config.memory_vault import CANARY, MemoryVault

if TYPE_CHECKING:
    from collections.abc import Callable


def config_of(text: str, vault: MemoryVault | None = None) -> Config:
    return parse_yaml(text.encode(), Layer("app.yaml", "etc/app.yaml", vault))


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


UserId = NewType("UserId", int)


@dataclass
class Pool:
    size: int = 5
    names: list[str] = field(default_factory=list)


@dataclass
class Database:
    host: str
    port: int
    password: Secret[str]
    pool: Pool = field(default_factory=Pool)


@dataclass
class App:
    database: Database
    debug: bool = False


GOOD = "database: {host: db, port: 5432, password: '${secret:db#password}', pool: {size: 7}}\ndebug: true\n"


def vault() -> MemoryVault:
    return MemoryVault({"db#password": CANARY, "key": b"\xff", "a": "A", "b": "B"})


# --- problems ---------------------------------------------------------------------------------------------------------


def test_reports_every_problem_at_once_in_the_order_of_their_places() -> None:
    text = (
        "databse: 1\n"
        "database:\n"
        "  hots: db\n"
        "  port: many\n"
        "  password: ${secret:gone}\n"
        "  pool: {size: [1], names: {a: b}}\n"
        "debug: maybe\n"
    )
    with pytest.raises(ConfigErrors) as caught:
        bind(config_of(text, vault()), App)
    assert caught.value.code == "config-errors"
    assert [(one.code, one.message, one.hint) for one in caught.value.problems] == [
        ("config-type", "etc/app.yaml:1:10: `databse` is unknown", "remove it, or add it to the model"),
        ("config-type", "etc/app.yaml:2:1: `database.host` is missing", ""),
        ("config-type", "etc/app.yaml:3:9: `database.hots` is unknown", "did you mean `host`?"),
        ("config-type", "etc/app.yaml:4:9: `database.port` must be a whole number", ""),
        ("secret-not-found", "etc/app.yaml:5:13: there is no secret `gone`", ""),
        ("config-type", "etc/app.yaml:6:10: `database.pool.size` must be a single value", ""),
        ("config-type", "etc/app.yaml:6:21: `database.pool.names` must be a list", ""),
        ("config-type", "etc/app.yaml:7:8: `debug` must be true or false", ""),
    ]
    assert "many" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("debug: true", ConfigTypeError, "etc/app.yaml: `database` is missing"),
        ("database: 3", ConfigTypeError, "etc/app.yaml:1:11: `database` must be a section"),
        ("database: null", ConfigTypeError, "etc/app.yaml:1:11: `database` must not be null"),
        (GOOD + "x: 1", ConfigTypeError, "etc/app.yaml:3:4: `x` is unknown"),
        (GOOD.replace("db,", "'${secret:a}',"), SecretInPlainField, "etc/app.yaml:1:18: `database.host` is a secret"),
        (GOOD.replace("5432", "'${secret:a}'"), SecretInPlainField, "etc/app.yaml:1:28: `database.port` is a secret"),
        (GOOD.replace("7", "'${secret:a}'"), SecretInPlainField, "etc/app.yaml:1:82: `database.pool.size` is a secret"),
        (GOOD.replace("db#password", "denied/x"), AccessDenied, "etc/app.yaml:1:44: `read` on `denied/x` is denied"),
        (
            GOOD.replace("db#password", "key"),
            ConfigTypeError,
            "etc/app.yaml:1:44: `database.password` is a secret of byt",
        ),
        (GOOD.replace("db#password", "key|url"), ConfigTypeError, "etc/app.yaml:1:44: the secret `key` is bytes"),
        (
            GOOD.replace("'${secret:db#password}'", "123"),
            ConfigTypeError,
            "etc/app.yaml:1:44: `database.password` must",
        ),
    ],
)
def test_a_single_problem_is_raised_as_itself(text: str, error: type[SecurecfgError], message: str) -> None:
    with pytest.raises(error) as caught:
        bind(config_of(text, vault()), App)
    assert type(caught.value) is error
    assert caught.value.message.startswith(message)


def test_a_section_that_is_bound_names_the_whole_path_from_it() -> None:
    with pytest.raises(ConfigTypeError, match=r"^etc/app.yaml:1:\d+: `pool.size` must"):
        bind(config_of(GOOD.replace("7", "x"), vault()).database, Database)


def test_reports_what_cannot_be_resolved_together_and_asks_once() -> None:
    @dataclass
    class Several:
        a: Secret[str]
        b: Secret[str]
        c: list[Secret[str]]

    resolver = vault()
    with pytest.raises(ConfigErrors) as caught:
        bind(
            config_of("a: ${secret:gone}\nb: ${secret:denied/x}\nc: ['${secret:gone}', '${secret:a}']", resolver),
            Several,
        )
    assert [type(one) for one in caught.value.problems] == [SecretNotFound, AccessDenied, SecretNotFound]
    assert [one.message[:17] for one in caught.value.problems] == [
        f"etc/app.yaml:{at}:" for at in ("1:4", "2:4", "3:5")
    ]
    assert resolver.calls == [(Reference("gone"), Reference("denied/x"), Reference("a"))]


def test_without_a_vault_names_the_first_secret_that_is_needed() -> None:
    with pytest.raises(SettingMissing, match=r"^etc/app.yaml:1:44: "):
        bind(config_of(GOOD), App)


def test_a_resolver_that_fails_as_a_whole_fails_the_call() -> None:
    class Closed(MemoryVault):
        def resolve(self, references: object, /) -> list[Secret[str] | Secret[bytes] | SecurecfgError]:
            message = "the vault is closed"
            raise VaultClosed(message)

    with pytest.raises(VaultClosed):
        bind(config_of(GOOD, Closed()), App)


@pytest.mark.parametrize("model", [dict, int, list[int], str])
def test_binds_to_models_only(model: Any) -> None:  # noqa: ANN401 - what is no model
    with pytest.raises(UsageError, match="a dataclass or a pydantic model"):
        bind(config_of(GOOD), model)


def test_says_which_name_an_annotation_lacks() -> None:
    @dataclass
    class Lost:
        a: Nowhere  # type: ignore[name-defined]  # noqa: F821 - what is tested

    with pytest.raises(UsageError, match=r"the annotations of `Lost` name `Nowhere`"):
        bind(config_of("a: 1"), Lost)


def test_a_validator_of_the_model_is_reported_unless_it_repeats_a_secret() -> None:
    @dataclass
    class Checked:
        size: int
        password: str

        def __post_init__(self) -> None:
            message = f"size is odd. Not with {self.password if self.size > 10 else 'it'}."
            raise ValueError(message)

    with pytest.raises(ConfigTypeError) as caught:
        bind(config_of(f"size: 1\npassword: {CANARY}"), Checked)
    assert caught.value.message == "etc/app.yaml: the configuration is refused: size is odd. Not with it"
    with pytest.raises(ConfigTypeError) as caught:
        bind(config_of(f"size: 11\npassword: {CANARY}"), Checked)
    assert caught.value.message == "etc/app.yaml: the configuration is refused by its validator"
    assert caught.value.__context__ is None


def test_a_validator_that_reveals_a_resolved_secret_does_not_leak_it() -> None:
    @dataclass
    class Checked:
        key: Secret[str]

        def __post_init__(self) -> None:
            raise ValueError(self.key.reveal())

    with pytest.raises(ConfigTypeError) as caught:
        bind(config_of("key: x${secret:db#password}", vault()), Checked)
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_no_problem_repeats_a_value() -> None:
    @dataclass
    class Strict:
        a: int
        b: Literal["x"]
        c: Color
        d: Path | int
        e: ipaddress.IPv4Address
        f: dt.timedelta
        g: dict[int, int]

    text = "\n".join(f"{key}: {CANARY}" for key in "abcef") + f"\nd: [{CANARY}]\ng: {{k: {CANARY}}}"
    with pytest.raises(ConfigErrors) as caught:
        bind(config_of(text), Strict)
    assert len(caught.value.problems) == 8
    assert CANARY not in "".join(traceback.format_exception(caught.value))


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_resolves_what_the_model_needs_in_one_call() -> None:
    @dataclass
    class Two:
        url: Secret[str]
        key: Secret[bytes]
        both: Secret[str] | None
        plain: Secret[str]

    resolver = vault()
    text = "url: 'x://${secret:a}:${secret:db#password|url}@h'\nkey: ${secret:key}\nboth: ${secret:a}\nplain: text"
    bound = bind(config_of(text, resolver), Two)
    assert resolver.calls == [(Reference("a"), Reference("db", "password"), Reference("key"))]
    assert bound.url.reveal() == "x://A:canary-7f3a%2Fp%40ss%20word@h"
    assert bound.key.reveal() == b"\xff"
    assert bound.plain.reveal() == "text"
    assert len(resolver.calls) == 1
    assert CANARY not in repr(bound)


def test_a_secret_may_be_in_a_field_that_takes_anything() -> None:
    @dataclass
    class Open:
        a: Any
        b: dict[str, Any]
        c: str | Secret[str]

    bound = bind(config_of("a: {x: ['${secret:a}']}\nb: {y: '${secret:b}'}\nc: ${secret:a}", vault()), Open)
    assert repr([bound.a, bound.b, bound.c]).count("***") == 3
    assert bound.a["x"][0].reveal() == "A"


def test_a_secret_in_a_union_of_plain_types_is_refused() -> None:
    @dataclass
    class Plain:
        a: int | str

    with pytest.raises(SecretInPlainField):
        bind(config_of("a: ${secret:a}", vault()), Plain)


def test_configurations_of_two_vaults_ask_each_once() -> None:
    one, two = MemoryVault({"a": "1"}), MemoryVault({"a": "2"})
    merged = merge([config_of("a: ${secret:a}", one), parse_yaml(b"b: ${secret:a}", Layer("b", "b", two))])

    @dataclass
    class Both:
        a: Secret[str]
        b: Secret[str]

    bound = bind(merged, Both)
    assert (bound.a.reveal(), bound.b.reveal()) == ("1", "2")
    assert (len(one.calls), len(two.calls)) == (1, 1)


# --- types ------------------------------------------------------------------------------------------------------------


def test_binds_nested_dataclasses_with_defaults() -> None:
    bound = bind(config_of(GOOD, vault()), App)
    assert (bound.database.host, bound.database.port, bound.debug) == ("db", 5432, True)
    assert bound.database.pool == Pool(7, [])
    assert bound.database.password.reveal() == CANARY


@pytest.mark.parametrize(
    ("written", "kind", "value"),
    [
        ("5", int, 5),
        ("'5'", int, 5),
        ("'-1_000'", int, -1000),
        ("5", float, 5.0),
        ("'1e3'", float, 1000.0),
        ("true", bool, True),
        ("'Off'", bool, False),
        ("'1'", bool, True),
        ("x", str, "x"),
        ("é", bytes, "é".encode()),
        ("/etc/x", Path, Path("/etc/x")),
        ("90", dt.timedelta, dt.timedelta(seconds=90)),
        ("1h30m", dt.timedelta, dt.timedelta(minutes=90)),
        ("1w 2d", dt.timedelta, dt.timedelta(days=9)),
        ("P1DT2H3M4.5S", dt.timedelta, dt.timedelta(days=1, hours=2, minutes=3, seconds=4.5)),
        ("2026-01-31T12:00:00Z", dt.datetime, dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)),
        ("2026-01-31", dt.date, dt.date(2026, 1, 31)),
        ("'12:30:00'", dt.time, dt.time(12, 30)),
        ("red", Color, Color.RED),
        ("2", Level, Level.HIGH),
        ("'2'", Level, Level.HIGH),
        ("10", Literal[10, "a"], 10),
        ("'10'", Literal[10, "a"], 10),
        ("1.50", Decimal, Decimal("1.5")),
        ("10.0.0.1", ipaddress.IPv4Address, ipaddress.IPv4Address("10.0.0.1")),
        ("[1, '2']", list[int], [1, 2]),
        ("[1, 2]", tuple[int, ...], (1, 2)),
        ("[1, a]", tuple[int, str], (1, "a")),
        ("[1, 1]", set[int], {1}),
        ("[1]", frozenset[int], frozenset({1})),
        ("[1]", Sequence[int], [1]),
        ("[1, [a]]", list, [1, ["a"]]),
        ("{a: 1}", dict[str, int], {"a": 1}),
        ("{1: a}", dict[int, str], {1: "a"}),
        ("{a: {b: 1}}", Mapping[str, Any], {"a": {"b": 1}}),
        ("{a: [1]}", dict, {"a": [1]}),
        ("null", int | None, None),
        ("'5'", int | None, 5),
        ("x", int | str, "x"),
        ("5", str | int, 5),
        ("'5'", int | str, "5"),
        ("x", int | Color | str, "x"),
        ("{size: 1}", Pool | str, Pool(1)),
        ("[{size: 1}]", list[Pool], [Pool(1)]),
        ("{a: {size: 1}}", dict[str, Pool], {"a": Pool(1)}),
        ("7", Annotated[int, "unit"], 7),
        ("7", UserId, 7),
        ("[1, a]", object, [1, "a"]),
        ("null", None, None),
    ],
)
def test_converts_what_fits(written: str, kind: Any, value: object) -> None:  # noqa: ANN401 - an annotation
    converted = get(config_of(f"a: {written}"), "a", kind)
    assert converted == value
    assert type(converted) is type(value)


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("1.5", int),
        ("true", int),
        ("x", int),
        ("'" + "9" * 5_000 + "'", int),
        ("true", float),
        ("x", float),
        ("9" * 400, float),
        ("1", bool),
        ("yep", bool),
        ("1", str),
        ("true", Path),
        ("1", bytes),
        ("--", dt.timedelta),
        ("P", dt.timedelta),
        ("PT", dt.timedelta),
        ("''", dt.timedelta),
        ("1e30", dt.timedelta),
        ("true", dt.timedelta),
        ("2026-13-01", dt.date),
        ("2026-13-01", dt.datetime),
        ("25:00", dt.time),
        ("5", dt.date),
        ("green", Color),
        ("3", Level),
        ("true", Level),
        ("1.0", Literal[1]),
        ("300.0.0.1", ipaddress.IPv4Address),
        ("x", Decimal),
        ("1", list[int]),
        ("[x]", list[int]),
        ("[1]", tuple[int, str]),
        ("[[1]]", set[list[int]]),
        ("[1]", dict[str, int]),
        ("{a: x}", dict[str, int]),
        ("{a: 1}", dict[int, int]),
        ("{a: 1}", int),
        ("null", int),
        ("5", None),
        ("x", int | float),
        ("[1]", Pool),
        ("5", Config),
        ("5", 3),
    ],
)
def test_refuses_what_does_not_fit(written: str, kind: Any) -> None:  # noqa: ANN401 - an annotation
    with pytest.raises(ConfigTypeError, match=r"^etc/app.yaml:1:\d+: `a") as caught:
        get(config_of(f"a: {written}"), "a", kind)
    assert "None" not in caught.value.message


def test_takes_dates_of_toml_as_they_are() -> None:
    config = parse_toml(b"a = 2026-01-31\nb = 2026-01-31T12:00:00Z\nc = 12:00:00\n", Layer("a", "a"))
    assert get(config, "a", dt.date) == dt.date(2026, 1, 31)
    assert get(config, "b", dt.datetime) == dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
    assert get(config, "c", dt.time) == dt.time(12)
    with pytest.raises(ConfigTypeError):
        get(config, "b", dt.date)


def test_foreign_names_of_a_dotenv_file_are_no_mistake() -> None:
    dotenv = parse_dotenv(b"debug=yes\nAWS_REGION=x\n", Layer(".env", ".env", foreign=True))
    bound = bind(merge([config_of(GOOD, vault()), dotenv]), App)
    assert bound.debug is True


def test_fields_that_the_constructor_does_not_take_are_no_keys() -> None:
    @dataclass
    class Computed:
        a: int
        b: int = field(init=False, default=3)

    assert bind(config_of("a: 1"), Computed).b == 3
    with pytest.raises(ConfigTypeError, match="`b` is unknown"):
        bind(config_of("a: 1\nb: 1"), Computed)


# --- get --------------------------------------------------------------------------------------------------------------


def test_get_without_a_type_is_the_value() -> None:
    config = config_of(GOOD)
    assert get(config, "database.port") == 5432
    assert get(config, "database") is config.database


def test_get_of_a_secret_stays_lazy() -> None:
    resolver = vault()
    config = config_of(GOOD, resolver)
    lookups: list[Callable[[], Secret[str]]] = [
        lambda: get(config, "database.password"),
        lambda: get(config, "database.password", Secret),
        lambda: get(config, "database.password", Secret[str]),
    ]
    for look_up in lookups:
        resolver.calls.clear()
        secret = look_up()
        assert resolver.calls == []
        assert secret.reveal() == CANARY


def test_get_of_a_secret_as_text_is_refused() -> None:
    with pytest.raises(SecretInPlainField, match=r"^etc/app.yaml:1:44: ") as caught:
        get(config_of(GOOD, vault()), "database.password", str)
    assert caught.value.code == "secret-in-plain-field"
    assert "Secret[str]" in caught.value.hint


def test_get_of_a_model_resolves_its_secrets() -> None:
    assert get(config_of(GOOD, vault()), "database", Database).password.reveal() == CANARY
