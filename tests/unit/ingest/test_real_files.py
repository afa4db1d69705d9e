"""Every file of the recorded incident, and of a folder of real logs where one is named, comes back byte for byte."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ashiato import demo
from ashiato.core.layout import recognise
from ashiato.core.limits import CHUNK_BYTES_TARGET, LINE_CUT_BYTES
from tests.unit.ingest.files import admitted, chunks
from tests.unit.ingest.packs import build_pack, bytes_by_file

INCIDENT = Path(demo.__file__).parent / "incident"
REAL = os.environ.get("ASHIATO_DATA", "")


def _files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file() and path.stat().st_size < 64 << 20)


def _cuts(content: bytes) -> Iterator[int]:
    """Yield offsets at which a collector cuts: behind the last newline that fits, else in a line that is too long."""
    at = 0
    while at < len(content):
        end = content.rfind(b"\n", at, at + CHUNK_BYTES_TARGET) + 1
        if not end:
            newline = content.find(b"\n", at, at + LINE_CUT_BYTES) + 1
            end = newline or min(at + LINE_CUT_BYTES, len(content))
        yield end
        at = end


def _comes_back(path: Path, root: Path, folder: Path) -> int:
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    if not content:
        return 0
    found = recognise(path.relative_to(root).as_posix(), cluster="c1", node="node-1", head=content[:65536])
    pieces = admitted(chunks(content, _cuts(content), source=found.source, closed=True))
    pack, _ = build_pack(folder, pieces)
    assert pack is not None
    assert list(bytes_by_file(pack).values()) == [content], path
    assert pack.manifest.raw_bytes == len(content)
    return pack.quarantined_rows


@pytest.mark.parametrize("path", _files(INCIDENT), ids=lambda path: path.relative_to(INCIDENT).as_posix())
def test_a_file_of_the_incident_comes_back(path: Path, tmp_path: Path) -> None:
    quarantined = _comes_back(path, INCIDENT, tmp_path)
    if path.suffix in (".log", ".jsonl"):
        assert quarantined == 0


def test_every_file_of_a_folder_of_real_logs_comes_back(tmp_path: Path) -> None:
    if not REAL:
        pytest.skip("ASHIATO_DATA names no folder of real logs")
    paths = _files(Path(REAL))
    assert paths
    for number, path in enumerate(paths):
        _comes_back(path, Path(REAL), tmp_path / str(number))
