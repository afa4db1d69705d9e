"""Every bound in one place, each with its unit and its reason."""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB

CHUNK_BYTES_TARGET = 256 * KIB
"""A chunk is cut at the last newline below this: large enough for zstd, small enough for latency."""

CHUNK_AGE_NS_MAX = 300_000_000
"""A chunk leaves at most this long after its first byte was seen (300 ms)."""

LINE_CUT_BYTES = 512 * KIB
"""A longer line is cut at each whole multiple, so that a piece fits Kafka's default 1 MiB even uncompressed."""

CHUNK_BYTES_MAX = LINE_CUT_BYTES
"""No chunk is longer; a receiver refuses one that is."""

CHUNK_OWN_BLOCK_BYTES = 32 * KIB
"""Chunks above this are compressed on their own inside a frame, so that a receiver may hold them compressed."""

FRAME_BYTES_MAX = 960 * KIB
"""One frame stays below Kafka's default ``message.max.bytes`` (1,048,588) with room for the record's header."""

FRAME_RAW_BYTES_TARGET = 768 * KIB
"""Raw bytes gathered before a frame leaves."""

FRAME_RAW_BYTES_MAX = 64 * MIB
"""A receiver refuses to open a frame that says it holds more: its rows stand in memory at once."""

FRAME_CHUNKS_MAX = 4096
"""Chunks in one frame."""

UNTERMINATED_IDLE_NS = 60_000_000_000
"""An unterminated end of a file is shipped, flagged, when the file has been still this long (60 s)."""

JOIN_BODY_BYTES_MAX = 1 * MIB
"""A join of CRI parts closes at the part where its body passes this."""

COMMIT_RAW_BYTES = 64 * MIB
"""A commit is made at this many raw bytes ..."""

COMMIT_AGE_NS = 900_000_000_000
"""... or at this age (15 minutes), whichever is first."""

ROW_GROUP_BYTES = 4 * MIB
"""Raw bytes per row group: about 16-32 thousand log lines."""

PACK_RAW_BYTES_MAX = 512 * MIB
"""Raw bytes in one pack at the most."""

TAIL_SEGMENT_AGE_NS = 500_000_000
"""A tail segment is published at most this long after its first chunk arrived."""

BEAT_INTERVAL_NS = 30_000_000_000
"""A ledger beat is written this often, empty or not: silence is evidence too."""

NODE_SILENT_NS = 120_000_000_000
"""A node of which nothing has come for so long is called silent: four beats and their way to the archive."""

SPAN_BYTES_MAX = 4 * MIB
"""A span of a file is stated at this many bytes at the most, while the ledger can be written ..."""

SPAN_CUT_BYTES = SPAN_BYTES_MAX - 2 * (FRAME_RAW_BYTES_TARGET + CHUNK_BYTES_TARGET)
"""... so it is cut two frames before: one is on its way, and one passes what may have been sent before a crash."""

SPAN_SENT_BYTES = FRAME_RAW_BYTES_TARGET + CHUNK_BYTES_TARGET
"""What one frame holds of one file at the most: as much may be sent and not acknowledged."""

SPAN_INTERVAL_NS = 30_000_000_000
"""... or at this age (30 s): as much of a file is sent again after a crash."""

STATE_RESERVE_BYTES = 4 * MIB
"""Room taken beforehand for each of ledger and bookmark: 500 busy files state about 8 KB/s, a quiet node 0.1."""

TAIL_SEGMENT_RAW_BYTES = 4 * MIB
"""Raw bytes in one tail segment, about: its rows stand in memory at once."""

TAIL_BEHIND_NS = 2_000_000_000
"""Where the bus has more to read, what a node read before this long is left to the next commit (2 s)."""

BATCH_HELD_BYTES_MAX = 64 * MIB
"""Memory that admitted bytes may take, compressed where they came so; a commit is made early where it is reached."""

FRONTIER_ACTIVE_FILES_MAX = 4096
"""Closed and idle files beyond this move from the frontier to content-addressed pages."""

FRONTIER_IDLE_NS = 86_400_000_000_000
"""A file that nothing came of for this long moves to a page like a closed one (a day)."""

FRONTIER_RANGES_MAX = 16
"""Pack ranges remembered per file for comparing what is sent again (J4); an older range cannot be compared."""

COMMIT_ATTEMPTS_MAX = 1000
"""Numbers lost in a row before an archiver stops with an error instead of spinning."""

QUERY_ROWS_MAX = 100_000
"""Rows in one answer; the answer says when it was cut."""

QUERY_BYTES_MAX = 64 * MIB
"""Row data in one answer (``core.table.row_bytes``): 100,000 rows of 1.5 KB took 611 MB; the answer says when cut."""

LOGS_BYTES_MAX = 256 * MIB
"""Row data of one container's restart, and of what the engine asks for itself: kubelet keeps 10 MiB times five."""

PACK_NAME_BYTES = 32
"""Random bytes in a pack's metadata, so that its digest outlives deleted bytes without telling them."""

EXPIRE_PACKS_MAX = 5000
"""Packs removed by one commit, so that a commit stays below a few MB; the next one takes the rest."""

FILTERS_KEPT_BYTES = 64 * MIB
"""Token filters that a query service keeps in memory: those of about 2,300 MiB of raw logs."""

PACKS_PLANNED_MAX = 32
"""Packs whose manifests and filters are fetched at once where a search finds nothing in the ones before."""
