"""Objects as they are asked for: intervals out of claims, and the questions that an inventory answers.

An interval begins where something is first said to hold and ends where another value takes its place, or where the pod
went; where nobody knows when it went, it is open, and ``last_seen`` says up to when there is a sign of it. What only
a name told is given to the pod of that name that lived then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from ashiato.core.inventory import records
from ashiato.core.inventory.fold import Inventory, derived_owners, of_image
from ashiato.core.inventory.records import APART, Claim, Claims, Field, Told

_SLACK_NS: Final = 2_000_000_000
"""Kubernetes writes times in whole seconds; clocks of nodes differ by more."""
_START_NS: Final = 600_000_000_000
"""How long a pod may have been there before the first sign of it: images are pulled in that time."""
_CHAIN_MAX: Final = 8
"""Owners above owners: two is usual."""
_FOREVER: Final = (1 << 63) - 1
_PER_LIFE: Final = (Field.DELETION, Field.ENTERED, Field.NODE)
"""Fields of which a nameless record's values carry their moment behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A value and when it held."""

    value: str
    start_unix_nano: int
    end_unix_nano: int | None
    """None: nothing says that it ended."""
    last_unix_nano: int
    """The last moment at which it is said to hold."""
    known_unix_nano: int
    """From then on it could be known."""
    told: str
    row: str
    """``log.record.uid`` of the first row that says so."""

    def at(self, time_unix_nano: int) -> bool:
        """Tell whether it may have held at a moment."""
        return self.start_unix_nano <= time_unix_nano and (
            self.end_unix_nano is None or time_unix_nano < self.end_unix_nano
        )

    def within(self, start: int | None, end: int | None) -> bool:
        """Tell whether it may have held at a moment in a half-open range."""
        return (end is None or self.start_unix_nano < end) and (
            start is None or self.end_unix_nano is None or start < self.end_unix_nano
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a container."""

    container: str
    restart: int
    container_id: str = ""
    started_unix_nano: int | None = None
    exited_unix_nano: int | None = None
    exit_code: int | None = None
    reason: str = ""
    logged_unix_nano: tuple[int, int] | None = None
    """First and last line that is held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodView:
    """A pod that is or was."""

    uid: str
    """'' where only its name is known."""
    aliases: tuple[str, ...] = ()
    cluster: str = ""
    namespace: str = ""
    name: str = ""
    names: tuple[str, ...] = ()
    """All names, where there are several: docker's containers can be renamed."""
    created_unix_nano: int | None = None
    """As the object itself says; None where only signs of it are known."""
    start_unix_nano: int
    end_unix_nano: int | None
    """The latest moment at which it may still have been there; None where nothing says that it went."""
    gone_after_unix_nano: int | None = None
    """The earliest moment at which it may have been gone."""
    deletion_unix_nano: int | None = None
    last_seen_unix_nano: int
    known_unix_nano: int
    nodes: tuple[Held, ...] = ()
    addresses: tuple[Held, ...] = ()
    accounts: tuple[Held, ...] = ()
    images: tuple[Held, ...] = ()
    """``container\\0reference``."""
    digests: tuple[Held, ...] = ()
    """``container\\0reference\\0digest``."""
    labels: Mapping[str, str] = field(default_factory=dict)
    owners: tuple[str, ...] = ()
    """``<kind>/<name>``, the nearest first."""
    posture: tuple[str, ...] = ()
    phase: str = ""
    runs: tuple[Run, ...] = ()
    told: tuple[str, ...] = ()
    """Which sources know of it."""
    row: str = ""

    def within(self, start: int | None, end: int | None) -> bool:
        """Tell whether it may have been there at a moment in a half-open range."""
        return (end is None or self.start_unix_nano < end) and (
            start is None or self.end_unix_nano is None or start < self.end_unix_nano
        )

    def is_image(self, asked: str) -> bool:
        """Tell whether it ran an image: by reference, by name without tag, or by digest."""
        named = asked.partition("://")[2] or asked
        return any(
            named in of_image(reference)
            for held in (*self.images, *self.digests)
            for reference in held.value.split(APART)[1:]
        )


class Pods:
    """Asks an inventory; ``known_unix_nano`` asks it as it was known at a moment."""

    def __init__(self, inventory: Inventory, *, known_unix_nano: int | None = None) -> None:
        self._inventory = inventory
        self._known = known_unix_nano

    # -- questions -------------------------------------------------------------------------------------------

    def on_node(self, node: str, start: int | None = None, end: int | None = None) -> list[PodView]:
        """Return what ran on a node, the gone included."""
        return self._of((f"node:{node}",), lambda pod: _has(pod.nodes, node, start, end))

    def holding(self, address: str, start: int | None = None, end: int | None = None) -> list[PodView]:
        """Return who had an IP address."""
        return self._of((f"ip:{address}",), lambda pod: _has(pod.addresses, address, start, end))

    def of_image(self, image: str, start: int | None = None, end: int | None = None) -> list[PodView]:
        """Return which pods used an image, by digest, tag or name."""
        named = image.partition("://")[2] or image
        return self._of((f"image:{named}",), lambda pod: pod.is_image(image) and pod.within(start, end))

    def of_account(
        self, namespace: str, name: str, start: int | None = None, end: int | None = None
    ) -> list[PodView]:  # fmt: skip
        """Return which pods used a service account."""
        account = f"{namespace}/{name}"
        return self._of((f"sa:{account}",), lambda pod: _has(pod.accounts, account, start, end))

    def of_workload(
        self, kind_name: str, namespace: str = "", start: int | None = None, end: int | None = None
    ) -> list[PodView]:  # fmt: skip
        """Return the pods of a workload, given as ``<kind>/<name>``, through ReplicaSets and Jobs."""
        wanted = [f"owner:{kind_name}"]
        above = self._inventory.naming(wanted[0])
        wanted += [f"of:{key.partition(':')[2]}" for key in above if not key.startswith("pod")]
        return self._of(
            wanted,
            lambda pod: kind_name in pod.owners and namespace in ("", pod.namespace) and pod.within(start, end),
        )

    def labelled(self, label: str, value: str, start: int | None = None, end: int | None = None) -> list[PodView]:
        """Return the pods that carry a label."""
        return self._of(
            (f"label:{label}={value}",), lambda pod: pod.labels.get(label) == value and pod.within(start, end)
        )

    def named(self, name: str, namespace: str = "") -> list[PodView]:
        """Return the pods of a name, one after the other."""
        return self._of(
            (f"name:{name}",),
            lambda pod: any(
                one.partition("/")[2] == name and namespace in ("", one.partition("/")[0]) for one in pod.names
            ),
        )

    def with_uid(self, uid: str) -> PodView | None:
        """Return the pod of a uid; of a static pod also by the uid of its logs."""
        for key in self._inventory.naming(f"alias:{uid}"):
            pod = self.view(key)
            if pod is not None and uid in pod.aliases:
                return pod
        return self.view(f"pod:{uid}")

    def between(self, start: int | None = None, end: int | None = None, *, namespace: str = "") -> list[PodView]:
        """Return all pods that were there in a time; reads every record, or every one of a namespace."""
        keys = self._inventory.naming(f"ns:{namespace}") if namespace else self._inventory.all_keys("pod")
        own = (key for key in keys if key.startswith("pod"))
        # What is gone by its own record is not looked at closer: in a cluster that is old most pods are.
        there = (key for key in own if start is None or not self._is_gone(key, start))
        views = (self.view(key) for key in there if not self._is_alias(key))
        found = [
            pod for pod in views if pod is not None and namespace in ("", pod.namespace) and pod.within(start, end)
        ]
        return sorted(found, key=lambda pod: (pod.start_unix_nano, pod.namespace, pod.name, pod.uid))

    def tags(self, image: str) -> list[tuple[str, str, PodView]]:
        """Return what a tag pointed at: (digest, container, pod), in the order of their times."""
        found = [
            (held.start_unix_nano, held.value.split(APART), pod) for pod in self.of_image(image) for held in pod.digests
        ]
        return [
            (parts[2], parts[0], pod)
            for _, parts, pod in sorted(found, key=lambda one: (one[0], one[1]))
            if len(parts) == 3 and any(image in of_image(reference) for reference in parts[1:])
        ]

    # -- one pod ---------------------------------------------------------------------------------------------

    def view(self, key: str) -> PodView | None:
        """Return a pod; None where nothing is known of it (by then), or all of it belongs to pods with a uid."""
        claims = self._claims(key)
        if not claims:
            return None
        if key.startswith("pod@"):
            return self._leftover(key, claims)
        for alias, _ in records.of_field(claims, Field.ALIAS):
            records.join(claims, self._claims(f"pod:{alias}"))
        view = _view(key.removeprefix("pod:"), claims, owners=self._owners(claims))
        extra = self._by_name(view)
        if extra:
            records.join(claims, extra)
            view = _view(view.uid, claims, owners=view.owners)
        return view

    def _of(self, wanted: Iterable[str], holds: Callable[[PodView], bool]) -> list[PodView]:
        keys = dict.fromkeys(key for term in wanted for key in self._inventory.naming(term) if key.startswith("pod"))
        found = {}
        for key in keys:
            for view in self._meant(key):
                if holds(view):
                    found[view.uid or key] = view
        return sorted(found.values(), key=lambda pod: (pod.start_unix_nano, pod.namespace, pod.name, pod.uid))

    def _meant(self, key: str) -> Iterator[PodView]:
        """Yield the pods that a record tells of: what only a name told, tells of the pods of that name."""
        if key.startswith("pod@"):
            name = key.partition("/")[2]
            for other in self._inventory.naming(f"name:{name.partition('/')[2]}"):
                if other.startswith("pod:") and (view := self.view(other)) is not None and name in view.names:
                    yield view
        elif self._is_alias(key):
            if (whole := self.with_uid(key.removeprefix("pod:"))) is not None:
                yield whole
            return
        if (own := self.view(key)) is not None:
            yield own

    def _is_gone(self, key: str, time_unix_nano: int) -> bool:
        """Tell whether all that is said of an object's end lies before a moment."""
        ends = [claim.last.time_unix_nano for _, claim in records.of_field(self._claims(key), Field.GONE)]
        return bool(ends) and max(ends) <= time_unix_nano

    def _is_alias(self, key: str) -> bool:
        uid = key.removeprefix("pod:")
        return any((Field.ALIAS, uid) in self._claims(other) for other in self._inventory.naming(f"alias:{uid}"))

    def _claims(self, key: str) -> Claims:
        claims = self._inventory.claims(key)
        return records.as_known(claims, self._known) if self._known is not None else claims

    def _owners(self, claims: Claims) -> tuple[str, ...]:
        """Return the chain of owners: as their own records tell, else as their names do."""
        chain: list[str] = []
        told = [value for value, _ in records.of_field(claims, Field.OWNER)]
        for _ in range(_CHAIN_MAX):
            if not told:
                break
            above: list[str] = []
            for value in told:
                kind, name, uid = value.split("/", 2)
                chain.append(f"{kind}/{name}")
                above += [owner for owner, _ in records.of_field(self._claims(f"{kind}:{uid}"), Field.OWNER)]
            told = above
        return tuple(dict.fromkeys([*chain, *derived_owners(claims)]))

    def _by_name(self, view: PodView) -> Claims:
        """Return what only the name told, of the time in which this pod had it."""
        found: Claims = {}
        for name in view.names:
            records.join(found, _in_life(self._claims(f"pod@{view.cluster}/{name}"), view))
        return found

    def _leftover(self, key: str, claims: Claims) -> PodView | None:
        """Return the pod that only a name tells of: what no pod with a uid explains."""
        name = key.partition("/")[2]
        left = dict(claims)
        for other in self._inventory.naming(f"name:{name.partition('/')[2]}"):
            known = self._claims(other) if other.startswith("pod:") else {}
            if (Field.NAME, name) in known:
                view = _view(other.removeprefix("pod:"), known, owners=())
                left = {held: claim for held, claim in left.items() if not _is_in_life(claim, view)}
        if not any(number not in (Field.NAME, Field.CLUSTER) for number, _ in left):
            return None
        return _view("", {_plain(held): claim for held, claim in left.items()}, owners=())


# -- out of claims -----------------------------------------------------------------------------------------------


def _plain(held: records.Key) -> records.Key:
    """Return a claim of a nameless record without the moment that its value carries."""
    number, value = held
    return (number, value.rpartition(APART)[0]) if number in _PER_LIFE and APART in value else held


def _in_life(claims: Claims, view: PodView) -> Claims:
    found: Claims = {}
    for held, claim in claims.items():
        # The name is known already, and the object tells itself when it was made.
        if held[0] not in (Field.NAME, Field.CLUSTER, Field.CREATED) and _is_in_life(claim, view):
            key = (int(Field.SEEN), "") if held[0] == Field.SEEN else _plain(held)
            records.join(found, {key: claim})
    return found


def _is_in_life(claim: Claim, view: PodView) -> bool:
    start = view.start_unix_nano - (_SLACK_NS if view.created_unix_nano is not None else _START_NS)
    end = view.end_unix_nano + _SLACK_NS if view.end_unix_nano is not None else _FOREVER
    return start <= claim.first.time_unix_nano <= end


def _view(uid: str, claims: Claims, *, owners: tuple[str, ...]) -> PodView:
    points = [point for claim in claims.values() for point in claim]
    created = [claim.first.time_unix_nano for _, claim in records.of_field(claims, Field.CREATED)]
    first = min(created) if created else min(point.time_unix_nano for point in points)
    low, high = _gone(claims)
    names = [value for value, _ in records.of_field(claims, Field.NAME)]
    best = _best_name(claims)
    deletion = [claim.first.time_unix_nano for _, claim in records.of_field(claims, Field.DELETION)]
    phases = sorted((claim.last, value) for value, claim in records.of_field(claims, Field.PHASE))
    earliest = min(points, key=lambda point: (point.observed_unix_nano, point))

    def held(field_: Field, *, apart: bool = False) -> tuple[Held, ...]:
        return tuple(_intervals(claims, field_, first, high, apart=apart))

    return PodView(
        uid=uid,
        aliases=tuple(value for value, _ in records.of_field(claims, Field.ALIAS)),
        cluster=next((value for value, _ in records.of_field(claims, Field.CLUSTER)), ""),
        namespace=best.partition("/")[0], name=best.partition("/")[2], names=tuple(names),
        created_unix_nano=min(created, default=None), start_unix_nano=first,
        end_unix_nano=high, gone_after_unix_nano=low,
        deletion_unix_nano=min(deletion, default=None),
        last_seen_unix_nano=max(_signs(claims), default=first),
        known_unix_nano=earliest.observed_unix_nano,
        nodes=held(Field.NODE), addresses=held(Field.IP), accounts=held(Field.ACCOUNT),
        images=held(Field.IMAGE, apart=True), digests=held(Field.DIGEST, apart=True),
        labels=_labels(claims), owners=owners,
        posture=tuple(sorted(value for value, _ in records.of_field(claims, Field.POSTURE))),
        phase=phases[-1][1].partition(APART)[0] if phases else "",
        runs=tuple(_runs(claims)),
        told=tuple(Told(number).name.lower() for number in sorted({point.told for point in points})),
        row=earliest.row,
    )  # fmt: skip


def _signs(claims: Claims) -> Iterator[int]:
    """Yield the moments at which a pod was there, to be sure."""
    for (number, _), claim in claims.items():
        if number in (Field.SEEN, Field.LOGGED, Field.STARTED, Field.EXITED, Field.ACTED, Field.ENTERED):
            yield claim.last.time_unix_nano


def _gone(claims: Claims) -> tuple[int | None, int | None]:
    """Return between which moments a pod went, as the narrowest of what is said; the widest where it is at odds."""
    told = [(int(value), claim.first.time_unix_nano) for value, claim in records.of_field(claims, Field.GONE)]
    if not told:
        return None, None
    low, high = max(one for one, _ in told), min(one for _, one in told)
    if low > high:
        low, high = min(one for one, _ in told), max(one for _, one in told)
    return low, high


def _best_name(claims: Claims) -> str:
    """Return the newest name; a name that somebody gave is better than the id in a path."""
    named = sorted(
        (claim.first.told != Told.PATH, claim.last, value) for value, claim in records.of_field(claims, Field.NAME)
    )
    return named[-1][2] if named else "/"


def _labels(claims: Claims) -> dict[str, str]:
    found: dict[str, tuple[records.Point, str]] = {}
    for text, claim in records.of_field(claims, Field.LABEL):
        name, _, value = text.partition("=")
        found[name] = max(found.get(name, (claim.last, value)), (claim.last, value))
    return {name: value for name, (_, value) in sorted(found.items())}


def _intervals(claims: Claims, field_: Field, start: int, end: int | None, *, apart: bool) -> Iterator[Held]:
    """Yield the values of a field as intervals: one ends where the next one of the same container begins."""
    groups: dict[str, list[tuple[str, Claim]]] = {}
    for value, claim in records.of_field(claims, field_):
        groups.setdefault(value.partition(APART)[0] if apart else "", []).append((value, claim))
    for members in groups.values():
        is_two_stack = field_ is Field.IP
        for at, (value, claim) in enumerate(members):
            begins = claim.first.time_unix_nano if at or field_ is Field.IP else start
            later = [
                other.first.time_unix_nano
                for text, other in members[at + 1 :]
                if other.first.time_unix_nano > begins and not (is_two_stack and (":" in text) != (":" in value))
            ]
            ends = max(min(later), claim.last.time_unix_nano + 1) if later else end
            yield Held(
                value=value, start_unix_nano=min(begins, claim.first.time_unix_nano), end_unix_nano=ends,
                last_unix_nano=claim.last.time_unix_nano, known_unix_nano=claim.known.observed_unix_nano,
                told=Told(claim.first.told).name.lower(), row=claim.first.row,
            )  # fmt: skip


def _runs(claims: Claims) -> Iterator[Run]:
    runs: dict[tuple[str, int], Run] = {}

    def run(container: str, restart: str) -> Run:
        key = (container, int(restart))
        return runs.setdefault(key, Run(container=container, restart=int(restart)))

    for field_ in (Field.CONTAINER, Field.STARTED, Field.EXITED, Field.LOGGED):
        for value, claim in records.of_field(claims, field_):
            container, restart, *rest = value.split(APART)
            known, moment = run(container, restart), claim.first.time_unix_nano
            if field_ is Field.CONTAINER:
                known = replace(known, container_id=rest[0])
            elif field_ is Field.STARTED:
                known = replace(known, started_unix_nano=moment)
            elif field_ is Field.EXITED:
                code = int(rest[0]) if rest[0].lstrip("-").isdecimal() else None
                known = replace(known, exited_unix_nano=moment, exit_code=code, reason=rest[2])
            else:
                known = replace(known, logged_unix_nano=(moment, claim.last.time_unix_nano))
            runs[container, int(restart)] = known
    yield from (runs[key] for key in sorted(runs))


def _has(held: Sequence[Held], value: str, start: int | None, end: int | None) -> bool:
    return any(one.value == value and one.within(start, end) for one in held)
