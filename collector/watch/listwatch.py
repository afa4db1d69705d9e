"""One resource's list and watch: no resource version is dropped while it can be gone on from, and no gap is silent.

A watch goes on from the newest version that is known, over closed connections, silence, errors and restarts. Where the
API server has forgotten that version (410, as a status or within the stream), everything is listed: streamed
(WatchList) where the server can, else in pages. What was known and is in no list has ended unseen, and a gap states
that others may have come and gone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from ashiato.adapters.telemetry import Telemetry
from ashiato.core.errors import TransientError
from ashiato.core.ports import Clock
from collector.watch import lines
from collector.watch.api import Answer, Api, StatusError
from collector.watch.journal import Batch, Journal, StoppedError
from collector.watch.keep import Keeper, Kept
from collector.watch.lines import Entry
from collector.watch.resources import Resource, bare
from collector.watch.settings import WatchSettings
from collector.watch_events import (
    ObjectUnread,
    Relisted,
    WatchBroken,
    WatchGap,
    WatchHeard,
    WatchListRefused,
    WatchRefused,
)

GONE: Final = 410
NOT_IMPLEMENTED: Final = 501
NOT_HERE: Final = (403, 404, 405)
"""The resource may not be read, or is not served."""
NO_STREAMED_LIST: Final = (400, 422, 500, NOT_IMPLEMENTED)
"""What servers answer that do not stream lists, within the stream too."""
RETRY_S_MIN: Final = 0.5
SHORT_NS: Final = 1_000_000_000
"""A watch that the server ends sooner, without a word, is waited after, lest we hammer."""
LISTS_BROKEN_MAX: Final = 2
INITIAL_END: Final = "k8s.io/initial-events-end"


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str | None = msgspec.field(name="continue", default=None)
    annotations: dict[str, str] | None = None


class _Page(msgspec.Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


class _Bookmark(msgspec.Struct):
    metadata: _ListMeta


class _Status(msgspec.Struct):
    code: int = 0
    message: str = ""


_EVENT: Final = msgspec.json.Decoder(_Event).decode
_PAGE: Final = msgspec.json.Decoder(_Page).decode
_BOOKMARK: Final = msgspec.json.Decoder(_Bookmark).decode
_STATUS: Final = msgspec.json.Decoder(_Status).decode


@dataclass(slots=True, kw_only=True)
class _Listing:
    """A list that is being taken in."""

    mode: str
    since_unix_nano: int
    """Up to here all was known when it began; 0 where nothing was."""
    present: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What the watches of all resources share."""

    settings: WatchSettings
    journal: Journal
    keeper: Keeper
    clock: Clock
    telemetry: Telemetry
    jitter: Callable[[], float]
    """From 0 to 1, at random."""
    stop: threading.Event


