"""A corpus of CRI log files, made from a seed: the same arguments give the same bytes on every machine.

Lines look like what clusters write: access logs, JSON of applications, klog, stack traces, health checks, and now and
then a line that the runtime has cut into parts. Ids, addresses and timings differ from line to line, so that it does
not compress better than real logs do.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

_START_UNIX_S: Final = 1_790_000_000
_PART_BYTES: Final = 16_384
_PODS: Final = (
    ("shop", "storefront-7d9c5b6f8-qg9lh", "web", "access"),
    ("shop", "storefront-7d9c5b6f8-hnmdj", "web", "access"),
    ("shop", "cart-6c9f9d7b5-2xk8p", "cart", "json"),
    ("shop", "search-5b7c6d-pl2xv", "search", "json"),
    ("payments", "ledgerd-5f7b9-zd4cq", "ledgerd", "java"),
    ("payments", "gateway-8666dc-tt9wm", "gateway", "json"),
    ("kube-system", "kube-proxy-7hx2n", "kube-proxy", "klog"),
    ("kube-system", "coredns-5d78c9869d-4xq6m", "coredns", "klog"),
    ("ops", "backup-28765432-vkq7r", "backup", "klog"),
    ("ops", "ingress-nginx-controller-b6d8f", "controller", "access"),
)
_PATHS: Final = ("/", "/cart", "/cart/items", "/search?q=lamp", "/product/81723", "/healthz", "/static/app.9f1c.js")
_AGENTS: Final = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:141.0) Gecko/20100101 Firefox/141.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15",
    "kube-probe/1.33",
    "curl/8.14.1",
)
_MESSAGES: Final = (
    "request completed", "cache miss", "retrying upstream", "order accepted", "payment authorised", "slow query",
    "connection reset by peer", "token refreshed",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """What was written."""

    root: Path
    files: tuple[Path, ...]
    lines: int
    raw_bytes: int


def make(root: Path, *, lines: int, seed: int = 1) -> Corpus:
    """Write about ``lines`` physical lines below ``root/var/log/pods``, one file a pod."""
    each = -(-lines // len(_PODS))
    files, count, size = [], 0, 0
    for number, (namespace, pod, container, kind) in enumerate(_PODS):
        source = random.Random(f"{seed}/{number}")
        uid = uuid.UUID(int=source.getrandbits(128), version=4)
        path = root / "var" / "log" / "pods" / f"{namespace}_{pod}_{uid}" / container / "0.log"
        path.parent.mkdir(parents=True)
        with path.open("wb", buffering=1 << 20) as file:
            for line in _lines(source, _BODIES[kind], each):
                file.write(line)
                size += len(line)
                count += 1
        files.append(path)
    return Corpus(root=root, files=tuple(files), lines=count, raw_bytes=size)


def application_line(source: random.Random) -> str:
    """Return one line as an application writes it."""
    return _json(source)


def _lines(source: random.Random, body: Callable[[random.Random], str], lines: int) -> Iterator[bytes]:
    at_ns = _START_UNIX_S * 1_000_000_000
    day = datetime.fromtimestamp(_START_UNIX_S, UTC).strftime("%Y-%m-%dT%H:")
    left = lines
    while left > 0:
        at_ns += source.randrange(20_000, 4_000_000)
        seconds, nanos = divmod(at_ns, 1_000_000_000)
        minute, second = divmod(seconds - _START_UNIX_S, 60)
        stamp = f"{day}{minute % 60:02}:{second:02}.{nanos:09}Z"
        stream = "stderr" if source.random() < 0.1 else "stdout"
        text = body(source)
        if source.random() < 0.0002:
            text += " payload=" + source.randbytes(_PART_BYTES).hex()
        while len(text) > _PART_BYTES and left > 1:
            yield f"{stamp} {stream} P {text[:_PART_BYTES]}\n".encode()
            text, left = text[_PART_BYTES:], left - 1
        yield f"{stamp} {stream} F {text}\n".encode()
        left -= 1


def _address(source: random.Random) -> str:
    number = source.getrandbits(16)
    return f"10.{source.getrandbits(3)}.{number >> 8}.{number & 255}"


def _access(source: random.Random) -> str:
    status = source.choices((200, 304, 404, 500), (90, 5, 4, 1))[0]
    return (
        f'{_address(source)} - - "GET {source.choice(_PATHS)} HTTP/1.1" {status} {source.randrange(90, 90_000)} '
        f'"-" "{source.choice(_AGENTS)}" rt={source.random():.3f}'
    )


def _json(source: random.Random) -> str:
    level = source.choices(("info", "debug", "warn", "error"), (80, 12, 6, 2))[0]
    return (
        f'{{"level":"{level}","msg":"{source.choice(_MESSAGES)}","trace_id":"{source.getrandbits(128):032x}",'
        f'"user_id":{source.randrange(1_000_000)},"duration_ms":{source.random() * 300:.2f},'
        f'"client":{{"ip":"{_address(source)}"}}}}'
    )


def _klog(source: random.Random) -> str:
    line = source.randrange(40, 900)
    return (
        f'I1118 {source.randrange(1, 9)} reconciler.go:{line}] "{source.choice(_MESSAGES)}" '
        f'pod="shop/cart-{source.getrandbits(20):05x}" took="{source.randrange(1, 4000)}ms"'
    )


def _java(source: random.Random) -> str:
    if source.random() < 0.15:
        return f"\tat com.example.ledger.Posting.apply(Posting.java:{source.randrange(20, 400)})"
    return (
        f"INFO  [posting-{source.randrange(32)}] com.example.ledger.Posting - {source.choice(_MESSAGES)} "
        f"account={source.randrange(10**9):09} amount={source.random() * 1000:.2f} "
        f"request={uuid.UUID(int=source.getrandbits(128))}"
    )


_BODIES: Final = {"access": _access, "json": _json, "klog": _klog, "java": _java}
