"""``logs`` prints what the kubelet prints: held against a transcription of the kubelet's own reader.

The reader is ``parseCRILog``, ``logWriter.write`` and the loop of ``ReadLogs`` in Kubernetes' cri-client.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ashiato.core.render import log_lines
from ingest.rows import build_rows
from tests.property.content import cuts_of
from tests.unit.ingest.files import admitted, chunks

_TIMES = st.sampled_from(
    ["2026-11-25T12:00:00.123456789Z", "2026-11-25T12:00:00.5Z", "2026-11-25T12:00:00Z", "2026-11-25T21:00:00.50+09:00",
     "2026-11-25T12:00:00.000000001-07:30", "2026-11-25T12:00:00.1+00:00"]
)  # fmt: skip
_LINES = st.builds(
    lambda time, stream, tag, text: f"{time} {stream} {tag} ".encode() + text + b"\n",
    _TIMES,
    st.sampled_from(["stdout", "stderr"]),
    st.sampled_from(["F", "P", "P", "F:x"]),
    st.one_of(
        st.sampled_from([b"", b" ", b"a b", "認証".encode(), b"\xff", b"2026-11-25T12:00:00Z stdout F x"]),
        st.binary(max_size=12).map(lambda octets: octets.replace(b"\n", b"")),
    ),
)


def _kubelet(content: bytes, *, timestamps: bool) -> bytes:
    out, is_new_line = b"", True
    for line in re.findall(rb"[^\n]*\n|[^\n]+$", content):
        time, _, log = line.partition(b" ")
        log = log.partition(b" ")[2]
        tags, _, _ = log.partition(b" ")
        if tags.split(b":")[0] == b"P" and log.endswith(b"\n"):
            log = log[:-1]
        message = log.partition(b" ")[2]
        out += (_fixed(time) + b" " if timestamps and is_new_line else b"") + message
        is_new_line = message.endswith(b"\n") if message else True
    return out


def _fixed(time: bytes) -> bytes:
    """Go: time.Parse(RFC3339Nano), then Format("2006-01-02T15:04:05.000000000Z07:00")."""
    match = re.fullmatch(rb"([^.Z+]{19}|[^.]{19})(?:\.(\d+))?(Z|[+-]\d\d:\d\d)", time)
    assert match is not None
    zone = b"Z" if match[3] == b"+00:00" else match[3]
    return match[1] + b"." + (match[2] or b"").ljust(9, b"0") + zone


@pytest.mark.parametrize("timestamps", [False, True])
@given(data=st.data(), lines=st.lists(_LINES, max_size=12), unterminated=st.booleans())
@settings(deadline=None, max_examples=300)
def test_logs_prints_what_the_kubelet_prints(
    data: st.DataObject, lines: list[bytes], *, unterminated: bool, timestamps: bool
) -> None:
    content = b"".join(lines)
    if unterminated:
        content = content[:-1]
    cuts = data.draw(cuts_of(content, anywhere=False))
    rows, _, _ = build_rows(admitted(chunks(content, cuts, closed=True)), {})
    printed = b"".join(log_lines(rows.sort_by("offset_start"), timestamps=timestamps))
    assert printed == _kubelet(content, timestamps=timestamps)
