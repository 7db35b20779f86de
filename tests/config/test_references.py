from __future__ import annotations

import copy
import json
import pickle
import traceback
from typing import cast
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securecfg.config import Config, Layer, Reference, parse_reference
from securecfg.config.from_yaml import parse_yaml
from securecfg.config.references import Template, parse_text
from securecfg.errors import (
    AccessDenied,
    ConfigTypeError,
    InvalidReference,
    SecretNotFound,
    SecurecfgError,
    SettingMissing,
    VaultClosed,
)
from securecfg.secret import Secret
from tests.config.memory_vault import CANARY, MemoryVault


def config_of(text: str, vault: MemoryVault | None = None) -> Config:
    return parse_yaml(text.encode(), Layer("app.yaml", "etc/app.yaml", vault))


@pytest.mark.parametrize(
    "body",
    [
        "",
        "/a",
        "a/",
        "a//b",
        ".",
        "a/../b",
        "./a",
        "a#",
        "a@",
        "a@0",
        "a@01",
        "a@-1",
        "a@3.5.@",
        "a@previous@3",
        "a@1st",
        "a#f#g",
        "a@3#f",
        "a|url#f",
        "a|URL",
        "a|",
        "a|html",
        "a|url|url",
        "a*",
        "a?b",
        "a{b",
        "a\nb",
        "a\0b",
        "a\u200bb",
        "a\u202eb",
        "e\u0301",
        "a#f\u200b",
        "a#f/g",
        "\ud800",
        "a" * 1_025,
        "é" * 513,
        "a@" + "9" * 19,
    ],
)
def test_refuses_a_malformed_reference_without_repeating_it(body: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        parse_reference(body)
    assert caught.value.code == "invalid-reference"
    assert "${secret:PATH}" in caught.value.hint
    assert len(caught.value.message) < 100


@pytest.mark.parametrize(
    "text",
    [
        "${secret:a",
        "${secret:",
        "${Secret:a}",
        "${SECRET:a}",
        "${ secret:a}",
        "${secrets:a}",
        "${secret}",
        "x ${secret :a}",
    ],
)
def test_refuses_what_only_looks_like_a_reference(text: str) -> None:
    with pytest.raises(InvalidReference):
        parse_text(text)


@pytest.mark.parametrize(
    "text", ["", "$", "${", "${}", "${HOME}", "${HOME:-x}", "$secret:a", "{secret:a}", "${secretary:a}"]
)
def test_leaves_other_text_alone(text: str) -> None:
    assert parse_text(text) == text


@pytest.mark.parametrize(
    ("text", "literal"),
    [("$${secret:a}", "${secret:a}"), ("a$${b}", "a${b}"), ("$${$${", "${${"), ("$$$${x", "$$${x"), ("$$", "$$")],
)
def test_undoes_the_escape(text: str, literal: str) -> None:
    assert parse_text(text) == literal


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("${secret:a/b}", (Reference("a/b"),)),
        ("${secret:a#f@3|url}", (Reference("a", "f", 3, "url"),)),
        ("${secret:a@previous}", (Reference("a", at="previous"),)),
        ("x${secret:a}y${secret:b}", ("x", Reference("a"), "y", Reference("b"))),
        ("$${${secret:a}}", ("${", Reference("a"), "}")),
        ("$$${secret:a}", ("$${secret:a}",)),
        ("${secret:a b/ü.é}", (Reference("a b/ü.é"),)),
    ],
)
def test_parses_references_inside_text(text: str, parts: tuple[str | Reference, ...]) -> None:
    parsed = parse_text(text)
    assert parsed == (parts[0] if parts == ("$${secret:a}",) else Template(parts))


_names = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="#@{}*?|/."), min_size=1
)


@given(
    st.lists(_names, min_size=1, max_size=3),
    st.none() | _names,
    st.none() | st.integers(1, 10**12) | st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,9}", fullmatch=True),
    st.sampled_from([None, "url"]),
)
@settings(deadline=None)
def test_a_reference_reads_back_as_it_is_spelled(
    segments: list[str], field: str | None, at: int | str | None, quote: str | None
) -> None:
    reference = Reference("/".join(segments), field, at, cast("None", quote))
    try:
        assert parse_text(str(reference)) == Template((reference,))
    except InvalidReference:
        assert not str(reference).isascii()


@given(st.text(max_size=30))
@settings(deadline=None)
def test_escaping_keeps_any_text(text: str) -> None:
    escaped = text.replace("${", "$${")
    assert parse_text(escaped) == text or "$$" in text


def test_reveals_lazily_and_each_time_anew() -> None:
    vault = MemoryVault({"db/main": "one"})
    secret = config_of("a: ${secret:db/main}", vault).a
    assert vault.calls == []
    assert secret.reveal() == "one"
    vault.secrets["db/main"] = "two"
    assert secret.reveal() == "two"
    assert vault.calls == [(Reference("db/main"),)] * 2


def test_resolves_a_text_with_several_references_in_one_call() -> None:
    vault = MemoryVault({"db#user": "me", "db#password": CANARY})
    secret = config_of("a: x://${secret:db#user}:${secret:db#password|url}@h/?p=${secret:db#password}", vault).a
    assert secret.reveal() == f"x://me:canary-7f3a%2Fp%40ss%20word@h/?p={CANARY}"
    assert vault.calls == [(Reference("db", "user"), Reference("db", "password"))]


