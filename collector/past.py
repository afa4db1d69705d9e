"""What was followed before and is not now: where it lay, and what of it still lies on the disk.

An inode tells the likeliest file, its generation whether it can be; the bytes decide in the end (``recall``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Container, Iterator

from collector.bookmark import Contents, Remembered
from collector.content import Look
from collector.discovery import Candidate
from collector.followed import Followed
from collector.plan import Identity, Plan, Settled


class Past:
    """Remembered files that are not followed."""

    def __init__(self, contents: Contents) -> None:
        self.contents = contents
        self.waiting: dict[str, Remembered] = {}
        """Open files that no sweep has seen again yet."""
        self.done: dict[Identity, str] = {}
        """Closed files that still lie on the disk."""
        self.settled: dict[Identity, Settled] = {}
        self.packed: dict[str, Identity] = {}
        """Closed files of which a compression lies on the disk: one file has one."""
        self._waiting_by_inode: dict[int, list[str]] = defaultdict(list)
        self._inodes: dict[str, int] = {}
        for file_id, file in contents.files.items():
            if file.done:
                self.done[file.identity] = file_id
            else:
                self.wait(file_id)

    def wait(self, file_id: str) -> None:
        """Take in that a file is open and not followed."""
        self.waiting[file_id] = file = self.contents.files[file_id]
        self._inodes[file_id] = inode = file.identity[1]
        self._waiting_by_inode[inode].append(file_id)

    def is_settled(self, candidate: Candidate) -> bool:
        """Whether a file needs nothing, because it is what it was when it needed nothing."""
        return self.settled.get(candidate.identity) == settled(candidate)

    def of_inode(self, identity: Identity) -> list[Remembered]:
        """Return the remembered files of an inode, the likeliest first.

        A device's number may be another one after a restart of the machine; then the generation must tell the inode.
        """
        waiting = [self.waiting[i] for i in self._waiting_by_inode.get(identity[1], ()) if i in self.waiting]
        same = [file for file in waiting if file.identity == identity]
        renumbered = [file for file in waiting if file.identity != identity and file.generation]
        done = self.contents.files.get(self.done.get(identity, ""))
        return [*reversed(same), *([done] if done is not None else []), *reversed(renumbered)]

    def of_source(self, candidate: Candidate, *, followed: Container[str], plan: Plan) -> list[Remembered]:
        """Return files of a log whose bytes may lie in another file now, open ones first.

        Not one that the sweep saw as what it was, and none of which another compression is known.
        """
        return sorted(self._of_source(candidate, followed, plan), key=lambda file: (file.done, -file.offset))

    def _of_source(self, candidate: Candidate, followed: Container[str], plan: Plan) -> Iterator[Remembered]:
        source, restart_count = str(candidate.found.source), candidate.found.restart_count
        for file_id, file in self.contents.files.items():
            known = file.known
            if known.source != source or known.restart_count != restart_count or file.head is None:
                continue
            if file_id in followed or self._is_in_sight(file_id, file, plan):
                continue
            if file_id in plan.matched and not (file.done and file.identity in plan.pinned):
                continue
            if self.packed.get(file_id, candidate.identity) == candidate.identity:
                yield file

    def _is_in_sight(self, file_id: str, file: Remembered, plan: Plan) -> bool:
        """Whether the sweep saw the file itself: not another one that has its inode now."""
        assert plan.seen is not None
        if file_id in plan.overwritten or file.identity not in plan.seen or file.identity in plan.pinned:
            return False
        return file_id in self.waiting or self.done.get(file.identity) == file_id

    def forget_unseen(self, seen: Collection[Identity]) -> None:
        """Let go of what no sweep will need, because it is not on the disk any more."""
        for gone in [identity for identity in self.settled if identity not in seen]:
            del self.settled[gone]
        for gone in [identity for identity in self.done if identity not in seen]:
            del self.done[gone]
        for file_id in [file_id for file_id, identity in self.packed.items() if identity not in seen]:
            del self.packed[file_id]

    def closed(self, file: Followed, look: Look) -> None:
        """Take in that a file that lies on the disk is closed."""
        self.settled[file.identity] = look.stored_size, look.modified_nano, look.changed_nano
        file_id = file.facts.file_id
        if self.contents.files[file_id].identity == file.identity:
            self.done[file.identity] = file_id
        else:
            self.packed[file_id] = file.identity

    def follow(self, file_id: str, identity: Identity) -> None:
        """Take in that a file is followed (again)."""
        if self.waiting.pop(file_id, None) is not None:
            inode = self._inodes.pop(file_id)
            self._waiting_by_inode[inode].remove(file_id)
            if not self._waiting_by_inode[inode]:
                del self._waiting_by_inode[inode]
        self.done.pop(identity, None)
        self.packed.pop(file_id, None)

    @property
    def kept(self) -> set[str]:
        """Closed files that the bookmark has to keep."""
        return {*self.done.values(), *self.packed}


def settled(candidate: Candidate) -> Settled:
    """Return what a file must still be, to need nothing."""
    return candidate.size, candidate.modified_nano, candidate.changed_nano
