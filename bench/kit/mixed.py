"""A corpus of many pods that write different things: the same arguments give the same bytes on every machine.

Two hundred containers, of which few write most, with lines as runtimes write them: fractions of nine digits and
trimmed ones, three zones, lines cut into parts, now and then bytes that are no UTF-8. About one byte in nine is a digit
of a random identifier, which nothing compresses: zstd's first level makes a fifth of the whole. A request writes two
lines on average, and a node runs sixty pods. Where a folder of real logs is given (Loghub's sets: their licence lets
nobody ship them), some pods write those, one set each, over and over, with other digits in numbers of three and more.
"""

from __future__ import annotations

import random
import re
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import cycle
from pathlib import Path
from typing import Final

_START_UNIX_S: Final = 1_790_000_000
_SPAN_S: Final = 1800
_PODS_COUNT: Final = 200
_PODS_OF_NODE: Final = 60
_PART_BYTES: Final = 16_384
_NAMESPACES: Final = ("auth", "checkout", "data", "infra", "kube-system", "payments", "search", "web")
_PHRASES: Final = (
    "connection reset by upstream", "cache miss for key", "retrying after backoff", "order accepted", "queue drained",
    "payment authorised", "slow query finished", "token refreshed", "session expired", "worker started",
    "index segment merged", "checkpoint complete", "lock released", "config reloaded", "deadline exceeded",
    "invoice rendered", "user signed in", "lease renewed", "image pulled", "volume mounted",
)  # fmt: skip
_PATHS: Final = (
    "/", "/healthz", "/metrics", "/login", "/api/v1/orders", "/api/v1/users/{:06x}", "/api/v2/search?q={:08x}",
    "/static/app.{:08x}.js", "/checkout/{:08x}/pay", "/images/{:06x}.webp",
)  # fmt: skip
_AGENTS: Final = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15",
    "kube-probe/1.33", "curl/8.14.1", "Go-http-client/2.0", "okhttp/4.12.0",
)  # fmt: skip
_CLASSES: Final = (
    "com.example.payments.PaymentService", "com.example.storage.ConnectionPool", "com.example.http.RequestFilter",
    "com.example.stream.RecordConsumer", "com.example.search.SegmentIndexer",
)  # fmt: skip
_METHODS: Final = ("apply", "handle", "invoke", "borrow", "commit", "poll", "flush", "doFilter")
_JAPANESE: Final = (
    "利用者認証に失敗しました", "接続がタイムアウトしました", "注文を受け付けました", "決済処理が完了しました",
    "在庫が不足しています",
)  # fmt: skip
_PEERS: Final = (
    *(f"redis-{number}.data.svc.cluster.local" for number in range(9)),
    *(f"api{number}.example.com" for number in range(30)),
    *(f"ip-10-0-{number}-{number * 7 % 250}.ec2.internal" for number in range(40)),
)
_LEVELS: Final = ("INFO", "INFO", "INFO", "INFO", "WARN", "ERROR", "DEBUG")
_ZONES: Final = (("Z", 0, True), ("+00:00", 0, False), ("+09:00", 9 * 3600, True))
"""(as written, seconds, trailing zeros are trimmed): containerd, CRI-O, a node in Japan."""

_NUMBER: Final = re.compile(r"\d{3,}")

