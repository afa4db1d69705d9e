r"""Docker's json-file lines: ``{"log":"message\n","stream":"stdout","time":"..."}``."""

from __future__ import annotations

from typing import Final

import msgspec

from ashiato.core.render import DOCKER_PARSER
from ingest.parse import lenient
from ingest.parse.fields import Fields
from ingest.parse.times import rfc3339

PARSER: Final = DOCKER_PARSER


class _Line(msgspec.Struct):
    log: str
    stream: str = ""
    time: str = ""


_DECODER: Final = msgspec.json.Decoder(_Line)


def parse(line: bytes) -> Fields | None:
    """Return what a line says, None where it is none.

    A message without a newline is part P: Docker cuts at 16 KiB.
    """
    try:
        said = _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = lenient.convert(line, _Line)
        if found is None:
            return None
        said = found
    time = rfc3339(said.time)
    whole = said.log.endswith("\n")
    return Fields(
        parser=PARSER,
        time_unix_nano=time[0] if time else None,
        time_uncertainty_ns=time[1] if time else None,
        log_iostream=said.stream if said.stream in {"stdout", "stderr"} else None,
        part="F" if whole else "P",
        body=said.log.removesuffix("\n").encode("utf-8", "replace").decode(),
    )
