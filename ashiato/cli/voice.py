"""What the command says to a person, on stderr: stdout belongs to answers. No terminal obeys what is quoted in it."""

from __future__ import annotations

import re
import sys
from typing import Final

_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
"""Controls, line ends, changes of direction, and what cannot be printed. A tab may stand."""


def say(sentence: str) -> None:
    """Tell a person what happens."""
    print(f"ashiato: {safe(sentence)}", file=sys.stderr, flush=True)  # noqa: T201 - the voice of the command


def safe(text: str) -> str:
    """Return text that no terminal obeys and that stays on its line: what is not for reading is written out."""
    return _UNSAFE.sub(_written_out, text)


def _written_out(match: re.Match[str]) -> str:
    code = ord(match[0])
    if match[0] == "\n":
        return "\\n"
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
