"""What the ledger of the shipping node learns from lines of the watch."""

from __future__ import annotations

import msgspec

from collector.crosschecks import CrossChecks, Passed, is_watched
from collector.watch.lines import gap_line
from collector.watch.notices import watch_notices
from collector.watch.resources import resource_of

SOURCE = "watch/c/n1/var/log/ashiato/watch/watch.jsonl"
GAP = gap_line(resource_of("pods"), reason="expired", start=10, end=20)
OTHER = b'{"type":"SYNC","object":{"kind":"Sync"}}\n'


def test_a_gap_that_the_watch_states_is_stated_by_the_node_that_ships_it() -> None:
    checks = CrossChecks({}, (), ())
    assert is_watched(SOURCE)

    checks.passed(Passed(source=SOURCE, file_id="F", offset_start=100, payload=OTHER + GAP + GAP), 0)

    one, other = checks.due
    assert (one.source, one.reason, one.file_id) == (SOURCE, "lost_upstream", "F")
    assert (one.time_start_unix_nano, one.time_end_unix_nano) == ("10", "20")
    assert one.detail == f"the watch of pods did not see all (expired) (byte {100 + len(OTHER)})"
    assert other.detail.endswith(f"(byte {100 + len(OTHER) + len(GAP)})")


def test_a_pod_that_quotes_a_gap_states_none() -> None:
    quoted = msgspec.json.encode({"type": "ADDED", "object": {"message": GAP.decode()}}) + b"\n"
    bad = GAP.replace(b'"20"', b'"y"')
    back = gap_line(resource_of("pods"), reason="expired", start=20, end=10)

    assert watch_notices(0, quoted + bad + back + b'{"type":"GAP"' + b"\n" + b'{"type":"GAP","obj') == []
