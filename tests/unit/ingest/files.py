"""Files, chunks and pieces as tests of ingest build them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

from ashiato.core.chunk import Chunk, ChunkFlags, FileFacts
from ashiato.core.frontier import FileState
from ashiato.core.ids import Kind, Source, ulid
from ingest.admission import Admission
from ingest.contracts import Piece

NOON: Final = 1_795_608_000_000_000_000
"""2026-11-25 12:00:00 UTC."""

WEB: Final = Source(
    kind=Kind.CONTAINER, cluster="c1", node="node-1", namespace="shop", pod="web-1",
    pod_uid="6f9a1f0e-0000-4000-8000-000000000001", container="web",
)  # fmt: skip
PLAIN: Final = Source(kind=Kind.FILE, cluster="c1", node="node-1", path="var/log/app.log")


def file_id(number: int = 1) -> str:
    return ulid(NOON // 1_000_000, number.to_bytes(10, "big"))


def facts(source: Source = WEB, number: int = 1) -> FileFacts:
    return FileFacts(file_id=file_id(number), source=str(source), path=f"/var/log/{number}.log", restart_count=0)


def chunk(
    payload: bytes,
    start: int = 0,
    *,
    source: Source = WEB,
    number: int = 1,
    flags: ChunkFlags | int = 0,
    starts_at_line: bool = True,
    observed: int = NOON,
) -> Chunk:
    if starts_at_line:
        flags |= ChunkFlags.STARTS_AT_LINE
    if payload.endswith(b"\n"):
        flags |= ChunkFlags.ENDS_AT_LINE
    return Chunk(
        file=facts(source, number), offset_start=start, observed_time_unix_nano=observed, flags=int(flags),
        payload=payload,
    )  # fmt: skip


def chunks(
    content: bytes, cuts: Iterable[int] = (), *, source: Source = WEB, number: int = 1, closed: bool = False
) -> list[Chunk]:
    """Return ``content`` cut at ``cuts``."""
    borders = sorted({0, len(content), *cuts})
    made = []
    for start, end in pairwise(borders):
        flags = ChunkFlags(0)
        if end == len(content) and not content.endswith(b"\n"):
            flags |= ChunkFlags.UNTERMINATED
        if end == len(content) and closed:
            flags |= ChunkFlags.FILE_CLOSED
        at_line = start == 0 or content[start - 1 : start] == b"\n"
        made.append(chunk(content[start:end], start, source=source, number=number, flags=flags, starts_at_line=at_line))
    return made


def admitted(arriving: Sequence[Chunk], admission: Admission | None = None) -> list[Piece]:
    """Return the pieces of chunks that are all new."""
    admission = admission or new_admission()
    return [piece for one in arriving for piece in admission.admit(one, lambda *_: None).pieces]


def new_admission(paged: Sequence[FileState] = ()) -> Admission:
    return Admission(find=lambda wanted: next((file for file in paged if file.file_id == wanted), None))


def cri(text: str, *, part: str = "F", stream: str = "stdout", at: int = 0, zone: str = "Z") -> bytes:
    return f"2026-11-25T12:00:{at % 60:02}.{at:09}{zone} {stream} {part} {text}\n".encode()
