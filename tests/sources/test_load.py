import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

import pytest

from securecfg.config import Strategy, as_dict, origin
from securecfg.errors import (
    ConfigErrors,
    ConfigLimitExceeded,
    ConfigSyntaxError,
    ConfigTypeError,
    FileMissing,
    SecretInPlainField,
    SecretNotFound,
    SettingMissing,
    StoreFailed,
    UnknownProfile,
    UsageError,
    VaultNotFound,
)
from securecfg.secret import Secret
from securecfg.sources import load
from securecfg.sources.load import DocumentVault
from securecfg.vault import Vault
from tests.config.memory_vault import CANARY, MemoryVault


def write(directory: Path, **files: str) -> Path:
    directory.mkdir(exist_ok=True)
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text)
    return directory


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write(tmp_path / "config", default__yaml="a: default\nb: default\nc: default\n")


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_refuses_to_load_nothing() -> None:
    with pytest.raises(UsageError, match="nothing to load"):
        load()


@pytest.mark.parametrize("name", ["missing.yaml", "missing/", "scheme:x", "x:y.yaml"])
def test_refuses_a_source_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((FileMissing, ConfigSyntaxError)):
        load(name)


def test_says_when_a_scheme_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileMissing) as caught:
        load("consul:app.yaml")
    assert caught.value.hint == "no source named `consul` is installed"


def test_refuses_a_file_of_no_known_format(tmp_path: Path) -> None:
    (tmp_path / "app.xml").write_text("<a/>")
    with pytest.raises(ConfigSyntaxError, match=r"app.xml: its name does not end in a known format"):
        load(tmp_path / "app.xml")


def test_refuses_a_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "app.yaml").write_text(f"a: {'x' * 100_000}")
    assert len(load(tmp_path / "app.yaml").a) == 100_000
    monkeypatch.setattr(sys.modules[load.__module__], "MAX_BYTES", 100_000)
    with pytest.raises(ConfigLimitExceeded, match="is larger than 100000 bytes"):
        load(tmp_path / "app.yaml")


def test_refuses_what_is_no_regular_file(tmp_path: Path) -> None:
    (tmp_path / "app.yaml").symlink_to("/dev/null")
    with pytest.raises(StoreFailed, match="is not a regular file"):
        load(tmp_path / "app.yaml")


def test_refuses_a_directory_that_gives_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="holds neither") as caught:
        load(write(tmp_path / "config", prod__yaml="a: 1", notes__txt="x"))
    assert caught.value.hint == "pass `profile=`; there are: `prod`"
    with pytest.raises(FileMissing) as caught:
        load(write(tmp_path / "empty"))
    assert caught.value.hint == "begin with `default.yaml`"


@pytest.mark.parametrize(
    ("text", "place"), [("a: [", "2:1"), ("a: 1\na: 2", "2:1"), ("a: ${secret:}", "1:4"), ("a: \xff", "1:4")]
)
def test_errors_name_the_path_as_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "config", default__yaml="")
    (tmp_path / "config" / "default.yaml").write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=rf"^config/default.yaml:{place}: "):
        load("config/")


# --- directories and profiles -----------------------------------------------------------------------------------------


def test_a_directory_gives_default_then_the_profile_then_dotenv(directory: Path) -> None:
    write(directory, prod__yaml="b: prod\nc: prod\n", dev__yaml="a: dev")
    (directory / ".env").write_text("c=dotenv\n")
    (directory / "prod.yaml.sig").write_text("not a format")
    config = load(directory, profile="prod")
    assert as_dict(config) == {"a": "default", "b": "prod", "c": "dotenv"}
    assert [str(one) for one in (origin(config, "c"), *origin(config, "c").shadowed)] == [
        ".env:1:3",
        "prod.yaml:2:4",
        "default.yaml:3:4",
    ]
    assert origin(config, "b").path == f"{directory}/prod.yaml"


def test_without_a_profile_there_is_none(directory: Path) -> None:
    write(directory, prod__yaml="a: prod")
    assert load(directory).a == "default"


def test_every_format_may_be_a_part_of_a_profile_in_order_of_names(directory: Path) -> None:
    write(
        directory,
        prod__ini="[i]\nk = 1",
        prod__json='{"j": 1, "i": {"k": 2}}',
        prod__toml="t = 1\nj = 2",
        prod__yml="y: 1",
    )
    assert as_dict(load(directory, profile="prod")) == {
        "a": "default",
        "b": "default",
        "c": "default",
        "i": {"k": 2},
        "j": 2,
        "t": 1,
        "y": 1,
    }


def test_profiles_extend_each_other_parents_first_and_each_once(directory: Path) -> None:
    write(
        directory,
        base__yaml="order: base\nx: base\n",
        eu__yaml="extends: base\norder: eu\ny: eu\n",
        audited__toml='extends = ["base", "default"]\norder = "audited"\ny = "audited"\n',
        prod__json='{"extends": ["eu", "audited"], "order": "prod"}',
    )
    config = load(directory, profile="prod")
    assert [str(one) for one in (origin(config, "order"), *origin(config, "order").shadowed)] == [
        "prod.json:1:41",
        "audited.toml:2:9",
        "eu.yaml:2:8",
        "base.yaml:1:8",
    ]
    assert (config.x, config.y) == ("base", "audited")
    assert "extends" not in config


