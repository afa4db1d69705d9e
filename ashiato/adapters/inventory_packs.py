"""What a pack says of pods: rows of watch and audit sources, and the paths and times of container logs.

The manifest tells which row groups to open; of those, the columns that decide are read first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute

from ashiato.adapters.pack_reader import OpenPack, PackReader
from ashiato.core.errors import RejectedError
from ashiato.core.ids import Kind, Source, record_uid
from ashiato.core.inventory import COLUMNS, Heard, Sighting, hear, of_log, wanted
from ashiato.core.journal import AddedPack
from ashiato.core.layout import recognise
from ashiato.core.manifest import FileHeld
from ashiato.core.predicate import compile_node
from ashiato.core.record import RowFlags

pc: Final[Any] = pyarrow.compute

_TELLING: Final = (Kind.WATCH, Kind.AUDIT)
_WANTED: Final = compile_node(wanted())
_TIMES: Final = ("file_id", "time_unix_nano", "observed_time_unix_nano", "flags")


def heard_in(reader: PackReader, pack: AddedPack, *, logs: bool = True) -> Iterator[Heard]:
    """Yield what a pack says, a row group at a time; of logs only where it is asked for.

    Raises:
        NotHeldError: the pack is gone.
        EvidenceError: it is damaged.
        TransientError: the archive does not answer.

    """
    held = reader.manifest_of(pack).files
    told = [(file, source) for file in held if (source := _source(file.source)) is not None]
    telling = _groups(file for file, source in told if source.kind in _TELLING)
    containers = {file.file_id: (file, source) for file, source in told if source.kind is Kind.CONTAINER}
    written = _groups(file for file, _ in containers.values()) if logs else []
    if not telling and not written:
        return
    opened = reader.open(pack)
    try:
        for number in telling:
            yield _told(opened, number)
        yield Heard(sightings=list(_logs(opened, written, containers)))
    finally:
        opened.close()


def _told(opened: OpenPack, number: int) -> Heard:
    deciding = opened.read(number, sorted(_WANTED.columns))
    chosen = pa.array(_WANTED.evaluate(deciding))
    if not pc.any(chosen).as_py():
        return Heard()
    return hear(opened.read(number, COLUMNS).filter(chosen))


def _logs(
    opened: OpenPack, numbers: Sequence[int], containers: dict[str, tuple[FileHeld, Source]]
) -> Iterator[Sighting]:
    times: dict[str, tuple[int, int, int]] = {}
    for number in numbers:
        for file_id, first, last, observed in _spans(opened.read(number, _TIMES)):
            if file_id in containers:
                known = times.get(file_id, (first, last, observed))
                times[file_id] = (min(known[0], first), max(known[1], last), min(known[2], observed))
    for file_id, (first, last, observed) in sorted(times.items()):
        file, source = containers[file_id]
        restart = recognise(file.path, cluster="", node="").restart_count if file.path else -1
        row = record_uid(file_id, min(held.start for held in file.ranges) if file.ranges else 0)
        yield of_log(source, restart, row=row, observed=observed, first=first, last=last)


def _spans(rows: pa.Table) -> Iterator[tuple[str, int, int, int]]:
    """Yield (file, first time, last time, first reading) of a row group; lines with impossible times do not count."""
    rows = rows.filter(pc.equal(pc.bit_wise_and(pc.fill_null(rows["flags"], 0), int(RowFlags.MISDATED)), 0))
    time = pc.coalesce(rows["time_unix_nano"], rows["observed_time_unix_nano"])
    table = pa.table({"file_id": rows["file_id"], "time": time, "observed": rows["observed_time_unix_nano"]})
    grouped = table.group_by("file_id").aggregate([("time", "min"), ("time", "max"), ("observed", "min")])
    columns = (grouped[name].to_pylist() for name in ("file_id", "time_min", "time_max", "observed_min"))
    yield from zip(*columns, strict=True)


def _groups(files: Iterable[FileHeld]) -> list[int]:
    return sorted({number for file in files for number in file.row_groups})


def _source(text: str) -> Source | None:
    try:
        return Source.parse(text)
    except RejectedError:
        return None
