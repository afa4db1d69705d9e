"""Which files are followed: births, continued files, renames, truncations and closings, durable before they count."""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from ashiato.adapters.telemetry import Telemetry
from ashiato.core.chunk import ChunkFlags, FileFacts
from ashiato.core.events import BytesLost
from ashiato.core.ids import FileId, Kind, Source, partition_of, ulid
from ashiato.core.ledger import Born, Closed, Gap, Statement
from ashiato.core.ports import Clock, Partition
from collector.bookmark import Bookmark, Done, Entry, Head, Known, Moved, Remembered
from collector.discovery import Candidate, in_log_order
from collector.events import FileBorn, FileClosed, FileUnreadable
from collector.followed import HEAD_BYTES, Followed, gzip_head, head_digest
from collector.ledger_file import LedgerFile

Identity = tuple[int, int]


class Registry:
    """Every followed file, by id. Statements and entries of one sweep are fsynced together (C7)."""

    def __init__(
        self,
        *,
        bookmark: Bookmark,
        ledger: LedgerFile,
        clock: Clock,
        telemetry: Telemetry,
        randomness: Callable[[int], bytes],
        partitions: dict[str, int],
        flags: ChunkFlags,
        scratch: Path,
    ) -> None:
        self.files: dict[str, Followed] = {}
        self.flags = flags
        self._bookmark = bookmark
        self._ledger = ledger
        self._clock = clock
        self._telemetry = telemetry
        self._randomness = randomness
        self._partitions = partitions
        self._scratch = scratch
        self._last_id = ""
        self._by_identity: dict[Identity, str] = {}
        self._done: dict[Identity, str] = {}
        """Closed files that still lie on the disk."""
        self._unreadable: set[Path] = set()
        self._waiting: dict[str, Remembered] = {
            file_id: file for file_id, file in bookmark.contents.files.items() if not file.done
        }
        """Remembered files that no sweep has seen again yet."""
        for file_id, file in bookmark.contents.files.items():
            if file.done:
                self._done[file.known.device, file.known.inode] = file_id

    def sweep(self, candidates: Iterable[Candidate]) -> None:
        """Take in what a sweep found: continue, rename, give birth; then state what has gone."""
        statements: list[Statement] = []
        entries: list[Entry] = []
        born: list[Followed] = []
        seen: set[Identity] = set()
        for candidate in in_log_order(list(candidates)):
            identity = (candidate.device, candidate.inode)
            seen.add(identity)
            known = self._by_identity.get(identity)
            if known is not None:
                self._rename(self.files[known], candidate, entries)
            elif candidate.found.compressed:
                self._compressed(candidate, statements, entries, born)
            elif (file := self._open(candidate, identity, statements, entries)) is not None:
                born.append(file)
        self._gone(seen, statements, entries)
        # (C7) a birth is durable before the file's first frame leaves
        self._ledger.append(statements)
        if entries:
            self._bookmark.append(*entries)
        for file in born:
            self.files[file.facts.file_id] = file

    def look(self) -> None:
        """Take in sizes, truncations and endings of all followed files."""
        now = self._clock.monotonic_nano()
        for file in list(self.files.values()):
            before = file.size
            file.look(now)
            if file.truncated or file.size < before:
                self._truncated(file, before)
            elif file.unlinked and not file.closing:
                file.closing = "unlinked"

    def settle(self, settle_ns: int) -> None:
        """Mark rotated files that have stood still for closing."""
        now = self._clock.monotonic_nano()
        for file in self.files.values():
            if file.replaced and not file.closing and now - file.changed_monotonic_nano > settle_ns:
                file.closing = "rotated"

    def closed(self, file: Followed) -> None:
        """Record that a file is closed and wholly acknowledged, and let go of it."""
        self._ledger.append([_closed(file, file.closing)])
        self._bookmark.append(Done(file_id=file.facts.file_id, size=file.offset))
        identity = (file.device, file.inode)
        self._by_identity.pop(identity, None)
        if not file.unlinked:
            self._done[identity] = file.facts.file_id
        self.files.pop(file.facts.file_id, None)
        file.close()
        self._telemetry.emit(FileClosed(file_id=file.facts.file_id, size=file.offset, reason=file.closing))

    # -- one candidate ---------------------------------------------------------------------------------------

    def _rename(self, file: Followed, candidate: Candidate, entries: list[Entry]) -> None:
        if candidate.path != file.path:
            file.path = candidate.path
            entries.append(Moved(file_id=file.facts.file_id, path=str(candidate.path)))
        file.replaced = bool(candidate.found.rotated)

    def _open(
        self, candidate: Candidate, identity: Identity, statements: list[Statement], entries: list[Entry]
    ) -> Followed | None:
        """Open a file that is not followed: one that the bookmark knows, or a new one."""
        done = self._bookmark.contents.files.get(self._done.get(identity, ""))
        if done is not None and done.offset == candidate.size:
            return None
        try:
            descriptor = os.open(candidate.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            if candidate.path not in self._unreadable:
                self._unreadable.add(candidate.path)
                self._telemetry.emit(FileUnreadable(path=str(candidate.path), error=error.strerror or str(error)))
            return None
        self._unreadable.discard(candidate.path)
        remembered = done or next(
            (f for f in self._waiting.values() if (f.known.device, f.known.inode) == identity), None
        )
        if remembered is not None and self._same(remembered, descriptor, candidate.size):
            return self._continue(remembered, candidate, descriptor)
        return self._birth(candidate, descriptor, statements, entries)

    def _same(self, remembered: Remembered, descriptor: int, size: int) -> bool:
        """Whether an inode still is the file that it was (a new one may have taken the number)."""
        head = remembered.head
        return size >= remembered.offset and (head is None or head_digest(descriptor, head.length) == head.sha256)

    def _continue(self, remembered: Remembered, candidate: Candidate, descriptor: int) -> Followed:
        known = remembered.known
        self._waiting.pop(known.file_id, None)
        self._done.pop((candidate.device, candidate.inode), None)
        file = Followed(
            facts=_facts(known), partition=Partition(known.topic, known.partition), path=candidate.path,
            descriptor=descriptor, device=candidate.device, inode=candidate.inode, offset=remembered.offset,
            position=remembered.position, replaced=bool(candidate.found.rotated),
            head_length=remembered.head.length if remembered.head else 0,
            changed_monotonic_nano=self._clock.monotonic_nano(),
        )  # fmt: skip
        file.at_line = file.starts_at_line()
        file.look(self._clock.monotonic_nano())
        self._by_identity[candidate.device, candidate.inode] = known.file_id
        return file

    def _birth(
        self, candidate: Candidate, descriptor: int, statements: list[Statement], entries: list[Entry]
    ) -> Followed:
        found = candidate.found
        partition = Partition(found.source.topic, partition_of(found.source, self._partitions[found.source.topic]))
        known = Known(
            file_id=self._new_id(), source=str(found.source), path=str(candidate.path), topic=partition.topic,
            partition=partition.number, restart_count=found.restart_count, device=candidate.device,
            inode=candidate.inode, flags=int(self.flags),
        )  # fmt: skip
        statements.append(
            Born(
                file_id=known.file_id, source=known.source, path=known.path, partition=partition.number,
                topic=partition.topic, restart_count=known.restart_count, device=str(known.device),
                inode=str(known.inode), flags=int(self.flags),
            )
        )  # fmt: skip
        entries.append(known)
        file = Followed(
            facts=_facts(known), partition=partition, path=candidate.path, descriptor=descriptor,
            device=candidate.device, inode=candidate.inode, replaced=bool(found.rotated),
        )  # fmt: skip
        file.look(self._clock.monotonic_nano())
        self._by_identity[candidate.device, candidate.inode] = known.file_id
        self._telemetry.emit(FileBorn(file_id=known.file_id, path=known.path, source=known.source))
        return file

    def _compressed(
        self, candidate: Candidate, statements: list[Statement], entries: list[Entry], born: list[Followed]
    ) -> None:
        """Take in a gzipped rotation: nothing where its plain form was read, the rest where it was read in part."""
        plain = str(candidate.path).removesuffix(".gz")
        remembered = self._bookmark.contents.files.values()
        if any(
            file.path in (plain, str(candidate.path)) and file.known.file_id not in self._waiting for file in remembered
        ):
            return
        descriptor = self._decompress(candidate.path)
        if descriptor is None:
            return
        size = os.fstat(descriptor).st_size
        for file in list(self._waiting.values()):
            same_source = file.known.source == str(candidate.found.source)
            if same_source and file.head is not None and self._same(file, descriptor, size):
                entries.append(Moved(file_id=file.known.file_id, path=str(candidate.path)))
                born.append(self._continue(file, candidate, descriptor))
                break
        else:
            born.append(self._birth(candidate, descriptor, statements, entries))
        born[-1].closing = "rotated"

    def _decompress(self, path: Path) -> int | None:
        """Return a descriptor of the decompressed content, in a file that has no name; None where it is damaged."""
        if not gzip_head(path, 1):
            return None
        with tempfile.TemporaryFile(dir=self._scratch) as whole:
            try:
                with gzip.open(path, "rb") as packed:
                    shutil.copyfileobj(packed, whole, 1 << 20)
            except (OSError, EOFError, zlib.error) as error:
                self._telemetry.emit(FileUnreadable(path=str(path), error=f"gzip: {error}"))
                return None
            whole.flush()
            return os.dup(whole.fileno())

    def _gone(self, seen: set[Identity], statements: list[Statement], entries: list[Entry]) -> None:
        """State the remembered files that no longer exist: what they held beyond the bookmark is a gap."""
        for identity in [identity for identity in self._done if identity not in seen]:
            del self._done[identity]
        for file_id, file in list(self._waiting.items()):
            del self._waiting[file_id]
            statements.append(
                Gap(
                    source=file.known.source, reason="rotated_away", file_id=file_id,
                    offset_start=str(file.offset), detail="gone while no collector ran; its end is not known",
                )
            )  # fmt: skip
            entries.append(Done(file_id=file_id, size=file.offset))
            self._telemetry.emit(BytesLost(count=0, reason="rotated_away", file_id=file_id))

    def _truncated(self, file: Followed, size_before: int) -> None:
        """A file shrank: what was not read of it is lost and said so; the same inode is another file from now on."""
        lost = max(0, size_before - file.offset)
        old_id = file.facts.file_id
        statements: list[Statement] = []
        if lost:
            statements.append(
                Gap(
                    source=file.facts.source, reason="truncated", file_id=old_id, offset_start=str(file.offset),
                    offset_end=str(size_before),
                )
            )  # fmt: skip
            self._telemetry.emit(BytesLost(count=lost, reason="truncated", file_id=old_id))
        statements.append(_closed(file, "truncated", size=max(size_before, file.offset)))
        self._ledger.append(statements)
        self._bookmark.append(Done(file_id=old_id, size=file.offset))
        del self.files[old_id]
        self._by_identity.pop((file.device, file.inode), None)
        file.close()

    # -- small things ----------------------------------------------------------------------------------------

    def acknowledged(self, file: Followed) -> list[Entry]:
        """Return what the bookmark is to learn beside an acknowledged offset."""
        if file.head_length >= HEAD_BYTES or file.offset <= file.head_length:
            return []
        file.head_length = min(HEAD_BYTES, file.offset)
        digest = head_digest(file.descriptor, file.head_length)
        return [Head(file_id=file.facts.file_id, length=file.head_length, sha256=digest)]

    def _new_id(self) -> FileId:
        """Mint an id that is greater than every one before it, so that file order is birth order."""
        new = ulid(self._clock.now_unix_nano() // 1_000_000, self._randomness(10))
        while new <= self._last_id:
            new = FileId(_next_ulid(self._last_id))
        self._last_id = new
        return new


def is_ledger(file: Followed) -> bool:
    """Whether a file is the ledger itself."""
    return file.facts.source.startswith(f"{Kind.LEDGER}/")


def source_of(file: Followed) -> Source:
    """Return a file's source."""
    return Source.parse(file.facts.source)


def _facts(known: Known) -> FileFacts:
    return FileFacts(file_id=known.file_id, source=known.source, path=known.path, restart_count=known.restart_count)


def _closed(file: Followed, reason: str, size: int | None = None) -> Closed:
    return Closed(
        file_id=file.facts.file_id,
        source=file.facts.source,
        size=str(file.offset if size is None else size),
        reason=reason,
    )


def _next_ulid(text: str) -> str:
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    number = 0
    for character in text:
        number = number << 5 | alphabet.index(character)
    number += 1
    return "".join(alphabet[number >> shift & 31] for shift in range(125, -1, -5))
