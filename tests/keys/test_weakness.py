"""What is found weak, and what is not."""

from __future__ import annotations

import pytest

from securecfg.keys.weakness import weakness_of


@pytest.mark.parametrize(
    ("passphrase", "words"),
    [
        ("x", "has fewer than 12 characters"),
        ("k7#Lq9vT2!x", "has fewer than 12 characters"),
        ("e\N{COMBINING ACUTE ACCENT}" * 6, "has fewer than 12 characters"),
        ("aaaaaaaaaaaaaaaa", "repeats a few characters"),
        ("aAaAbBbB1111aaaa", "repeats a few characters"),
        ("moss12moss12moss12", "repeats a few characters"),
        ("correct horse battery staple", "is among the first that are tried"),
        ("Password2024!!", "is among the first that are tried"),
        ("!!Top-Secret 1234!!", "is among the first that are tried"),
        ("123456789012", "is among the first that are tried"),
        ("0987654321098", "is among the first that are tried"),
        ("abcdefghijklmnop", "is among the first that are tried"),
        ("Qwertyuiop[asdf", "is among the first that are tried"),
        ("____----====++++", "repeats a few characters"),
        ("!@#$%^&*()_+", "is among the first that are tried"),
    ],
)
def test_says_what_is_weak(passphrase: str, words: str) -> None:
    assert weakness_of(passphrase) == words


@pytest.mark.parametrize(
    "passphrase",
    [
        "k7#Lq9vT2!xW",
        "moss lantern quarry plum",
        "moss lantern quarry plum moss lantern quarry plum",
        "83720196450287",
        "Ελληνικά λόγια 77",
        "x" + "password" * 3,
    ],
)
def test_has_nothing_to_say_of_others(passphrase: str) -> None:
    assert weakness_of(passphrase) == ""
