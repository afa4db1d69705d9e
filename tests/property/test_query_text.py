"""A query that is printed parses to itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ashiato.core.errors import RejectedError
from ashiato.core.query import All, And, Exists, Node, Not, Or, Phrase, Range, Regex, Term, Wildcard
from ashiato.core.query_text import parse, render

TEXTS = st.text(st.sampled_from("ab 1.:-+!/\\\"'()[]{}*?~^|&<>@_,\n\t認é") | st.characters(codec="utf-8"), max_size=8)
WORDS = TEXTS.filter(bool) | st.sampled_from(["AND", "OR", "NOT", "TO", "&&", "||", "*", "http://x", "a::b", "foo~2"])
FIELDS = st.sampled_from(["", "pod", "k8s.pod.name", "a.b", "k8s.unheard", "_exists_", "labels.x/y", "2xx", "http"])
NAMED = FIELDS.filter(bool) | WORDS
PATTERNS = st.lists(st.sampled_from(["*", "?", "\\*", "\\\\", "a", " ", "-", ":", "(", "/", "認"]), min_size=1).map(
    "".join
)
REGEXES = st.lists(st.sampled_from(["a", ".*", "\\.", "\\\\", "/", "(", ")", " ", '"', "認", "\n"])).map("".join)


def is_wild(pattern: str) -> bool:
    bare = pattern.replace("\\\\", "").replace("\\*", "")
    return pattern != "*" and ("*" in bare or "?" in bare)


LEAVES: st.SearchStrategy[Node] = st.one_of(
    st.just(All()),
    st.builds(Term, field=FIELDS | WORDS, value=WORDS),
    st.builds(Phrase, field=FIELDS | WORDS, value=TEXTS),
    st.builds(Wildcard, field=FIELDS | WORDS, pattern=PATTERNS.filter(is_wild)),
    st.builds(Regex, field=FIELDS | WORDS, pattern=REGEXES),
    st.builds(
        Range, field=NAMED, low=TEXTS, high=TEXTS, low_inclusive=st.booleans(), high_inclusive=st.booleans()
    ),
    st.builds(Exists, field=NAMED),
)  # fmt: skip
NODES: st.SearchStrategy[Node] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(Not, node=inner),
        st.builds(And, nodes=st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(Or, nodes=st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=8,
)


@given(NODES)
def test_a_printed_query_parses_to_itself(node: Node) -> None:
    assert parse(render(node)) == node


@given(st.text(st.sampled_from('ab:*?"\\/()[]{} ANDORT-+!~^|&<>=k8s._exists_'), max_size=30))
def test_any_text_is_a_query_or_is_refused_at_one_of_its_characters(text: str) -> None:
    character, node = 0, None
    try:
        node = parse(text)
    except RejectedError as error:
        character = int(str(error.facts["character"]))
    assert parse(render(node)) == node if node is not None else 1 <= character <= len(text) + 1
