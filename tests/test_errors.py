"""What an error shows to a Python program and to whoever reads its traceback."""

from __future__ import annotations

import copy
import pickle
import traceback

import pytest

from securecfg.errors import ConfigErrors, ConfigTypeError, LogTampered, SecurecfgError


def ending(error: BaseException) -> list[str]:
    """Return the lines with which a traceback of the error ends."""
    return "".join(traceback.format_exception_only(error)).splitlines()


@pytest.mark.parametrize(
    "error",
    [
        SecurecfgError("it failed", hint="do this"),
        ConfigTypeError("it failed", hint="do this", place="a.yaml:1:1"),
        LogTampered("it failed", hint="do this", index=3),
    ],
    ids=lambda error: error.code,
)
def test_a_traceback_ends_with_the_hint(error: SecurecfgError) -> None:
    assert ending(error)[-2].endswith("it failed")
    assert ending(error)[-1] == "hint: do this"


def test_the_text_of_an_error_is_its_message_alone() -> None:
    error = SecurecfgError("it failed", hint="do this")
    assert (str(error), error.message, error.hint) == ("it failed", "it failed", "do this")


def test_without_a_hint_a_traceback_ends_with_the_message() -> None:
    assert ending(SecurecfgError("it failed")) == ["securecfg.errors.SecurecfgError: it failed"]


def test_a_hint_that_changes_changes_the_note_and_no_other() -> None:
    error = SecurecfgError("it failed", hint="do this")
    error.add_note("at page 7")
    error.hint = "do that"
    assert ending(error)[1:] == ["hint: do that", "at page 7"]
    error.hint = ""
    assert ending(error)[1:] == ["at page 7"]


def test_several_problems_end_with_the_first_hint() -> None:
    problems = (SecurecfgError("one", hint="do this"), SecurecfgError("two", hint="do that"))
    assert ending(ConfigErrors(problems))[-3:] == ["  one", "  two", "hint: do this"]


@pytest.mark.parametrize("again", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))], ids=["copy", "pickle"])  # noqa: S301 - our own bytes
def test_a_copy_has_the_hint_once(again: object) -> None:
    assert callable(again)
    error = again(SecurecfgError("it failed", hint="do this"))
    assert (error.hint, ending(error)[1:]) == ("do this", ["hint: do this"])
