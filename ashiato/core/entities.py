"""The things that rows name, and when each was first and last named: exact, for one pack.

Most come from columns; addresses, digests, container ids and host names also from bodies. A kind with more values
than a pack's size allows (:data:`RAW_BYTES_PER_VALUE`) is *dense* there, as trace ids and clients of a busy server are:
it is not listed, the index says so, and the rows themselves are asked. UUIDs that identify nothing are left to filters.
"""

from __future__ import annotations

import ipaddress
import re
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from ashiato.core.errors import RejectedError
from ashiato.core.query import All, Node, Or, Phrase, Term
from ashiato.core.table import order_times
from ashiato.core.token_hashes import Hashes, Windows, bytes_at, keys_of, mixed, windows_of
from ashiato.core.words import Ints, Words, words_of

pc: Final[Any] = pyarrow.compute

KINDS: Final = (
    "container_id", "digest", "host", "ip", "node", "pod", "pod_uid", "service_account", "trace_id", "user",
)  # fmt: skip
RAW_BYTES_PER_VALUE: Final = 2048
"""A listed value takes about 16 bytes, so that a kind takes less than one percent of the raw bytes ..."""
VALUES_ALLOWED: Final = 256
"""... and small packs list all that they name."""

_SERVICE_ACCOUNT: Final = r"(?s)\Asystem:serviceaccount:[^:/]+:.+\z"
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_CONTAINER_ID: Final = re.compile(r"[0-9a-f]{64}")
_HOST: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?")
_HEX_BYTES: Final = 64
_IN_DIGEST: Final = b"sha256:"
_URL_BYTES_MAX: Final = 512
_UNSPECIFIED: Final = "::"
_NUMBERS: Final = re.compile(r"[0-9.]+")
_URL: Final = re.compile(rb"://(?:[^\s/@\"'<>]*@)?([A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?)")
_TOP_LEVELS: Final = (
    "com", "net", "org", "io", "dev", "cloud", "app", "gov", "edu", "mil", "int", "arpa", "info", "biz", "local",
    "internal", "svc", "lan", "corp", "home", "example", "test", "onion", "jp", "de", "uk", "fr", "cn", "ru", "us",
    "eu", "in", "br", "au", "ca", "nl", "ch", "se", "kr", "tw", "top", "xyz", "site", "online",
)  # fmt: skip
"""A dotted name in a text is a host's where it ends so; any name may stand behind ``://``."""
_TOP_KEYS: Final = np.sort(np.array([int.from_bytes(name.encode(), "little") for name in _TOP_LEVELS], np.uint64))
_TOP_BYTES: Final = max(map(len, _TOP_LEVELS))
_NAME_BYTES_MAX: Final = 253
_ASCII_END: Final = 0x80
_DOUBLE_COLON: Final = re.compile(rb"[^G-Zg-z_:]?::(?![G-Zg-z_:])")
_ADDRESS_BEFORE: Final = re.compile(rb"(?<![0-9A-Za-z_:.])[0-9A-Fa-f:]*\Z")
_ADDRESS_BEHIND: Final = re.compile(rb"[0-9A-Fa-f:.]*")
_ADDRESS_BYTES_MAX: Final = 45
_NAMED_BY_COLUMNS: Final = {"node": "k8s_node_name", "pod_uid": "k8s_pod_uid", "trace_id": "trace_id"}


class Seen(NamedTuple):
    """When something was first and last named: ordering times."""

    first: int
    last: int

    def and_(self, other: Seen) -> Seen:
        """Return the span of both."""
        return Seen(min(self.first, other.first), max(self.last, other.last))


def canonical(kind: str, value: str) -> str:
    """Return the one form in which an entity is listed.

    Raises:
        RejectedError: there is no such kind, or it has no such value.

    """
    if kind not in KINDS:
        raise RejectedError(f"no such kind of entity; there are {', '.join(KINDS)}", kind=kind)
    found: str | None = value
    if kind == "ip":
        found = _address(value)
    elif kind in ("digest", "container_id", "host"):
        pattern = {"digest": _DIGEST, "container_id": _CONTAINER_ID, "host": _HOST}[kind]
        found = value.lower() if pattern.fullmatch(value.lower()) else None
    if not found:
        raise RejectedError("not a value of this kind of entity", kind=kind, value=value)
    return found


