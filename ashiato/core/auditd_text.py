"""The text of auditd records: fields, what the kernel wrote in hex, and the records of one event put together.

The kernel writes an untrusted string in hex where it holds a space, a quote or a control character; decoded, it is
what was run or opened. Pure: it is used when a line is parsed, when attributes are asked for, and by filters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

_IS_RECORD: Final = re.compile(r"(?:node=\S+ )?type=\S+ msg=audit\(\d+\.\d+:\d+\):")
_FIELD: Final = re.compile(r"([A-Za-z_][\w-]*)=(\"[^\"]*\"|'[^']*'|[^\s\x1d]*)")
_HEX: Final = re.compile(r"(?:[0-9A-F]{2})+\Z")
_ARGUMENT: Final = re.compile(r"a\d+(?:\[\d+\])?\Z")
#: Fields that the kernel writes through ``audit_log_untrustedstring`` (kernel/audit.c, kernel/auditsc.c).
_UNTRUSTED: Final = frozenset(
    ("proctitle", "comm", "exe", "name", "cwd", "path", "dir", "key", "acct", "cmd", "data", "watch", "ocomm",
     "new-disk", "old-disk", "vm", "device", "oldexe", "sw", "root_dir", "profile", "invalid_context")
)  # fmt: skip


def is_record(text: str) -> bool:
    """Tell whether ``text`` is an auditd record."""
    return text.startswith(("type=", "node=")) and _IS_RECORD.match(text) is not None


def fields(text: str) -> dict[str, str]:
    """Return the fields of a record, decoded; those in ``msg='...'`` of user space stand beside the others.

    >>> fields('type=PROCTITLE msg=audit(1.000:7): proctitle=6C73002D6C')
    {'type': 'PROCTITLE', 'serial': '7', 'proctitle': 'ls -l'}
    """
    return dict(pairs(text))


def pairs(text: str) -> Iterator[tuple[str, str]]:
    """Yield the fields of a record in their order."""
    head, _, rest = text.partition("): ") if "): " in text else text.partition("):")
    is_execve = "type=EXECVE" in head
    for name, value in _FIELD.findall(head):
        if name == "msg":
            yield "serial", value.rpartition(":")[2].rstrip(")")
        else:
            yield name, value
    for name, value in _FIELD.findall(rest):
        if name == "msg" and value[:1] == "'":
            yield from _decoded(_FIELD.findall(value[1:-1]), is_execve=False)
        else:
            yield from _decoded([(name, value)], is_execve=is_execve)


def event(texts: Iterable[str]) -> list[tuple[str, str]]:
    """Return the fields of all records of one event, in the order of the records; doubles of a value once."""
    return list(dict.fromkeys(pair for text in texts for pair in pairs(text)))


def command_line(texts: Iterable[str]) -> str | None:
    """Return what an event ran: the arguments of its EXECVE, else its process title."""
    title = None
    for text in texts:
        said = fields(text)
        arguments = sorted(
            ((int(name[1:]), value) for name, value in said.items() if re.fullmatch(r"a\d+", name)),
            key=lambda argument: argument[0],
        )
        if said.get("type") == "EXECVE" and arguments:
            return " ".join(value for _, value in arguments)
        title = title or said.get("proctitle")
    return title


def hidden_texts(text: str) -> Iterator[str]:
    """Yield decoded values that do not stand in ``text`` as they are: filters over the text add their tokens."""
    if is_record(text):
        yield from (value for _, value in pairs(text) if value not in text)


def _decoded(found: Iterable[tuple[str, str]], *, is_execve: bool) -> Iterator[tuple[str, str]]:
    for name, value in found:
        if value[:1] in ("'", '"') and value[-1:] == value[:1] and len(value) > 1:
            yield name, value[1:-1]
        elif (name in _UNTRUSTED or (is_execve and _ARGUMENT.match(name))) and _HEX.match(value):
            # The arguments of a process title are parted by NUL.
            yield name, bytes.fromhex(value).decode("utf-8", "replace").rstrip("\0").replace("\0", " ")
        else:
            yield name, value
