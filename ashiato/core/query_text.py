r"""The query as people type it: a Lucene-style text, parsed to the one syntax tree and printed from it.

``error "log in" pod:web-* code:>=500 time:[2026-11-24 TO *} NOT (user:a OR user:b) path:/^\/api/ _exists_:trace_id``

Words that stand beside each other must all match; AND binds closer than OR, and NOT closest. A backslash takes the
character behind it as it is. Every error names the character where reading stopped, counted from 1.
"""

from __future__ import annotations

import difflib
import re
from typing import Final, NoReturn, assert_never

from ashiato.core.errors import RejectedError
from ashiato.core.pod_fields import is_pod_field
from ashiato.core.query import All, And, Exists, Node, Not, Or, Phrase, Range, Regex, Term, Wildcard
from ashiato.core.record import ALIASES, BY_RIM, UID_FIELD, column_of

TEXT_CHARS_MAX: Final = 20_000
"""Characters of a query: a long list of ids fits, a pasted log does not."""
LEVELS_MAX: Final = 40
"""Parentheses inside parentheses; each makes at most two nodes of ``predicate.NODES_DEEP_MAX``."""

CLAUSES_MAX: Final = 1024
"""Words, phrases and other tests in one query: each is held against every row. Lucene's own limit."""

_EXISTS: Final = "_exists_"
_OWN_PREFIXES: Final = ("k8s.", "ashiato.", "security_rule.", "log.record.")
"""A field that begins so and is none of ours is a slip of the pen, not an attribute of somebody's JSON."""
_NAMES: Final = (*BY_RIM, *ALIASES, UID_FIELD)

