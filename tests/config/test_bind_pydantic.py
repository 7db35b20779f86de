import datetime as dt
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import pydantic
import pytest
from pydantic import AfterValidator, AliasChoices, AliasPath, BaseModel, ConfigDict, Field, field_validator

from securecfg.config import Config, Layer, Reference, bind, get, merge
from securecfg.config.from_dotenv import parse_dotenv
from securecfg.config.from_yaml import parse_yaml
from securecfg.errors import AccessDenied, ConfigErrors, ConfigTypeError, SecretInPlainField, SecurecfgError
from securecfg.secret import Secret
from tests.config.memory_vault import CANARY, MemoryVault


def config_of(text: str, vault: MemoryVault | None = None) -> Config:
    return parse_yaml(text.encode(), Layer("app.yaml", "etc/app.yaml", vault))


def vault() -> MemoryVault:
    return MemoryVault({"db#password": CANARY, "a": "A"})


class Pool(BaseModel):
    size: int = 5
    mode: Literal["fast", "safe"] = "safe"


class Database(BaseModel):
    model_config = ConfigDict(extra="forbid")

    host: str
    port: int
    password: Secret[str]
    pool: Pool = Pool()


class App(BaseModel):
    database: Database
    others: list[Database] = []
    debug: bool = False


UNPARSABLE = "Input should be a valid integer, unable to parse string as an integer"

GOOD = "database: {host: db, port: 5432, password: '${secret:db#password}', pool: {size: 7}}\ndebug: true\n"


def messages(caught: pytest.ExceptionInfo[ConfigErrors]) -> list[str]:
    return [one.message for one in caught.value.problems]


def test_reports_every_problem_at_once_with_places_and_suggestions() -> None:
    text = (
        "databse: 1\n"
        "database:\n"
        "  hots: db\n"
        "  port: many\n"
        "  password: ${secret:gone}\n"
        "  pool: {size: [1], mode: sfae, sise: 1}\n"
        "others:\n"
        "  - {host: db, port: 1, password: '${secret:denied/x}'}\n"
        "  - {host: '${secret:a}', port: 1}\n"
    )
    with pytest.raises(ConfigErrors) as caught:
        bind(config_of(text, vault()), App)
    assert messages(caught) == [
        "etc/app.yaml:1:10: `databse` is unknown",
        "etc/app.yaml:2:1: `database.host` is missing",
        "etc/app.yaml:3:9: `database.hots` is unknown",
        f"etc/app.yaml:4:9: `database.port` is refused: {UNPARSABLE}",
        "etc/app.yaml:5:13: there is no secret `gone`",
        "etc/app.yaml:6:10: `database.pool.size` is refused: Input should be a valid integer",
        "etc/app.yaml:6:27: `database.pool.mode` is refused: Input should be 'fast' or 'safe'",
        "etc/app.yaml:6:39: `database.pool.sise` is unknown",
        "etc/app.yaml:8:35: `read` on `denied/x` is denied",
        "etc/app.yaml:9:5: `others.1.password` is missing",
        "etc/app.yaml:9:12: `others.1.host` is a secret, and its field is not",
    ]
    assert [one.hint for one in caught.value.problems if "hots" in one.message] == ["did you mean `host`?"]
    assert caught.value.__context__ is None
    assert "ValidationError" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("database: 3", ConfigTypeError, "etc/app.yaml:1:11: `database` is refused: Input should be a valid dict"),
        (GOOD + "x: 1", ConfigTypeError, "etc/app.yaml:3:4: `x` is unknown"),
        (GOOD.replace("db,", "'${secret:a}',"), SecretInPlainField, "etc/app.yaml:1:18: `database.host` is a secret"),
        (GOOD.replace("5432", "'${secret:a}'"), SecretInPlainField, "etc/app.yaml:1:28: `database.port` is a secret"),
        (GOOD.replace("db#password", "denied/x"), AccessDenied, "etc/app.yaml:1:44: `read` on `denied/x` is denied"),
        (GOOD.replace("'${secret:db#password}'", "123"), ConfigTypeError, "etc/app.yaml:1:44: `database.password` is"),
    ],
)
def test_a_single_problem_is_raised_as_itself(text: str, error: type[SecurecfgError], message: str) -> None:
    with pytest.raises(error) as caught:
        bind(config_of(text, vault()), App)
    assert type(caught.value) is error
    assert caught.value.message.startswith(message)


