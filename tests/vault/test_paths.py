"""What may be a path, a principal, a label or metadata."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securecfg.errors import InvalidMetadata, InvalidPath
from securecfg.vault.paths import (
    PATH_BYTES_MAX,
    check_label,
    check_metadata,
    check_prefix,
    check_principal,
    check_role,
    path_to_bytes,
    skeleton,
)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "a/./b",
        "../a",
        "a/..",
        " a",
        "a ",
        "a/ b",
        "a\x00b",
        "a\nb",
        "a\tb",
        "\x01policy",
        "a\x7f",
        "a\u0085b",
        "a\u200bb",
        "a\u200db",
        "a\u202eb",
        "\ufeffa",
        "a\u00a0b",
        "a\u2003b",
        "a\u2028b",
        "a\u3164b",
        "a\u2800b",
        "a\ufe0fb",
        "a\U000e0041b",
        "a\ue000b",
        "a\u0378b",
        "a\ud800b",
        "e\u0301",
        "\u212b",
        *(f"a{character}b" for character in "#@{}*?|"),
        "a" * (PATH_BYTES_MAX + 1),
        "\u00e9" * (PATH_BYTES_MAX // 2 + 1),
    ],
)
def test_refuses_a_path_that_breaks_the_rules(path: str) -> None:
    with pytest.raises(InvalidPath) as refused:
        path_to_bytes(path)
    assert refused.value.code == "invalid-path"
    assert refused.value.message.isprintable()
    assert len(refused.value.message) < 200


@pytest.mark.parametrize("path", [None, 1, b"a", ["a"]])
def test_refuses_what_is_no_text(path: object) -> None:
    with pytest.raises((InvalidPath, TypeError)):
        path_to_bytes(path)


@pytest.mark.parametrize(
    "path",
    [
        "a",
        "a/b/c",
        "...",
        "a/...",
        ".env",
        "a b",
        "\u00e9",
        "\u540d\u524d/\u9375",
        "a=b",
        "A",
        "a" * PATH_BYTES_MAX,
        "a\\b",
        "~",
        "%",
    ],
)
def test_accepts_a_path(path: str) -> None:
    assert path_to_bytes(path) == path.encode()


@given(st.text(max_size=40))
def test_a_path_that_is_accepted_is_visible_normal_and_not_of_the_system(path: str) -> None:
    try:
        encoded = path_to_bytes(path)
    except InvalidPath:
        return
    assert encoded.decode() == path
    assert encoded[0] > 1
    assert unicodedata.is_normalized("NFC", path)
    assert all(segment not in {"", ".", ".."} for segment in path.split("/"))
    assert not any(unicodedata.category(character)[0] == "C" for character in path)


@pytest.mark.parametrize("prefix", ["/", "a//", "a/../", "*", " ", "\x01"])
def test_refuses_a_prefix_that_breaks_the_rules(prefix: str) -> None:
    with pytest.raises(InvalidPath):
        check_prefix(prefix)


def test_a_prefix_is_empty_or_a_path_or_a_folder() -> None:
    assert check_prefix("") == b""
    assert check_prefix("a/b") == b"a/b"
    assert check_prefix("a/b/") == b"a/b/"


@pytest.mark.parametrize(
    "name",
    ["", "user:", "ada", "role:admin", "user:a b", "user:-a", "user:a\n", "user:" + "a" * 129, "svc:\u00e9", None],
)
def test_refuses_what_is_no_principal(name: str) -> None:
    with pytest.raises(InvalidMetadata) as refused:
        check_principal(name)
    assert refused.value.code == "invalid-metadata"


@pytest.mark.parametrize("name", ["", "user:a", "a b", "role:", "-a", "a" * 65])
def test_refuses_what_is_no_role(name: str) -> None:
    with pytest.raises(InvalidMetadata):
        check_role(name)


def test_a_role_is_named_with_or_without_its_kind() -> None:
    assert check_role("role:web") == check_role("web") == "web"


@pytest.mark.parametrize("label", ["", "1", "1a", "a b", "current", "previous", "pending", "a" * 65, "a/b", "\u00e9"])
def test_refuses_what_is_no_label_of_people(label: str) -> None:
    with pytest.raises(InvalidMetadata):
        check_label(label)


@pytest.mark.parametrize("metadata", [{"": "a"}, {"a": 1}, {1: "a"}, {"a\n": "b"}, {"a" * 256: "b"}, {"a": "\ud800"}])
def test_refuses_metadata_that_is_not_text_to_text(metadata: dict[str, str]) -> None:
    with pytest.raises(InvalidMetadata):
        check_metadata(metadata)


@pytest.mark.parametrize(
    ("one", "other"), [("payments", "payrnents"), ("O", "0"), ("l", "1"), ("l", "I"), ("a", "\u0430"), ("c", "\u0441")]
)
def test_lookalikes_have_one_skeleton(one: str, other: str) -> None:
    assert skeleton(one) == skeleton(other)


def test_names_that_look_different_have_different_skeletons() -> None:
    assert len({skeleton(name) for name in ("a", "b", "A", "ab", "stripe", "strips")}) == 6
