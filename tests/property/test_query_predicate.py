"""The vectorised predicate against what the words of ``core.query`` say, read row by row."""

from __future__ import annotations

import fnmatch
import json

import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ashiato.core.attributes import attribute_of, has_attribute, leaves, text_of
from ashiato.core.errors import RejectedError
from ashiato.core.predicate import mask
from ashiato.core.query import Exists, Node, Term, Wildcard
from ashiato.core.table import SCHEMA
from ashiato.core.tokens import TOKEN_CHARS_MAX, tokens

LONG = "x" * TOKEN_CHARS_MAX
PIECES = st.sampled_from(
    (
        "a", "ab", "A", "B", "bc", "認", "認証", "証に", "に失", "猫", "ß", "ss", "SS", "\u017f", "\u212a", "k", "é",
        "É", "ﬀ", "İ", "i", " ", "-", ".", "_", "\n", "\x00", "。", "\u0307", "٣", "3", LONG, "x", "ⅷ", "\U0002a700",
    )
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=8).map("".join)
BODIES = st.lists(st.none() | TEXTS, max_size=6)


def marks(node: Node, bodies: list[str | None]) -> list[bool | None]:
    columns = {field.name: pa.nulls(len(bodies), field.type) for field in SCHEMA}
    columns["body"] = pa.array(bodies, pa.string())
    return mask(node, pa.table(columns, schema=SCHEMA)).to_pylist()


@settings(max_examples=500)
@example("認証に", ["認証 証に", "認証に", "認証。証に"])
@example("ss", ["aß", "ß", LONG + "ss"])
@given(TEXTS.filter(lambda text: any(tokens(text))), BODIES)
def test_a_term_is_found_where_its_tokens_stand_in_a_row(value: str, bodies: list[str | None]) -> None:
    wanted = list(tokens(value))

    def holds(body: str | None) -> bool:
        words = list(tokens(body or ""))
        return any(words[at : at + len(wanted)] == wanted for at in range(len(words)))

    assert marks(Term(field="", value=value), bodies) == [holds(body) for body in bodies]


@settings(max_examples=500)
@given(st.lists(PIECES | st.sampled_from("**??"), min_size=1, max_size=5).map("".join), BODIES)
def test_a_wildcard_is_found_where_it_matches_a_token(pattern: str, bodies: list[str | None]) -> None:
    try:
        found = marks(Wildcard(field="", pattern=pattern), bodies)
    except RejectedError:
        return
    folded = pattern.casefold()
    assert found == [any(fnmatch.fnmatchcase(word, folded) for word in tokens(body or "")) for body in bodies]


KEYS = st.sampled_from(["a", "b", "a.b", "", "é", "x-y", "認", '"', "\\", "/"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from(["x", "a b", "", "1", "true"])
)
VALUES: st.SearchStrategy[object] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=6
)
OBJECTS = st.builds(
    lambda value, ascii_only: json.dumps(value, ensure_ascii=ascii_only),
    st.dictionaries(KEYS, VALUES, min_size=1, max_size=3), st.booleans(),
)  # fmt: skip


@settings(max_examples=500)
@given(OBJECTS, st.data())
def test_every_leaf_of_a_body_is_found_by_its_path_and_value(body: str, data: st.DataObject) -> None:
    found = list(leaves(body))
    paths = sorted({path for path, _ in found} | {"a", "a.b", "b.a"})
    path = data.draw(st.sampled_from(paths).filter(bool))
    values = [value for at, value in found if at == path]
    assert sorted(map(text_of, attribute_of(body, path))) == sorted(map(text_of, values))
    assert has_attribute(body, path) == any(at == path or at.startswith(f"{path}.") for at, _ in found)
    assert marks(Exists(field=f"body.{path}"), [body]) == [has_attribute(body, path)]
    for value in values:
        assert marks(Term(field=f"body.{path}", value=text_of(value)), [body]) == [True]
    assert marks(Term(field=f"body.{path}", value="nowhere"), [body]) == [False]