_FIELD: Final = re.compile(r"(?P<name>(?:[^\W\d]|[@_]|\\.)(?:[\w.@/$~#%-]|\\.)*):", re.DOTALL)
_PASTED: Final = re.compile(r"//[^\s)]|:")
_WORD: Final = re.compile(r'(?:\\.|[^\\\s()"])+', re.DOTALL)
_BARE: Final = re.compile(r'[^\s()"\\]+(?:[\s()"]|$)')
_BOUND: Final = re.compile(r'(?:\\.|[^\\\s"\]}])+', re.DOTALL)
_QUOTED: Final = re.compile(r'"(?P<text>(?:\\.|[^\\"])*)"', re.DOTALL)
_SLASHED: Final = re.compile(r"/(?P<pattern>(?:\\.|[^\\/])*)/(?=[\s)]|$)", re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_KEYWORD: Final = re.compile(r"(?P<word>AND|OR|NOT|&&|\|\|)(?=[\s()]|$)")
_COMPARISON: Final = re.compile(r"(?P<sign>>=|<=|>|<)")
_TO: Final = re.compile(r"\s+TO\s+")
_LUCENE_SUFFIX: Final = re.compile(r"(?<!\\)[~^][0-9.]*$")
_WILD: Final = re.compile(r"(?<!\\)(?:\\\\)*[*?]")

_UNSAFE_IN_WORD: Final = re.compile(r'[\s()"\\*?:~^]')
_UNSAFE_AT_START: Final = re.compile(r"[-+!/><\[{|&]|(?:AND|OR|NOT|TO)\Z")
_UNSAFE_IN_FIELD: Final = re.compile(r"[^\w.@/$~#%-]")


def parse(text: str) -> Node:
    """Return what ``text`` says; an empty text is every row.

    Raises:
        RejectedError: not a query; the facts hold ``character``, where reading stopped.

    """
    if len(text) > TEXT_CHARS_MAX:
        raise RejectedError("the query is too long", chars_max=TEXT_CHARS_MAX)
    return _Parser(text).whole()


def render(node: Node) -> str:
    """Return a text that parses to what ``node`` means: to ``node`` itself, but for And and Or of less than two."""
    return _render(node, inner=False)


class _Parser:
    """Reads from left to right; ``at`` is where it stands."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.levels = 0
        self.clauses = 0

    def whole(self) -> Node:
        self._skip_space()
        if self.at == len(self.text):
            return All()
        node = self._any("")
        if self.at < len(self.text):
            self._fail("a ')' that closes nothing")
        return node

    def _any(self, field: str) -> Node:
        nodes = [self._all(field)]
        while self._keyword("OR", "||"):
            nodes.append(self._all(field))
        return nodes[0] if len(nodes) == 1 else Or(nodes=tuple(nodes))

    def _all(self, field: str) -> Node:
        nodes = [self._one(field)]
        while self._keyword("AND", "&&") or not self._all_is_read():
            nodes.append(self._one(field))
        return nodes[0] if len(nodes) == 1 else And(nodes=tuple(nodes))

    def _all_is_read(self) -> bool:
        ahead = _KEYWORD.match(self.text, self.at)
        return (
            self.at == len(self.text)
            or self.text.startswith(")", self.at)
            or (ahead is not None and ahead["word"] in ("OR", "||"))
        )

    def _one(self, field: str) -> Node:
        """Read one clause with what stands in front of it."""
        negated = False
        while True:
            if self._keyword("NOT") or self._sign("!", "-"):
                negated = not negated
            elif not self._sign("+"):
                break
        node = self._clause(field)
        self._skip_space()
        return Not(node=node) if negated else node

    def _clause(self, field: str) -> Node:
        if self.at == len(self.text):
            self._fail("the query ends where a word was expected")
        self.clauses += 1
        if self.clauses > CLAUSES_MAX:
            self._fail(f"more than {CLAUSES_MAX} words and groups: ask several times, or with a regular expression")
        if ahead := _KEYWORD.match(self.text, self.at):
            self._fail(f"{ahead['word']} needs something on both sides; to search for the word itself, quote it")
        if self._taken("("):
            return self._group(field)
        start = self.at
        if (match := _FIELD.match(self.text, self.at)) and not self._reads_as_text(match["name"]):
            if field:
                self._fail(f"a field inside the parentheses of '{field}:'")
            self.at = match.end()
            return self._valued(match["name"], start)
        return self._value(field)

    def _reads_as_text(self, name: str) -> bool:
        """Tell whether a name with a colon is text that somebody pasted: ``https://...``, ``fe80::1``, ``std::io``."""
        return _PASTED.match(self.text, self.at + len(name) + 1) is not None

    def _valued(self, raw: str, start: int) -> Node:
        name = _unescaped(raw)
        if raw == _EXISTS:
            is_bare = _BARE.match(self.text, self.at) is not None
            field = self._word_or_quoted("the name of a field was expected after '_exists_:'")
            return Exists(field=self._checked(field, start) if is_bare else field)
        if "\\" not in raw:
            self._checked(name, start)
        if self.at == len(self.text) or self.text[self.at].isspace():
            self._fail(f"a value was expected after '{name}:'")
        if self._taken("("):
            return self._group(name)
        return self._value(name)

    def _group(self, field: str) -> Node:
        opened = self.at - 1
        self.levels += 1
        if self.levels > LEVELS_MAX:
            self._fail("too many parentheses inside one another", opened)
        self._skip_space()
        if self.text.startswith(")", self.at):
            self._fail("nothing between the parentheses", opened)
        node = self._any(field)
        if not self._taken(")"):
            self._fail("a '(' that is never closed", opened)
        self.levels -= 1
        return node

    def _value(self, field: str) -> Node:
        start = self.at
        if self.text[start] == '"':
            node: Node = Phrase(field=field, value=self._quoted())
            if not self._at_border():
                self._fail("nothing may follow a closing quote: neither fuzziness nor boosts are known")
            return node
        if self.text[start] == "/":
            return self._regex(field)
        if self.text[start] in "[{":
            return self._range(field)
        if field and (match := _COMPARISON.match(self.text, start)):
            self.at = match.end()
            return self._comparison(field, match["sign"])
        return self._word(field)

    def _word(self, field: str) -> Node:
        start = self.at
        raw = self._matched(_WORD, "a word was expected")
        if raw == "|":
            self._fail("a pipe is not known here", start)
        if found := _LUCENE_SUFFIX.search(raw):
            self._fail("neither fuzziness nor boosts are known; quote the word", start + found.start())
        if raw == "*":
            return Exists(field=field) if field else All()
        if _WILD.search(raw):
            return Wildcard(field=field, pattern=_pattern(raw))
        return Term(field=field, value=_unescaped(raw))

    def _regex(self, field: str) -> Node:
        match = _SLASHED.match(self.text, self.at)
        if match is None:
            self._fail(
                "a regular expression that is not closed, or with more behind it; to search for a path, quote it"
            )
        self.at = match.end()
        return Regex(field=field, pattern=re.sub(r"\\(.)", _unslashed, match["pattern"], flags=re.DOTALL))

    def _range(self, field: str) -> Node:
        opened = self.at
        if not field:
            self._fail("a range needs a field in front of it: field:[a TO b]")
        low_inclusive = self.text[opened] == "["
        self.at += 1
        self._skip_space()
        low = self._bound()
        if (match := _TO.match(self.text, self.at)) is None:
            self._fail("'TO' was expected between the bounds of a range")
        self.at = match.end()
        high = self._bound()
        self._skip_space()
        if self.at == len(self.text) or self.text[self.at] not in "]}":
            self._fail("a range that is never closed", opened)
        high_inclusive = self.text[self.at] == "]"
        self.at += 1
        return Range(field=field, low=low, high=high, low_inclusive=low_inclusive, high_inclusive=high_inclusive)

    def _bound(self) -> str:
        if self.text.startswith('"', self.at):
            return self._quoted()
        raw = self._matched(_BOUND, "a bound was expected; '*' is none")
        return "" if raw == "*" else _unescaped(raw)

    def _comparison(self, field: str, sign: str) -> Node:
        bound = self._word_or_quoted(f"a value was expected after '{sign}'")
        inclusive = sign.endswith("=")
        if sign.startswith(">"):
            return Range(field=field, low=bound, low_inclusive=inclusive)
        return Range(field=field, high=bound, high_inclusive=inclusive)

    def _word_or_quoted(self, what: str) -> str:
        value = self._quoted() if self.text.startswith('"', self.at) else _unescaped(self._matched(_WORD, what))
        if not value:
            self._fail(what)
        return value

    def _quoted(self) -> str:
        match = _QUOTED.match(self.text, self.at)
        if match is None:
            self._fail("a quote that is never closed")
        self.at = match.end()
        return _unescaped(match["text"])

    def _matched(self, pattern: re.Pattern[str], what: str) -> str:
        match = pattern.match(self.text, self.at)
        if match is None:
            self._fail("a backslash with nothing behind it" if self.text.startswith("\\", self.at) else what)
        self.at = match.end()
        return match[0]

    def _checked(self, name: str, start: int) -> str:
        """Return a field's name, unless it looks like one of ours mistyped."""
        if _is_slip(name):
            near = difflib.get_close_matches(name, _NAMES, n=1, cutoff=0.6)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            self._fail(f"there is no field '{name}'{hint}", start)
        return name

    def _keyword(self, *words: str) -> bool:
        match = _KEYWORD.match(self.text, self.at)
        if match is None or match["word"] not in words:
            return False
        self.at = match.end()
        self._skip_space()
        return True

    def _sign(self, *signs: str) -> bool:
        """Take a sign that stands right before a clause."""
        if not self.text.startswith(signs, self.at) or self.text[self.at + 1 : self.at + 2].strip() == "":
            return False
        self.at += 1
        return True

    def _taken(self, character: str) -> bool:
        if not self.text.startswith(character, self.at):
            return False
        self.at += 1
        return True

    def _at_border(self) -> bool:
        return self.at == len(self.text) or self.text[self.at].isspace() or self.text[self.at] in "()"

    def _skip_space(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def _fail(self, message: str, at: int | None = None) -> NoReturn:
        raise RejectedError(message, character=(self.at if at is None else at) + 1)


def _render(node: Node, *, inner: bool) -> str:
    match node:
        case All():
            return "*"
        case Not(node=negated):
            return _wrapped(f"NOT {_render(negated, inner=True)}", inner=inner)
        case And(nodes=nodes):
            return _joined(nodes, " AND ", none="*", inner=inner)
        case Or(nodes=nodes):
            return _joined(nodes, " OR ", none="NOT *", inner=inner)
        case Exists(field=field):
            return f"{_EXISTS}:{_quoted_of(field) if _is_slip(field) else _word_of(field)}"
        case Term() | Phrase() | Wildcard() | Regex() | Range():
            return _field_of(node.field) + _value_of(node)
        case _:
            assert_never(node)


def _joined(nodes: tuple[Node, ...], between: str, *, none: str, inner: bool) -> str:
    if len(nodes) == 1:
        return _render(nodes[0], inner=inner)
    text = between.join(_render(one, inner=True) for one in nodes) or none
    return text if text == "*" else _wrapped(text, inner=inner)


def _wrapped(text: str, *, inner: bool) -> str:
    return f"({text})" if inner else text


def _value_of(node: Term | Phrase | Wildcard | Regex | Range) -> str:
    match node:
        case Term(value=value):
            return _word_of(value)
        case Phrase(value=value):
            return _quoted_of(value)
        case Wildcard(pattern=pattern):
            return _wildcard_of(pattern)
        case Regex(pattern=pattern):
            return "/" + re.sub(r"\\.|/", lambda found: "\\/" if found[0] == "/" else found[0], pattern) + "/"
        case Range():
            opening, closing = "[" if node.low_inclusive else "{", "]" if node.high_inclusive else "}"
            return f"{opening}{_bound_of(node.low)} TO {_bound_of(node.high)}{closing}"
        case _:
            assert_never(node)


def _field_of(field: str) -> str:
    if not field:
        return ""
    name = _UNSAFE_IN_FIELD.sub(_escape, field)
    if name[0] != "\\" and (field == _EXISTS or _is_slip(field) or not re.match(r"[^\W\d]|[@_]", name)):
        name = "\\" + name
    return name + ":"


def _word_of(value: str) -> str:
    if not value:
        return '""'
    word = _UNSAFE_IN_WORD.sub(_escape, value)
    return "\\" + word if _UNSAFE_AT_START.match(word) else word


def _wildcard_of(pattern: str) -> str:
    """Return a word that reads as a pattern; a lone ``*`` would read as existence, two of them mean the same."""
    if pattern == "*":
        return "**"
    parts = re.findall(r"\\.|[*?]|.", pattern, re.DOTALL)
    word = "".join(p if p in ("*", "?") or len(p) > 1 else _UNSAFE_IN_WORD.sub(_escape, p) for p in parts)
    return "\\" + word if _UNSAFE_AT_START.match(word) else word


def _bound_of(bound: str) -> str:
    if not bound:
        return "*"
    return bound if re.fullmatch(r"[\w.:+-]+", bound) else _quoted_of(bound)


def _quoted_of(value: str) -> str:
    return '"' + re.sub(r'["\\]', _escape, value) + '"'


def _is_slip(field: str) -> bool:
    is_known = column_of(field) is not None or field == UID_FIELD or is_pod_field(field)
    return field.startswith(_OWN_PREFIXES) and not is_known


def _escape(found: re.Match[str]) -> str:
    return "\\" + found[0]


def _unescaped(raw: str) -> str:
    return _ESCAPED.sub(r"\1", raw)


def _pattern(raw: str) -> str:
    """Return the pattern of a word: what is escaped and means nothing special stands bare."""
    return _ESCAPED.sub(lambda found: found[0] if found[1] in "*?\\" else found[1], raw)


def _unslashed(found: re.Match[str]) -> str:
    return "/" if found[1] == "/" else found[0]
