"""Whatever comes in whatever order, once all is committed and indexed the index holds what the packs hold."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ashiato.core.chunk import Chunk, ChunkFlags
from ashiato.core.render import render_rows
from tests.contract.index_rows import NOON, chunk
from tests.unit.ingest.index_line import Line

_LINES: Final = (
    b"2026-11-24T11:00:00.000000001Z stdout F plain\n",
    b"2026-11-24T11:00:00.000000002Z stdout P half \n",
    b"2026-11-24T11:00:00.000000003Z stderr F aside\n",
    b"2026-11-24T11:00:00.000000004Z stdout F whole\n",
    b"no header \xff\n",
    b"2026-11-24T11:00:00.000000005Z stdout P last \n",
)
CONTENT: Final = b"".join(_LINES) * 3
BORDERS: Final = tuple(sum(map(len, (_LINES * 3)[:count])) for count in range(len(_LINES) * 3 + 1))


@dataclass(frozen=True)
class Send:
    """Bytes between two line borders, forged or not."""

    start: int
    end: int
    forged: bool = False
    closed: bool = False

    def chunk(self) -> Chunk:
        payload = CONTENT[BORDERS[self.start] : BORDERS[self.end]]
        flags = ChunkFlags.STARTS_AT_LINE | ChunkFlags.ENDS_AT_LINE
        if self.closed and self.end == len(BORDERS) - 1:
            flags |= ChunkFlags.FILE_CLOSED
        forged = payload.replace(b"plain", b"PLAIN") if self.forged else payload
        return chunk(forged, offset=BORDERS[self.start], observed=NOON + self.start, flags=int(flags))


_SPANS: Final = st.tuples(st.integers(0, len(BORDERS) - 1), st.integers(0, len(BORDERS) - 1)).map(sorted)
_SENDS: Final = st.builds(
    lambda span, forged, closed: Send(span[0], span[1], forged, closed),
    _SPANS,
    st.sampled_from((False, False, False, True)),
    st.booleans(),
)
_ACTS: Final = st.lists(
    st.one_of(_SENDS, _SENDS, st.sampled_from(("index", "commit", "free", "lose the position", "damage"))), max_size=14
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(acts=_ACTS)
@example(acts=[Send(0, 2), "commit", "index", Send(0, 4), "index", "free", Send(4, 18, closed=True)])
@example(acts=[Send(0, 2), "index", Send(0, 1, forged=True), "index", "commit", Send(2, 4), "index"])
@example(acts=[Send(1, 7, forged=True), "index", "commit", Send(0, 7), Send(1, 2), Send(0, 1)])
@example(acts=[Send(0, 2), "index", Send(0, 4)])
@example(acts=[Send(4, 6), Send(0, 4), "commit", "damage", "index", "lose the position"])
async def test_the_index_ends_with_what_the_packs_hold(acts: list[Send | str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        line = Line(Path(folder))
        await line.prepare()
        for act in acts:
            match act:
                case Send():
                    await line.send(act.chunk())
                case "index":
                    await line.index()
                case "commit":
                    await line.commit()
                case "free":
                    await line.commit()
                    await line.free(line.end - 1)
                case "lose the position":
                    line.indices.positions.clear()
                case _:
                    await line.send_raw(b"damaged")
        await line.commit()
        await line.index()
        hot, packed = await line.hot(), await line.packed()
        # A part keeps its bytes in ``raw`` where its join closes in a later pack, or in a later batch of the index.
        assert hot.drop_columns("raw").equals(packed.drop_columns("raw"))
        assert render_rows(hot).equals(render_rows(packed))
        assert line.published == line.end