def where_named(kind: str, value: str) -> Node:
    """Return a predicate that every row which names the entity matches (others may)."""
    if kind in _NAMED_BY_COLUMNS:
        return Term(field=_NAMED_BY_COLUMNS[kind], value=value)
    if kind == "ip":
        # An IPv6 address is written in many ways.
        in_bodies, in_columns = Phrase(field="body", value=value), Term(field="source_address", value=value)
        return All() if ":" in value else Or(nodes=(in_bodies, in_columns))
    named: dict[str, Node] = {
        "pod": Term(field="k8s_pod_name", value=value.partition("/")[2]),
        "user": Term(field="user_name", value=value),
        "service_account": Term(field="user_name", value=f"system:serviceaccount:{value.replace('/', ':', 1)}"),
    }
    return named.get(kind) or Phrase(field="body", value=value)


class EntityCollector:
    """Gathers the entities of a pack, row group by row group. The order of row groups decides what is dense."""

    def __init__(self, *, is_bounded: bool = True) -> None:
        self._is_bounded = is_bounded
        self._seen: dict[str, dict[str, Seen]] = {kind: {} for kind in KINDS}
        self._addresses = _Addresses()
        self._raw_bytes = 0
        self._times: Ints = np.zeros(0, np.int64)

    def begin(self, rows: pa.Table) -> None:
        """Take a row group: what its columns name. Its bodies come by :meth:`read`, as they are cut into words."""
        self._raw_bytes += int(pc.sum(rows["length"]).as_py() or 0)
        self._times = order_times(rows).to_numpy()
        for kind, name in _NAMED_BY_COLUMNS.items():
            self._take_column(kind, rows[name])
        namespaces, pods = (rows[name].cast(pa.string()) for name in ("k8s_namespace_name", "k8s_pod_name"))
        self._take_column("pod", pc.binary_join_element_wise(namespaces, pods, "/"))
        if rows["user_name"].null_count < rows.num_rows:
            users = rows["user_name"].cast(pa.string())
            accounts = pc.fill_null(pc.match_substring_regex(users, _SERVICE_ACCOUNT), False)
            self._take_column("user", pc.if_else(accounts, None, users))
            self._take_column("service_account", _account_names(pc.if_else(accounts, users, None)))
        for words in words_of(rows["source_address"]) if "ip" in self._seen else ():
            self._take_addresses(_BodyReader(words, self._times), windows_of(words))

    def read(self, words: Words, windows: Windows) -> None:
        """Take what a block of the row group's bodies names."""
        reader = _BodyReader(words, self._times)
        if "ip" in self._seen:
            self._take_addresses(reader, windows)
        for kind, value, seen in reader.hexadecimal():
            self._take(kind, [(value, seen)])
        if "host" in self._seen:
            self._take("host", reader.hosts())

    def end(self) -> None:
        """Let go of kinds that have become dense."""
        for kind in [kind for kind, values in self._seen.items() if len(values) > self._allowed]:
            del self._seen[kind]
        if "ip" in self._seen and len(self._addresses) + len(self._seen["ip"]) > self._allowed:
            del self._seen["ip"]
        if "ip" not in self._seen:
            self._addresses = _Addresses()

    @property
    def dense(self) -> tuple[str, ...]:
        """Kinds that are not listed."""
        return tuple(kind for kind in KINDS if kind not in self._seen)

    def listed(self) -> Iterator[tuple[str, str, Seen]]:
        """Yield (kind, value, seen) in order."""
        if "ip" in self._seen:
            self._take("ip", self._addresses.named())
        for kind in sorted(self._seen):
            for value, seen in sorted(self._seen[kind].items()):
                yield kind, value, seen

    @property
    def _allowed(self) -> int:
        return self._raw_bytes // RAW_BYTES_PER_VALUE + VALUES_ALLOWED if self._is_bounded else sys.maxsize

    def _take_addresses(self, reader: _BodyReader, windows: Windows) -> None:
        self._addresses.add(*reader.ipv4(windows))
        self._take("ip", reader.ipv6(windows))

    def _take_column(self, kind: str, column: Any) -> None:
        if kind not in self._seen:
            return
        grouped = _grouped(column, self._times, values_max=self._allowed)
        if grouped is None:
            del self._seen[kind]
        else:
            self._take(kind, grouped)

    def _take(self, kind: str, named: Iterable[tuple[str, Seen]]) -> None:
        values = self._seen.get(kind)
        if values is None:
            return
        for value, seen in named:
            before = values.get(value)
            values[value] = seen if before is None else before.and_(seen)


