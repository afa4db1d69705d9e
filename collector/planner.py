"""What a sweep means: which files are new, which go on, which were copied, and what cannot be had.

First the inodes that are known, then everything else in the order in which the logs were written: what is born then
has ids in that order. A file that nobody knows is compared with the logs that it may be a copy of:

- a rotated copy of a file that was truncated *is* that file from now on (``copytruncate``), its rest is read there;
- one of a file that is read still may become that, and is waited for as long as it may;
- any other that begins alike is another file, flagged as a shadow: equal bytes never merge two files.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ashiato.core.chunk import ChunkFlags
from ashiato.core.ids import FileId, Source, next_ulid, partition_of, ulid
from ashiato.core.ledger import Born
from ashiato.core.ports import Clock, Partition
from collector import losses
from collector.bookmark import Known, Moved, Remembered
from collector.content import Content, Gzipped, Plain
from collector.descriptors import Descriptors
from collector.discovery import Candidate, Swept
from collector.events import FileBorn
from collector.followed import Cursor, Followed
from collector.past import Past, settled
from collector.plan import Identity, Plan, Recovered, Settled, facts_of
from collector.recall import begins_alike, is_beginning_of, is_same, may_be_copy, open_plain, resume_copy, resume_inode

GZIPPED_OPEN_MAX: Final = 16
"""Gzipped rotations read at once: each holds a decompressor and a window."""
COPY_STILL_NS: Final = 5_000_000_000
"""A copy of a file that is read still is another file when it has stood still this long."""
COPY_SWEEPS: Final = 2
"""A truncated file's copy is looked for in this many sweeps: one may have begun before the copy was there."""


_NO_FLAGS: Final = ChunkFlags(0)


@dataclass(slots=True, kw_only=True)
class Cut:
    """A file that was truncated, and whose copy is looked for."""

    file: Followed
    seen: int
    """Its size before, as far as it was seen."""
    is_end_known: bool
    sweeps: int = 0