def test_refuses_a_circle_of_profiles_and_names_each_place(directory: Path) -> None:
    write(directory, a__yaml="extends: b", b__yaml="x: 1\nextends: [c]", c__yaml="extends: b")
    with pytest.raises(ConfigSyntaxError) as caught:
        load(directory, profile="a")
    assert caught.value.message == (
        f"{directory}/c.yaml:1:10: profiles extend each other: "
        f"`c` at {directory}/b.yaml:2:1, `b` at {directory}/c.yaml:1:10"
    )


def test_refuses_a_profile_that_extends_itself(directory: Path) -> None:
    write(directory, a__yaml="extends: a")
    with pytest.raises(ConfigSyntaxError, match=r"a.yaml:1:10: profiles extend each other: `a` at"):
        load(directory, profile="a")


def test_refuses_an_unknown_profile_with_a_suggestion(directory: Path) -> None:
    write(directory, prod__yaml="extends: bsae", base__yaml="a: 1", zzz__yaml="a: 1")
    with pytest.raises(UnknownProfile, match=r"(?m)^there is no profile `prdo`$") as caught:
        load(directory, profile="prdo")
    assert caught.value.hint == "did you mean `prod`?"
    assert caught.value.code == "unknown-profile"
    with pytest.raises(UnknownProfile, match=r"(?m)prod.yaml:1:10: there is no profile `bsae`$") as caught:
        load(directory, profile="prod")
    assert caught.value.hint == "did you mean `base`?"
    with pytest.raises(UnknownProfile) as caught:
        load(directory, profile="other")
    assert caught.value.hint == "there are: `base`, `prod`, `zzz`"


def test_refuses_a_profile_without_a_directory(tmp_path: Path) -> None:
    (tmp_path / "app.yaml").write_text("a: 1")
    with pytest.raises(UnknownProfile) as caught:
        load(tmp_path / "app.yaml", profile="prod")
    assert caught.value.hint == "a profile is a file `PROFILE.yaml`"


@pytest.mark.parametrize("name", ["", "default", "../prod", "a/b", "a.b", ".", "-x", "a\n", "é", "a" * 65])
def test_refuses_what_cannot_name_a_profile(directory: Path, name: str) -> None:
    with pytest.raises(UsageError, match="a profile's name is"):
        load(directory, profile=name)


@pytest.mark.parametrize("extends", ["3", "{a: 1}", "[1]", "[[a]]", "../x", "null", "${secret:x}"])
def test_refuses_an_extends_that_names_no_profile(directory: Path, extends: str) -> None:
    write(directory, prod__yaml=f"extends: {extends}")
    with pytest.raises(ConfigTypeError, match=r"prod.yaml:1:\d+: `extends` is neither"):
        load(directory, profile="prod")


def test_extends_is_an_ordinary_key_outside_profiles(tmp_path: Path) -> None:
    assert load(write(tmp_path / "config", default__yaml="extends: x")).extends == "x"


def test_several_directories_share_a_profile_and_later_ones_win(tmp_path: Path) -> None:
    one = write(tmp_path / "one", default__yaml="a: one\nb: one", prod__yaml="extends: base\nb: one-prod\nc: one-prod")
    two = write(tmp_path / "two", default__yaml="c: two", base__yaml="d: two-base")
    config = load(one, two, profile="prod")
    assert as_dict(config) == {"a": "one", "b": "one-prod", "c": "two", "d": "two-base"}


# --- other sources ----------------------------------------------------------------------------------------------------


def test_later_sources_win_and_the_environment_over_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one.yaml").write_text("a: {x: 1, y: 1, z: 1}")
    (tmp_path / "two.json").write_text('{"a": {"y": 2, "z": 2}}')
    monkeypatch.setenv("SHOP_A__Z", "3")
    config = load(tmp_path / "one.yaml", str(tmp_path / "two.json"), env_prefix="SHOP_")
    assert as_dict(config) == {"a": {"x": 1, "y": 2, "z": "3"}}
    assert str(origin(config, "a.z")) == "environment:SHOP_A__Z"
    assert "SHOP_" not in str(as_dict(load(tmp_path / "one.yaml")))


def test_the_environment_alone_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_A", "1")
    assert as_dict(load(env_prefix="SHOP")) == {"a": "1"}