@dataclass(slots=True)
class _Addresses:
    """IPv4 addresses as numbers, for there may be one in every line."""

    values: npt.NDArray[np.uint32]
    first: Ints
    last: Ints

    def __init__(self) -> None:
        self.values = np.zeros(0, np.uint32)
        self.first = self.last = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self.values)

    def add(self, values: npt.NDArray[np.uint32], times: Ints) -> None:
        values = np.concatenate((self.values, values))
        first, last = np.concatenate((self.first, times)), np.concatenate((self.last, times))
        if not len(values):
            return
        order = np.argsort(values, kind="stable")
        values = values.take(order)
        starts = np.flatnonzero(np.diff(values, prepend=~values[0]))
        self.values = values.take(starts)
        self.first = np.minimum.reduceat(first.take(order), starts)
        self.last = np.maximum.reduceat(last.take(order), starts)

    def named(self) -> Iterator[tuple[str, Seen]]:
        for value, first, last in zip(self.values.tolist(), self.first.tolist(), self.last.tolist(), strict=True):
            yield f"{value >> 24}.{value >> 16 & 255}.{value >> 8 & 255}.{value & 255}", Seen(first, last)


class _BodyReader:
    """Finds what a block of bodies names. ``source`` has the letters between words; it may be in any case."""

    def __init__(self, words: Words, times: Ints) -> None:
        self._words = words
        self._times = times
        self._source = words.source or words.text.tobytes()
        self._octets = np.frombuffer(self._source, np.uint8)
        self._row_starts = words.row_starts.tolist()
        self._colons = np.flatnonzero(self._octets == ord(":"))

    def ipv4(self, windows: Windows) -> tuple[npt.NDArray[np.uint32], Ints]:
        """Return the addresses of windows that are joined by single dots, and the times of their rows."""
        at = self._joined(windows, np.flatnonzero(windows.is_decimal), b".")
        value = np.zeros(len(at), np.uint32)
        for part in windows.parts:
            value = (value << np.uint32(8)) | _number(part.take(at))
        return value, self._time_at(self._words.starts.take(windows.at.take(at)))

    def ipv6(self, windows: Windows) -> Iterator[tuple[str, Seen]]:
        joined = self._joined(windows, np.arange(len(windows.at)), b":")
        places = self._words.starts.take(windows.at.take(joined)).tolist()
        colons = self._colons[self._octets.take(self._colons + 1, mode="clip") == ord(":")]
        places += [place for place in colons.tolist() if self._is_double_colon(place)]
        read: set[int] = set()
        for place in places:
            row_start, row_end = self._row(place)
            before = _ADDRESS_BEFORE.search(self._source[max(row_start, place - _ADDRESS_BYTES_MAX) : place])
            if before is None or (start := place - len(before[0])) in read:
                continue
            read.add(start)
            behind = _ADDRESS_BEHIND.match(self._source[place : min(row_end, place + _ADDRESS_BYTES_MAX)])
            text = (before[0] + (behind[0] if behind else b"")).decode().rstrip(".")
            address = _address(text) or _address(text.removesuffix(":"))
            if address is not None and address != _UNSPECIFIED:
                yield address, self._seen(start)

    def _is_double_colon(self, place: int) -> bool:
        """Tell whether no letter beyond hexadecimal stands beside: ``std::vec`` is no address."""
        row_start, row_end = self._row(place)
        return _DOUBLE_COLON.match(self._source[max(row_start, place - 1) : min(row_end, place + 3)]) is not None

    def hexadecimal(self) -> Iterator[tuple[str, str, Seen]]:
        """Yield digests and container ids."""
        words = self._words
        for at in np.flatnonzero(words.lengths == _HEX_BYTES).tolist():
            start = int(words.starts[at])
            text = words.text[start : start + _HEX_BYTES].tobytes().decode("utf-8", "replace")
            if _CONTAINER_ID.fullmatch(text):
                prefix = self._source[max(start - len(_IN_DIGEST), self._row(start)[0]) : start]
                is_digest = prefix.lower() == _IN_DIGEST and int(words.lengths[at - 1]) == len(_IN_DIGEST) - 1
                yield ("digest", f"sha256:{text}", self._seen(start)) if is_digest else (
                    "container_id", text, self._seen(start)
                )  # fmt: skip

    def hosts(self) -> Iterator[tuple[str, Seen]]:
        """Yield what stands behind ``://``, and dotted names that end as names of hosts do."""
        octets, colons = self._octets, self._colons
        slashes = (octets.take(colons + 1, mode="clip") == ord("/")) & (
            octets.take(colons + 2, mode="clip") == ord("/")
        )
        for place in colons[slashes].tolist():
            found = _URL.match(self._source[place : min(self._row(place)[1], place + _URL_BYTES_MAX)])
            if found is not None and self._is_whole(place + found.start(1), place + found.end(1)):
                yield from _host(found[1], self._seen(place))
        words, at = self._words, self._top_levels()
        first = self._first_linked(at)
        first, at = first[first < at], at[first < at]
        starts, ends = words.starts.take(first), words.starts.take(at) + words.lengths.take(at)
        starts, ends = starts[ends - starts <= _NAME_BYTES_MAX], ends[ends - starts <= _NAME_BYTES_MAX]
        if not len(starts):
            return
        for start, end, seen in self._alike(starts, ends):
            yield from _host(self._source[start:end], seen)

    def _alike(self, starts: Ints, ends: Ints) -> Iterator[tuple[int, int, Seen]]:
        """Yield (start, end, seen) of each text once, or of some more than once."""
        padded = np.frombuffer(self._source + bytes(16 - len(self._source) % 8), np.uint64)
        lengths = ends - starts
        columns = [
            bytes_at(padded, np.minimum(starts + at, len(self._source)), np.clip(lengths - at, 0, 8))
            for at in range(0, int(lengths.max(initial=0)), 8)
        ]
        hashes = lengths.view(np.uint64)
        for column in columns:
            hashes = mixed(hashes + column)
        order = np.argsort(hashes, kind="stable")
        # (hashes only bring them together: whether two are the same is seen in their bytes)
        differs = np.ones(len(order), np.bool_)
        differs[1:] = np.logical_or.reduce([np.diff(column.take(order)) != 0 for column in (*columns, lengths)])
        firsts = np.flatnonzero(differs)
        times = self._time_at(starts.take(order))
        found = order.take(firsts)
        first, last = np.minimum.reduceat(times, firsts), np.maximum.reduceat(times, firsts)
        for start, end, low, high in zip(
            starts.take(found).tolist(), ends.take(found).tolist(), first.tolist(), last.tolist(), strict=True
        ):
            yield start, end, Seen(low, high)

    def _top_levels(self) -> Ints:
        """Return the words that may end a host's name."""
        words = self._words
        dots = np.flatnonzero(self._octets[:-1] == ord("."))
        dots = dots[words.text.take(dots + 1) >= ord("a")]
        near = np.searchsorted(words.starts, dots + 1)
        near = near[near < len(words.starts)]
        near = near[words.lengths.take(near) <= _TOP_BYTES]
        keys = keys_of(words, near)
        at = near[_TOP_KEYS.take(np.searchsorted(_TOP_KEYS, keys) % len(_TOP_KEYS)) == keys]
        found: Ints = at[~self._goes_on(at)]
        return found

    def _first_linked(self, at: Ints) -> Ints:
        """Return for each of these words the first of those that dots and hyphens link it to, in its row."""
        starts, lengths = self._words.starts, self._words.lengths
        first = at.copy()
        going = np.arange(len(at))
        while len(going):
            before = first.take(going) - 1
            ends = starts.take(before, mode="clip") + lengths.take(before, mode="clip")
            between = self._octets.take(ends, mode="clip")
            linked = (before >= 0) & (starts.take(before + 1) == ends + 1)
            linked &= (between == ord(".")) | (between == ord("-"))
            going = going[linked]
            row_at = self._words.row_at
            going = going[row_at(starts.take(first.take(going) - 1)) == row_at(starts.take(first.take(going)))]
            first[going] -= 1
        return first

    def _goes_on(self, at: Ints) -> npt.NDArray[np.bool_]:
        """Return which names do not end with their word: ``.com.shop`` and ``.io-x`` go on, ``.com.`` does not."""
        words = self._words
        ends = words.starts.take(at) + words.lengths.take(at)
        last = len(self._octets) - 1
        behind, next_to = self._octets.take(np.minimum(ends, last)), words.text.take(ends + 1)
        goes_on: npt.NDArray[np.bool_] = (behind == ord("-")) | ((behind == ord(".")) & (next_to != 0))
        goes_on &= ends <= last
        # What follows in another row does not count.
        goes_on &= words.row_at(ends + (behind == ord("."))) == words.row_at(words.starts.take(at))
        return goes_on

    def _is_whole(self, start: int, end: int) -> bool:
        """Tell whether words begin and end there: beside a letter that is not ASCII they may not."""
        words = self._words
        if words.source:
            return True
        first, after = np.searchsorted(words.starts, start), np.searchsorted(words.starts, end)
        return bool(words.starts[first] == start and words.starts[after - 1] + words.lengths[after - 1] == end)

    def _joined(self, windows: Windows, among: Ints, by: bytes) -> Ints:
        """Return which windows of ``among`` have exactly ``by`` between their words."""
        starts, lengths = self._words.starts, self._words.lengths
        for nth in range(len(windows.parts) - 1):
            at = windows.at.take(among) + nth
            end = starts.take(at) + lengths.take(at)
            among = among[(starts.take(at + 1) == end + 1) & (self._octets.take(end) == by[0])]
        return among

    def _time_at(self, places: Ints) -> Ints:
        found: Ints = self._times.take(self._words.rows.take(self._words.row_at(places)))
        return found

    def _seen(self, place: int) -> Seen:
        row = bisect_right(self._row_starts, place) - 1
        time = int(self._times[self._words.rows[row]])
        return Seen(time, time)

    def _row(self, place: int) -> tuple[int, int]:
        """Return where the row that holds a place begins and ends."""
        after = bisect_right(self._row_starts, place)
        return self._row_starts[after - 1], self._row_starts[after] if after < len(self._row_starts) else len(
            self._source
        )


