"""The parts themselves: what answers is what was started, and it is the same after a restart."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from ashiato.adapters.archive import open_reader, parse_address
from ashiato.adapters.settings import load
from ingest.settings import IngestSettings
from tests.parts.kafka import KafkaPart
from tests.parts.opensearch import OpenSearchPart
from tests.parts.process import PartError
from tests.parts.seaweed import SeaweedPart
from tests.parts.stack import Stack, toml

pytestmark = pytest.mark.live


def test_a_killed_server_comes_back_with_its_port_and_its_data(tmp_path: Path) -> None:
    part = SeaweedPart(tmp_path / "s3")
    part.start()
    try:
        where = part.endpoint_url
        part.client().put_object(Bucket="work", Key="kept", Body=b"bytes")

        part.kill()
        assert not part.running
        part.start()

        assert part.endpoint_url == where
        assert part.client().get_object(Bucket="work", Key="kept")["Body"].read() == b"bytes"
    finally:
        part.kill()


def test_two_of_a_kind_run_side_by_side(kafka: KafkaPart, tmp_path: Path) -> None:
    other = KafkaPart(tmp_path / "kafka")
    other.start()
    try:
        assert kafka.ask(lambda admin: admin.describe_cluster())["cluster_id"] == kafka.cluster_id
        assert other.ask(lambda admin: admin.describe_cluster())["cluster_id"] == other.cluster_id
        assert other.cluster_id != kafka.cluster_id
    finally:
        other.kill()


def test_another_object_over_the_folder_finds_what_runs_there(kafka: KafkaPart) -> None:
    found = KafkaPart(kafka.folder)

    assert found.running
    assert found.bootstrap_servers == kafka.bootstrap_servers


def test_a_stranger_at_our_port_is_not_taken_for_ours(opensearch: OpenSearchPart, tmp_path: Path) -> None:
    ours = OpenSearchPart(tmp_path / "opensearch")
    ours.choose({"http": opensearch.port("http")}, secret="ours")

    with pytest.raises(PartError, match="another OpenSearch answers"):
        ours.start()

    ours.kill()


def test_a_folder_that_other_code_made_is_made_anew(tmp_path: Path) -> None:
    part = SeaweedPart(tmp_path / "s3")
    part.choose({**part.choose_ports(), "s3": 1}, secret="old")
    facts = part.folder / "part.json"
    facts.write_text(facts.read_text(encoding="utf-8").replace('"made_by": "', '"made_by": "another'), encoding="utf-8")

    part.start()
    try:
        assert part.port("s3") > 1
        assert part.secret("x") != "x-old"
    finally:
        part.kill()


def test_a_server_that_cannot_start_says_so_with_its_log(tmp_path: Path) -> None:
    part = SeaweedPart(tmp_path / "s3")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        part.choose({**part.choose_ports(), "volume": taken.getsockname()[1]}, secret="ours")
        part.prepare()

        with pytest.raises(PartError, match="ended while it started"):
            part.start()


def test_a_stack_gives_settings_that_a_service_loads(own_stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "ashiato.toml"
    own = {
        "scratch_dir": str(tmp_path),
        "tail_dir": None,
        "bus": own_stack.bus("ingest"),
        "archive": own_stack.archive("ingest"),
    }
    file.write_text(toml({"ingest": own}), encoding="utf-8")

    settings = load(IngestSettings, service="ingest", file=file, environ={})

    assert settings.bus == own_stack.bus("ingest")
    assert settings.archive == own_stack.archive("ingest")
    assert parse_address(own_stack.address("query")).evidence_bucket == own_stack.buckets.evidence
    assert open_reader(settings.archive).check().locked
