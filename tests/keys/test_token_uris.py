"""RFC 7512 as far as it names a key, and nothing that is not understood."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import securecfg
from securecfg.errors import InvalidKeyUri
from securecfg.keys import KeyUri, open_provider
from securecfg.keys.tokens import TokenUri, parse_token_uri

NOTHING = TokenUri(None, None, None, None, None, None, None, None, None, None, None)
MODULE = "module-path=/usr/lib/hsm.so"
ON = NOTHING._replace(module_path="/usr/lib/hsm.so")
PACKAGE = str(Path(securecfg.__file__).parent)


def parse(rest: str) -> TokenUri:
    return parse_token_uri(KeyUri("pkcs11", rest))


@pytest.mark.parametrize(
    ("rest", "named"),
    [
        (f"object=vault?{MODULE}", ON._replace(object="vault")),
        (f"object=the%20vault%C3%A9?{MODULE}", ON._replace(object="the vault\u00e9")),
        (f"id=%01%fe%00?{MODULE}", ON._replace(id=b"\x01\xfe\x00")),
        (f"id=a~b?{MODULE}", ON._replace(id=b"a~b")),
        (
            f"token=HSM;manufacturer=M&N;serial=0a1b;model=v2;slot-id=7;object=k;id=%01;type=private?{MODULE}",
            ON._replace(
                token="HSM",
                manufacturer="M&N",
                serial="0a1b",
                model="v2",
                slot_id=7,
                object="k",
                id=b"\x01",
                type="private",
            ),
        ),
        (f"type=secret-key;object=a=b?{MODULE}", ON._replace(object="a=b", type="secret-key")),
        ("object=k?module-name=softhsm2", NOTHING._replace(object="k", module_name="softhsm2")),
        (f"object=k?pin-source=env:PIN&{MODULE}", ON._replace(object="k", pin_source="env:PIN")),
        (
            f"object=k?pin-source=file:///etc/p%20n?x|y&{MODULE}",
            ON._replace(object="k", pin_source="file:///etc/p n?x|y"),
        ),
    ],
)
def test_reads_what_the_attributes_say(rest: str, named: TokenUri) -> None:
    assert parse(rest) == named


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "?",
        f"?{MODULE}",
        f"token=x?{MODULE}",
        "object=k",
        "object=k?",
        f"object=k?{MODULE}&module-name=x",
        f"object=k?{MODULE}&{MODULE}",
        f"object=k;object=k?{MODULE}",
        f"object=?{MODULE}",
        f"object?{MODULE}",
        f"object=k;?{MODULE}",
        f";object=k?{MODULE}",
        f"object=k?{MODULE}&",
        f"Object=k?{MODULE}",
        f"object=a b?{MODULE}",
        f"object=\u00e9?{MODULE}",
        f"object=a/b?{MODULE}",
        f"object=a%2?{MODULE}",
        f"object=a%zz?{MODULE}",
        f"object=%ff?{MODULE}",
        f"object=%00?{MODULE}",
        f"object=a%0Ab?{MODULE}",
        f"object=k#x?{MODULE}",
        f"object=k;type=public?{MODULE}",
        f"object=k;type=cert?{MODULE}",
        f"object=k;slot-id=x?{MODULE}",
        f"object=k;slot-id=-1?{MODULE}",
        f"object=k;slot-id=%31?{MODULE}",
        f"object=k;slot-id={'9' * 20}?{MODULE}",
        f"object=k;library-version=2.6?{MODULE}",
        f"object=k;x-vendor=1?{MODULE}",
        f"object=k;pin-source=env:PIN?{MODULE}",
        f"object=k?x-vendor=1&{MODULE}",
        f"object=k?token=x&{MODULE}",
        "object=k?module-path=lib/hsm.so",
        "object=k?module-path=%2e%2e/hsm.so",
        "object=k?module-name=../hsm",
        "object=k?module-name=a/b",
        f"object=k?pin-source=&{MODULE}",
        f"object=k?pin-source=PIN&{MODULE}",
        f"object=k?pin-source=env:&{MODULE}",
        f"object=k?pin-source=env:1&{MODULE}",
        f"object=k?pin-source=fd:x&{MODULE}",
        f"object=k?pin-source=file:pin&{MODULE}",
        f"object=k?pin-source=file://host/pin&{MODULE}",
        f"object=k?pin-source=|pass%20show%20pin&{MODULE}",
        f"object=k?pin-source=https://example.com/pin&{MODULE}",
    ],
)
def test_refuses_what_is_not_understood(rest: str) -> None:
    with pytest.raises(InvalidKeyUri) as refused:
        open_provider(f"pkcs11:{rest}")
    assert refused.value.hint


@pytest.mark.parametrize(
    "rest",
    [
        f"object=k?pin-value=canary&{MODULE}",
        f"object=k?{MODULE}&pin-value=canary",
        f"object=k;pin-value=canary?{MODULE}",
        f"object=k?pin-valu=canary&{MODULE}",
        f"object=k?pin-value=canary%zz&{MODULE}",
        "canary",
        f"object=k?{MODULE}&canary",
    ],
)
def test_a_pin_in_a_uri_is_refused_and_not_shown(rest: str) -> None:
    with pytest.raises(InvalidKeyUri) as refused:
        parse(rest)
    frames = traceback.TracebackException.from_exception(refused.value, capture_locals=True).stack
    shown = [repr(frame.locals) for frame in frames if frame.filename.startswith(PACKAGE)]
    assert shown
    assert "canary" not in "\n".join([*shown, refused.value.message, refused.value.hint])


@given(st.text(max_size=60) | st.text("objectkidtn=;?&%2F1-", max_size=60))
def test_any_text_is_a_uri_or_a_named_error(text: str) -> None:
    try:
        named = parse(text)
    except InvalidKeyUri:
        return
    assert named.object or named.id
    assert named.module_path or named.module_name


def test_names_a_key_and_a_token_for_people() -> None:
    assert ON._replace(object="k", id=b"\x01").key_name == "k"
    assert ON._replace(id=b"\x01\xfe").key_name == "id 01fe"
    assert ON._replace(token="t", serial="s").token_name == "t"
    assert ON._replace(serial="s").token_name == "s"
    assert ON._replace(slot_id=0).token_name == "slot 0"
    assert ON.token_name == "any token"
