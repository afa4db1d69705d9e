"""Apache Spark reads an archive that our own journal code wrote: counts, pruned filters, partitions, history."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.parts.artifacts import jars, java
from tests.simulation.delta_archive import build

SPARK = (
    "org.apache.spark:spark-sql_2.13:4.0.1",
    "io.delta:delta-spark_2.13:4.0.0",
    # Spark 4.0's own Hadoop asks for the security manager, which Java 24 took away.
    "org.apache.hadoop:hadoop-client-api:3.5.0",
    "org.apache.hadoop:hadoop-client-runtime:3.5.0",
)
_OPENED = (
    "java.lang", "java.lang.invoke", "java.io", "java.net", "java.nio", "java.util", "java.util.concurrent",
    "sun.nio.ch", "sun.nio.cs", "sun.security.action", "sun.util.calendar",
)  # fmt: skip
_SPARK_SECONDS_MAX = 240
_MIDNIGHT_24_UNIX_NANO = 1_795_478_400_000_000_000

pytestmark = pytest.mark.live


def test_spark_counts_prunes_and_shows_the_history_of_an_archive(tmp_path: Path) -> None:
    # given an archive of two days with an expiry and a hold
    made = build(tmp_path)
    # when Spark reads its folder as a Delta table
    command = [
        str(java()), "-Xmx700m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
        *(f"--add-opens=java.base/{name}=ALL-UNNAMED" for name in _OPENED),
        "-cp", f"{jars('spark', SPARK)}/*", str(Path(__file__).with_name("SparkReads.java")),
        str(made.table), str(_MIDNIGHT_24_UNIX_NANO), str(tmp_path / "spark"),
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_SPARK_SECONDS_MAX, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    # then it sees what the journal says
    assert seen["rows"] == made.live_lines
    assert seen["late"] == made.lines_per_day["2026-11-24"]
    assert seen["pods"] == 2
    assert sum(seen["partitions"].values()) == made.live_lines
    assert set(seen["partitions"]) == {f"{p.retention_class}/{p.day}" for p in made.state.packs.values()}
    assert seen["history"] == {"CREATE": 1, "ARCHIVE": made.state.next_n - 3, "EXPIRE": 1, "HOLD": 1}
