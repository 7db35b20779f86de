from __future__ import annotations

import base64
import os
import re
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securecfg.crypto.allowed_signers import MAX_FILE_BYTES, is_match, parse_allowed_signers
from securecfg.errors import InvalidTrustFile, Unsupported
from securecfg.octets import var32

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = var32(b"ssh-ed25519") + var32(bytes(range(32)))
PUBLIC = f"ssh-ed25519 {base64.b64encode(KEY).decode()}"


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


def _refused(line: str | bytes) -> str:
    content = line if isinstance(line, bytes) else line.encode()
    with pytest.raises(InvalidTrustFile) as caught:
        parse_allowed_signers(content, source="trust")
    assert "\n" not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize(
    ("line", "place", "problem"),
    [
        (b"alice \xff", "trust:1:7", "not UTF-8"),
        (f"alice {PUBLIC}\r", f"trust:1:{7 + len(PUBLIC)}", "a control character"),
        (f"al\0ice {PUBLIC}", "trust:1:3", "a control character"),
        (f"al\u2028ice {PUBLIC}", "trust:1:3", "a control character"),
        (f'"alice {PUBLIC}', "trust:1:1", "a quotation mark is not closed"),
        (f'al"i"ce {PUBLIC}', "trust:1:1", "the principals are malformed"),
        (f'"" {PUBLIC}', "trust:1:1", "the principals are malformed"),
        ("alice", "trust:1:6", "no key type"),
        (PUBLIC, "trust:1:13", "an option is malformed"),
        (f"alice rsa {PUBLIC}", "trust:1:7", "unknown option `rsa`"),
        (f'alice namespace="file" {PUBLIC}', "trust:1:7", "unknown option `namespace`"),
        (f'alice namespaces="a",namespaces="b" {PUBLIC}', "trust:1:22", "option `namespaces` is given twice"),
        (f'alice NameSpaces="a",namespaces="b" {PUBLIC}', "trust:1:22", "option `namespaces` is given twice"),
        (f'alice namespaces="a", {PUBLIC}', "trust:1:7", "an option is malformed"),
        (f'alice ,namespaces="a" {PUBLIC}', "trust:1:7", "an option is malformed"),
        (f"alice namespaces=a {PUBLIC}", "trust:1:7", "an option is malformed"),
        (f"alice namespaces {PUBLIC}", "trust:1:7", 'option `namespaces` needs a value in quotes, `="..."`'),
        (f'alice namespaces="a\\" {PUBLIC}', "trust:1:7", "a quotation mark is not closed"),
        (f'alice cert-authority="yes" {PUBLIC}', "trust:1:7", "option `cert-authority` takes no value"),
        (f'alice valid-after="2026" {PUBLIC}', "trust:1:1", "`valid-after` is not a time: `2026`"),
        (f'alice valid-after="20261301" {PUBLIC}', "trust:1:1", "`valid-after` is not a time: `20261301`"),
        (f'alice valid-before="2026010a" {PUBLIC}', "trust:1:1", "`valid-before` is not a time: `2026010a`"),
        (f'alice valid-before="٢٠٢٦٠١٠١" {PUBLIC}', "trust:1:1", "`valid-before` is not a time: `٢٠٢٦٠١٠١`"),
        (f'alice valid-before="20260101ZZ" {PUBLIC}', "trust:1:1", "`valid-before` is not a time: `20260101ZZ`"),
        (
            f'alice valid-after="20260101Z",valid-before="20260101Z" {PUBLIC}',
            "trust:1:1",
            "`valid-before` is not later",
        ),
        (f'alice namespaces="a" {PUBLIC.split()[1]}', "trust:1:22", "no key type"),
        ("alice ssh-ed25519", "trust:1:18", "the key is not valid base64 of a public key"),
        ("alice ssh-ed25519 AAAA!", "trust:1:19", "the key is not valid base64 of a public key"),
        ("alice ssh-ed25519 AAAA", "trust:1:19", "the key is not valid base64 of a public key"),
        (f"alice ssh-rsa {PUBLIC.split()[1]}", "trust:1:15", "the key is not of type `ssh-rsa`"),
        (f"bob {PUBLIC}\n# note\n\nalice ssh-rsa AAAA", "trust:4:15", "the key is not valid base64"),
    ],
)
def test_refuses_a_wrong_line_and_names_its_place(line: str | bytes, place: str, problem: str) -> None:
    assert _refused(line).startswith(f"{place}: {problem}")