def test_binds_and_resolves_in_one_call() -> None:
    resolver = vault()
    bound = bind(config_of(GOOD, resolver), App)
    assert (bound.database.host, bound.database.port, bound.database.pool.size, bound.debug) == ("db", 5432, 7, True)
    assert bound.database.password.reveal() == CANARY
    assert resolver.calls == [(Reference("db", "password"),)]
    assert CANARY not in f"{bound!r} {bound} {bound.model_dump_json()}"


def test_a_model_that_ignores_other_keys_does_not_need_their_secrets() -> None:
    class Small(BaseModel):
        model_config = ConfigDict(extra="ignore")
        debug: bool

    resolver = vault()
    assert bind(config_of(GOOD, resolver), Small).debug is True
    assert resolver.calls == []


def test_a_model_that_allows_other_keys_gets_them() -> None:
    class Open(BaseModel):
        model_config = ConfigDict(extra="allow")
        debug: bool

    bound: Any = bind(config_of(GOOD, vault()), Open)
    assert bound.database["password"].reveal() == CANARY


def test_foreign_names_of_a_dotenv_file_are_kept_from_a_model_that_forbids_them() -> None:
    dotenv = parse_dotenv(b"AWS_REGION=x\ndatabase__OTHER=${secret:gone}\n", Layer(".env", ".env", foreign=True))
    assert bind(merge([config_of(GOOD, vault()), dotenv]), App).debug is True


def test_knows_fields_by_their_aliases() -> None:
    class Aliased(BaseModel):
        model_config = ConfigDict(populate_by_name=True)
        one: int = Field(alias="first")
        two: Secret[str] = Field(validation_alias=AliasChoices("zwei", "deux"))
        three: Secret[str] = Field(validation_alias=AliasPath("nested", 0))

    bound = bind(config_of("first: 1\ndeux: ${secret:a}\nnested: ['${secret:a}']", vault()), Aliased)
    assert (bound.one, bound.two.reveal(), bound.three.reveal()) == (1, "A", "A")
    assert bind(config_of("one: 1\ndeux: a\nnested: [b]"), Aliased).one == 1
    with pytest.raises(ConfigTypeError) as caught:
        bind(config_of("first: 1\ndeux: a\nnested: [b]\nfirts: 3"), Aliased)
    assert caught.value.message == "etc/app.yaml:4:8: `firts` is unknown"
    assert caught.value.hint == "did you mean `one`?" or "remove" in caught.value.hint


def test_a_message_of_a_validator_is_kept_unless_it_repeats_a_secret() -> None:
    class Checked(BaseModel):
        size: Annotated[int, AfterValidator(lambda _: _refuse("size is odd.\nReally."))] = 1
        password: str = "x"
        api_key: Secret[str] = Secret("x")

        @field_validator("password")
        @classmethod
        def check(cls, value: str) -> str:
            _refuse(f"bad: {value}")

        @field_validator("api_key")
        @classmethod
        def check_key(cls, value: Secret[str]) -> Secret[str]:
            _refuse(f"bad: {value.reveal()}")

    text = f"size: 1\npassword: {CANARY}\napi_key: ${{secret:db#password}}"
    with pytest.raises(ConfigErrors) as caught:
        bind(config_of(text, MemoryVault({"db#password": "other-canary"})), Checked)
    assert messages(caught) == [
        "etc/app.yaml:1:7: `size` is refused: size is odd. Really",
        "etc/app.yaml:2:11: `password` is refused by its validator",
        "etc/app.yaml:3:10: `api_key` is refused by its validator",
    ]
    shown = "".join(traceback.format_exception(caught.value))
    assert f"bad: {CANARY}" not in shown
    assert "bad: other" not in shown