class ListWatch:
    """Of one resource, in a thread of its own."""

    def __init__(self, resource: Resource, api: Api, around: Around) -> None:
        self.resource = resource
        self._bare = bare(resource)
        self._api = api
        self._journal = around.journal
        self._keeper = around.keeper
        self._settings = around.settings
        self._clock = around.clock
        self._telemetry = around.telemetry
        self._jitter = around.jitter
        self._stop = around.stop
        self._streams_lists = True
        self._served = list(resource.served)
        self._failures = 0
        self._lists_broken = 0
        """Streamed lists that broke off in a row: servers of old do not say that they stream none."""

    @property
    def is_synced(self) -> bool:
        """Whether all objects are known, or that they cannot be."""
        standing = self._journal.standing(self.resource.name)
        return bool(standing.resource_version) or standing.refused

    def run(self) -> None:
        """List and watch until stopped."""
        try:
            while not self._stop.is_set():
                self._turn()
        except StoppedError:
            return
        finally:
            self._api.close()

    def _turn(self) -> None:
        try:
            if self._journal.standing(self.resource.name).resource_version:
                self._watch()
            else:
                self._list()
        except StatusError as error:
            self._judge(error)
        except (TransientError, msgspec.DecodeError) as error:
            self._pause(error)

    # -- errors ----------------------------------------------------------------------------------------------

    def _judge(self, error: StatusError) -> None:
        """Do what a status asks for."""
        if error.status == GONE:
            # A version from before is gone: from here on nothing but a list tells what there is.
            self._journal.commit(self.resource.name, Batch(resource_version="", why="expired"))
            if self._failures:
                self._pause(error)
            else:
                self._failures = 1
        elif error.status in NOT_HERE:
            self._refused(error)
        else:
            self._pause(error, at_least_s=error.retry_after_s)

    def _refused(self, error: StatusError) -> None:
        """Try where else the API has it; state the time without it."""
        if len(self._served) > 1:
            self._served = self._served[1:]
            return
        self._served = list(self.resource.served)
        name, now = self.resource.name, self._clock.now_unix_nano()
        with self._journal.lock:
            standing = self._journal.standing(name)
            batch = Batch(contact_unix_nano=now, refused=True, why="forbidden")
            if standing.refused and standing.contact_unix_nano:
                batch.lines.append(
                    lines.gap_line(self.resource, reason="forbidden", start=standing.contact_unix_nano, end=now)
                )
                seconds = (now - standing.contact_unix_nano) / 1e9
                gap = WatchGap(resource=name, reason="forbidden", seconds=seconds, ended_unseen=0)
                self._telemetry.emit(gap)
            else:
                batch.lines.append(lines.refused_line(self.resource, status=error.status, now=now))
                self._telemetry.emit(WatchRefused(resource=name, status=error.status))
                if standing.contact_unix_nano:
                    # What happens from the last word on is not known until it may be read again.
                    batch.contact_unix_nano = standing.contact_unix_nano
            self._journal.commit(name, batch)
        self._stop.wait(self._settings.refused_s * (0.75 + self._jitter() / 2))

    def _pause(self, error: Exception, *, at_least_s: float = 0.0) -> None:
        """Wait, longer each time."""
        if self._stop.is_set():
            return
        longest = min(RETRY_S_MIN * 2 ** min(self._failures, 16), self._settings.backoff_s_max)
        self._failures += 1
        wait = max(longest * (0.5 + self._jitter() / 2), at_least_s)
        # What msgspec says of an object names fields, never values.
        self._telemetry.emit(WatchBroken(resource=self.resource.name, error=str(error), retry_in_ms=int(wait * 1000)))
        self._stop.wait(wait)

    # -- lists -----------------------------------------------------------------------------------------------

    def _list(self) -> None:
        """Know every object there is."""
        if not self._streams_lists or self._lists_broken >= LISTS_BROKEN_MAX:
            self._list_pages()
            return
        listing = self._begun("watch_list")
        query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", **self._watch_query()}
        try:
            self._stream(query, listing)
        except StatusError as error:
            if error.status not in NO_STREAMED_LIST or self._journal.standing(self.resource.name).resource_version:
                raise
            self._streams_lists = False
            self._telemetry.emit(WatchListRefused(resource=self.resource.name, error=str(error)))
        except TransientError:
            self._lists_broken += 1
            raise

    def _begun(self, mode: str) -> _Listing:
        return _Listing(mode=mode, since_unix_nano=self._journal.standing(self.resource.name).contact_unix_nano)

    def _list_pages(self) -> None:
        limit = {"limit": str(self._settings.page_objects)}
        try:
            self._pages(limit)
        except StatusError as error:
            if error.status != GONE:
                raise
            # The pages to come went with the version that they were of: one list without pages stands for itself.
            self._pages({})

    def _pages(self, query: dict[str, str]) -> None:
        listing = self._begun("paged_list")
        token: str | None = None
        while True:
            page = self._page({**query, **({"continue": token} if token else {})})
            with self._journal.lock:
                batch = Batch()
                for raw in page.items or ():
                    self._take("ADDED", raw, batch, listing)
                self._commit(batch)
            token = page.metadata.continue_
            if not token:
                break
        self._listed(listing, page.metadata.resource_version)

    def _page(self, query: dict[str, str]) -> _Page:
        served = self._served[0]
        accept = self.resource.accept(as_list=True)
        with self._api.get(served.path(self.resource.name), query, accept=accept, is_watch=False) as answer:
            return _PAGE(answer.whole())

    def _listed(self, listing: _Listing, version: str) -> None:
        """State that all was listed, what has ended unseen, and since when more may have."""
        resource, served, now = self.resource, self._served[0], self._clock.now_unix_nano()
        with self._journal.lock:
            standing = self._journal.standing(resource.name)
            since, why = listing.since_unix_nano, standing.why
            absent = [uid for uid in standing.objects if uid not in listing.present]
            batch = Batch(resource_version=version, contact_unix_nano=now, changes=dict.fromkeys(absent))
            if since:
                batch.lines.append(lines.gap_line(resource, reason=why, start=since, end=now, to_version=version))
            if not resource.expires:
                batch.lines += [
                    lines.absent_line(resource, served.api_version, uid, standing.objects[uid], start=since, end=now)
                    for uid in absent
                ]
            batch.lines.append(
                lines.sync_line(
                    resource, served.api_version, reason=why, mode=listing.mode, resource_version=version,
                    count=len(listing.present), key_id=self._keeper.key_id, now=now,
                )
            )  # fmt: skip
            self._journal.commit(resource.name, batch)
        told = Relisted(resource=resource.name, reason=why, mode=listing.mode, count=len(listing.present))
        self._telemetry.emit(told)
        self._lists_broken = 0
        if since:
            ended = 0 if resource.expires else len(absent)
            seconds = (now - since) / 1e9
            self._telemetry.emit(WatchGap(resource=resource.name, reason=why, seconds=seconds, ended_unseen=ended))
        self._heard(now)

    # -- watches ---------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        version = self._journal.standing(self.resource.name).resource_version
        self._stream({"resourceVersion": version, **self._watch_query()}, None)

    def _watch_query(self) -> dict[str, str]:
        seconds = int(self._settings.watch_s * (1 + self._jitter()))
        return {"watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": str(max(seconds, 1))}

    def _stream(self, query: dict[str, str], listing: _Listing | None) -> None:
        """Take in a watch until the server ends it, which is normal."""
        served, accept = self._served[0], self.resource.accept(as_list=False)
        began = self._clock.monotonic_nano()
        with self._api.get(served.path(self.resource.name), query, accept=accept, is_watch=True) as answer:
            heard, listing = self._read(answer, listing)
        if listing is not None:
            raise TransientError("the watch ended before its list did")
        if not heard and self._clock.monotonic_nano() - began < SHORT_NS:
            self._pause(TransientError("the watch ended at once"))

    def _read(self, answer: Answer, listing: _Listing | None) -> tuple[bool, _Listing | None]:
        """Read to the end; return whether anything came, and the list where its end did not."""
        heard = False
        for batch in answer.batches():
            if self._stop.is_set():
                raise StoppedError("asked to stop")
            listing = self._take_in(batch, listing)
            heard = True
            if listing is None:
                self._failures = 0
        return heard, listing

    def _take_in(self, events: Iterable[bytes], listing: _Listing | None) -> _Listing | None:
        """Write what came together; return the list where it goes on."""
        with self._journal.lock:
            batch = Batch()
            for raw in events:
                event = _EVENT(raw)
                match event.type:
                    case "ADDED" | "MODIFIED" | "DELETED":
                        self._take(event.type, event.object, batch, listing)
                    case "BOOKMARK":
                        meta = _BOOKMARK(event.object).metadata
                        if listing is None:
                            batch.resource_version = meta.resource_version
                        elif (meta.annotations or {}).get(INITIAL_END) == "true":
                            self._commit(batch, listing)
                            self._listed(listing, meta.resource_version)
                            batch, listing = Batch(), None
                        else:
                            # A server that streams lists sends no other bookmark before the one that ends them.
                            raise StatusError(NOT_IMPLEMENTED, "the server takes no notice of sendInitialEvents")
                    case "ERROR":
                        status = _STATUS(event.object)
                        # What came before it counts.
                        self._commit(batch, listing)
                        raise StatusError(status.code, status.message)
                    case unknown:
                        raise TransientError("the watch speaks of what is not known", type=unknown)
            self._commit(batch, listing)
        return listing

    def _take(self, type_: str, raw: msgspec.Raw, batch: Batch, listing: _Listing | None) -> None:
        """Write an object where it says something new."""
        resource, served, now = self.resource, self._served[0], self._clock.now_unix_nano()
        kept, why = self._kept(raw)
        before = self._journal.standing(resource.name).objects
        known = batch.changes[kept.uid] if kept.uid in batch.changes else before.get(kept.uid)
        source = lines.WATCH if listing is None else lines.LIST
        if listing is None:
            batch.resource_version = kept.resource_version or batch.resource_version
        else:
            listing.present.add(kept.uid)
        if type_ == "DELETED":
            if resource.expires:
                kept = replace(kept, rest=b"{}")
        elif known is not None and known.digest == kept.digest:
            return
        elif listing is not None:
            type_ = "ADDED" if known is None else "MODIFIED"
        file = self._journal.turn() if not batch.lines else self._journal.number
        if why:
            batch.lines.append(
                lines.unread_line(type_, resource, served.api_version, kept, source=source, now=now, why=why)
            )
        else:
            batch.lines.append(
                lines.object_line(
                    type_, resource, served.api_version, kept, source=source, now=now, known=known, file=file
                )
            )
        batch.changes[kept.uid] = (
            Entry(kept.namespace, kept.name, kept.resource_version, kept.digest, kept.spec_sha256, file)
            if type_ != "DELETED"
            else None
        )

    def _kept(self, raw: msgspec.Raw) -> tuple[Kept, str]:
        """Return what is kept of an object; of one that is not of its form the metadata, and why."""
        try:
            return self._keeper.keep(self.resource, raw), ""
        except msgspec.ValidationError as error:
            # The message names a field and its type, no value.
            kept = self._keeper.keep(self._bare, raw)
            self._telemetry.emit(ObjectUnread(resource=self.resource.name, error=str(error)))
            return kept, str(error)

    def _commit(self, batch: Batch, listing: _Listing | None = None) -> None:
        if listing is not None or batch.resource_version is None:
            # The versions of listed objects are older than the list's own.
            if batch.lines or batch.changes:
                if not self._journal.standing(self.resource.name).contact_unix_nano:
                    # Should this first list be cut short, then what happens from here on can pass unseen.
                    batch.contact_unix_nano = self._clock.now_unix_nano()
                self._journal.commit(self.resource.name, batch)
            return
        now = self._clock.now_unix_nano()
        batch.contact_unix_nano = now
        self._journal.commit(self.resource.name, batch)
        self._heard(now)

    def _heard(self, now: int) -> None:
        self._telemetry.emit(WatchHeard(kind=self.resource.kind, time_unix_s=now / 1e9))
