"""Attributes of JSON bodies."""

from __future__ import annotations

import pytest

from ashiato.core.attributes import attribute_of, has_attribute, leaves, text_of


@pytest.mark.parametrize(
    ("body", "path", "expected"),
    [
        ('{"a": {"b": 1}}', "a.b", [1]),
        ('{"a.b": 1}', "a.b", [1]),
        ('{"a.b": {"c.d": 1}, "a": {"b.c": {"d": 2}}}', "a.b.c.d", [1, 2]),
        ('{"a": [{"b": "x"}, {"b": ["y", "z"]}, 7]}', "a.b", ["x", "y", "z"]),
        ('{"a": null}', "a", []),
        ('{"a": {"b": 1}}', "a", []),
        ('{"a": {"": 1}}', "a", []),
        ('{"a": {"": 1}}', "a.", [1]),
        ('  {"a": true}', "a", [True]),
        ('["a"]', "a", []),
        ("plain text", "a", []),
        ('{"a": ', "a", []),
        ('{"a": NaN}', "a", []),
        (f'{{"a": {"9" * 5000}}}', "b", []),
        (f'{{"a": {"[" * 100_000}', "a", []),
    ],
)
def test_a_path_gives_the_values_at_its_end(body: str, path: str, expected: list[object]) -> None:
    assert attribute_of(body, path) == expected
    assert [value for at, value in leaves(body) if at == path] == expected


def test_half_a_surrogate_pair_hides_no_other_attribute() -> None:
    body = '{"agent": "\\ud800", "user": "mallory"}'
    assert attribute_of(body, "user") == ["mallory"]
    assert attribute_of(body, "agent") == ["\ufffd"]


def test_an_attribute_exists_where_something_lies_at_or_below_it() -> None:
    body = '{"a": {"b": {"c": 0}}, "d": {}, "e": null}'
    assert [has_attribute(body, path) for path in ("a", "a.b", "a.b.c", "d", "e", "a.b.c.d")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip


def test_values_are_written_as_json_writes_them() -> None:
    written = [text_of(value) for value in ("x", True, 200, 1.5, 100.0, 10**5000)]
    assert written[:5] == ["x", "true", "200", "1.5", "100.0"]
    assert written[5].startswith("0x")
