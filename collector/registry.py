"""Which files are followed: births, continued files, renames, truncations and closings, durable before they count.

A change is first a :class:`Plan`: what the ledger is to state, what the bookmark is to know, and what then becomes
true. The statements are made durable, and only then the plan is carried out; where the disk is full nothing of it
has happened, and the next sweep plans again.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from ashiato.adapters.telemetry import Telemetry
from ashiato.core.chunk import ChunkFlags
from ashiato.core.errors import TransientError
from ashiato.core.events import BytesLost
from ashiato.core.ids import FileId, Kind, Source, next_ulid, partition_of, ulid
from ashiato.core.ledger import Born, Closed, Gap
from ashiato.core.ports import Clock, Partition
from collector.bookmark import Bookmark, Done, Known, Moved, Remembered, Stated
from collector.content import Content, Gzipped
from collector.discovery import Candidate, Swept
from collector.events import FileBorn, FileClosed, FileUnreadable
from collector.followed import Cursor, Followed
from collector.ledger_file import LedgerFile
from collector.plan import Identity, Plan, closed_of, facts_of, known_of
from collector.recall import is_same, open_plain, resume_any

GZIPPED_OPEN_MAX: Final = 16
"""Gzipped rotations read at once: each holds a decompressor and a window."""


class Registry:
    """Every followed file, by id."""

    def __init__(
        self,
        *,
        bookmark: Bookmark,
        ledger: LedgerFile,
        clock: Clock,
        telemetry: Telemetry,
        randomness: Callable[[int], bytes],
        partitions: dict[str, int],
        resent: bool,
    ) -> None:
        self.files: dict[str, Followed] = {}
        self.partitions = partitions
        self.bytes_lost = 0
        self._bookmark = bookmark
        self._ledger = ledger
        self._clock = clock
        self._telemetry = telemetry
        self._randomness = randomness
        self._resent = resent
        """The first sweep of a collector that lost its bookmark is under way (C5)."""
        self._by_identity: dict[Identity, Followed] = {}
        self._unreadable: set[str] = set()
        """Paths that are named in the ledger as unreadable."""
        self._done: dict[Identity, str] = {}
        """Closed files that still lie on the disk."""
        self._waiting: dict[str, Remembered] = {}
        """Remembered files that no sweep has seen again yet."""
        self._settled: dict[Identity, tuple[int, int]] = {}
        self._gzipped_left = GZIPPED_OPEN_MAX
        self._take_from_ledger()
        self._last_id = FileId(max(bookmark.contents.files, default=""))
        """Before the first birth, the newest that is remembered: the clock may have been put back since."""
        for file_id, file in bookmark.contents.files.items():
            if file.done:
                self._done[file.known.device, file.known.inode] = file_id
            else:
                self._waiting[file_id] = file

    @property
    def files_unreadable(self) -> int:
        """Files and folders that the ledger names as unreadable and that have not been read since."""
        return len(self._unreadable)

    # -- sweeping --------------------------------------------------------------------------------------------

    def plan(self, swept: Swept) -> Plan:
        """Decide what a sweep means. Changes nothing; may run beside the shipping."""
        self._gzipped_left = GZIPPED_OPEN_MAX - sum(isinstance(f.content, Gzipped) for f in self.files.values())
        plan = Plan(seen=frozenset(candidate.identity for candidate in swept.candidates))
        names = {candidate.path for candidate in swept.candidates}
        for candidate in swept.candidates:
            file = self._by_identity.get(candidate.identity)
            if file is not None:
                if (file.path, file.rotated) != (candidate.path, candidate.rotated):
                    plan.moves.append((file, candidate))
            elif self._settled.get(candidate.identity) == (candidate.size, candidate.modified_nano):
                continue
            elif not candidate.found.compressed:
                self._appeared(candidate, plan)
            elif candidate.path.removesuffix(".gz") not in names:
                # While the plain file is there, its compression may not be finished.
                self._compressed(candidate, plan)
        self._unreadable_folders(swept, plan)
        self._vanished(swept, plan)
        return plan

    def carry_out(self, plan: Plan) -> None:
        """Make a plan durable, then true. Raises TransientError, with nothing changed, where the disk is full."""
        # (C7) a birth is durable before the file's first frame leaves
        try:
            self._ledger.append(plan.statements)
        except TransientError:
            plan.discard()
            raise
        if plan.statements:
            self._bookmark.note(*plan.entries, Stated(n=self._ledger.head.n))
        else:
            self._bookmark.note(*plan.entries)
        for file in plan.drop:
            file.let_go()
            self._forget_identity(file)
        for file in plan.follow:
            self._follow(file)
        for file, candidate in plan.moves:
            file.path, file.rotated = candidate.path, candidate.rotated
            self._bookmark.note(Moved(file_id=file.facts.file_id, path=candidate.path))
        self._settled.update(plan.settled)
        self._unreadable |= plan.stated_unreadable
        self._waiting |= {file_id: self._bookmark.contents.files[file_id] for file_id in plan.unread}
        if plan.seen is not None:
            self._saw(plan.seen)
        for event in plan.events:
            self._telemetry.emit(event)
        if plan.statements:
            self._bookmark.flush()
        if self._bookmark.is_large:
            self._bookmark.compact(set(self._done.values()))

    # -- looking ---------------------------------------------------------------------------------------------

    def look(self, files: Iterable[Followed], *, settle_ns: int, unlinked_settle_ns: int) -> None:
        """Take in sizes, truncations and endings of ``files``. Raises TransientError where the disk is full.

        A rotated file closes when it has stood still for ``settle_ns``; one without a name for ``unlinked_settle_ns``.
        """
        now = self._clock.monotonic_nano()
        plan = Plan()
        for file in files:
            before = file.look(now)
            if file.content is None:
                continue
            if file.changed_content or file.size < max(before, file.cursor.offset):
                self._truncated(file, before, plan)
            elif file.failed:
                self._failed(file, plan)
            else:
                file.closing = file.closing or self._ending(file, now, settle_ns, unlinked_settle_ns)
        self.carry_out(plan)
        self._finish()

    def _ending(self, file: Followed, now: int, settle_ns: int, unlinked_settle_ns: int) -> str:
        still = now - file.changed_monotonic_nano
        if (file.unlinked or not file.in_sight) and still >= unlinked_settle_ns:
            return "unlinked" if file.unlinked else "replaced"
        return "rotated" if file.rotated and still >= settle_ns else ""

    def _finish(self) -> None:
        """State the files whose end the bus keeps, and let go of them."""
        ended = []
        for file in self.files.values():
            if not file.end_sent:
                continue
            if file.waiting:
                # It grew after all: what came late follows the end that was told.
                file.closing, file.end_sent = "", False
            else:
                ended.append(file)
        self._ledger.append([closed_of(file) for file in ended])
        for file in ended:
            modified = file.content.look().modified_nano if file.content is not None else 0
            self._bookmark.note(
                Done(file_id=file.facts.file_id, size=file.cursor.offset, modified_nano=modified),
                Stated(n=self._ledger.head.n),
            )
            del self.files[file.facts.file_id]
            self._forget_identity(file)
            if file.content is not None and not file.unlinked:
                self._done[file.identity] = file.facts.file_id
                self._settled[file.identity] = (file.size, modified)
            file.let_go()
            if file.is_ledger:
                self._ledger.forget(Path(file.path))
            self._telemetry.emit(FileClosed(file_id=file.facts.file_id, size=file.cursor.offset, reason=file.closing))

    # -- one candidate ---------------------------------------------------------------------------------------

    def _appeared(self, candidate: Candidate, plan: Plan) -> None:
        """Open a file that is not followed: one that the bookmark knows, or a new one."""
        known = self._remembered(candidate.identity)
        try:
            content = open_plain(candidate)
            resumed = resume_any(known, candidate, content)
        except FileNotFoundError:
            # Renamed or removed meanwhile: the next sweep sees it as it is then.
            plan.matched |= {file.known.file_id for file in known}
            return
        except OSError as error:
            plan.matched |= {file.known.file_id for file in known}
            self._not_readable(candidate, known, error, plan)
            return
        if resumed is None:
            self._birth(candidate, content, plan)
            return
        self._known_again(*resumed, candidate, content, plan)

    def _compressed(self, candidate: Candidate, plan: Plan) -> None:
        """Take in a gzipped rotation: nothing where its plain form was read, the rest where it was read in part."""
        if self._gzipped_left <= 0:
            plan.deferred.add(str(candidate.found.source))
            return
        known = self._remembered(candidate.identity)
        try:
            content = Gzipped(Path(candidate.os_path))
        except FileNotFoundError:
            plan.matched |= {file.known.file_id for file in known}
            return
        except OSError as error:
            plan.matched |= {file.known.file_id for file in known}
            self._not_readable(candidate, known, error, plan)
            return
        source = str(candidate.found.source)
        if any(f.facts.source == source and is_same(f.cursor, content) for f in self.files.values()):
            # Its plain form has no name any more, and is being read to its end through its descriptor.
            content.close()
            plan.settled[candidate.identity] = (candidate.size, candidate.modified_nano)
        elif (resumed := resume_any([*known, *self._read_before(source)], candidate, content)) is not None:
            self._known_again(*resumed, candidate, content, plan)
        else:
            self._gzipped_left -= 1
            file_id = self._birth(candidate, content, plan)
            if content.damage:
                self._damaged(candidate, content, file_id, plan)

    def _known_again(
        self, file: Remembered, cursor: Cursor, candidate: Candidate, content: Content, plan: Plan
    ) -> None:
        plan.matched.add(file.known.file_id)
        if file.done and content.look().size <= file.offset:
            content.close()
            plan.settled[candidate.identity] = (candidate.size, candidate.modified_nano)
        else:
            self._gzipped_left -= candidate.found.compressed
            self._continue(file, candidate, content, cursor, plan)

    def _damaged(self, candidate: Candidate, content: Gzipped, file_id: str, plan: Plan) -> None:
        plan.statements.append(
            Gap(
                source=str(candidate.found.source), reason="unreadable", file_id=file_id,
                offset_start=str(content.look().size), detail=content.damage,
            )
        )  # fmt: skip
        plan.events.append(FileUnreadable(path=candidate.path, error=content.damage))

    def _remembered(self, identity: Identity) -> list[Remembered]:
        """Return the remembered files of an inode, the likeliest first."""
        waiting = [f for f in self._waiting.values() if (f.known.device, f.known.inode) == identity]
        done = self._bookmark.contents.files.get(self._done.get(identity, ""))
        return [*reversed(waiting), *([done] if done is not None else [])]

    def _read_before(self, source: str) -> list[Remembered]:
        """Return files of a source that are not followed now and of which a head is known, open ones first."""
        files = [
            file
            for file_id, file in self._bookmark.contents.files.items()
            if file.known.source == source and file.head is not None and file_id not in self.files
        ]
        return sorted(files, key=lambda file: (file.done, -file.offset))

    def _continue(
        self, remembered: Remembered, candidate: Candidate, content: Content, cursor: Cursor, plan: Plan
    ) -> None:
        known = remembered.known
        if remembered.path != candidate.path:
            plan.entries.append(Moved(file_id=known.file_id, path=candidate.path))
        file = Followed(
            facts=facts_of(known), flags=ChunkFlags(known.flags), partition=self._partition_of(known),
            path=candidate.path, content=content, identity=candidate.identity, cursor=cursor,
            position=remembered.position, incarnation=remembered.incarnation, rotated=candidate.rotated,
            head_noted=remembered.head.length if remembered.head is not None else 0,
            changed_monotonic_nano=self._clock.monotonic_nano(),
        )  # fmt: skip
        if candidate.found.compressed:
            file.closing = "rotated"
        plan.follow.append(file)

    def _birth(self, candidate: Candidate, content: Content | None, plan: Plan) -> str:
        found = candidate.found
        partition = self._partition(found.source)
        flags = ChunkFlags.RESENT if self._resent else ChunkFlags(0)
        known = Known(
            file_id=self._new_id(), source=str(found.source), path=candidate.path, topic=partition.topic,
            partition=partition.number, restart_count=found.restart_count, device=candidate.identity[0],
            inode=candidate.identity[1], flags=int(flags),
        )  # fmt: skip
        plan.statements.append(
            Born(
                file_id=known.file_id, source=known.source, path=known.path, partition=partition.number,
                topic=partition.topic, restart_count=known.restart_count, device=str(known.device),
                inode=str(known.inode), flags=int(flags),
            )
        )  # fmt: skip
        plan.entries.append(known)
        plan.events.append(FileBorn(file_id=known.file_id, path=known.path, source=known.source))
        if content is not None:
            file = Followed(
                facts=facts_of(known), flags=flags, partition=partition, path=candidate.path, content=content,
                identity=candidate.identity, rotated=candidate.rotated,
                changed_monotonic_nano=self._clock.monotonic_nano(),
            )  # fmt: skip
            if found.compressed:
                file.closing = "rotated"
            plan.follow.append(file)
            # What it begins with, if it has begun: its inode may be gone when a crash is over.
            if (head := file.guarded(file.begin())) is not None:
                plan.entries.append(head)
        return known.file_id

    # -- what cannot be had ----------------------------------------------------------------------------------

    def _not_readable(self, candidate: Candidate, known: list[Remembered], error: OSError, plan: Plan) -> None:
        """Name a file that cannot be opened: it is born, so that what is read of it later wins over the gap."""
        if error.errno in (errno.EMFILE, errno.ENFILE):
            plan.deferred.add(str(candidate.found.source))
            return
        if candidate.path in self._unreadable:
            return
        why = error.strerror or str(error)
        if known:
            file_id, offset = known[0].known.file_id, known[0].offset
        else:
            file_id, offset = self._birth(candidate, None, plan), 0
            plan.unread.append(file_id)
        plan.statements.append(
            Gap(
                source=str(candidate.found.source), reason="unreadable", file_id=file_id, offset_start=str(offset),
                detail=f"{candidate.path}: {why}",
            )
        )  # fmt: skip
        plan.stated_unreadable.add(candidate.path)
        plan.events.append(FileUnreadable(path=candidate.path, error=why))

    def _unreadable_folders(self, swept: Swept, plan: Plan) -> None:
        for folder, why in swept.unreadable.items():
            if folder in self._unreadable:
                continue
            now = str(self._clock.now_unix_nano())
            root = swept.roots[-1]
            source = Source(kind=Kind.FILE, cluster=root.cluster, node=root.node, path=folder)
            plan.statements.append(
                Gap(source=str(source), reason="unreadable", time_start_unix_nano=now, detail=f"{folder}: {why}")
            )
            plan.stated_unreadable.add(folder)
            plan.events.append(FileUnreadable(path=folder, error=why))

    def _failed(self, file: Followed, plan: Plan) -> None:
        """Name, once, what may be missing where a read failed; it is tried again."""
        if not file.failure_stated:
            file.failure_stated = True
            plan.statements.append(
                Gap(
                    source=file.facts.source, reason="unreadable", file_id=file.facts.file_id,
                    offset_start=str(file.cursor.offset), detail=file.failed,
                )
            )  # fmt: skip
            plan.events.append(FileUnreadable(path=file.path, error=file.failed))
        file.failed = ""

    def _vanished(self, swept: Swept, plan: Plan) -> None:
        """State the remembered files that no longer exist: what they held beyond the bookmark is a gap."""
        hidden = [*swept.missing, *swept.unreadable]
        for file_id, file in self._waiting.items():
            if (
                file_id in plan.matched
                or file.known.source in plan.deferred
                or any(file.path.startswith(f"{folder}/") for folder in hidden)
            ):
                continue
            known = file.known
            identity = (known.device, known.inode)
            assert plan.seen is not None
            if not any(file.path.startswith(f"{root.path}/") for root in swept.roots):
                reason = "excluded"
            else:
                reason = "truncated" if identity in plan.seen else "rotated_away"
            plan.statements.append(
                Gap(
                    source=known.source, reason=reason, file_id=file_id, offset_start=str(file.offset),
                    detail="while no collector ran; its end is not known",
                )
            )  # fmt: skip
            plan.events.append(BytesLost(count=0, reason=reason, file_id=file_id))
            gone = Followed(
                facts=facts_of(known), flags=ChunkFlags(known.flags), partition=self._partition_of(known),
                path=file.path, content=None, identity=identity, cursor=Cursor(offset=file.offset),
                position=file.position, incarnation=file.incarnation, closing=reason,
            )  # fmt: skip
            plan.follow.append(gone)

    def _truncated(self, file: Followed, size_before: int, plan: Plan) -> None:
        """Say what is lost of a file that shrank; the same inode is another file from now on."""
        seen = max(size_before, file.cursor.offset)
        lost = seen - file.cursor.offset
        if lost or file.changed_content:
            # Where it was written anew and has grown past the offset, its old size is not known.
            end = "" if file.changed_content and file.size >= seen else str(seen)
            plan.statements.append(
                Gap(
                    source=file.facts.source, reason="truncated", file_id=file.facts.file_id,
                    offset_start=str(file.cursor.offset), offset_end=end,
                )
            )  # fmt: skip
            plan.events.append(BytesLost(count=lost, reason="truncated", file_id=file.facts.file_id))
            self.bytes_lost += lost
        file.closing, file.changed_content = "truncated", False
        plan.drop.append(file)

    # -- carrying out ----------------------------------------------------------------------------------------

    def _follow(self, file: Followed) -> None:
        file_id = file.facts.file_id
        self._waiting.pop(file_id, None)
        self.files[file_id] = file
        # What was acknowledged before a restart may stand in no beat.
        file.moved_since_beat = file.cursor.offset > 0
        if file.content is not None:
            self._done.pop(file.identity, None)
            self._by_identity[file.identity] = file
            self._unreadable.discard(file.path)
            file.look(self._clock.monotonic_nano())

    def _saw(self, seen: frozenset[Identity]) -> None:
        for file in self.files.values():
            file.in_sight = file.identity in seen
        for gone in [identity for identity in self._settled if identity not in seen]:
            del self._settled[gone]
        for gone in [identity for identity in self._done if identity not in seen]:
            del self._done[gone]
        self._resent = False

    def _forget_identity(self, file: Followed) -> None:
        if self._by_identity.get(file.identity) is file:
            del self._by_identity[file.identity]

    def _take_from_ledger(self) -> None:
        """(C7) What the ledger states and a crash kept from the bookmark: births, ends and acknowledged offsets."""
        contents = self._bookmark.contents
        for line in self._ledger.since(contents.stated):
            match line.statement:
                case Born() as born if born.file_id not in contents.files:
                    self._bookmark.note(known_of(born))
                case Closed() as closed if closed.file_id in contents.files:
                    self._bookmark.note(Done(file_id=closed.file_id, size=int(closed.size)))
                case _:
                    pass
        self._bookmark.note(Stated(n=self._ledger.head.n))

    # -- small things ----------------------------------------------------------------------------------------

    def _partition(self, source: Source) -> Partition:
        return Partition(source.topic, partition_of(source, self.partitions[source.topic]))

    def _partition_of(self, known: Known) -> Partition:
        if 0 <= known.partition < self.partitions.get(known.topic, 0):
            return Partition(known.topic, known.partition)
        # A bus made anew with fewer partitions: the order on the old one is gone with it.
        return self._partition(Source.parse(known.source))

    def _new_id(self) -> FileId:
        """Mint an id that is greater than every one before it, so that file order is birth order."""
        new = ulid(self._clock.now_unix_nano() // 1_000_000, self._randomness(10))
        self._last_id = new if new > self._last_id else next_ulid(self._last_id)
        return self._last_id