class Planner:
    """Decides. Changes nothing of the files that are followed, and may run beside their shipping."""

    def __init__(
        self, *, files: Mapping[str, Followed], past: Past, clock: Clock,
        randomness: Callable[[int], bytes], partitions: dict[str, int], descriptors: Descriptors, resent: bool,
        configuration: str,
    ) -> None:  # fmt: skip
        self.by_identity: dict[Identity, Followed] = {}
        self.unreadable: dict[Identity, str] = {}
        """Files that are named in the ledger as unreadable, with their sources: an inode is used again."""
        self.unreadable_folders: frozenset[str] = frozenset()
        """Those of the last sweep: they are named in the ledger."""
        self.excluded: set[str] = set()
        """Paths that are named in the ledger as excluded by this configuration."""
        self.cut: dict[str, Cut] = {}
        self.copies: dict[Identity, tuple[Settled, int]] = {}
        """Copies that are waited for: as they were, and since when."""
        self.resent = resent
        """The first sweep of a collector that lost its bookmark is under way (C5)."""
        self._configuration = configuration
        self._files = files
        self._past = past
        self._clock = clock
        self._randomness = randomness
        self._partitions = partitions
        self._descriptors = descriptors
        self._gzipped_left = GZIPPED_OPEN_MAX
        self._last_id = FileId(max(past.contents.files, default=""))
        """Before the first birth, the newest that is remembered: the clock may have been put back since."""

    def plan(self, swept: Swept) -> Plan:
        """Return what a sweep means."""
        self._gzipped_left = GZIPPED_OPEN_MAX - sum(isinstance(f.content, Gzipped) for f in list(self._files.values()))
        plan = Plan(
            seen=frozenset(candidate.identity for candidate in swept.candidates),
            pinned=frozenset(candidate.identity for candidate in swept.candidates if candidate.pinned),
            unreadable_folders=frozenset(swept.unreadable),
        )
        # What only a pin holds comes before its compression.
        for candidate in sorted(self._known_inodes(swept, plan), key=lambda candidate: not candidate.pinned):
            if candidate.found.compressed:
                self._compressed(candidate, plan)
            else:
                self._unknown(candidate, plan)
        if swept.is_starved:
            plan.deferred.add("")
        now = self._clock.now_unix_nano()
        for folder, why in swept.unreadable.items():
            if folder not in self.unreadable_folders:
                losses.unreadable_folder(plan, swept, folder, why=why, now_unix_nano=now)
        for path, setting in swept.excluded.items():
            if path not in self.excluded:
                why = f"{path}: excluded by {setting}, configuration {self._configuration}"
                losses.excluded(plan, swept, path, why=why, now_unix_nano=now)
        self._vanished(swept, plan)
        self._not_copied(plan)
        return plan

    def _known_inodes(self, swept: Swept, plan: Plan) -> list[Candidate]:
        """Take in what has an inode that is known; return everything else."""
        names = {candidate.path for candidate in swept.candidates}
        unknown: list[Candidate] = []
        for candidate in swept.candidates:
            if (file := self.by_identity.get(candidate.identity)) is not None:
                if (file.path, file.rotated) != (candidate.path, candidate.rotated):
                    plan.moves.append((file, candidate))
            elif self._past.is_settled(candidate):
                continue
            elif candidate.found.compressed:
                # While the plain file is there, its compression may not be finished.
                if candidate.path.removesuffix(".gz") not in names:
                    unknown.append(candidate)
            elif self._is_unknown(candidate, plan):
                unknown.append(candidate)
        if unknown:
            plan.overwritten |= set(self._overwritten(swept))
        return unknown

    def _overwritten(self, swept: Swept) -> Iterator[str]:
        """Yield the remembered files whose inodes hold what is known to be another file."""
        for candidate in swept.candidates:
            for file in self._past.of_inode(candidate.identity):
                if file.identity == candidate.identity and self._is_overwritten(file, candidate):
                    yield file.known.file_id

    def _is_overwritten(self, file: Remembered, candidate: Candidate) -> bool:
        """Whether a remembered file's inode is known to be another file now."""
        here = self.by_identity.get(candidate.identity)
        if here is not None and here.facts.file_id != file.known.file_id:
            return True
        # A compression may have the inode of the plain file that made way for it.
        if candidate.found.compressed and not file.known.path.endswith(".gz"):
            return True
        # What needs nothing any more was read to its end.
        return not file.done and self._past.is_settled(candidate)

    # -- one candidate ---------------------------------------------------------------------------------------

    def _is_unknown(self, candidate: Candidate, plan: Plan) -> bool:
        """Take in a file whose inode is remembered, unless it holds other bytes now."""
        known = self._past.of_inode(candidate.identity)
        if not known:
            return True
        content = self._open(candidate, known, plan)
        if content is None:
            return False
        try:
            resumed = resume_inode(known, candidate, content)
        except OSError as error:
            content.close()
            self._not_readable(candidate, known, error, plan)
            return False
        # An inode holds one file: what else was remembered of it lies elsewhere, if anywhere.
        is_it = resumed[0].known.file_id if resumed is not None else ""
        others = (file for file in known if file.identity == candidate.identity)
        plan.overwritten |= {file.known.file_id for file in others if file.known.file_id != is_it}
        if resumed is not None:
            self._known_again(*resumed, candidate, content, plan)
            return False
        # One descriptor more for every file of a sweep would be too many: it is opened again in its turn.
        content.close()
        return True

    def _unknown(self, candidate: Candidate, plan: Plan) -> None:
        if candidate.rotated and str(candidate.found.source) in plan.deferred:
            return
        content = self._open(candidate, [], plan)
        if content is None:
            return
        try:
            shadow = candidate.rotated and self._is_copy(candidate, content, plan)
        except OSError as error:
            content.close()
            self._not_readable(candidate, [], error, plan)
            return
        if shadow is None:
            return
        flags = ChunkFlags.SHADOW if shadow else ChunkFlags(0)
        self._birth(candidate, content, plan, flags=flags)

    def _is_copy(self, candidate: Candidate, content: Plain, plan: Plan) -> bool | None:
        """Whether a file that nobody knows begins like one that is known; None where it is taken care of."""
        if self._goes_on_from_cut(candidate, content, plan):
            return None
        originals = self._past.of_source(candidate, followed=self._files, plan=plan)
        overwritten = [file for file in originals if file.known.file_id in plan.overwritten]
        if (resumed := resume_copy(overwritten, content)) is not None:
            self._known_again(*resumed, candidate, content, plan, is_copy=True)
            return None
        source = str(candidate.found.source)
        for file in list(self._files.values()):
            if file.facts.source != source or file.rotated or not may_be_copy(content, file):
                continue
            if self._may_be_truncated_next(candidate, plan):
                content.close()
                return None
            return True
        heads = [file.head for file in originals]
        heads += [
            file.head for file in list(self._files.values()) if file.content is None and file.facts.source == source
        ]
        return any(begins_alike(head, content) for head in heads)

    def _may_be_truncated_next(self, candidate: Candidate, plan: Plan) -> bool:
        before, since = self.copies.get(candidate.identity, (None, 0))
        now = self._clock.monotonic_nano()
        if before == settled(candidate) and now - since >= COPY_STILL_NS:
            return False
        plan.copies[candidate.identity] = settled(candidate)
        return True

    def _goes_on_from_cut(self, candidate: Candidate, content: Content, plan: Plan) -> bool:
        taken = {recovered.file.facts.file_id for recovered in plan.recovered}
        for file_id, cut in list(self.cut.items()):
            facts = cut.file.facts
            if (facts.source, facts.restart_count) != (str(candidate.found.source), candidate.found.restart_count):
                continue
            if file_id not in taken and is_same(cut.file, content):
                plan.recovered.append(Recovered(file=cut.file, content=content, candidate=candidate))
                # What was written between the copy and the truncation, as far as it was seen.
                losses.truncated(plan, cut.file, held_to=content.size(), seen=cut.seen, is_end_known=True)
                return True
        return False

    def _compressed(self, candidate: Candidate, plan: Plan) -> None:
        """Take in a gzipped rotation: nothing where its plain form was read, the rest where it was read in part."""
        # Where a file of its log could not be opened, nobody can tell yet what it is the compression of.
        if self._gzipped_left <= 0 or str(candidate.found.source) in plan.deferred:
            plan.deferred.add(str(candidate.found.source))
            return
        # One that was born plain lay in a plain file's inode, whatever its name is now.
        known = [f for f in self._past.of_inode(candidate.identity) if f.known.path.endswith(".gz")]
        originals = self._past.of_source(candidate, followed=self._files, plan=plan)
        try:
            if self._is_known_end(candidate, [*known, *originals], plan):
                return
            content = Gzipped(Path(candidate.os_path))
        except FileNotFoundError:
            plan.matched |= {file.known.file_id for file in known}
            return
        except OSError as error:
            self._not_readable(candidate, known, error, plan)
            return
        source, seen = str(candidate.found.source), (plan.seen or frozenset()) - plan.pinned
        pinned = [file for file in plan.follow if file.identity in plan.pinned]
        if any(
            f.facts.source == source
            and (f.unlinked or f.identity not in seen)
            # One that was cut off meanwhile does not hold any more what was copied of it.
            and (f.content is not None and f.content.size() >= content.size())
            # While nothing of it has left, what lies there tells.
            and (is_same(f, content) or is_beginning_of(content, f))
            for f in [*self._files.values(), *pinned]
        ):
            # Its plain form has no name any more, and is being read to its end through its descriptor.
            content.close()
            plan.settled[candidate.identity] = settled(candidate)
        elif self._goes_on_from_cut(candidate, content, plan):
            self._gzipped_left -= 1
        elif (resumed := resume_inode(known, candidate, content)) is not None:
            self._known_again(*resumed, candidate, content, plan)
        elif (resumed := resume_copy(originals, content)) is not None:
            self._known_again(*resumed, candidate, content, plan, is_copy=True)
        else:
            self._gzipped_left -= 1
            file_id = self._birth(candidate, content, plan)
            if content.damage:
                losses.damaged(plan, candidate, content, file_id)

    def _is_known_end(self, candidate: Candidate, known: list[Remembered], plan: Plan) -> bool:
        """Whether it is the compression of a file that was read to its end, told by head and size alone.

        A node compresses every rotation: to read each of them through again would cost more than to ship them.
        """
        done = [file for file in known if file.done and file.head is not None]
        if not done:
            return False
        for file in done:
            assert file.head is not None
            named = file.path in (candidate.path, candidate.path.removesuffix(".gz"))
            if named and Gzipped.glance(Path(candidate.os_path), file.head.length) == (file.head.sha256, file.offset):
                plan.matched.add(file.known.file_id)
                plan.settled[candidate.identity] = settled(candidate)
                plan.packed[file.known.file_id] = candidate.identity
                return True
        return False

    def _known_again(
        self, file: Remembered, cursor: Cursor, candidate: Candidate, content: Content, plan: Plan, *,
        is_copy: bool = False,
    ) -> None:  # fmt: skip
        file_id = file.known.file_id
        plan.matched.add(file_id)
        if is_copy and candidate.found.compressed:
            plan.packed[file_id] = candidate.identity
        elif is_copy or file.identity != candidate.identity:
            plan.entries.append(moved(file_id, candidate, content))
        if file.done and content.size() <= file.offset:
            content.close()
            plan.settled[candidate.identity] = settled(candidate)
            return
        self._gzipped_left -= candidate.found.compressed
        known = file.known
        if file.path != candidate.path and not (is_copy and not candidate.found.compressed):
            plan.entries.append(renamed(file, candidate))
        followed = Followed(
            facts=facts_of(known), flags=ChunkFlags(known.flags), partition=self.partition_of(known),
            path=candidate.path, content=content, identity=candidate.identity, cursor=cursor, position=file.position,
            incarnation=file.incarnation, rotated=candidate.rotated, head=file.head, is_copy=is_copy,
            changed_monotonic_nano=self._clock.monotonic_nano(),
        )  # fmt: skip
        if candidate.found.compressed:
            followed.closing = "rotated"
        plan.follow.append(followed)

    def _birth(
        self, candidate: Candidate, content: Content | None, plan: Plan, *, flags: ChunkFlags = _NO_FLAGS
    ) -> str:
        found = candidate.found
        partition = self._partition(found.source)
        flags |= ChunkFlags.RESENT if self.resent else ChunkFlags(0)
        known = Known(
            file_id=self._new_id(), source=str(found.source), path=candidate.path, topic=partition.topic,
            partition=partition.number, restart_count=found.restart_count, device=candidate.identity[0],
            inode=candidate.identity[1], flags=int(flags), generation=content.generation if content is not None else 0,
        )  # fmt: skip
        plan.statements.append(
            Born(
                file_id=known.file_id, source=known.source, path=known.path, partition=partition.number,
                topic=partition.topic, restart_count=known.restart_count, device=str(known.device),
                inode=str(known.inode), generation=str(known.generation or ""), flags=int(flags),
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
            if (head := file.note_head()) is not None:
                plan.entries.append(head)
            if isinstance(content, Plain):
                content.is_live = not candidate.rotated
        return known.file_id

    # -- what cannot be had ----------------------------------------------------------------------------------

    def _open(self, candidate: Candidate, known: list[Remembered], plan: Plan) -> Plain | None:
        try:
            return open_plain(candidate, self._descriptors)
        except FileNotFoundError:
            # Renamed or removed meanwhile: the next sweep sees it as it is then.
            plan.matched |= {file.known.file_id for file in known}
            plan.deferred |= {file.known.source for file in known}
        except OSError as error:
            self._not_readable(candidate, known, error, plan)
        return None

    def _not_readable(self, candidate: Candidate, known: list[Remembered], error: OSError, plan: Plan) -> None:
        """Name a file that cannot be opened: it is born, so that what is read of it later wins over the gap."""
        plan.matched |= {file.known.file_id for file in known}
        if error.errno in (errno.EMFILE, errno.ENFILE):
            plan.deferred |= {str(candidate.found.source), *(file.known.source for file in known)}
            return
        source = str(candidate.found.source)
        if self.unreadable.get(candidate.identity) == source:
            return
        # What had its inode before it may have been of another log.
        if same := [file for file in known if file.known.source == source]:
            file_id, offset = same[0].known.file_id, same[0].offset
        else:
            file_id, offset = self._birth(candidate, None, plan), 0
            plan.unread.append(file_id)
        losses.unreadable(plan, candidate, file_id=file_id, offset=offset, why=error.strerror or str(error))

    def _vanished(self, swept: Swept, plan: Plan) -> None:
        """State the remembered files that no longer exist: what they held beyond the bookmark is a gap."""
        hidden = [*swept.missing, *swept.unreadable]
        assert plan.seen is not None
        for file_id, file in list(self._past.waiting.items()):
            if (
                file_id in plan.matched
                or file.known.source in plan.deferred
                or any(file.path.startswith(f"{folder}/") for folder in hidden)
            ):
                continue
            known = file.known
            if not any(file.path.startswith(f"{root.path}/") for root in swept.roots):
                reason = "excluded"
            else:
                reason = "truncated" if file.identity in plan.seen else "rotated_away"
            losses.gone(plan, file, reason)
            plan.follow.append(
                Followed(
                    facts=facts_of(known), flags=ChunkFlags(known.flags), partition=self.partition_of(known),
                    path=file.path, content=None, identity=file.identity, cursor=Cursor(offset=file.offset),
                    position=file.position, incarnation=file.incarnation, closing=reason,
                )
            )  # fmt: skip

    def _not_copied(self, plan: Plan) -> None:
        """Give up on truncated files of which no copy was found."""
        recovered = {one.file.facts.file_id for one in plan.recovered}
        for file_id, cut in list(self.cut.items()):
            if file_id in recovered or cut.file.facts.source in plan.deferred:
                continue
            cut.sweeps += 1
            if cut.sweeps >= COPY_SWEEPS:
                plan.given_up.append(cut.file)
                losses.truncated(
                    plan, cut.file, held_to=cut.file.cursor.offset, seen=cut.seen, is_end_known=cut.is_end_known
                )

    # -- small things ----------------------------------------------------------------------------------------

    def partition_of(self, known: Known) -> Partition:
        """Return the partition that a file was born on."""
        if 0 <= known.partition < self._partitions.get(known.topic, 0):
            return Partition(known.topic, known.partition)
        # A bus made anew with fewer partitions: the order on the old one is gone with it.
        return self._partition(Source.parse(known.source))

    def _partition(self, source: Source) -> Partition:
        return Partition(source.topic, partition_of(source, self._partitions[source.topic]))

    def _new_id(self) -> FileId:
        """Mint an id that is greater than every one before it, so that file order is birth order."""
        new = ulid(self._clock.now_unix_nano() // 1_000_000, self._randomness(10))
        self._last_id = new if new > self._last_id else next_ulid(self._last_id)
        return self._last_id


def moved(file_id: str, candidate: Candidate, content: Content) -> Moved:
    """Return the entry that a file's bytes lie under another inode now."""
    device, inode = candidate.identity
    return Moved(file_id=file_id, path=candidate.path, device=device, inode=inode, generation=content.generation)


def renamed(file: Remembered, candidate: Candidate) -> Moved:
    """Return the entry that a file has another name now."""
    at = file.copied
    if at is None:
        return Moved(file_id=file.known.file_id, path=candidate.path)
    return Moved(
        file_id=file.known.file_id, path=candidate.path, device=at.device, inode=at.inode, generation=at.generation
    )
