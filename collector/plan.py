"""What a sweep or a look decided, and has not happened yet."""

from __future__ import annotations

from dataclasses import dataclass, field

from ashiato.core.chunk import FileFacts
from ashiato.core.events import Event
from ashiato.core.ledger import Born, Closed, Statement
from collector.bookmark import Entry, Known
from collector.content import Content
from collector.discovery import Candidate
from collector.followed import Followed

Identity = tuple[int, int]
"""Device and inode. While a descriptor holds the inode no other file has it; else its generation is compared too."""
Settled = tuple[int, int, int]
"""Size, modification time and change time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """A file that was truncated after it was copied."""

    file: Followed
    content: Content
    candidate: Candidate


@dataclass(slots=True, kw_only=True)
class Plan:
    """Statements, entries, and what becomes true once they are durable."""

    statements: list[Statement] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    follow: list[Followed] = field(default_factory=list)
    drop: list[Followed] = field(default_factory=list)
    """Files whose content is to be let go of, because only their end is to be told."""
    moves: list[tuple[Followed, Candidate]] = field(default_factory=list)
    settled: dict[Identity, Settled] = field(default_factory=dict)
    """Files that need nothing as long as they are this."""
    packed: dict[str, Identity] = field(default_factory=dict)
    """Closed files of which a compression was found."""
    recovered: list[Recovered] = field(default_factory=list)
    """Truncated files whose bytes go on in a copy."""
    given_up: list[Followed] = field(default_factory=list)
    """Truncated files of which no copy was found."""
    stated_unreadable: dict[Identity, str] = field(default_factory=dict)
    """Files that cannot be opened, with their sources."""
    unreadable_folders: frozenset[str] = frozenset()
    """Folders that the sweep could not list."""
    stated_excluded: set[str] = field(default_factory=set)
    unread: list[str] = field(default_factory=list)
    """Files that are born and cannot be opened yet."""
    events: list[Event] = field(default_factory=list)
    seen: frozenset[Identity] | None = None
    """What the sweep saw; None where there was none."""
    pinned: frozenset[Identity] = frozenset()
    """What of it has a pin for its only name, so that its bytes may lie in a compression too."""
    matched: set[str] = field(default_factory=set)
    """Remembered files that the sweep saw again."""
    overwritten: set[str] = field(default_factory=set)
    """Remembered files whose inode holds other bytes now."""
    deferred: set[str] = field(default_factory=set)
    """Sources of which files are left for the next sweep: too many are open."""
    copies: dict[Identity, Settled] = field(default_factory=dict)
    """Copies of files that are followed, which may be truncated next."""

    def discard(self) -> None:
        """Let go of what was opened."""
        for file in self.follow:
            file.let_go()
        for recovered in self.recovered:
            recovered.content.close()


def facts_of(known: Known) -> FileFacts:
    """Return what frames carry of a file."""
    return FileFacts(
        file_id=known.file_id, source=known.source, path=known.path, restart_count=known.restart_count,
        generation=known.generation,
    )  # fmt: skip


def known_of(born: Born) -> Known:
    """Return the bookmark's entry of a birth."""
    return Known(
        file_id=born.file_id, source=born.source, path=born.path, topic=born.topic, partition=born.partition,
        restart_count=born.restart_count, device=int(born.device or 0), inode=int(born.inode or 0), flags=born.flags,
        generation=int(born.generation or 0),
    )  # fmt: skip


def closed_of(file: Followed) -> Closed:
    """Return the statement that ``file`` is closed."""
    return Closed(
        file_id=file.facts.file_id, source=file.facts.source, size=str(file.cursor.offset), reason=file.closing
    )
