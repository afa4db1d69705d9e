"""What was really written: every life of every log file that ever was, whatever the collector made of it.

All changes of log files go through here, so each is done on the disk and remembered at once. A *life* is one stream of
bytes: it begins with a file, or where a file is truncated, and keeps its bytes when it is renamed, gzipped, or gone.
Every physical line carries a token (writer, stream, sequence number, checksum), by which an oracle counts.
"""

from __future__ import annotations

import errno
import gzip
import os
import re
import zlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from tests.conformance.virtual import VirtualClock

Inode = tuple[int, int]
"""Device and number."""
TOKEN = re.compile(rb"#([\w.-]+)/(\w+)/(\d+)/([0-9a-f]{8})#")


@dataclass(slots=True, kw_only=True, eq=False)
class Life:
    """One stream of bytes, from its first byte to its end."""

    path: str
    """At which it began."""
    inodes: list[tuple[int, Inode]]
    """Where it lay, each from when on (ns of the boot clock)."""
    content: bytearray = field(default_factory=bytearray)
    paths: set[str] = field(default_factory=set)
    growth: list[tuple[int, int]] = field(default_factory=list)
    """(ns, size), at each write."""
    began_ns: int = 0
    gone_ns: int = -1
    """When its last name went, or its bytes were cut off; -1 while it lies on the disk."""
    truncated: bool = False
    copy_of: Life | None = None
    """It began with the bytes of this one."""
    copied_bytes: int = 0

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]

    def written_ns(self, offset: int) -> int:
        """Return when the byte at an offset was there."""
        return next((at for at, size in self.growth if size > offset), self.began_ns)

    @property
    def filled_ns(self) -> int:
        """When its first byte was there."""
        return next((at for at, size in self.growth if size), self.began_ns)


@dataclass(slots=True, kw_only=True, eq=False)
class Pen:
    """A writer's open file, whatever the file is called by now."""

    truth: Truth
    descriptor: int
    inode: Inode
    appends: bool = True

    def write(self, data: bytes) -> None:
        """Append as a container runtime does, or write behind what was written (a writer without O_APPEND)."""
        life = self.truth.life_of(self.inode)
        at = os.fstat(self.descriptor).st_size if self.appends else os.lseek(self.descriptor, 0, os.SEEK_CUR)
        written = os.write(self.descriptor, data)
        if at > len(life.content):
            life.content += bytes(at - len(life.content))
        life.content[at : at + written] = data[:written]
        self.truth.grew(life)

    def close(self) -> None:
        os.close(self.descriptor)
        self.truth.pens.remove(self)


