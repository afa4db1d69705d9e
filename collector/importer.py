"""Import: everything below some paths is read once and sent, flagged; nothing of the node's own state is touched.

File ids are made from what a file is and how it begins, so that a second import adds nothing and a longer file adds
the rest. A file's end is told, so that it counts as closed; what a later import brings beyond it is taken.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from ashiato.adapters.telemetry import Telemetry
from ashiato.core.chunk import ChunkFlags, FileFacts
from ashiato.core.errors import NotHeldError, TransientError
from ashiato.core.events import PartUnavailable
from ashiato.core.ids import TOPICS, FileId, check_name, partition_of
from ashiato.core.limits import FRAME_CHUNKS_MAX, FRAME_RAW_BYTES_TARGET
from ashiato.core.ports import BusWriter, Clock, Partition
from collector.content import Content, Gzipped
from collector.discovery import Candidate
from collector.events import FileSkipped, ImportProgress
from collector.followed import Followed
from collector.saved import Saved, Skipped, file_id_of, find, name_of, open_saved
from collector.ship import Taken, closing_chunk, load, take

PATIENCE_NS: Final = 120_000_000_000
"""An import gives up when the bus has been away this long; the same import again goes on where it stood."""
PROGRESS_NS: Final = 2_000_000_000
_RETRY_S_MAX: Final = 5.0


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was read."""

    file_id: str
    path: str
    size: int
    """Of the decompressed bytes."""
    kind: str
    source: str
    topic: str
    partition: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What an import read, and what it did not."""

    files: list[Read]
    bytes: int
    by_kind: dict[str, dict[str, int]]
    skipped: list[dict[str, str]]


class Importer:
    """One import."""

    def __init__(self, writer: BusWriter, *, clock: Clock, telemetry: Telemetry) -> None:
        self._writer = writer
        self._clock = clock
        self._telemetry = telemetry
        self._buffers: dict[Partition, list[Taken]] = {}
        self._in_flight: dict[Partition, asyncio.Task[None]] = {}
        self._read: list[Read] = []
        self._ids: set[str] = set()
        self._progress_due = 0

    async def run(self, paths: Sequence[Path], *, cluster: str, node: str) -> Report:
        """Read and send everything; return when the bus keeps all of it.

        Raises:
            SettingsError: the cluster or the node cannot be called so.
            TransientError: the bus was away for longer than two minutes.

        """
        check_name(cluster, "cluster")
        check_name(node, "node")
        partitions = {topic: await self._partitions(topic) for topic in TOPICS}
        saved = await asyncio.to_thread(find, paths, cluster=cluster, node=node)
        self._progress_due = self._clock.monotonic_nano() + PROGRESS_NS
        try:
            for at, candidate in enumerate(saved.candidates):
                await self._file(candidate, partitions, saved)
                self._say(at + 1, saved)
            for partition in list(self._buffers):
                await self._flush(partition)
            await asyncio.gather(*self._in_flight.values())
        finally:
            for task in self._in_flight.values():
                task.cancel()
        return self._report(saved)

    async def _file(self, candidate: Candidate, partitions: dict[str, int], saved: Saved) -> None:
        try:
            content = await asyncio.to_thread(open_saved, candidate)
        except OSError as error:
            self._skip(saved, candidate.path, error.strerror or str(error))
            return
        try:
            file = self._followed(candidate, content, partitions)
            await self._send_all(file, saved)
        except OSError as error:
            self._skip(saved, candidate.path, error.strerror or str(error))
            return
        finally:
            content.close()
        if isinstance(content, Gzipped) and content.damage:
            self._skip(saved, candidate.path, f"damaged behind byte {file.size}, read up to there: {content.damage}")

    def _followed(self, candidate: Candidate, content: Content, partitions: dict[str, int]) -> Followed:
        source = candidate.found.source
        file = Followed(
            facts=FileFacts(
                file_id=self._file_id(candidate, content), source=str(source), path=candidate.path,
                restart_count=candidate.found.restart_count,
            ),
            flags=ChunkFlags.IMPORTED, path=candidate.path, content=content, identity=candidate.identity,
            partition=Partition(source.topic, partition_of(source, partitions[source.topic])),
        )  # fmt: skip
        file.look(self._clock.monotonic_nano())
        return file

    def _file_id(self, candidate: Candidate, content: Content) -> FileId:
        """Return the file's id; two rotations that begin alike are told apart by their own names."""
        name = name_of(candidate)
        file_id = file_id_of(candidate, content, name=name)
        again = 0
        while file_id in self._ids:
            again += 1
            file_id = file_id_of(candidate, content, name=f"{name}{candidate.found.rotated}#{again}")
        self._ids.add(file_id)
        return file_id

    async def _send_all(self, file: Followed, saved: Saved) -> None:
        size = file.size
        while file.cursor.offset < size:
            taken = take(
                file, FRAME_RAW_BYTES_TARGET, at=file.cursor, ended=True, now_unix_nano=self._clock.now_unix_nano(),
                chunks_max=FRAME_CHUNKS_MAX,
            )  # fmt: skip
            if not taken:
                raise OSError(file.failed or "it became shorter while it was read")
            file.cursor = taken[-1].behind
            await self._put(file.partition, taken)
            self._say(len(self._read), saved)
        await self._put(file.partition, [closing_chunk(file, file.cursor, now_unix_nano=self._clock.now_unix_nano())])
        facts = file.facts
        self._read.append(
            Read(
                file_id=facts.file_id, path=file.path, size=file.cursor.offset, kind=facts.source.split("/", 1)[0],
                source=facts.source, topic=file.partition.topic, partition=file.partition.number,
            )
        )  # fmt: skip

    # -- sending ---------------------------------------------------------------------------------------------

    async def _put(self, partition: Partition, taken: list[Taken]) -> None:
        buffer = self._buffers.setdefault(partition, [])
        buffer += taken
        if sum(len(one.chunk.payload) for one in buffer) >= FRAME_RAW_BYTES_TARGET or len(buffer) >= FRAME_CHUNKS_MAX:
            await self._flush(partition)

    async def _flush(self, partition: Partition) -> None:
        """Send what is buffered, behind what is in flight: one frame of a partition at a time, in order."""
        buffer, self._buffers[partition] = self._buffers.get(partition, []), []
        values = list(_frames(partition, buffer))
        if partition in self._in_flight:
            await self._in_flight[partition]
        self._in_flight[partition] = asyncio.create_task(self._send(partition, values))

    async def _send(self, partition: Partition, values: list[bytes]) -> None:
        for value in values:
            deadline, wait = self._clock.monotonic_nano() + PATIENCE_NS, 0.2
            while True:
                try:
                    await self._writer.send(partition, value)
                    break
                except (TransientError, NotHeldError) as error:
                    await self._wait(error, wait, deadline)
                    wait = min(wait * 2, _RETRY_S_MAX)
                    with contextlib.suppress(TransientError):
                        await self._writer.reset()

    async def _partitions(self, topic: str) -> int:
        deadline, wait = self._clock.monotonic_nano() + PATIENCE_NS, 0.2
        while True:
            try:
                return await self._writer.partitions(topic)
            except (TransientError, NotHeldError) as error:
                await self._wait(error, wait, deadline)
                wait = min(wait * 2, _RETRY_S_MAX)

    async def _wait(self, error: TransientError | NotHeldError, wait: float, deadline: int) -> None:
        if self._clock.monotonic_nano() > deadline:
            raise TransientError("the bus does not take it: start it, and import again", error=str(error)) from error
        self._telemetry.emit(PartUnavailable(part="bus", error=str(error), retry_in_ms=int(wait * 1000)))
        await asyncio.sleep(wait)

    # -- telling ---------------------------------------------------------------------------------------------

    def _skip(self, saved: Saved, path: str, reason: str) -> None:
        saved.skipped.append(Skipped(path=path, reason=reason))

    def _say(self, files: int, saved: Saved) -> None:
        now = self._clock.monotonic_nano()
        if now >= self._progress_due:
            self._progress_due = now + PROGRESS_NS
            self._telemetry.emit(
                ImportProgress(
                    files=files, files_total=len(saved.candidates), raw_bytes=sum(read.size for read in self._read),
                    stored_bytes_total=sum(candidate.size for candidate in saved.candidates),
                )
            )  # fmt: skip

    def _report(self, saved: Saved) -> Report:
        by_kind: dict[str, dict[str, int]] = {}
        for read in self._read:
            count = by_kind.setdefault(read.kind, {"files": 0, "bytes": 0})
            count["files"] += 1
            count["bytes"] += read.size
        for skipped in saved.skipped:
            self._telemetry.emit(FileSkipped(path=skipped.path, reason=skipped.reason))
        return Report(
            files=self._read, bytes=sum(read.size for read in self._read), by_kind=by_kind,
            skipped=[{"path": skipped.path, "reason": skipped.reason} for skipped in saved.skipped],
        )  # fmt: skip


def _frames(partition: Partition, taken: list[Taken]) -> Iterator[bytes]:
    while taken:
        part = taken[:FRAME_CHUNKS_MAX]
        frame = load(partition, part)
        yield frame.value
        taken = taken[frame.chunks :]
