"""``python -m ingest fsck``: holds an archive against its journal and manifests, with code of its own.

Nothing is written and nothing deleted. It reads every version that lies in the log, so a commit under a delete marker
counts; it folds positions itself; and with ``full`` it renders every row of every pack and compares with what the
manifest states. What is wrong is a finding. What is merely there and named by no commit is an orphan: an archiver that
lost a race leaves some, and retention condemns them by number. An archive in which there is nothing to hold against
anything is never clean.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import msgspec

from ashiato.adapters.journal import Journal
from ashiato.core import commit as commits
from ashiato.core.commit import LOG_PREFIX, AddedPack, Commit, Txn
from ashiato.core.errors import EvidenceError, NotHeldError, RejectedError
from ashiato.core.ports import ArchiveReader, Bucket, ObjectVersion, Partition
from ashiato.core.sidecar_names import KINDS as SIDECAR_KINDS
from ashiato.core.sidecar_names import pack_of
from ingest.fsck_files import FileChecks
from ingest.fsck_packs import PackChecks
from ingest.fsck_told import Finding

_PACKS: Final = "retention_class="
_FRONTIERS: Final = "frontier/"
_OF_FOLDER: Final = re.compile("[0-9a-f]{32}")


class Report(msgspec.Struct, kw_only=True):
    """The last line: what was looked at, and how much was found."""

    commits: int = 0
    packs: int = 0
    removed: int = 0
    rows: int = 0
    raw_bytes: int = 0
    findings: dict[str, int] = {}
    orphans: int = 0
    full: bool = False
    """Whether every byte was read: else packs were held against their size and their footers only."""
    clean: bool = False

    def line(self) -> str:
        """Return it for people."""
        looked = f"{self.commits} commits, {self.packs} packs with {self.rows} rows of {self.raw_bytes} bytes"
        how = "every byte read" if self.full else "sizes and footers only; --full reads every byte"
        told = "clean" if self.clean else ", ".join(f"{count} {kind}" for kind, count in sorted(self.findings.items()))
        return f"{looked} ({how}), {self.orphans} orphans: {told}"


@dataclass(slots=True, kw_only=True)
class _Log:
    """The commits as they lie, folded by our own hands."""

    commits: list[Commit] = field(default_factory=list)
    live: dict[str, AddedPack] = field(default_factory=dict)
    removed: dict[str, str] = field(default_factory=dict)
    """Paths of removed packs and of their manifests, with version ids."""
    named: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    """Version ids that commits name, by bucket and path."""
    last: dict[Partition, Txn] = field(default_factory=dict)


class Fsck:
    """One run. ``findings`` yields as it goes; ``report`` stands at its end."""

    def __init__(self, archive: ArchiveReader, *, full: bool = False) -> None:
        self._archive = archive
        self._full = full
        self._log = _Log()
        self.report = Report(full=full)

    def run(self) -> Iterator[Finding]:
        """Yield what is found.

        Raises:
            TransientError: the archive does not answer; nothing was proved.

        """
        counts: Counter[str] = Counter()
        for finding in self._run():
            if finding.is_orphan:
                self.report.orphans += 1
            else:
                counts[finding.kind] += 1
            yield finding
        self.report.findings = dict(counts)
        self.report.clean = not counts

    def _run(self) -> Iterator[Finding]:
        yield from self._journal()
        yield from self._order()
        log = self._log
        self.report.commits, self.report.packs = len(log.commits), len(log.live)
        self.report.removed = sum(len(one.removes) for one in log.commits)
        if not log.live:
            what = "no commit" if not log.commits else "no pack that is not removed"
            yield Finding(kind="empty", what=f"there is {what}: nothing was proved")
        packs = PackChecks(self._archive, full=self._full)
        for pack in log.live.values():
            yield from packs.check(pack)
        yield from packs.across()
        self.report.rows, self.report.raw_bytes = packs.rows, packs.raw_bytes
        txns = [txn for one in log.commits for txn in one.txns] if self._full else list(log.last.values())
        yield from FileChecks(self._archive, log.live, packs.held).check(txns)
        yield from self._orphans()

    # -- the journal -----------------------------------------------------------------------------------------

    def _journal(self) -> Iterator[Finding]:
        """J1, J6: numbers without holes, each commit parses, and nobody wrote where nobody may."""
        present: dict[int, str] = {}
        for version in self._archive.list_versions("evidence", LOG_PREFIX):
            n = commits.number_of(version.ref.path)
            if n is not None:
                present[n] = version.ref.path
            elif not version.is_delete_marker:
                yield Finding(kind="stranger", path=version.ref.path, what="not a commit, and no reader of ours looks")
        for disturbance in Journal(self._archive).disturbed():
            kind = "delete_marker" if disturbance.is_delete_marker else "second_version"
            what = f"{kind.replace('_', ' ')} over a commit (J6); the oldest version counts"
            yield Finding(kind=kind, path=disturbance.ref.path, what=what, version_id=disturbance.ref.version_id)
        for n in range(max(present, default=-1) + 1):
            if n not in present:
                yield Finding(kind="hole", path=commits.path_of(n), what=f"commit {n} is missing, later ones are there")
                continue
            try:
                content, _ = self._archive.get("evidence", present[n])
                self._log.commits.append(commits.decode(content, n))
            except NotHeldError:
                yield Finding(kind="hole", path=present[n], what=f"commit {n} is deleted, every version of it")
            except (RejectedError, EvidenceError) as error:
                yield Finding(kind="commit", path=present[n], what=str(error))

    def _order(self) -> Iterator[Finding]:
        """J3, R4: what each commit may say behind those before it."""
        log = self._log
        condemned: dict[tuple[str, str, str], int] = {}
        for one in log.commits:
            if (one.n == 0) != (one.kind == "create"):
                yield Finding(kind="order", path=one.path, what=f"commit {one.n} is of kind {one.kind}")
            for txn in one.txns:
                yield from self._moves(txn, one)
            for pack in one.adds:
                if pack.path in log.live or pack.path in log.removed:
                    yield Finding(kind="order", path=pack.path, what=f"added again by commit {one.n}")
                log.live[pack.path] = pack
            for gone in one.removes:
                if log.live.pop(gone.path, None) is None:
                    yield Finding(kind="order", path=gone.path, what=f"removed by commit {one.n}, and was not there")
                log.removed |= {gone.path: gone.version_id, gone.manifest_path: gone.manifest_version_id}
            for bucket, path, version_id in one.refers_to():
                log.named.setdefault((bucket, path), set()).add(version_id)
                if (n := condemned.get((bucket, path, version_id))) is not None:
                    yield Finding(kind="condemned", path=path, what=f"commit {one.n} names what {n} condemned (R4)")
            condemned.update({(item.bucket, item.path, item.version_id): one.n for item in one.condemned})

    def _moves(self, txn: Txn, one: Commit) -> Iterator[Finding]:
        before = self._log.last.get(txn.where)
        self._log.last[txn.where] = txn
        where = f"{txn.topic}:{txn.partition} in commit {one.n}"
        if txn.follows != (before.frontier.sha256 if before is not None else ""):
            yield Finding(kind="txn", path=one.path, what=f"{where} was built on another frontier (J3)")
        if before is None:
            return
        if before.incarnation == txn.incarnation and before.next > txn.next:
            yield Finding(kind="txn", path=one.path, what=f"{where} moves back from {before.next} to {txn.next} (J3)")
        if before.incarnation != txn.incarnation and before.incarnation_counter >= txn.incarnation_counter:
            yield Finding(kind="txn", path=one.path, what=f"{where} goes back to incarnation {txn.incarnation} (J5)")

    # -- what nobody names -----------------------------------------------------------------------------------

    def _orphans(self) -> Iterator[Finding]:
        """Yield what no commit names; what belongs to removed packs is retention's to delete."""
        versioned = self._archive.check().versioned
        places: tuple[tuple[Bucket, str], ...] = (("evidence", _PACKS), ("work", _FRONTIERS))
        for bucket, prefix in places:
            if versioned:
                for version in self._archive.list_versions(bucket, prefix):
                    yield from self._version(version)
                continue
            for ref in self._archive.list(bucket, prefix):
                if (bucket, ref.path) not in self._log.named:
                    yield Finding(kind="orphan", path=ref.path, what="no commit names it", is_orphan=True)
        known = {pack.sha256 for pack in self._log.live.values()}
        for kind in SIDECAR_KINDS:
            for ref in self._archive.list("work", f"{kind}/"):
                if pack_of(ref.path) not in known:
                    yield Finding(kind="orphan", path=ref.path, what="sidecar of no live pack", is_orphan=True)

    def _version(self, version: ObjectVersion) -> Iterator[Finding]:
        ref = version.ref
        named = self._log.named.get((ref.bucket, ref.path), set())
        # An archive that was uploaded from a folder is pinned by hash: there, any version may be the one.
        is_named = ref.version_id in named or any(map(_OF_FOLDER.fullmatch, named))
        if version.is_delete_marker:
            if named and ref.path not in self._log.removed:
                what = "delete marker over what a commit names"
                yield Finding(kind="delete_marker", path=ref.path, what=what, version_id=ref.version_id)
        elif not is_named:
            what = "no commit names this version" if named else "no commit names it"
            yield Finding(kind="orphan", path=ref.path, what=what, version_id=ref.version_id, is_orphan=True)
