"""Contents of log files as nodes show them, and worse ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

from hypothesis import strategies as st

from ashiato.core.ids import Kind, Source
from tests.unit.ingest.files import PLAIN, WEB

T = TypeVar("T")

_TEXT: Final = st.one_of(
    st.sampled_from(
        [b"", b" ", b"GET /cart 200", b"I1125 12:00:00.000000       1 main.go:1] up", b'{"level":"warn","msg":"a"}',
         b'{"trace_id":"0123456789abcdef0123456789abcdef"}', "利用者認証に失敗".encode(), b"\xff\xfe",
         b"\0\0", b"a\rb", b"F F F"]
    ),
    st.binary(max_size=40).map(lambda octets: octets.replace(b"\n", b"")),
)  # fmt: skip
_TIME: Final = st.sampled_from(
    [b"2026-11-25T12:00:00.123456789Z", b"2026-11-25T12:00:00.120000000Z", b"2026-11-25T12:00:00.12Z",
     b"2026-11-25T12:00:00Z", b"2026-11-25T21:00:00.5+09:00", b"2026-11-25T12:00:00.5-00:00", b"2026-02-30T12:00:00.5Z",
     b"1969-12-31T23:59:59.999999999Z", b"2262-12-31T00:00:00.5Z", b"9999-12-31T23:59:60.5Z",
     b"2026-11-25T12:00:00.1234567890Z",
     b"2026-11-25t12:00:00,5z", b"0000-00-00T00:00:00Z"]
)  # fmt: skip
_CRI: Final = st.builds(
    lambda time, stream, part, text: b" ".join((time, stream, part, text)),
    _TIME,
    st.sampled_from([b"stdout", b"stderr"]),
    st.sampled_from([b"F", b"P", b"P", b"F:x", b"X"]),
    _TEXT,
)
_DOCKER: Final = st.builds(
    lambda text, end, stream: b'{"log":"%s%s","stream":"%s","time":"2026-11-25T12:00:00.5Z"}' % (text, end, stream),
    st.sampled_from([b"", b"hello", b"a \\u003c b", "日本".encode(), b"\\ud800"]),
    st.sampled_from([b"\\n", b""]),
    st.sampled_from([b"stdout", b"stderr", b"other"]),
)  # fmt: skip
_JUNK: Final = st.one_of(
    _TEXT,
    st.sampled_from(
        [b"2026-11-25T12:00:00.5Z stdout", b"2026-11-25T12:00:00.5Z stdout F", b"2026-", b'{"log":', b"{" * 50,
         b'{"kind":"Event","auditID":"a","stage":"ResponseComplete","verb":"get"}',
         b'{"rule":"r","priority":"Notice","output":"o","time":"2026-11-25T12:00:00.5Z"}',
         b"type=SYSCALL msg=audit(1364481363.243:24287): arch=c000003e"]
    ),
)  # fmt: skip
LINE: Final = st.one_of(_CRI, _CRI, _CRI, _DOCKER, _JUNK)

SOURCES: Final = (
    *(WEB,) * 12,
    PLAIN,
    *(
        Source(kind=kind, cluster="c1", node="node-1", path="var/log/x")
        for kind in (Kind.AUDIT, Kind.FALCO, Kind.AUDITD, Kind.WATCH, Kind.LEDGER, Kind.ACCESS)
    ),
)


@st.composite
def contents(draw: st.DrawFn, *, max_lines: int = 14) -> bytes:
    """Draw a file's content: lines, the last one perhaps without its newline."""
    lines = draw(st.lists(LINE, max_size=max_lines))
    end = draw(st.sampled_from([b"\n", b"\n", b""]))
    content = b"\n".join(lines)
    return content + end if content else content


@st.composite
def cuts_of(draw: st.DrawFn, content: bytes, *, anywhere: bool) -> list[int]:
    """Draw offsets at which ``content`` is cut: behind newlines, or anywhere."""
    if anywhere:
        places = st.integers(1, max(len(content) - 1, 1))
        return sorted(draw(st.sets(places, min_size=min(3, len(content) // 2), max_size=8)))
    borders = [at + 1 for at, octet in enumerate(content) if octet == ord("\n")]
    return draw(some_of(borders))


@st.composite
def some_of(draw: st.DrawFn, items: Sequence[T]) -> list[T]:
    """Draw about half of ``items``, in order; a choice for each, because lists shrink towards nothing on their own."""
    chosen = draw(st.lists(st.booleans(), min_size=len(items), max_size=len(items)))
    return [item for item, taken in zip(items, chosen, strict=True) if taken]