def test_a_validator_of_the_whole_model_does_not_leak_either() -> None:
    class Checked(BaseModel):
        token: Secret[str]

        def model_post_init(self, _context: object) -> None:
            _refuse(f"bad: {self.token.reveal()}")

    with pytest.raises(ConfigTypeError, match=r"is refused by its validator$") as caught:
        bind(config_of("token: x${secret:db#password}", vault()), Checked)
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_a_tag_that_is_a_secret_is_not_repeated() -> None:
    class Cat(BaseModel):
        token: Literal["cat"]

    class Dog(BaseModel):
        token: Literal["dog"]

    class Owner(BaseModel):
        pet: Annotated[Cat | Dog, Field(discriminator="token")]

    with pytest.raises(ConfigTypeError) as caught:
        bind(config_of(f"pet: {{token: {CANARY}}}"), Owner)
    assert CANARY not in "".join(traceback.format_exception_only(caught.value))
    assert isinstance(bind(config_of("pet: {token: dog}"), Owner).pet, Dog)


def test_names_the_place_inside_a_union() -> None:
    class One(BaseModel):
        a: int

    class Two(BaseModel):
        b: int

    class Either(BaseModel):
        item: One | Two

    with pytest.raises(ConfigErrors) as caught:
        bind(config_of("item: {a: x}"), Either)
    assert messages(caught)[-1].startswith("etc/app.yaml:1:11: `item.a` is refused: ")


def test_a_validator_that_reveals_what_could_not_be_resolved_adds_no_second_problem() -> None:
    class Eager(BaseModel):
        a: Secret[str]

        @field_validator("a")
        @classmethod
        def check(cls, value: Secret[str]) -> Secret[str]:
            value.reveal()
            return value

    with pytest.raises(AccessDenied, match=r"^etc/app.yaml:1:4: `read` on"):
        bind(config_of("a: ${secret:denied/x}", vault()), Eager)
    with pytest.raises(ConfigErrors) as caught:
        bind(config_of("a: ${secret:denied/x}\nb: 1", vault()), Eager)
    assert len(caught.value.problems) == 2


def test_binds_dataclasses_of_pydantic_and_mixtures() -> None:
    @pydantic.dataclasses.dataclass
    class Inner:
        size: int
        secret: Secret[str]

    @dataclass
    class Outer:
        inner: Inner
        pool: Pool
        path: Path

    bound = bind(config_of("inner: {size: '3', secret: '${secret:a}'}\npool: {}\npath: /x", vault()), Outer)
    assert (bound.inner.size, bound.inner.secret.reveal(), bound.pool.size, bound.path) == (3, "A", 5, Path("/x"))
    with pytest.raises(ConfigErrors) as caught:
        bind(config_of("inner: {size: x, secret: a, x: 1}\npool: {siz: 3}\npath: /x"), Outer)
    assert [message.split(": ")[1].split(" is")[0] for message in messages(caught)] == [
        "`inner.size`",
        "`inner.x`",
        "`pool.siz`",
    ]


def test_pydantic_converts_texts_and_durations() -> None:
    class Typed(BaseModel):
        timeout: dt.timedelta
        when: dt.datetime
        ports: set[int]
        extra: dict[str, list[int]]

    text = "timeout: PT90S\nwhen: 2026-01-31T12:00:00Z\nports: ['1', 2]\nextra: {a: [1]}"
    bound = bind(config_of(text), Typed)
    assert bound.timeout == dt.timedelta(seconds=90)
    assert bound.when == dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
    assert (bound.ports, bound.extra) == ({1, 2}, {"a": [1]})


def test_get_takes_a_model() -> None:
    assert get(config_of(GOOD, vault()), "database", Database).port == 5432


def _refuse(message: str) -> NoReturn:
    raise ValueError(message)
