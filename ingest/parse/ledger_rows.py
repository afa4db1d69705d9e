"""Lines of a node's ledger. A gap becomes a row that is found by the pod that it speaks of."""

from __future__ import annotations

from typing import Final

from ashiato.core import ledger
from ashiato.core.errors import RejectedError
from ashiato.core.ids import Kind, Source
from ashiato.core.record import RowFlags
from ingest.parse.fields import Fields, unix_nano

PARSER: Final = "ledger/1"


def parse(line: bytes) -> Fields | None:
    """Return what a statement says, None where the line is none."""
    try:
        decoded = ledger.decode(line)
    except RejectedError:
        return None
    statement = decoded.statement
    is_gap = isinstance(statement, ledger.Gap)
    type_ = type(statement).__name__.lower()
    fields = Fields(
        parser=PARSER,
        event_name="ashiato.gap" if is_gap else f"ashiato.ledger.{type_}",
        time_unix_nano=unix_nano(decoded.time_unix_nano),
        time_uncertainty_ns=1,
        flags=int(RowFlags.GAP) if is_gap else 0,
    )
    told = ledger.facts_of(statement)["source"]
    try:
        source = Source.parse(told) if told else None
    except RejectedError:
        source = None
    if source is not None and source.kind is Kind.CONTAINER:
        fields.k8s_namespace_name = source.namespace
        fields.k8s_pod_name = source.pod
        fields.k8s_pod_uid = source.pod_uid
        fields.k8s_container_name = source.container
    return fields