def _host(name: bytes, seen: Seen) -> Iterator[tuple[str, Seen]]:
    if not name.isascii():
        # What is left of a name behind letters that are not ASCII begins with a whole word.
        name = name[max(at for at, octet in enumerate(name) if octet >= _ASCII_END) + 1 :]
        name = re.sub(rb"\A[^.-]*[.-]", b"", name)
    text = name.decode("ascii").lower()
    if text and not _NUMBERS.fullmatch(text):
        yield text, seen


def _number(keys: Hashes) -> npt.NDArray[np.uint32]:
    """Return the numbers that words of one to three digits are."""
    value = np.zeros(len(keys), np.uint32)
    for nth in range(3):
        digit = (keys >> np.uint64(8 * nth) & np.uint64(0xFF)).astype(np.uint32)
        value = np.where(digit != 0, value * np.uint32(10) + digit - np.uint32(ord("0")), value)
    return value


def _address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


def _account_names(users: Any) -> Any:
    """Return ``namespace/name`` of service accounts' users, null for what is none."""
    parts = pc.split_pattern(users, ":", max_splits=3)
    return pc.binary_join_element_wise(_nth(parts, 2), _nth(parts, 3), "/")


def _nth(parts: Any, nth: int) -> Any:
    long = pc.greater(pc.list_value_length(parts), nth)
    return pc.list_element(pc.if_else(long, parts, pa.scalar([""] * (nth + 1), pa.list_(pa.string()))), nth)