def test_refuses_a_file_beyond_the_limit() -> None:
    assert "larger than" in _refused(b"#" * (MAX_FILE_BYTES + 1))
    assert parse_allowed_signers(b"#" * MAX_FILE_BYTES) == ()


@pytest.mark.parametrize("option", ["cert-authority", 'CERT-AUTHORITY,namespaces="file"'])
def test_refuses_certificate_authorities_as_unsupported(option: str) -> None:
    with pytest.raises(Unsupported, match=r"(?m)^trust:2: certificate authorities are not supported$"):
        parse_allowed_signers(f"# ours\n*@example.com {option} {PUBLIC}".encode(), source="trust")


def test_refuses_a_certificate_in_the_place_of_a_key() -> None:
    kind = "ssh-ed25519-cert-v01@openssh.com"
    line = f"alice {kind} {base64.b64encode(var32(kind.encode())).decode()}"
    with pytest.raises(Unsupported):
        parse_allowed_signers(line.encode())


def test_reads_every_part_of_a_line() -> None:
    options = 'namespaces="file,config@*",valid-after="20260101Z",VALID-BEFORE="202612312359Z"'
    [signer] = parse_allowed_signers(f'  "alice,bob smith"\t{options}  {PUBLIC}\talice at work\n'.encode())
    assert signer.principals == "alice,bob smith"
    assert signer.key == KEY
    assert signer.namespaces == "file,config@*"
    assert signer.valid_after_s == 1767225600
    assert signer.valid_before_s == 1798761540


def test_reads_an_escaped_quotation_mark_in_an_option() -> None:
    [signer] = parse_allowed_signers(f'alice namespaces="a\\"b c" {PUBLIC}'.encode())
    assert signer.namespaces == 'a"b c'


def test_ignores_blank_lines_and_comments() -> None:
    assert parse_allowed_signers(b"") == ()
    assert parse_allowed_signers(b"\n \t\n# alice\n  # bob\n") == ()


def test_keeps_keys_of_unsupported_types_apart_instead_of_refusing_the_file() -> None:
    dsa = base64.b64encode(var32(b"ssh-dss")).decode()
    signers = parse_allowed_signers(f"old ssh-dss {dsa}\nalice {PUBLIC}\n".encode())
    assert [signer.principals for signer in signers] == ["old", "alice"]


@pytest.mark.usefixtures("berlin")
def test_a_time_without_a_zone_is_the_machines_own() -> None:
    [signer] = parse_allowed_signers(f'alice valid-after="20260701" {PUBLIC}'.encode())
    assert os.environ["TZ"] == "Europe/Berlin"
    assert signer.valid_after_s == 1782856800


@pytest.mark.parametrize(
    ("text", "patterns", "expected"),
    [
        ("alice", "alice", True),
        ("alice", "Alice", False),
        ("alice", "bob,alice", True),
        ("alice", "bob, alice", False),
        ("alice@example.com", "*@example.com", True),
        ("alice@example.com", "*@example.com,!alice@*", False),
        ("alice@example.com", "!alice@*,*@example.com", False),
        ("bob@example.com", "!alice@*,*@example.com", True),
        ("bob", "!alice", False),
        ("alice", "al?ce", True),
        ("alce", "al?ce", False),
        ("alice", "alice?", False),
        ("alice", "alice*", True),
        ("alice", "", False),
        ("", "", True),
        ("", "*", True),
        ("a*b", "a*b", True),
        ("aXbXc", "a*b*d", False),
        ("a.c", "a[.]c", False),
    ],
)
def test_matches_pattern_lists_as_openssh_does(text: str, patterns: str, expected: bool) -> None:
    assert is_match(text, patterns) is expected


@given(st.text("ab*?", max_size=8), st.text("ab*?", max_size=8))
def test_a_star_is_any_text_and_a_question_mark_any_character(text: str, pattern: str) -> None:
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    assert is_match(text, pattern) is bool(re.fullmatch(expression, text))


def test_many_stars_take_no_exponential_time() -> None:
    assert not is_match("a" * 5000, "*a" * 100 + "b")


@given(st.binary(max_size=200) | st.text('al ,="\\\t!*#-zZ0' + PUBLIC[:12], max_size=60).map(str.encode))
def test_arbitrary_bytes_give_signers_or_a_named_error(content: bytes) -> None:
    try:
        parse_allowed_signers(content)
    except (InvalidTrustFile, Unsupported) as error:
        message = error.message
    else:
        return
    assert re.match(r"allowed_signers:\d+:", message)
