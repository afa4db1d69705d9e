"""Which files are followed: births, continued files, renames, truncations and closings, durable before they count.

A change is first a :class:`Plan`: what the ledger is to state, what the bookmark is to know, and what then becomes
true. The statements are made durable, and only then the plan is carried out; where the disk is full nothing of it
has happened, and the next sweep plans again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from ashiato.adapters.telemetry import Telemetry
from ashiato.core import attest
from ashiato.core.errors import TransientError
from ashiato.core.events import PartUnavailable
from ashiato.core.ledger import Born, Closed, Span, Unattested
from ashiato.core.ports import Clock
from collector import losses
from collector.bookmark import Acked, Done, Stated
from collector.content import Plain
from collector.descriptors import Descriptors, for_this_process
from collector.discovery import Candidate, Swept
from collector.events import FileClosed, GenerationUnknown
from collector.followed import Followed
from collector.past import Past
from collector.plan import Identity, Plan, Recovered, closed_of, known_of
from collector.planner import Cut, Planner, moved, renamed
from collector.spans import Spans


class Registry:
    """Every followed file, by id."""

    def __init__(
        self,
        *,
        spans: Spans,
        clock: Clock,
        telemetry: Telemetry,
        randomness: Callable[[int], bytes],
        partitions: dict[str, int],
        resent: bool,
        configuration: str = "",
        descriptors: Descriptors | None = None,
    ) -> None:
        self.files: dict[str, Followed] = {}
        self.partitions = partitions
        self.bytes_lost = 0
        self._spans = spans
        self._bookmark = bookmark = spans.bookmark
        self._ledger = spans.ledger
        self._clock = clock
        self._telemetry = telemetry
        self._without_generation: set[int] = set()
        """Devices of which it was said that they tell no generation."""
        self._take_from_ledger()
        self._newest_remembered = max(bookmark.contents.files, default="")
        self._past = Past(bookmark.contents)
        self._planner = Planner(
            files=self.files, past=self._past, clock=clock, randomness=randomness,
            partitions=partitions, descriptors=descriptors or for_this_process(), resent=resent,
            configuration=configuration,
        )  # fmt: skip

    @property
    def files_unreadable(self) -> int:
        """Files and folders that the ledger names as unreadable and that have not been read since."""
        return len(self._planner.unreadable) + len(self._planner.unreadable_folders)

    @property
    def wants_sweep(self) -> bool:
        """Whether something waits for the next sweep: a truncated file, or what may be a copy of one."""
        return bool(self._planner.cut or self._planner.copies)

    def file_id_of(self, identity: Identity) -> str:
        """Return the id of the file of an inode, '' where none is known."""
        file = self._planner.by_identity.get(identity)
        return file.facts.file_id if file is not None else self._past.done.get(identity, "")

    def needs_nothing(self, candidate: Candidate) -> bool:
        """Whether a file is closed, and is what it was then."""
        return candidate.identity in self._past.done and self._past.is_settled(candidate)

    def holds(self, identity: Identity) -> bool:
        """Whether an inode is followed, so that a sweep need not look at it again."""
        return identity in self._planner.by_identity

    # -- sweeping --------------------------------------------------------------------------------------------

    def plan(self, swept: Swept) -> Plan:
        """Decide what a sweep means. Changes nothing; may run beside the shipping."""
        return self._planner.plan(swept)

    def carry_out(self, plan: Plan) -> None:
        """Make a plan durable, then true. Raises TransientError, with nothing changed, where the disk is full."""
        # (C7) a birth is durable before the file's first frame leaves; (C9) a gap stands behind the span before it
        cut = self._spans.before(plan.statements, self.files)
        try:
            self._ledger.append([*cut.statements, *plan.statements])
        except TransientError:
            plan.discard()
            raise
        self._spans.settle(cut)
        if plan.statements:
            self._bookmark.note(*plan.entries, Stated(n=self._ledger.head.n))
        else:
            self._bookmark.note(*plan.entries)
        self._let_happen(plan)
        for event in plan.events:
            self._telemetry.emit(event)
        try:
            if plan.statements or plan.follow:
                self._bookmark.flush()
            if self._bookmark.is_large:
                self._bookmark.compact(self._past.kept)
        except TransientError as error:
            # The plan has happened, and the ledger says so: a bookmark that lags is flushed again at every turn.
            self._telemetry.emit(PartUnavailable(part="state_dir", error=str(error), retry_in_ms=0))

    def _let_happen(self, plan: Plan) -> None:
        for file in plan.drop:
            file.let_go()
            self._forget_identity(file)
        for file in plan.given_up:
            self._give_up(file)
        for recovered in plan.recovered:
            self._recover(recovered)
        for file in plan.follow:
            self._follow(file)
        self._move(plan)
        self._past.settled.update(plan.settled)
        self._past.packed.update(plan.packed)
        self._planner.unreadable |= plan.stated_unreadable
        self._planner.excluded |= plan.stated_excluded
        for file_id in plan.unread:
            self._past.wait(file_id)
        if plan.seen is not None:
            self._saw(plan.seen, plan)

    def _move(self, plan: Plan) -> None:
        for file, candidate in plan.moves:
            file.path, file.rotated = candidate.path, candidate.rotated
            if isinstance(file.content, Plain):
                if file.content.is_astray:
                    file.failed = ""
                file.content.moved(candidate.os_path)
            self._bookmark.note(renamed(self._bookmark.contents.files[file.facts.file_id], candidate))

    # -- looking ---------------------------------------------------------------------------------------------

    def look(self, files: Iterable[Followed], *, settle_ns: int, unlinked_settle_ns: int) -> None:
        """Take in sizes, truncations and endings of ``files``. Raises TransientError where the disk is full.

        A rotated file closes when it has stood still for ``settle_ns``; one without a name for ``unlinked_settle_ns``.
        """
        now = self._clock.monotonic_nano()
        plan = Plan()
        cut: list[Cut] = []
        for file in files:
            before = file.look(now)
            content = file.content
            if content is None:
                continue
            # A copy may end before what was sent of its original.
            floor = before if file.is_copy else max(before, file.cursor.offset)
            if file.changed_content or file.size < floor:
                cut.append(self._truncated(file, before))
                plan.drop.append(file)
            elif isinstance(content, Plain) and (content.is_replaced or not (file.in_sight or content.is_held)):
                losses.vanished(plan, file)
                self.bytes_lost += file.waiting
                file.closing = "rotated_away"
                plan.drop.append(file)
            elif file.failed and isinstance(content, Plain) and content.is_astray:
                file.failed = ""
            elif file.failed:
                losses.failed(plan, file)
            else:
                file.closing = file.closing or self._ending(file, now, settle_ns, unlinked_settle_ns)
                if isinstance(content, Plain):
                    content.is_live = file.in_sight and not file.unlinked and not file.rotated
                    content.at_rest = not file.waiting and file.in_sight and not file.unlinked
        self.carry_out(plan)
        for one in cut:
            one.file.awaits_copy, one.file.changed_content = True, False
            self._planner.cut[one.file.facts.file_id] = one
        self._finish()

    def _truncated(self, file: Followed, size_before: int) -> Cut:
        """Say what was seen of a file that shrank; the same inode is another file from now on."""
        seen = max(size_before, file.cursor.offset)
        # Where it was written anew and has grown past the offset, its old size is not known.
        return Cut(file=file, seen=seen, is_end_known=not (file.changed_content and file.size >= seen))

    def _ending(self, file: Followed, now: int, settle_ns: int, unlinked_settle_ns: int) -> str:
        still = now - file.changed_monotonic_nano
        if (file.unlinked or not file.in_sight) and still >= unlinked_settle_ns:
            return "unlinked" if file.unlinked else "replaced"
        if file.rotated and still >= settle_ns:
            return "copied" if file.is_copy else "rotated"
        return ""

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
        cut = self._spans.of(ended, is_last=True)
        try:
            self._ledger.append([*cut.statements, *map(closed_of, ended)])
        except TransientError:
            for file in ended:
                if file.unlinked:
                    # It may be its own bytes that leave no room on the disk.
                    self._forget_identity(file)
                    file.let_go()
            raise
        self._spans.settle(cut)
        for file in ended:
            modified = file.content.look().modified_nano if file.content is not None else 0
            self._bookmark.note(
                Done(file_id=file.facts.file_id, size=file.cursor.offset, modified_nano=modified),
                Stated(n=self._ledger.head.n),
            )
            del self.files[file.facts.file_id]
            self._planner.cut.pop(file.facts.file_id, None)
            self._forget_identity(file)
            if file.content is not None and not file.unlinked:
                self._past.closed(file, file.content.look())
            file.let_go()
            if file.is_ledger:
                self._ledger.forget(Path(file.path))
            self._telemetry.emit(FileClosed(file_id=file.facts.file_id, size=file.cursor.offset, reason=file.closing))

    # -- carrying out ----------------------------------------------------------------------------------------

    def _follow(self, file: Followed) -> None:
        file_id = file.facts.file_id
        self._past.follow(file_id, file.identity)
        self.files[file_id] = file
        # What was acknowledged before a restart may stand in no beat.
        file.moved_since_beat = file.cursor.offset > 0
        if file.content is not None:
            self._planner.by_identity[file.identity] = file
            self._planner.unreadable.pop(file.identity, None)
            if isinstance(file.content, Plain):
                file.content.is_live = not file.rotated
            self._say_generation(file)
            file.look(self._clock.monotonic_nano())
        if not file.is_ledger:
            is_new = file_id > self._newest_remembered
            self._spans.follow(file, self._bookmark.contents.files[file_id], is_new=is_new)

    def _say_generation(self, file: Followed) -> None:
        device = file.identity[0]
        if file.content is not None and not file.content.generation and device not in self._without_generation:
            self._without_generation.add(device)
            self._telemetry.emit(GenerationUnknown(device=device, path=file.path))

    def _give_up(self, file: Followed) -> None:
        cut = self._planner.cut.pop(file.facts.file_id)
        file.awaits_copy, file.closing = False, "truncated"
        self.bytes_lost += max(0, cut.seen - file.cursor.offset)

    def _recover(self, recovered: Recovered) -> None:
        """Let a truncated file go on in its copy."""
        file, content, candidate = recovered.file, recovered.content, recovered.candidate
        if file.facts.file_id not in self.files:
            # It ended while its copy was looked for: the next sweep sees the copy as any other file.
            content.close()
            return
        cut = self._planner.cut.pop(file.facts.file_id)
        file.awaits_copy, file.is_copy, file.rotated, file.in_sight = False, True, True, True
        file.content, file.identity, file.path = content, candidate.identity, candidate.path
        if candidate.found.compressed:
            file.closing = "copied"
        self._planner.by_identity[file.identity] = file
        self._past.done.pop(file.identity, None)
        self._bookmark.note(moved(file.facts.file_id, candidate, content))
        file.size, file.changed_monotonic_nano = content.size(), self._clock.monotonic_nano()
        self.bytes_lost += max(0, cut.seen - file.size)

    def _saw(self, seen: frozenset[Identity], plan: Plan) -> None:
        for file in self.files.values():
            file.in_sight = file.identity in seen
        self._past.forget_unseen(seen)
        unreadable = self._planner.unreadable.items()
        self._planner.unreadable = {identity: source for identity, source in unreadable if identity in seen}
        self._planner.unreadable_folders = plan.unreadable_folders
        now = self._clock.monotonic_nano()
        self._planner.copies = {
            identity: self._planner.copies[identity]
            if self._planner.copies.get(identity, ((), 0))[0] == as_it_was
            else (as_it_was, now)
            for identity, as_it_was in plan.copies.items()
        }
        self._planner.resent = False

    def _forget_identity(self, file: Followed) -> None:
        if self._planner.by_identity.get(file.identity) is file:
            del self._planner.by_identity[file.identity]

    def _take_from_ledger(self) -> None:
        """(C7) What the ledger states and a crash kept from the bookmark: births, ends and acknowledged offsets."""
        contents = self._bookmark.contents
        for line in self._ledger.since(contents.stated):
            match line.statement:
                case Born() as born if born.file_id not in contents.files:
                    self._bookmark.note(known_of(born))
                case Span() as span if span.file_id in contents.files:
                    self._bookmark.note(_acked_of(span))
                case Unattested() as range_ if range_.file_id in contents.files:
                    known = contents.files[range_.file_id]
                    self._bookmark.note(
                        Acked(
                            file_id=range_.file_id, offset=int(range_.offset_end), position=known.position,
                            incarnation=known.incarnation, attested=True,
                        )
                    )  # fmt: skip
                case Closed() as closed if closed.file_id in contents.files:
                    self._bookmark.note(Done(file_id=closed.file_id, size=int(closed.size)))
                case _:
                    pass
        for file_id, file in contents.files.items():
            if file.span is not None:
                file.salt = attest.salt_of(self._spans.attester.secret, file_id, file.span[0])
        self._bookmark.note(Stated(n=self._ledger.head.n))


def _acked_of(span: Span) -> Acked:
    """(C3) Return what a span says that a crash kept from the bookmark: it was acknowledged, for it was stated."""
    return Acked(
        file_id=span.file_id, offset=int(span.offset_end), position=int(span.position), incarnation=span.incarnation,
        attested=True, span_start=int(span.offset_start), span_sha256=span.sha256,
    )  # fmt: skip
