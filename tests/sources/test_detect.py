"""What is a secret, what is not, and where a secret goes."""

from __future__ import annotations

import json
import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securecfg.errors import ConfigError, InvalidPath
from securecfg.sources.detection import Confidence, Format, Plan, SourceFile, find_secrets
from securecfg.vault.paths import path_to_bytes


def plan_of(text: str | bytes, name: str = "app.yaml", prefix: str = "") -> Plan:
    content = text.encode() if isinstance(text, str) else text
    return find_secrets([SourceFile(name, content)], prefix=prefix)


def found(text: str, name: str = "app.yaml") -> list[tuple[str, str, str]]:
    plan = plan_of(text, name)
    assert plan.problems == ()
    return [(each.key, each.why, each.value.reveal()) for each in plan.findings]


NO_SECRETS = [
    "password_min_length: twelve",
    "token_url: https://id.example.org/token",
    "secret_name: db-credentials",
    "public_key: MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A",
    "password_file: /run/secrets/db",
    "password: /run/secrets/db",
    "private_key: certs/server.key",
    "password: changeme",
    "password: CHANGE_ME",
    "password: <your password>",
    "password: xxx",
    "password: '***'",
    "password: ''",
    "password: null",
    "password: ~",
    "password: true",
    "password: ${DB_PASSWORD}",
    "password: $DB_PASSWORD",
    "password: '{{ vault_password }}'",
    "password: '%(password)s'",
    "password: '%DB_PASSWORD%'",
    "password: DB_PASSWORD",
    "password: password",
    "password: string",
    "password: op://vault/item/field",
    "password: ENC[AES256_GCM,data:abc]",
    "password: '{cipher}0123456789abcdef'",
    "password: Enter your password",
    "password: $2b$12$abcdefghijklmnopqrstuv",
    "password: user@example.org",
    "api_key: your-api-key",
    "api_key: header",
    "token: bearer",
    "secret: my-tls-secret",
    "existing_secret: db-credentials-7",
    "hash: 9f86d081884c7d659a2feaa0c55ad015",
    "id: 550e8400-e29b-41d4-a716-446655440000",
    "value: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b",
    "commit: Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MA0x9Yz",
    "url: https://example.org:8443/a@b",
    "url: postgres://user:password@localhost/db",
    "url: postgres://app:${PW}@db/app",
    "url: postgres://app@db/app",
    "key: AKIAIOSFODNN7EXAMPLE",
    "properties: {password: {type: string, example: hunter2}}",
    "description: use --password hunter2 to log in",
]


@pytest.mark.parametrize("text", NO_SECRETS)
def test_leaves_what_is_no_secret(text: str) -> None:
    assert found(text) == []


SECRETS = [
    ("password: hunter2", "name says password"),
    ("dbPassword: hunter2", "name says password"),
    ("DB_PASSWORD_PROD: hunter2", "name says password"),
    ("spring.datasource.password: hunter2", "name says password"),
    ("passphrase: correct horse battery", "name says password"),
    ("secretAccessKey: abcd1234efgh", "name says key"),
    ("STRIPE_SECRET_KEY_LIVE: abcd1234efgh", "name says key"),
    ("client_secret: abcd1234efgh", "name says secret"),
    ("client_secret: quite-plain-words", "name says secret"),
    ("apiTokens: [abcd1234efgh]", "name says token"),
    ("jwt: {key: abcd1234efgh}", "name says key"),
    ("{name: DB_PASSWORD, value: hunter2}", "name says password"),
    ("x: &a hunter2\npassword: *a", "name says password"),
    ("url: postgres://app:hunter2@db/app", "password in URL"),
    ("url: redis://:hunter2@db/1", "password in URL"),
    ("dsn: Server=db;Password=hunter2;Encrypt=True", "secret in connection string"),
    ("hook: https://example.org/x?token=hunter2x", "secret in URL"),
    ("header: Bearer abcd1234efgh5678", "authorization header"),
    ("command: [run, --password=hunter2]", "name says password"),
    ("env: [DB_PASSWORD=hunter2]", "name says password"),
    ("seed: Qz81LmX4vTn0Rk7YwP2sJd9HbGc5EaUf6Io3", "looks random"),
]


@pytest.mark.parametrize(("text", "why"), SECRETS)
def test_finds_a_secret_and_says_why(text: str, why: str) -> None:
    assert [each[1] for each in found(text)] == [why]


def test_says_how_sure_it_is() -> None:
    text = "a: redis://:hunter2@h\npassword: hunter2\nseed: Qz81LmX4vTn0Rk7YwP2sJd9HbGc5EaUf6Io3\n"
    levels = [each.confidence for each in plan_of(text).findings]
    assert levels == [Confidence.CERTAIN, Confidence.LIKELY, Confidence.POSSIBLE]


