"""``ingest reparse``: what parsers of today make of lines that were quarantined, as a derived view; rows stay.

Every quarantined row of every pack is parsed again from its own bytes. What parses now is written to
``work/derived/<pack>/<content>.parquet``: rows of the same ids and bytes, with the columns that are known now, and
which parsers knew them. Packs are not touched, and nothing of it is evidence: it can be deleted and made again.
A reader of a pack may put these rows in place of those of the same ``log.record.uid``.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from ashiato.adapters.journal import Journal
from ashiato.core.chunk import FileFacts
from ashiato.core.errors import NotHeldError
from ashiato.core.ids import Kind, Source
from ashiato.core.journal import AddedPack
from ashiato.core.ports import ArchiveWriter
from ashiato.core.record import RowFlags
from ashiato.core.render import CRI_PARSER, DOCKER_PARSER, render_rows
from ashiato.core.table import SCHEMA
from ingest.contracts import LineState
from ingest.lines import Lines, Run
from ingest.packed_rows import is_from_packs_only, rows_of_pack
from ingest.parse import auditd, cri, falco, gke_audit, kube_audit, ledger_rows, watch
from ingest.parse.fields import TEXT_PARSER
from ingest.rows import rows_of_lines

pc: Final[Any] = pyarrow.compute

FOLDER: Final = "derived"
PARSERS: Final = tuple(
    sorted(
        (CRI_PARSER, DOCKER_PARSER, TEXT_PARSER, auditd.PARSER, falco.PARSER, gke_audit.PARSER, kube_audit.PARSER,
         ledger_rows.PARSER, watch.PARSER)
    )
)  # fmt: skip
"""The parsers of today, by name and version."""
_PARSERS_KEY: Final = b"ashiato.parsers"
_PACK_KEY: Final = b"ashiato.pack"


@dataclass(slots=True, kw_only=True)
class Report:
    """What was looked at, and what became of it."""

    packs: int = 0
    packs_gone: int = 0
    """Packs that expired while they were looked for."""
    quarantined_rows: int = 0
    now_parsed: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Rows by kind, the parser that kept them as text, and the parser that takes them."""
    still_refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Rows by kind and reason."""
    damaged_frames: int = 0
    """Rows that hold what was no frame on the bus: no parser of lines will take them."""
    derived: list[str] = field(default_factory=list)
    """Paths of what was written in the work bucket."""

    def as_json(self) -> bytes:
        """Return one line for people and machines."""
        return msgspec.json.encode(
            {
                "packs": self.packs,
                "packs_gone": self.packs_gone,
                "quarantined_rows": self.quarantined_rows,
                "now_parsed_rows": self.now_parsed.total(),
                "now_parsed": [
                    {"kind": kind, "was": was, "parser": parser, "rows": rows}
                    for (kind, was, parser), rows in sorted(self.now_parsed.items())
                ],
                "still_refused": [
                    {"kind": kind, "reason": reason, "rows": rows}
                    for (kind, reason), rows in sorted(self.still_refused.items())
                ],
                "damaged_frames": self.damaged_frames,
                "parsers": PARSERS,
                "derived": self.derived,
            }
        )


def reparse(archive: ArchiveWriter, *, write: bool) -> Report:
    """Parse every quarantined row of the archive again; ``write`` keeps what parses now.

    Raises:
        TransientError: the archive does not answer. EvidenceError: a pack or manifest is not the committed one.

    """
    report = Report()
    for pack in Journal(archive).refresh().packs.values():
        try:
            derived = [rows for table in rows_of_pack(archive, pack) if (rows := _derived(table, report)).num_rows]
        except NotHeldError:
            report.packs_gone += 1
            continue
        report.packs += 1
        if derived and write:
            report.derived.append(_put(archive, pack, pa.concat_tables(derived)))
    return report


def _derived(table: pa.Table, report: Report) -> pa.Table:
    """Return the rows of ``table`` that were quarantined and parse now."""
    is_quarantined = pc.not_equal(pc.bit_wise_and(table["flags"], int(RowFlags.QUARANTINED)), 0)
    if not pc.any(is_quarantined).as_py():
        return SCHEMA.empty_table()
    # A part needs the row that closes its join to be rendered: the whole group is, before it is cut down.
    rows = table.append_column("line", render_rows(table)).filter(is_quarantined)
    report.quarantined_rows += rows.num_rows
    found = [_of_kind(Kind(kind), own, report) for kind, own in _by_kind(rows, report)]
    return pa.concat_tables([SCHEMA.empty_table(), *found])


def _by_kind(rows: pa.Table, report: Report) -> Iterator[tuple[str, pa.Table]]:
    damaged = np.array([is_from_packs_only("", source or "") for source in rows["source"].to_pylist()], np.bool_)
    report.damaged_frames += int(damaged.sum())
    rows = rows.filter(pa.array(~damaged))
    for kind in pc.unique(rows["source_kind"]).to_pylist():
        yield kind, rows.filter(pc.equal(rows["source_kind"], kind))


def _of_kind(kind: Kind, rows: pa.Table, report: Report) -> pa.Table:
    runs, run_of = _runs(rows)
    again, refused = rows_of_lines(kind, runs, _lines(rows, run_of))
    report.still_refused.update({(str(kind), reason): count for reason, count in refused.items()})
    parsed = pc.equal(pc.bit_wise_and(again["flags"], int(RowFlags.QUARANTINED)), 0)
    was = rows["parser"].filter(parsed).to_pylist()
    again = again.filter(parsed)
    report.now_parsed.update((str(kind), before or "", after) for before, after in zip(was, _names(again), strict=True))
    return again


def _names(rows: pa.Table) -> list[str]:
    """Return the parsers of rows without the profiles of their headers, of which there are many."""
    return [(parser or "").partition(";")[0] for parser in rows["parser"].to_pylist()]


def _runs(rows: pa.Table) -> tuple[list[Run], list[int]]:
    """Return one run for each file, and which one each row belongs to."""
    names = ("file_id", "source", "k8s_container_restart_count")
    known: dict[str, int] = {}
    runs: list[Run] = []
    run_of = []
    for file_id, source, restart in zip(*(rows[name].to_pylist() for name in names), strict=True):
        if file_id not in known:
            known[file_id] = len(runs)
            facts = FileFacts(file_id=file_id, source=source, path="", restart_count=-1 if restart is None else restart)
            runs.append(Run(facts=facts, source=Source.parse(source), pieces=[], state=LineState()))
        run_of.append(known[file_id])
    return runs, run_of


def _lines(rows: pa.Table, run_of: list[int]) -> Lines:
    contents: list[bytes] = [line or b"" for line in rows["line"].to_pylist()]
    ends = np.cumsum([len(content) for content in contents], dtype=np.int64)
    return Lines(
        buffer=b"".join((*contents, cri.PAD)),
        starts=np.concatenate((np.zeros(1, np.int64), ends))[:-1],
        ends=ends,
        run=np.array(run_of, np.int64),
        offset=rows["offset_start"].to_numpy(),
        observed=rows["observed_time_unix_nano"].to_numpy(),
        flags=rows["flags"].to_numpy().astype(np.int64) & ~int(RowFlags.QUARANTINED),
        newline=np.array([content.endswith(b"\n") for content in contents], np.bool_),
        follows_cut=np.zeros(len(contents), np.bool_),
    )


def _put(archive: ArchiveWriter, pack: AddedPack, rows: pa.Table) -> str:
    sink = io.BytesIO()
    metadata: dict[bytes, bytes] = {
        **(SCHEMA.metadata or {}), _PARSERS_KEY: msgspec.json.encode(PARSERS), _PACK_KEY: pack.path.encode()
    }  # fmt: skip
    pq.write_table(rows.replace_schema_metadata(metadata), sink, compression="zstd", compression_level=1)
    content = sink.getvalue()
    _, _, name = pack.path.rpartition("/")
    path = f"{FOLDER}/{name.removesuffix('.parquet')}/{hashlib.sha256(content).hexdigest()}.parquet"
    archive.put("work", path, content)
    return path
