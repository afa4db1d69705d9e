"""The archive is a Delta Lake table: engines that never heard of us read what the archiver wrote."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import polars as pl
import pytest
from deltalake import DeltaTable

from ashiato.adapters.archive_directory import DirectoryWriter
from ashiato.core.ids import TOPIC_BULK
from ashiato.core.journal import AddedPack
from ashiato.core.record import COLUMNS
from tests.simulation.delta_archive import DeltaArchive, build
from tests.simulation.house import read_pack


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> DeltaArchive:
    return build(tmp_path_factory.mktemp("delta"))


def _table(made: DeltaArchive) -> DeltaTable:
    return DeltaTable(str(made.table))


def _epoch(day: int) -> int:
    return int(datetime(2026, 11, day, tzinfo=UTC).timestamp()) * 1_000_000_000


def test_the_version_of_the_table_is_the_newest_commit(made: DeltaArchive) -> None:
    assert _table(made).version() == made.state.next_n - 1
    assert made.state.next_n >= 6


def test_the_files_of_the_table_are_the_live_packs_at_hive_style_paths(made: DeltaArchive) -> None:
    table = _table(made)
    assert sorted(table.file_uris()) == sorted(str(made.table / path) for path in made.state.packs)
    assert {path.split("/")[0] for path in made.state.packs} == {
        "retention_class=audit",
        "retention_class=container",
    }
    assert not any(path in made.state.packs for path in made.state.removed)


def test_j3_a_partitions_position_is_the_transaction_version_of_its_application(made: DeltaArchive) -> None:
    table = _table(made)
    assert made.state.positions
    for txn in made.state.positions.values():
        assert txn.app_id.startswith("bus:bus/")
        assert table.transaction_version(txn.app_id) == txn.next
    assert table.transaction_version(f"bus:other#0:{TOPIC_BULK}:0") is None


def test_the_rows_of_the_table_are_the_rows_of_the_live_packs(made: DeltaArchive) -> None:
    rows = _table(made).to_pyarrow_dataset().to_table()
    assert rows.num_rows == sum(pack.rows for pack in made.state.packs.values()) == made.live_lines
    assert {column.name for column in COLUMNS} <= set(rows.column_names)
    assert any("GET /cart/" in (body or "") for body in rows["body"].to_pylist())


def test_a_day_and_a_class_prune_files_by_partition_values_alone(made: DeltaArchive) -> None:
    table = _table(made)
    chosen = table.file_uris(file_pruning_predicate=[("day", "=", "2026-11-24"), ("retention_class", "=", "container")])
    expected = [
        pack.path
        for pack in made.state.packs.values()
        if (pack.day, pack.retention_class) == ("2026-11-24", "container")
    ]
    assert sorted(chosen) == sorted(str(made.table / path) for path in expected)
    assert 0 < len(expected) < len(made.state.packs)


def test_a_time_range_prunes_files_by_the_statistics_of_the_commits(made: DeltaArchive) -> None:
    # given the statistics as a foreign engine sees them
    actions = pl.Series(pl.from_arrow(_table(made).get_add_actions(flatten=True))).to_list()
    by_path = {row["path"]: row for row in actions}
    # then they are those of the packs, and bound every event time in them
    for pack in made.state.packs.values():
        row = by_path[pack.path]
        assert row["num_records"] == pack.rows
        assert row["min.time_unix_nano"] == pack.time_min_unix_nano
        assert row["max.time_unix_nano"] == pack.time_max_unix_nano
        _assert_bounds(made, pack)
    # and the engine itself leaves out the packs of the other day
    late = _table(made).file_uris(file_pruning_predicate=f"time_unix_nano >= {_epoch(24)}")
    assert sorted(late) == sorted(
        str(made.table / pack.path) for pack in made.state.packs.values() if pack.time_max_unix_nano >= _epoch(24)
    )
    assert 0 < len(late) < len(by_path)


def _assert_bounds(made: DeltaArchive, pack: AddedPack) -> None:
    times = [time for time in read_pack(DirectoryWriter(made.root), pack)["time_unix_nano"].to_pylist() if time]
    assert times
    assert pack.time_min_unix_nano <= min(times)
    assert max(times) <= pack.time_max_unix_nano


def test_the_history_shows_our_acts_beside_the_archiving(made: DeltaArchive) -> None:
    history = sorted(_table(made).history(), key=lambda entry: entry["version"])
    operations = [entry["operation"] for entry in history]
    assert operations[0] == "CREATE"
    assert operations[-2:] == ["EXPIRE", "HOLD"]
    assert operations.count("ARCHIVE") == made.state.next_n - 3
    hold = history[-1]
    assert hold["operationParameters"]["hold"] == "case-7"
    assert hold["ashiato"]["kind"] == "hold"
    assert [entry["version"] for entry in history] == list(range(made.state.next_n))


def test_an_older_version_of_the_table_still_names_what_was_expired_later(made: DeltaArchive) -> None:
    before = DeltaTable(str(made.table), version=made.state.next_n - 3)
    assert len(before.file_uris()) == len(made.state.packs) + len(made.state.removed)


def test_polars_counts_filters_and_sees_partition_values(made: DeltaArchive) -> None:
    scan = pl.scan_delta(str(made.table))
    assert scan.select(pl.len()).collect().item() == made.live_lines
    per_class = dict(scan.group_by("retention_class").len().collect().iter_rows())
    assert per_class == made.lines_per_class
    late = scan.filter(pl.col("time_unix_nano") >= _epoch(24)).select(pl.len()).collect().item()
    assert late == made.lines_per_day["2026-11-24"]
    pods = scan.filter(pl.col("retention_class") == "container").select(pl.col("k8s_pod_name").unique()).collect()
    assert pods["k8s_pod_name"].null_count() == 0
    assert None not in scan.select(pl.col("day").unique()).collect()["day"].to_list()


def test_every_column_of_a_row_has_its_type_in_the_tables_schema(made: DeltaArchive) -> None:
    schema = msgspec.json.decode(_table(made).schema().to_json())
    told = {field["name"]: field["type"] for field in schema["fields"]}
    names = {"string": "string", "int32": "integer", "int64": "long", "binary": "binary"}
    assert {column.name: names[column.type] for column in COLUMNS} == {
        name: kind for name, kind in told.items() if name not in ("retention_class", "day")
    }
    assert _table(made).metadata().partition_columns == ["retention_class", "day"]
