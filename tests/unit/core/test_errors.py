"""Errors say whose fault it is; the ones that may be tried again are one family."""

from __future__ import annotations

import inspect

import pytest

from ashiato.core import errors
from ashiato.core.errors import (
    AlreadyExistsError,
    AshiatoError,
    EvidenceError,
    OutcomeUnknownError,
    RefusedError,
    RejectedError,
    TransientError,
)
from ashiato.core.invariants import InvariantError

_CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, AshiatoError)] + [
    InvariantError
]


@pytest.mark.parametrize("kind", _CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_keeps_its_facts_and_says_them(kind: type[AshiatoError]) -> None:
    error = kind("something is wrong", offset=12, path="a/b")
    assert error.facts == {"offset": 12, "path": "a/b"}
    assert str(error) == "something is wrong (offset=12, path=a/b)"
    assert str(kind("plain")) == "plain"


def test_codes_are_bounded_and_told_apart() -> None:
    codes = [kind.code for kind in _CLASSES]
    assert len(set(codes)) == len(codes)


def test_only_somebody_elses_bad_moment_may_be_tried_again() -> None:
    assert issubclass(OutcomeUnknownError, TransientError)
    for final in (EvidenceError, RejectedError, RefusedError, AlreadyExistsError, InvariantError):
        assert not issubclass(final, TransientError)