@dataclass(slots=True, kw_only=True)
class Truth:
    """Every life, and the operations that change files."""

    clock: VirtualClock
    root: Path
    """What lies below may be seen by a collector."""
    lives: list[Life] = field(default_factory=list)
    pens: list[Pen] = field(default_factory=list)
    _present: dict[Inode, Life] = field(default_factory=dict)
    _numbers: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))

    # -- lines -----------------------------------------------------------------------------------------------

    def line(self, writer: str, stream: str = "stdout", part: str = "F", *, width: int = 40) -> bytes:
        """Return the next physical CRI line of a writer, as containerd renders it (zeros of the time trimmed)."""
        self._numbers[writer, stream] += 1
        number = self._numbers[writer, stream]
        address = f"{writer}/{stream}/{number}"
        token = f"#{address}/{zlib.crc32(address.encode()):08x}#".encode()
        seconds, ns = divmod(self.clock.now_unix_nano(), 1_000_000_000)
        time = f"2026-11-24T10:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{ns:09d}".rstrip("0").rstrip(".")
        return f"{time}Z {stream} {part} ".encode() + token + b"x" * max(0, width - len(token)) + b"\n"

    def lines(self, writer: str, count: int, stream: str = "stdout", *, width: int = 40) -> bytes:
        return b"".join(self.line(writer, stream, width=width) for _ in range(count))

    # -- files -----------------------------------------------------------------------------------------------

    def open(self, path: Path, *, appends: bool = True) -> Pen:
        """Open for writing, as a runtime does: made where it is not there."""
        is_new = not path.exists()
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if appends else 0), 0o640)
        inode = _inode(path)
        if is_new:
            self._begin(path, inode)
            self._stamp(path.parent)
        pen = Pen(truth=self, descriptor=descriptor, inode=inode, appends=appends)
        if not appends:
            os.lseek(descriptor, 0, os.SEEK_END)
        self.pens.append(pen)
        return pen

    def append(self, path: Path, data: bytes) -> None:
        """Open, write, close."""
        pen = self.open(path)
        pen.write(data)
        pen.close()

    def rename(self, path: Path, to: Path) -> None:
        """Rename; what stood at ``to`` loses its name, as in two rotations within one second."""
        if to.exists():
            self._lost_name(to)
        life = self.life_of(_inode(path))
        path.rename(to)
        self._stamp(path.parent, to.parent)
        life.paths.discard(str(path))
        if self.root in to.parents:
            life.paths.add(str(to))
        elif not life.paths:
            life.gone_ns = self._now()

    def unlink(self, path: Path) -> None:
        self._lost_name(path)
        path.unlink()
        self._stamp(path.parent)

    def remove_all(self, folder: Path) -> None:
        """As ``os.RemoveAll``: every file and folder below, then the folder."""
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            elif path.is_symlink():
                path.unlink()
            else:
                self.unlink(path)
        folder.rmdir()
        self._stamp(folder.parent)

    def truncate(self, path: Path) -> None:
        """Cut to nothing: the same inode is another life, unless it was empty."""
        inode = _inode(path)
        before = self.life_of(inode)
        if not before.content:
            return
        os.truncate(path, 0)
        before.gone_ns, before.truncated = self._now(), True
        before.paths.clear()
        self._begin(path, inode)

    def overwrite(self, path: Path, data: bytes) -> None:
        """Write anew from the first byte, never shorter in between: another life of the same inode."""
        inode = _inode(path)
        before = self.life_of(inode)
        before.gone_ns, before.truncated = self._now(), True
        before.paths.clear()
        assert len(data) >= len(before.content)
        with path.open("r+b") as file:
            file.write(data)
        life = self._begin(path, inode)
        life.content += data
        self.grew(life)

    def copy(self, path: Path, to: Path) -> Life:
        """Copy, as logrotate's copytruncate does: another inode with the same bytes."""
        before = self.life_of(_inode(path))
        data = path.read_bytes()
        to.write_bytes(data)
        self._stamp(to.parent)
        life = self._begin(to, _inode(to))
        life.content += data
        life.copy_of, life.copied_bytes = before, len(data)
        self.grew(life)
        return life

    def compress(self, path: Path) -> Path:
        """Gzip through ``.tmp`` and two renames, as kubelet does: the same life in another inode."""
        temporary = self.compress_begin(path)
        return self.compress_end(path, temporary)

    def compress_begin(self, path: Path) -> Path:
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_bytes(gzip.compress(path.read_bytes(), compresslevel=1))
        return temporary

    def compress_end(self, path: Path, temporary: Path) -> Path:
        """Rename, then remove the plain file, whatever was written to it meanwhile."""
        to = path.with_name(path.name + ".gz")
        kept = len(gzip.decompress(temporary.read_bytes()))
        life = self.life_of(_inode(path))
        if to.exists():
            self._lost_name(to)
        temporary.rename(to)
        self._stamp(to.parent)
        inode = _inode(to)
        if kept == len(life.content):
            life.inodes.append((self._now(), inode))
            life.paths.add(str(to))
            self._present[inode] = life
        else:
            packed = self._begin(to, inode)
            packed.content += life.content[:kept]
            packed.copy_of, packed.copied_bytes = life, kept
        self.unlink(path)
        return to

    def tokens(self) -> Counter[bytes]:
        """Return every line that was written whole, and in how many lives it lies."""
        return Counter(token[0] for life in self.lives for token in TOKEN.finditer(life.content))

    # -- looking ---------------------------------------------------------------------------------------------

    def life_of(self, inode: Inode) -> Life:
        """Return what an inode holds now."""
        if inode not in self._present:
            raise OSError(errno.ENOENT, f"nobody wrote inode {inode}")
        return self._present[inode]

    def at(self, path: Path) -> Life:
        return self.life_of(_inode(path))

    def of_inode(self, inode: Inode, boot_ns: int) -> list[Life]:
        """Return the life that lay in an inode at a time, and those that came after it there."""
        begun = sorted((at, n) for n, life in enumerate(self.lives) for at, i in life.inodes if i == inode)
        first = max((n for n, (at, _) in enumerate(begun) if at <= boot_ns), default=None)
        return [] if first is None else [self.lives[n] for _, n in begun[first:]]

    def before(self, life: Life) -> Life | None:
        """Return the life that ended in the same inode where this one began, if it was cut off."""
        inode = life.inodes[0][1]
        ended = [one for one in self.lives if one.truncated and one.inodes[-1][1] == inode]
        ended = [one for one in ended if one.began_ns < life.began_ns]
        return ended[-1] if ended and life.gone_ns >= 0 else None

    def grew(self, life: Life) -> None:
        life.growth.append((self._now(), len(life.content)))

    def close(self) -> None:
        for pen in list(self.pens):
            pen.close()

    def _begin(self, path: Path, inode: Inode) -> Life:
        life = Life(path=str(path), inodes=[(self._now(), inode)], began_ns=self._now(), paths={str(path)})
        self.lives.append(life)
        self._present[inode] = life
        return life

    def _stamp(self, *folders: Path) -> None:
        """Let folders say that they changed: the kernel's own stamps have steps, in which a virtual minute passes."""
        for folder in folders:
            for at in (folder, *folder.parents):
                if at.is_relative_to(self.root) and at.exists():
                    now = self._now() + self.clock.began_unix_nano
                    os.utime(at, ns=(now, now))

    def _lost_name(self, path: Path) -> None:
        if (life := self._present.get(_inode(path))) is None:
            return
        life.paths.discard(str(path))
        if not life.paths:
            life.gone_ns = self._now()

    def _now(self) -> int:
        """Return the time; no two things happen at the same one."""
        self.clock.passed_ns += 1
        return self.clock.monotonic_nano()


def _inode(path: Path) -> Inode:
    stat = path.lstat()
    return stat.st_dev, stat.st_ino
