"""A secret shows nothing of itself, whatever Python does to it, and gives its value to who asks for it."""

from __future__ import annotations

import copy
import json
import pickle
import traceback
from typing import TYPE_CHECKING, Any

import pydantic
import pytest

from securecfg.secret import MASK, Secret

if TYPE_CHECKING:
    from collections.abc import Callable

CANARY = "canary-7f3a"


class Model(pydantic.BaseModel):
    text: Secret[str]
    raw: Secret[bytes] = Secret(b"")


@pytest.mark.parametrize(
    "show",
    [repr, str, "{}".format, "%s".__mod__, lambda secret: f"{secret!r:>40}", lambda secret: f"{[secret]}"],
)
def test_shows_a_mask(show: Callable[[object], str]) -> None:
    shown = show(Secret(CANARY, label="db/main"))
    assert CANARY not in shown
    assert MASK in shown


def test_is_not_in_a_traceback_with_locals() -> None:
    secret = Secret(CANARY)
    try:
        raise ValueError(secret)
    except ValueError as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert CANARY not in shown.replace(f'"{CANARY}"', "").replace("CANARY = ", "")


@pytest.mark.parametrize("leave", [pickle.dumps, json.dumps, iter, hash, list, copy.copy])
def test_leaves_only_as_itself(leave: Callable[[Any], object]) -> None:
    secret = Secret(CANARY)
    if leave is copy.copy:
        assert copy.copy(secret) is secret
        assert copy.deepcopy(secret) is secret
        return
    with pytest.raises(TypeError):
        leave(secret)


def test_cannot_be_changed_and_holds_text_or_bytes_only() -> None:
    with pytest.raises(AttributeError):
        Secret(CANARY).label = "other"  # type: ignore[misc]  # what an untyped caller may try
    with pytest.raises(TypeError):
        Secret(7)  # type: ignore[type-var]  # as above


def test_compares_by_value_and_type() -> None:
    assert Secret("a") == Secret("a")
    assert Secret(b"a") == Secret(b"a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != Secret(b"a")
    assert Secret("a") != "a"


def test_lends_a_buffer_that_is_wiped() -> None:
    with Secret("ä").view() as view:
        kept = view.obj
        assert bytes(view) == "ä".encode()
    assert bytes(kept) == bytes(2)


def test_a_deferred_secret_is_fetched_at_each_reveal() -> None:
    values = iter("ab")
    secret: Secret[str] = Secret.deferred(lambda: next(values), label="later")
    assert (secret.label, secret.reveal(), secret.reveal()) == ("later", "a", "b")


def test_a_model_can_be_dumped_and_made_again_and_masks_itself_in_json() -> None:
    model = Model.model_validate({"text": CANARY, "raw": b"\x00"})
    assert CANARY not in repr(model) + model.model_dump_json() + str(model.model_dump())
    again = Model.model_validate(model.model_dump())
    assert again.text.reveal() == CANARY
    assert json.loads(model.model_dump_json())["text"] == MASK
    assert Model.model_json_schema()["properties"]["text"]["format"] == "password"


@pytest.mark.parametrize("value", [MASK, 7, None, b"bytes"])
def test_a_model_refuses_what_is_no_secret(value: object) -> None:
    with pytest.raises(pydantic.ValidationError):
        Model.model_validate({"text": value})