def test_a_file_full_of_random_values_is_data() -> None:
    draw = random.Random(1)
    values = ["".join(draw.choices(string.ascii_letters + string.digits, k=40)) for _ in range(20)]
    plan = plan_of("".join(f"v{number}: {value}\n" for number, value in enumerate(values)))
    assert plan.findings == ()
    assert "left alone" in plan.notices[0].text


def test_a_number_under_a_name_that_says_password_is_told_and_left() -> None:
    plan = plan_of("db:\n  password: 12345678\n")
    assert plan.findings == ()
    assert [(each.line, each.key) for each in plan.notices] == [(2, "db.password")]


@pytest.mark.parametrize("name", ["config/locales/app.yaml", "de.yaml", "messages_fr.yaml", "i18n/x/app.yaml"])
def test_words_for_people_are_no_secrets(name: str) -> None:
    assert found("password: Kennwort1", name) == []


def test_an_env_file_holds_no_labels() -> None:
    assert [each[2] for each in found("DB_PASSWORD='My dear password'\n", ".env")] == ["My dear password"]


def test_shows_place_key_reason_and_target() -> None:
    plan = find_secrets(
        [
            SourceFile(".env", b"# c\nA=1\nSTRIPE_KEY=" + b"sk_" + b"live_51H8aBcDeFgHiJkLmNoPq\n"),
            SourceFile("config/prod.yaml", b"database:\n  url: postgres://u:p%40s@h/d\n"),
        ]
    )
    assert [(f"{each.file}:{each.line}:{each.column}", each.key, each.why, each.target) for each in plan.findings] == [
        (".env:3:12", "STRIPE_KEY", "stripe key", "env/STRIPE_KEY"),
        ("config/prod.yaml:2:8", "database.url", "password in URL", "prod/database/url#password"),
    ]
    assert plan.findings[1].reference == "${secret:prod/database/url#password|url}"
    assert plan.findings[1].value.reveal() == "p@s"
    assert plan.untouched == 1


def test_percent_encoded_bytes_that_are_no_text_are_kept_as_written() -> None:
    (finding,) = plan_of("url: redis://:a%ffb@h").findings
    assert (finding.value.reveal(), finding.reference) == ("a%ffb", "${secret:app/url#password}")


def targets(*names: str, text: str = "password: hunter2") -> list[str]:
    return [each.target for each in find_secrets([SourceFile(name, text.encode()) for name in names]).findings]


def test_files_of_one_stem_are_told_apart() -> None:
    assert targets("a/prod.yaml", "a/prod.yml") == ["prod.yaml/password", "prod.yml/password"]
    assert targets("a/prod.yaml", "b/prod.yaml") == ["a/prod/password", "b/prod/password"]
    assert targets("x/a/p.yaml", "y/a/p.yaml", "z.yaml") == ["x/a/p/password", "y/a/p/password", "z/password"]
    env = [SourceFile(f"{folder}/.env", b"PASSWORD=hunter2") for folder in ("a", "b")]
    assert [each.target for each in find_secrets(env).findings] == ["a/env/PASSWORD", "b/env/PASSWORD"]


def placed(*places: str, name: str = "{}") -> list[str]:
    files = [SourceFile(name.format(place), b"password: hunter2", place=place) for place in places]
    return [each.target for each in find_secrets(files).findings]


def test_a_file_of_a_project_has_the_folders_that_it_lies_in_and_always_the_same() -> None:
    together = ["eu/sms.yaml", "us/sms.yaml", "sms.yaml", "config/prod.yaml", "a/config/prod.yaml", "a/b/config.yaml"]
    expected = ["eu/sms", "us/sms", "sms", "prod", "a/config/prod", "a/b/config"]
    assert placed(*together) == [f"{folder}/password" for folder in expected]
    assert [placed(place) for place in together] == [[f"{folder}/password"] for folder in expected]
    assert [placed(place, name=f"/home/me/shop/{place}") for place in together] == [placed(place) for place in together]
    assert placed("eu/sms.yaml", name="sms.yaml") == ["eu/sms/password"]


def test_files_whose_folders_are_the_same_nevertheless_are_told_apart() -> None:
    assert placed("eu/a.yaml", "eu/a.yml") == ["eu/a.yaml/password", "eu/a.yml/password"]
    assert placed("config/a.yaml", "a.yaml") == ["config/a/password", "a/password"]
    assert placed("config/config/a.yaml", "config/a.yaml") == ["config/a/password", "a/password"]
    files = [SourceFile(f"{shop}/eu/a.yaml", b"password: hunter2", place="eu/a.yaml") for shop in ("one", "two")]
    assert [each.target for each in find_secrets(files).findings] == ["one/eu/a/password", "two/eu/a/password"]