_Body = Callable[[float], str]
_Writer = Callable[[random.Random], _Body]
"""Begins to write as one container does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed:
    """What was written."""

    files_count: int
    lines: int
    raw_bytes: int


def make(root: Path, *, raw_bytes: int, seed: int = 1, real: Path | None = None) -> Mixed:
    """Write about ``raw_bytes`` below ``root/var/log/pods``, one file a pod."""
    source = random.Random(seed)
    bodies = {**_BODIES, **({"real": (0.17, _of_real(real))} if real is not None else {})}
    kinds, parts = list(bodies), [part for part, _ in bodies.values()]
    weights = [min(source.paretovariate(1.1), 25.0) for _ in range(_PODS_COUNT)]
    lines = size = 0
    for number, weight in enumerate(weights):
        own = random.Random(f"{seed}/{number}")
        kind = own.choices(kinds, parts)[0]
        path = root / "var/log/pods" / _folder(own, kind, number) / kind / "0.log"
        path.parent.mkdir(parents=True)
        left = raw_bytes * weight / sum(weights)
        gap_s = _SPAN_S * _LINE_BYTES / left
        with path.open("wb", buffering=1 << 20) as file:
            for line in _lines(own, bodies[kind][1](own), gap_s):
                file.write(line)
                lines, size, left = lines + 1, size + len(line), left - len(line)
                if left <= 0 and b" F " in line[:64]:
                    break
    return Mixed(files_count=len(weights), lines=lines, raw_bytes=size)


_LINE_BYTES: Final = 227


def _folder(source: random.Random, kind: str, number: int) -> str:
    uid = uuid.UUID(int=source.getrandbits(128), version=4)
    name = f"{kind}-{number}-{source.getrandbits(36):09x}-{source.getrandbits(20):05x}"
    return f"{source.choice(_NAMESPACES)}_{name}_{uid}"


def _lines(source: random.Random, body: _Body, gap_s: float) -> Iterator[bytes]:
    zone, shift_s, trims = source.choices(_ZONES, (0.7, 0.2, 0.1))[0]
    at_s = _START_UNIX_S + source.random()
    while True:
        at_s += gap_s * 2 * source.random()
        nanos = source.randrange(10**9)
        if not source.getrandbits(10):
            nanos -= nanos % 1000
        fraction = f"{nanos:09}".rstrip("0") if trims else f"{nanos:09}"
        stream = "stdout" if source.getrandbits(4) else "stderr"
        head = f"{_second(int(at_s) + shift_s)[0]}{'.' if fraction else ''}{fraction}{zone} {stream} ".encode()
        text = body(at_s).encode()
        if not source.getrandbits(14):
            text = text[:30] + b" \xff\xfe\x80 " + text[30:]
        if not source.getrandbits(13):
            text += b" payload=" + source.randbytes(_PART_BYTES).hex().encode()
        while len(text) > _PART_BYTES:
            yield head + b"P " + text[:_PART_BYTES] + b"\n"
            text = text[_PART_BYTES:]
        yield head + b"F " + text + b"\n"


@lru_cache(maxsize=65_536)
def _second(seconds: int) -> tuple[str, str, str]:
    """Return a second as RFC 3339, access logs and klog have it."""
    parts = time.gmtime(seconds)
    forms = ("%Y-%m-%dT%H:%M:%S", "%d/%b/%Y:%H:%M:%S +0000", "%m%d %H:%M:%S")
    rfc_3339, common, klog = (time.strftime(form, parts) for form in forms)
    return rfc_3339, common, klog


def _milliseconds(at_s: float) -> int:
    return int(at_s % 1 * 1000)


def _address(source: random.Random) -> str:
    number = source.getrandbits(24)
    return f"10.{number >> 16 & 63}.{number >> 8 & 255}.{number & 255}"


def _uuid(source: random.Random) -> uuid.UUID:
    return uuid.UUID(int=source.getrandbits(128), version=4)


def _nginx(source: random.Random) -> _Body:
    def line(at_s: float) -> str:
        path = source.choice(_PATHS).format(source.getrandbits(24))
        status = source.choices((200, 304, 404, 500, 502), (88, 5, 4, 2, 1))[0]
        return (
            f'{_address(source)} - - [{_second(int(at_s))[1]}] "{source.choice(("GET", "GET", "GET", "POST"))} {path} '
            f'HTTP/1.1" {status} {source.randrange(120, 90_000)} "-" "{source.choice(_AGENTS)}" '
            f"{source.randrange(90, 1500)} {source.random():.3f} [{source.choice(_NAMESPACES)}-http] "
            f"{_address(source)}:8080 {source.random():.3f}"
        )

    return line


def _json(source: random.Random) -> _Body:
    trace = source.getrandbits(128)

    def line(at_s: float) -> str:
        nonlocal trace
        level = source.choices(("info", "debug", "warn", "error"), (70, 14, 10, 6))[0]
        if source.getrandbits(1):
            trace = source.getrandbits(128)
        return (
            f'{{"ts":"{_second(int(at_s))[0]}.{_milliseconds(at_s):03}Z","level":"{level}",'
            f'"msg":"{source.choice(_PHRASES)} {source.choice(_PHRASES)}","trace_id":"{trace:032x}",'
            f'"span_id":"{source.getrandbits(64):016x}","user_id":{source.randrange(200_000)},'
            f'"duration_ms":{source.random() * 300:.2f},'
            f'"caller":"{source.choice(_METHODS)}.go:{source.randrange(900)}","peer":"{source.choice(_PEERS)}"}}'
        )

    return line


def _java(source: random.Random) -> _Body:
    def line(at_s: float) -> str:
        if source.random() < 0.25:
            name = source.choice(_CLASSES)
            file = name.rpartition(".")[2]
            return f"\tat {name}.{source.choice(_METHODS)}({file}.java:{source.randrange(20, 999)}) ~[app.jar!/:4.2.1]"
        return (
            f"{_second(int(at_s))[0].replace('T', ' ')}.{_milliseconds(at_s):03} {source.choice(_LEVELS):5} 1 --- "
            f"[exec-{source.randrange(64)}] {source.choice(_CLASSES)} : {source.choice(_PHRASES)}, "
            f"{source.choice(_PHRASES)} orderId={source.getrandbits(48):012x} amount={source.random() * 900:.2f}"
        )

    return line


def _klog(source: random.Random) -> _Body:
    pods = [
        f'pod="{source.choice(_NAMESPACES)}/cart-{source.getrandbits(20):05x}" podUID="{_uuid(source)}"'
        for _ in range(_PODS_OF_NODE)
    ]

    def line(at_s: float) -> str:
        return (
            f"{source.choice('IIIIIWE')}{_second(int(at_s))[2]}.{_milliseconds(at_s):03}000       1 "
            f'{source.choice(_METHODS)}.go:{source.randrange(40, 900)}] "{source.choice(_PHRASES)}" '
            f'{source.choice(pods)} attempt={source.randrange(1, 5)} took="{source.randrange(1, 4000)}ms" '
            f'operation="{source.getrandbits(64):016x}"'
        )

    return line


def _python(source: random.Random) -> _Body:
    def line(at_s: float) -> str:
        return (
            f"{_second(int(at_s))[0].replace('T', ' ')},{_milliseconds(at_s):03} {source.choice(_LEVELS)} "
            f"[{source.choice(_METHODS)}] {source.choice(_PHRASES)}; {source.choice(_PHRASES)} and "
            f"{source.choice(_PHRASES)} id={source.getrandbits(40)} elapsed={source.random() * 3:.4f}s"
        )

    return line


def _postgres(source: random.Random) -> _Body:
    def line(at_s: float) -> str:
        return (
            f"{_second(int(at_s))[0].replace('T', ' ')}.{_milliseconds(at_s):03} UTC [{source.randrange(100, 9999)}] "
            f"LOG:  duration: {source.random() * 50:.3f} ms  statement: SELECT id, state, updated FROM orders WHERE "
            f"customer = {source.randrange(10**9)} AND region = '{source.choice(_NAMESPACES)}' ORDER BY updated"
        )

    return line


def _japanese(source: random.Random) -> _Body:
    def line(at_s: float) -> str:
        return (
            f"{_second(int(at_s))[0].replace('T', ' ')}.{_milliseconds(at_s):03} "
            f"[{source.choice(('情報', '情報', '警告', 'エラー'))}] {source.choice(_JAPANESE)} "
            f"利用者=user{source.randrange(9999)} 接続元={_address(source)} {source.choice(_JAPANESE)}"
        )

    return line


def _audit(source: random.Random) -> _Body:
    """Return what control planes in containers print: audit events."""

    def line(at_s: float) -> str:
        space = source.choice(_NAMESPACES)
        path = f"/api/v1/namespaces/{space}/{source.choice(('pods', 'secrets', 'configmaps'))}"
        return (
            f'{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"{_uuid(source)}",'
            f'"stage":"ResponseComplete","requestURI":"{path}/{source.getrandbits(40):010x}",'
            f'"verb":"{source.choice(("get", "list", "watch", "patch", "create"))}",'
            f'"user":{{"username":"system:serviceaccount:{space}:sa-{source.randrange(60)}",'
            f'"groups":["system:serviceaccounts","system:authenticated"]}},"sourceIPs":["{_address(source)}"],'
            f'"userAgent":"{source.choice(_AGENTS)}","responseStatus":{{"code":{source.choice((200, 200, 201, 403))}}},'
            f'"requestReceivedTimestamp":"{_second(int(at_s))[0]}.{_milliseconds(at_s):03}123Z",'
            f'"annotations":{{"authorization.k8s.io/decision":"allow"}}}}'
        )

    return line


def _of_real(folder: Path) -> _Writer:
    """Return who writes real lines, with other digits in longer numbers."""
    sets = [path.read_text("utf-8", "replace").splitlines() for path in sorted(folder.glob("*.log"))]
    assert sets, f"no logs in {folder}"

    def real(source: random.Random) -> _Body:
        lines = cycle(filter(None, source.choice(sets)))

        def other(found: re.Match[str]) -> str:
            digits = len(found[0])
            return f"{source.randrange(10**digits):0{digits}}"

        return lambda _: _NUMBER.sub(other, next(lines))

    return real


_BODIES: Final[dict[str, tuple[float, _Writer]]] = {
    "nginx": (0.22, _nginx),
    "json": (0.28, _json),
    "java": (0.14, _java),
    "klog": (0.11, _klog),
    "python": (0.05, _python),
    "postgres": (0.05, _postgres),
    "audit": (0.02, _audit),
    "japanese": (0.03, _japanese),
}
"""(part of the pods, writer)"""
