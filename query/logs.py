"""``logs``: which files ``kubectl logs`` would have read, and what it would have printed of them, byte for byte.

The latest restart of a container with all its rotations, in the order in which they were written.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ashiato.core.errors import NotHeldError, RejectedError
from ashiato.core.ids import Kind, Source
from ashiato.core.predicate import mask
from ashiato.core.query import And, Node, Term
from ashiato.core.record import RowFlags
from ashiato.core.render import log_lines, render_file
from ashiato.core.table import order_times
from query.known import FileKnown, root_of

CHOICES_LISTED_MAX = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LogsRequest:
    """As the flags of ``kubectl logs``. ``pod`` may be ``namespace/name`` and, ours, ``uid:UID``."""

    pod: str
    namespace: str = ""
    container: str = ""
    previous: bool = False
    timestamps: bool = False
    raw: bool = False
    """The log files' own bytes."""
    time_start_unix_nano: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """One restart of one container."""

    source: Source
    restart_count: int
    file_ids: tuple[str, ...]
    """Its files, forks included, by the name of the file that they are forks of."""
    findings: tuple[str, ...] = ()


def choose(request: LogsRequest, files: Mapping[str, FileKnown]) -> Chosen:
    """Return the restart that is meant.

    Raises:
        NotHeldError: no such pod, container or restart.
        RejectedError: it is not clear which pod or container is meant; the choices are named.

    """
    sources = {
        file.source: Source.parse(file.source)
        for file in files.values()
        if file.source.startswith(f"{Kind.CONTAINER}/")
    }
    source = _container(request, _pod(request, sources.values()))
    restarts: defaultdict[int, list[str]] = defaultdict(list)
    for file_id, file in files.items():
        if file.source == str(source):
            restarts[file.restart_count].append(file_id)
    latest = max(restarts)
    if not request.previous:
        return Chosen(source=source, restart_count=latest, file_ids=tuple(sorted(restarts[latest])))
    earlier = [count for count in restarts if count < latest]
    if not earlier:
        raise NotHeldError(f'previous terminated container "{source.container}" in pod "{source.pod}" not found')
    before = max(earlier)
    findings = (f"restart {latest - 1} is not held; this is restart {before}",) if before != latest - 1 else ()
    return Chosen(source=source, restart_count=before, file_ids=tuple(sorted(restarts[before])), findings=findings)


def predicate(chosen: Chosen) -> Node:
    """Return which rows are read."""
    parts: list[Node] = [
        Term(field="source_kind", value=Kind.CONTAINER),
        Term(field="source", value=str(chosen.source)),
    ]
    if chosen.restart_count >= 0:
        parts.append(Term(field="k8s_container_restart_count", value=str(chosen.restart_count)))
    return And(nodes=tuple(parts))


def printed(request: LogsRequest, rows: pa.Table) -> tuple[bytes, list[str]]:
    """Return the bytes, and what is to be said about them."""
    findings: list[str] = []
    files = _without_resent(_in_file_order(rows), findings)
    if any(_flagged(file, RowFlags.FORKED) for file in files):
        findings.append("bytes that contradict what is held are printed behind what they contradict")
    wanted = [_since(file, request.time_start_unix_nano) for file in files]
    if request.raw:
        return b"".join(render_file(file) for file in wanted), findings
    quarantined = sum(_flagged(file, RowFlags.QUARANTINED) for file in wanted)
    if quarantined:
        findings.append(f"{quarantined} lines that no parser took are printed as they are")
    parts = [line for file in wanted if file.num_rows for line in log_lines(file, timestamps=request.timestamps)]
    return b"".join(parts), findings


# -- which container -----------------------------------------------------------------------------------------