SPECIAL = "-._~!$&'()*+,;=:@/?#%[] \"é"
REST = "%3A%40%2F%3F%23%25%5B%5D%20%22%C3%A9"
STRICT = f"-._~!$%26'()*%2B,%3B%3D{REST}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x://me:${secret:k|url}@h/d", f"x://me:-._~!$&'()*+,;={REST}@h/d"),
        ("${secret:k|url}", STRICT),
        ("x://h/d?p=${secret:k|url}&q=1", f"x://h/d?p={STRICT}&q=1"),
        ("x://h, p=${secret:k|url}", f"x://h, p={STRICT}"),
        ("x://h#${secret:k|url}", f"x://h#{STRICT}"),
        ("x://u:1@h,y://u:${secret:k|url}@h", f"x://u:1@h,y://u:-._~!$&'()*+,;={REST}@h"),
    ],
)
def test_quotes_for_a_url_what_must_be_quoted_in_its_place(text: str, expected: str) -> None:
    template = parse_text(text)
    assert isinstance(template, Template)
    assert template.render({Reference("k"): Secret(SPECIAL)}).reveal() == expected


@settings(deadline=None)
@given(st.text(), st.text())
def test_a_quoted_secret_cannot_leave_its_place_in_a_url(user: str, password: str) -> None:
    template = parse_text("x://${secret:u|url}:${secret:p|url}@host:1/d?p=${secret:p|url}&q=1#f")
    assert isinstance(template, Template)
    url = template.render({Reference("u"): Secret(user), Reference("p"): Secret(password)}).reveal()
    assert isinstance(url, str)
    parts = urlsplit(url)
    assert (parts.hostname, parts.port, parts.path, parts.fragment) == ("host", 1, "/d", "f")
    assert (unquote(parts.username or ""), unquote(parts.password or "")) == (user, password)
    assert parse_qs(parts.query, keep_blank_values=True) == {"p": [password], "q": ["1"]}


def test_a_secret_of_bytes_that_stands_alone_stays_bytes() -> None:
    assert config_of("a: ${secret:k}", MemoryVault({"k": b"\xff\0"})).a.reveal() == b"\xff\0"


def test_bytes_that_are_text_may_be_part_of_a_text() -> None:
    assert config_of("a: x${secret:k}", MemoryVault({"k": "é".encode()})).a.reveal() == "xé"


def test_bytes_that_are_no_text_may_not_be_part_of_one() -> None:
    with pytest.raises(ConfigTypeError, match=r"^etc/app.yaml:1:4: the secret `k` is bytes") as caught:
        config_of("a: x${secret:k}", MemoryVault({"k": b"\xff"})).a.reveal()
    assert caught.value.__cause__ is None
    assert "UnicodeDecodeError" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("reference", "error"), [("${secret:gone}", SecretNotFound), ("x ${secret:denied/a}", AccessDenied)]
)
def test_a_failure_names_the_origin(reference: str, error: type[SecurecfgError]) -> None:
    with pytest.raises(error) as caught:
        config_of(f"a:\n  b: {reference}", MemoryVault()).a.b.reveal()
    assert caught.value.message.startswith("etc/app.yaml:2:6: ")
    assert str(caught.value) == caught.value.message


def test_a_resolver_that_fails_as_a_whole_names_the_origin() -> None:
    class Closed(MemoryVault):
        def resolve(self, references: object, /) -> list[Secret[str] | Secret[bytes] | SecurecfgError]:
            message = "the vault is closed"
            raise VaultClosed(message)

    with pytest.raises(VaultClosed, match=r"^etc/app.yaml:1:4: the vault is closed$"):
        config_of("a: ${secret:x}", Closed()).a.reveal()


def test_an_error_that_several_share_is_not_changed() -> None:
    class Shared(MemoryVault):
        error = SecretNotFound("gone", hint="look elsewhere")

        def resolve(self, references: object, /) -> list[Secret[str] | Secret[bytes] | SecurecfgError]:
            return [self.error]

    config = config_of("a: ${secret:x}\nb: ${secret:x}", Shared())
    for key, line in (("a", 1), ("b", 2)):
        with pytest.raises(SecretNotFound) as caught:
            config[key].reveal()
        assert caught.value.message == f"etc/app.yaml:{line}:4: gone"
        assert caught.value.hint == "look elsewhere"
    assert Shared.error.message == "gone"


def test_without_a_vault_says_what_to_pass() -> None:
    with pytest.raises(SettingMissing, match=r"^etc/app.yaml:1:4: ") as caught:
        config_of("a: ${secret:x}").a.reveal()
    assert "vault=" in caught.value.hint


def test_shows_nothing_in_any_form() -> None:
    config = config_of("a: x${secret:k}y\nb: [1, '${secret:k}']", MemoryVault({"k": CANARY}))
    secret = config.a
    shown = f"{secret} {secret!r} {config} {config!r} {config.b} {vars(config)} {copy.deepcopy(secret)}"
    assert CANARY not in shown
    assert "***" in shown
    for encode in (json.dumps, pickle.dumps):
        with pytest.raises(TypeError):
            encode(secret)
