"""The numbered invariants are one list, and a broken one is refused by its number."""

from __future__ import annotations

import pytest

from ashiato.core import invariants
from ashiato.core.errors import EvidenceError
from ashiato.core.invariants import ALL, J3, Invariant, InvariantError, check


def test_every_invariant_of_the_module_stands_in_the_list_under_its_number() -> None:
    declared = {name: value for name, value in vars(invariants).items() if isinstance(value, Invariant)}
    assert declared
    assert {value.number: value for value in declared.values()} == ALL
    assert all(name == value.number for name, value in declared.items())


def test_a_sentence_says_one_thing_once() -> None:
    assert len({invariant.sentence for invariant in ALL.values()}) == len(ALL)


def test_a_condition_that_holds_passes_in_silence() -> None:
    check(J3, True, partition=1)


def test_a_broken_invariant_is_an_evidence_error_that_names_number_and_facts() -> None:
    with pytest.raises(InvariantError, match="J3 violated") as caught:
        check(J3, False, partition=1)
    assert isinstance(caught.value, EvidenceError)
    assert caught.value.facts == {"invariant": "J3", "partition": 1}
    assert caught.value.code == "invariant"