@pytest.mark.parametrize("name", [".env", ".env.local", "prod.env"])
def test_reads_dotenv_files_by_their_names(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("A__b='x'")
    assert load(tmp_path / name).A.b == "x"


def test_strategies_reach_the_merge(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("a: [1]")
    (tmp_path / "two.yaml").write_text("a: [2]")
    config = load(tmp_path / "one.yaml", tmp_path / "two.yaml", strategies={"a": Strategy.APPEND})
    assert config.a == (1, 2)


def test_a_document_of_the_vault_is_a_layer(tmp_path: Path) -> None:
    (tmp_path / "app.yaml").write_text("a: file\nb: file")
    documents = {"app/config": (b"b: ${secret:k}\nc: x", "application/yaml; charset=utf-8")}
    vault = MemoryVault({"k": CANARY}, documents)
    config = load(tmp_path / "app.yaml", "vault:app/config", vault=vault)
    assert config.b.reveal() == CANARY
    assert str(origin(config, "c")) == "vault:app/config:2:4"
    with pytest.raises(SecretNotFound):
        load("vault:other", vault=vault)


@pytest.mark.parametrize("content_type", ["text/plain", "", "application/octet-stream"])
def test_refuses_a_document_of_no_known_format(content_type: str) -> None:
    with pytest.raises(ConfigSyntaxError, match=r"^vault:x: the content is of a type"):
        load("vault:x", vault=MemoryVault(documents={"x": (b"", content_type)}))


def test_the_vault_itself_is_what_load_asks_for() -> None:
    assert issubclass(Vault, DocumentVault)


def test_refuses_a_vault_that_is_none(directory: Path) -> None:
    with pytest.raises(UsageError, match="`vault` is neither"):
        load(directory, vault=3)  # type: ignore[call-overload]  # what is tested


def test_opens_a_vault_that_is_named_by_its_path(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECURECFG_KEY", "file:app.key")
    with pytest.raises(VaultNotFound, match=r"app\.vault"):
        load(directory, vault="app.vault")


def test_refuses_a_document_without_a_vault() -> None:
    class ResolverOnly:
        def resolve(self, _references: object, /) -> list[Secret[str]]:
            return []

    for vault in (None, ResolverOnly()):
        with pytest.raises(SettingMissing, match="`vault:x` is a document of a vault"):
            load("vault:x", vault=vault)


def test_a_path_object_is_always_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("vault:x.yaml").write_text("a: 1")
    assert load(Path("vault:x.yaml")).a == 1


# --- secrets and models -----------------------------------------------------------------------------------------------


@dataclass
class Settings:
    a: str
    password: Secret[str]


def test_a_model_gets_its_secrets_in_one_call(tmp_path: Path) -> None:
    (tmp_path / "app.yaml").write_text("a: x\npassword: ${secret:db#password}")
    vault = MemoryVault({"db#password": CANARY})
    settings = load(tmp_path / "app.yaml", model=Settings, vault=vault)
    assert settings.password.reveal() == CANARY
    assert len(vault.calls) == 1
    assert CANARY not in repr(settings)


def test_a_resolver_alone_will_do_as_a_vault(tmp_path: Path) -> None:
    (tmp_path / "app.yaml").write_text("a: ${secret:k}")

    class ResolverOnly:
        def resolve(self, references: object, /) -> list[Secret[str]]:
            return [Secret(CANARY)]

    assert load(tmp_path / "app.yaml", vault=ResolverOnly()).a.reveal() == CANARY


def test_without_a_model_nothing_is_resolved(tmp_path: Path) -> None:
    (tmp_path / "app.yaml").write_text("a: ${secret:k}")
    vault = MemoryVault()
    config = load(tmp_path / "app.yaml", vault=vault)
    assert vault.calls == []
    with pytest.raises(SecretNotFound, match=r"app.yaml:1:4: "):
        config.a.reveal()


def test_all_problems_of_all_layers_are_reported_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "config", default__yaml="a: ${secret:gone}\n")
    monkeypatch.setenv("SHOP_PASWORD", CANARY)
    with pytest.raises(ConfigErrors) as caught:
        load("config", model=Settings, vault=MemoryVault(), env_prefix="SHOP")
    assert [one.message for one in caught.value.problems] == [
        "config/default.yaml: `password` is missing",
        "config/default.yaml:1:4: there is no secret `gone`",
        "config/default.yaml:1:4: `a` is a secret, and its field is not",
        "environment:SHOP_PASWORD: `pasword` is unknown",
    ]
    assert isinstance(caught.value.problems[2], SecretInPlainField)
    assert caught.value.problems[3].hint == "did you mean `password`?"
    assert CANARY not in "".join(traceback.format_exception_only(caught.value))


# --- imports ----------------------------------------------------------------------------------------------------------

PROBE = """
import sys, pathlib
import securecfg.config
from securecfg.sources import load
from securecfg.config import bind, get, origin
from dataclasses import dataclass
@dataclass
class Model:
    a: int
directory = pathlib.Path(sys.argv[1])
config = load(directory, profile="prod", env_prefix="SHOP")
assert load(directory, model=Model).a == 1
assert str(origin(config, "a")) == "default.yaml:1:4"
heavy = {"cryptography", "pydantic", "apsw", "cedarpy", "importlib.metadata", "tomlkit", "ruamel"} & set(sys.modules)
sys.exit(f"imported: {sorted(heavy)}" if heavy else 0)
"""


def test_ordinary_loading_imports_nothing_heavy(tmp_path: Path) -> None:
    directory = write(tmp_path / "config", default__yaml="a: 1", prod__toml="b = 1", prod__json="{}", prod__ini="")
    (directory / ".env").write_text("X=1")
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(directory)], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.returncode == 0
