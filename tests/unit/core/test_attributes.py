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


def test_pairs_in_a_line_of_text_are_attributes() -> None:
    body = 'I1121 21:08:56.089641       1 settle.go:88] "Settled batch" batch=9916 msg="a \\"b\\" c" tag="x y" batch=2'
    assert list(leaves(body)) == [("batch", "9916"), ("batch", "2"), ("msg", 'a "b" c'), ("tag", "x y")]
    assert attribute_of(body, "batch") == ["9916", "2"]
    assert has_attribute(body, "tag")
    assert list(leaves("GET /a?b=c&d=e HTTP/1.1")) == []
    assert list(leaves("x == y")) == []


def test_an_event_in_an_envelope_has_its_attributes_beside_the_envelopes() -> None:
    event = '{"auditID":"a","verb":"get","user":{"groups":["g"]}}'
    quoted = event.replace('"', '\\"')
    for body in (
        f'{{"kind":"EventList","items":[{event}]}}',
        f'{{"logEvents":[{{"message":"{quoted}"}}]}}',
        f'{{"category":"kube-audit","properties":{{"log":"{quoted}"}}}}',
        f'{{"timestamp":5,"message":"{quoted}"}}',
    ):
        assert attribute_of(body, "verb") == ["get"]
        assert attribute_of(body, "user.groups") == ["g"]
        assert has_attribute(body, "auditID")
    assert attribute_of('{"message":"{\\"verb\\":\\"get\\"}"}', "verb") == []