def _pod(request: LogsRequest, sources: Iterable[Source]) -> list[Source]:
    """Return the containers' sources of the one pod that is meant."""
    namespace, _, name = request.pod.removeprefix("pod:").rpartition("/")
    namespace = request.namespace or namespace
    if name.startswith("uid:"):
        named = [source for source in sources if source.pod_uid == name.removeprefix("uid:")]
    else:
        named = [source for source in sources if source.pod == name and namespace in ("", source.namespace)]
    if not named:
        raise NotHeldError(f'pods "{name}" not found: no log of it is held')
    pods = sorted({(source.namespace, source.pod_uid) for source in named})
    if len(pods) > 1:
        spaces = {space for space, _ in pods}
        choices = [
            f"{space}/{name}" if len(spaces) == len(pods) else f"uid:{uid} ({space}/{name})" for space, uid in pods
        ]
        listed = ", ".join(choices[:CHOICES_LISTED_MAX])
        more = f" and {len(choices) - CHOICES_LISTED_MAX} more" if len(choices) > CHOICES_LISTED_MAX else ""
        raise RejectedError(f"{len(pods)} pods are called {name}; choose one: {listed}{more}")
    return named


def _container(request: LogsRequest, named: Sequence[Source]) -> Source:
    pod = named[0].pod
    containers = sorted({source.container for source in named})
    if request.container:
        found = [source for source in named if source.container == request.container]
        if not found:
            raise NotHeldError(f"container {request.container} is not valid for pod {pod}")
    elif len(containers) > 1:
        raise RejectedError(
            f"a container name must be specified for pod {pod}, choose one of: [{' '.join(containers)}]"
        )
    else:
        found = list(named)
    if len({str(source) for source in found}) > 1:
        places = ", ".join(sorted(f"{source.cluster}/{source.node}" for source in found))
        raise RejectedError(f"logs of pod {pod} are held of several nodes: {places}")
    return found[0]


# -- which bytes ---------------------------------------------------------------------------------------------


def _in_file_order(rows: pa.Table) -> list[pa.Table]:
    """Return one table a file, each in the order of its bytes, the files in the order in which they were written.

    Rotations are told apart by the time of their first line: an imported file's id does not tell its age. A fork
    follows the file that it contradicts.
    """
    files = []
    for file_id in dict.fromkeys(str(value) for value in rows["file_id"].to_pylist()):
        of_file = rows.filter(mask(Term(field="file_id", value=file_id), rows))
        files.append((file_id, of_file.sort_by([("offset_start", "ascending"), ("length", "ascending")])))
    begins: dict[str, int] = {}
    for file_id, file in files:
        root = root_of(file_id)
        begins[root] = min(_first_time(file), begins.get(root, _first_time(file)))
    files.sort(key=lambda item: (begins[root_of(item[0])], root_of(item[0]), _fork_number(item[0])))
    return [file for _, file in files]


def _first_time(file: pa.Table) -> int:
    return int(str(order_times(file.slice(0, 1))[0].as_py()))


def _fork_number(file_id: str) -> int:
    return int(file_id.partition("~")[2] or 0)


def _without_resent(files: list[pa.Table], findings: list[str]) -> list[pa.Table]:
    """Leave out a file whose bytes another holds as well: a collector that lost its bookmark sent it anew (C5)."""
    if not any(_flagged(file, RowFlags.RESENT) for file in files):
        return files
    contents = [render_file(file) for file in files]
    kept = [
        file
        for at, file in enumerate(files)
        if not any(
            other.startswith(contents[at]) and (len(other) > len(contents[at]) or before < at)
            for before, other in enumerate(contents)
            if before != at
        )
    ]
    if len(kept) < len(files):
        findings.append(f"{len(files) - len(kept)} files were sent twice and are printed once")
    return kept


def _since(file: pa.Table, start_unix_nano: int | None) -> pa.Table:
    if start_unix_nano is None:
        return file
    late = np.asarray(order_times(file).to_numpy(), np.int64) >= start_unix_nano
    return file.filter(pa.array(late))


def _flagged(file: pa.Table, flag: RowFlags) -> int:
    """Return how many rows carry a flag."""
    return mask(Term(field="flags", value=str(flag.name).lower()), file).true_count