def _grouped(column: Any, times: Ints, *, values_max: int) -> list[tuple[str, Seen]] | None:
    """Return each value of a column with the first and last time of its rows, None where there are too many.

    A null and '' are no values.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if array.null_count == len(array):
        return []
    is_encoded = pa.types.is_dictionary(array.type)
    if not is_encoded and not array.null_count and pc.all(pc.equal(array, array[0])).as_py():
        # A container's rows are all of one pod.
        return [(array[0].as_py(), Seen(int(times.min()), int(times.max())))] if array[0].as_py() else []
    encoded: Any = array if is_encoded else array.dictionary_encode()
    encoded = encoded.unify_dictionaries() if isinstance(encoded, pa.ChunkedArray) else encoded
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    order = np.argsort(codes, kind="stable")
    sorted_codes = codes.take(order)
    starts = np.flatnonzero(np.diff(sorted_codes, prepend=sorted_codes[0] - 1))
    if len(starts) > values_max + 2:
        return None
    own = times.take(order)
    first, last = np.minimum.reduceat(own, starts).tolist(), np.maximum.reduceat(own, starts).tolist()
    values = encoded.dictionary.to_pylist()
    return [
        (values[code], Seen(low, high))
        for code, low, high in zip(sorted_codes.take(starts).tolist(), first, last, strict=True)
        if code >= 0 and values[code]
    ]
