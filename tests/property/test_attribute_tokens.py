"""Q3: whatever an attribute of a row says, however it was written, its words are among the tokens of its rows."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ashiato.core.attributes import leaves
from ashiato.core.ids import Kind, Source
from ashiato.core.token_hashes import hashes_of_text
from ashiato.core.token_rows import hashes_of_rows
from ingest.rows import build_rows
from tests.unit.ingest.files import admitted, chunks

_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=12)
_NAME = st.text("abc_", min_size=1, max_size=4)
_VALUES = st.dictionaries(_NAME, st.one_of(_TEXT, st.text('ab\\"\t/é<', max_size=8)), min_size=1, max_size=3)


def _logfmt(values: dict[str, str]) -> bytes:
    return " ".join(f"{name}={json.dumps(value)}" for name, value in values.items()).encode("utf-8", "replace")


def _auditd(values: dict[str, str]) -> bytes:
    said = " ".join(f"{name}={value.encode().hex().upper()}" for name, value in values.items())
    hexed = next(iter(values.values())).encode().hex().upper() or "00"
    return f"type=EXECVE msg=audit(1492037291.036:59): a0={hexed} proctitle={hexed} {said}".encode()


def _envelope(values: dict[str, str]) -> bytes:
    event = json.dumps({"auditID": "a", "stage": "s", "requestObject": values})
    return json.dumps({"category": "kube-audit", "properties": {"log": event}}).encode()


def _subscription(values: dict[str, str]) -> bytes:
    event = json.dumps({"auditID": "a", "stage": "s", "requestObject": values}, ensure_ascii=False)
    return json.dumps({"logEvents": [{"message": event}, {"message": event}]}, ensure_ascii=False).encode()


@pytest.mark.parametrize("write", [_logfmt, _auditd, _envelope, _subscription])
@given(data=st.data(), values=_VALUES)
@settings(deadline=None, max_examples=150)
def test_the_words_of_every_attribute_are_tokens_of_its_row(
    write: object, data: st.DataObject, values: dict[str, str]
) -> None:
    assert callable(write)
    line = write(values)
    if b"\n" in line:
        return
    source = Source(kind=Kind.FILE, cluster="c1", node="n", path="x")
    rows, _, _ = build_rows(admitted(chunks(line + b"\n", source=source)), {})
    held = np.asarray(hashes_of_rows(rows))
    found = list(leaves(rows["body"][0].as_py()))
    assert found
    path, value = data.draw(st.sampled_from(found))
    for text in (path, value):
        if isinstance(text, str):
            assert set(map(int, hashes_of_text([text]))) <= set(map(int, held)), text