@given(st.lists(st.sampled_from(["a", "b", "config", ".x"]), max_size=3), st.sampled_from(["p.yaml", "p.yml"]))
def test_files_that_lie_in_different_places_never_share_a_path(folders: list[str], name: str) -> None:
    place = "/".join([*folders, name])
    others = ["p.yaml", "a/p.yaml", "config/p.yaml", "b/a/p.yml"]
    assert len(set(placed(place, *(other for other in others if other != place)))) == len({place, *others})


def test_keys_that_a_path_cannot_tell_apart_are_numbered() -> None:
    assert targets("a.yaml", text="{a b: {password: hunter2}, a_b: {password: hunter3}}") == [
        "a/a_b/password",
        "a/a_b/password-2",
    ]


def test_a_second_document_has_its_number_in_the_path() -> None:
    assert targets("a.yaml", text="password: hunter2\n---\npassword: hunter3\n") == ["a/password", "a/2/password"]


def test_the_prefix_comes_first() -> None:
    assert plan_of("password: hunter2", prefix="shop/eu/").findings[0].path == "shop/eu/app/password"


@pytest.mark.parametrize("prefix", ["/", "a//b", "../a", "a#b", "a b", "a$b", 'a"b', "a\n", "a\u200bb"])
def test_refuses_a_prefix_that_is_no_path(prefix: str) -> None:
    if prefix == "/":
        assert plan_of("password: hunter2", prefix=prefix).findings[0].path == "app/password"
        return
    with pytest.raises(InvalidPath) as caught:
        plan_of("password: hunter2", prefix=prefix)
    assert caught.value.code == "invalid-path"


@given(st.lists(st.text(min_size=1), min_size=1, max_size=4), st.text(min_size=1, max_size=30))
def test_every_key_gets_a_valid_path(keys: list[str], stem: str) -> None:
    document: object = {"password": "hunter2"}
    for key in keys:
        document = {key.encode(errors="replace").decode(): document}
    name = stem.replace("/", "_").encode(errors="replace").decode().strip(".") + "x.json"
    for finding in plan_of(json.dumps(document), name).findings:
        path_to_bytes(finding.path)


BAD = [
    ("a.json", b"{", "config-syntax", "a.json:1:2"),
    ("a.json", b'{"a": "b"', "config-syntax", "a.json:1:10"),
    ("a.json", b'{"a": "b', "config-syntax", "a.json:1:7"),
    ("a.json", b'{"a": "\\x"}', "config-syntax", "a.json:1:7"),
    ("a.json", b'{"a": 1, "a": 2}', "config-syntax", "a.json:1:10"),
    ("a.json", b"{'a': 1}", "config-syntax", "a.json:1:2"),
    ("a.json", b'{"a" 1}', "config-syntax", "a.json:1:6"),
    ("a.json", b'{"a": 1} x', "config-syntax", "a.json:1:10"),
    ("a.json", b"[1 2]", "config-syntax", "a.json:1:4"),
    ("a.json", b"", "config-syntax", "a.json:1:1"),
    ("a.json", b"[" * 1000, "config-limit", "a.json:1:101"),
    ("a.json", b'{"a":' * 1000, "config-limit", "a.json:1:501"),
    ("a.json", b'{"a": "x\xff"}', "config-syntax", "a.json:1:9"),
    ("a.yaml", b"a: [", "config-syntax", "a.yaml:2:1"),
    ("a.yaml", b"a: 1\na: 2\n", "config-syntax", "a.yaml:2:1"),
    ("a.yaml", b"a: \x07", "config-syntax", "a.yaml:1:4"),
    ("a.yaml", b"a: b: c", "config-syntax", "a.yaml:1:5"),
    ("a.yaml", b"[" * 1000, "config-limit", "a.yaml:1:101"),
    ("a.yaml", b"a: \xc3", "config-syntax", "a.yaml:1:4"),
    ("a.yaml", "a: 1".encode("utf-16"), "config-syntax", "a.yaml:1:1"),
    ("a.toml", b"a = ", "config-syntax", "a.toml:1"),
    ("a.toml", b"a = 1\na = 2\n", "config-syntax", "a.toml:2:6"),
    ("a.toml", b"a = [" + b"[" * 5000, "config-limit", "a.toml"),
    ("a.toml", b"a = " + b"[" * 150 + b"]" * 150, "config-limit", "a.toml:1:105"),
    ("a.ini", b"[s]\n= x\n", "config-syntax", "a.ini:2:1"),
    (".env", b"A=1\n=x\n", "config-syntax", ".env:2:1"),
    (".env", b"A='x\n", "config-syntax", ".env:1:3"),
    (".env", b'A="x" y\n', "config-syntax", ".env:1:6"),
    (".env", b"A B\n", "config-syntax", ".env:1:1"),
    ("a.txt", b"", "config-syntax", "a.txt"),
    ("a.yaml", b"#" * (4 * 1024 * 1024 + 1), "config-limit", "a.yaml"),
]


@pytest.mark.parametrize(("name", "content", "code", "place"), BAD, ids=range(len(BAD)))
def test_reports_a_bad_file_with_its_place(name: str, content: bytes, code: str, place: str) -> None:
    plan = find_secrets([SourceFile(name, content), SourceFile("good.yaml", b"password: hunter2")])
    assert [(each.code, each.place) for each in plan.problems] == [(code, place)]
    assert [each.target for each in plan.findings] == ["good/password"]


def test_no_problem_quotes_the_file() -> None:
    for name, content in [
        ("a.json", b'{"password": "hunter2'),
        ("a.yaml", b"password: [hunter2"),
        ("a.yaml", b"password: @hunter2"),
        ("a.toml", b"password = hunter2"),
        ("a.ini", b"=hunter2"),
        (".env", b"PASSWORD='hunter2"),
        ("a.json", b'{"hunter2": 1, "hunter2": 2}'),
        ("a.yaml", b"password: hunter2 \xff"),
    ]:
        (problem,) = plan_of(content, name).problems
        assert "hunter2" not in str(problem) + problem.hint + repr(problem)


@pytest.mark.parametrize("fmt", list(Format))
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode(errors="replace")))
def test_any_bytes_are_read_or_refused(fmt: Format, content: bytes) -> None:
    names = {Format.JSON: "a.json", Format.YAML: "a.yaml", Format.TOML: "a.toml", Format.INI: "a.ini"}
    plan = find_secrets([SourceFile(names.get(fmt, ".env"), content)])
    assert all(isinstance(problem, ConfigError) and problem.place for problem in plan.problems)


@pytest.mark.parametrize(
    ("name", "fmt"),
    [
        (".env", Format.DOTENV),
        ("a/.env.local", Format.DOTENV),
        ("prod.env", Format.DOTENV),
        ("A.JSON", Format.JSON),
        (".npmrc", Format.INI),
        ("my.cnf", Format.INI),
        ("a.py", None),
        ("environment", None),
        (".envrc", None),
    ],
)
def test_the_name_tells_the_format(name: str, fmt: Format | None) -> None:
    assert Format.of(name) is fmt


def test_a_value_without_a_key_is_judged_by_its_form() -> None:
    assert found("Qz81LmX4vTn0Rk7YwP2sJd9HbGc5EaUf6Io3") == [
        ("", "looks random", "Qz81LmX4vTn0Rk7YwP2sJd9HbGc5EaUf6Io3")
    ]
    assert found("[Qz81LmX4vTn0Rk7YwP2sJd9HbGc5EaUf6Io3]") == []
    assert found("redis://:hunter2@h") == [("", "password in URL", "hunter2")]


HOSTILE = [
    ("a.ini", "a" + " " * 500_000 + "\n"),
    ("a.ini", "a = " + " " * 250_000 + "x" + " " * 250_000 + "x\n"),
    ("a.ini", "\n".join(f"a{n} = 1" for n in range(50_000))),
    (".env", "A=" + "x " * 250_000),
    (".env", "A=x" + " " * 500_000 + "x"),
    (".env", "PASSWORD=hunter2\n" * 3_000),
    ("a.json", '"' + "-eyJ" * 10_000 + '"'),
    ("a.json", '"' + "a=" + " a" * 30_000 + '"'),
    ("a.json", '"' + "a://:" * 10_000 + '"'),
    ("a.json", '"' + "--a" * 20_000 + '"'),
    ("a.json", "[" + ",".join(["1"] * 200_000) + "]"),
    ("a.json", "/*" * 200_000),
    ("a.yaml", "a: " + "&" * 1_000),
    ("a.yaml", "- " * 90 + "x"),
    ("a.yaml", "a: &a [x]\n" + "".join(f"b{n}: [*a, *a]\n" for n in range(5_000))),
    ("a.toml", "a = '''" + "''x" * 50_000 + "'''"),
    ("a.toml", 'a = """' + "\\\\" * 50_000 + '"""'),
]


@pytest.mark.no_cover
@pytest.mark.timeout(20)
@pytest.mark.parametrize(("name", "text"), HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_takes_no_long_time(name: str, text: str) -> None:
    plan_of(text, name)
