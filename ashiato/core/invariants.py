"""The numbered invariants: one list for tests, production counters and docs.

``check(J3, condition, fact=...)`` refuses with :class:`EvidenceError` and names the number; the telemetry
adapter counts each refusal under that number.
"""

from __future__ import annotations

from dataclasses import dataclass

from ashiato.core.errors import EvidenceError


@dataclass(frozen=True, slots=True)
class Invariant:
    """A number and the sentence that must stay true."""

    number: str
    sentence: str


C1 = Invariant("C1", "offsets held or named in gaps are contiguous for every file from its first byte")
C2 = Invariant("C2", "the bookmark is a contiguous prefix of acknowledged bytes")
C3 = Invariant("C3", "a ledger line is durable before the bookmark passes what it states; no number is used twice")
C4 = Invariant("C4", "a failed frame stops its partition, and all that is unacknowledged is sent again in order")
C5 = Invariant("C5", "a lost bookmark folder is a declared new incarnation of the collector")
C7 = Invariant("C7", "a birth is durable before the file's first frame leaves")
C8 = Invariant("C8", "room for ledger and bookmark is taken beforehand; when it is spent, files go on and births wait")
C9 = Invariant("C9", "per file, what is stated and the open span behind it are exactly what is acknowledged")
P1 = Invariant("P1", "a pack gives back its chunks byte for byte")
I1 = Invariant("I1", "a pack is accepted only when its rows, read back, render every chunk byte for byte")
I2 = Invariant("I2", "memory is bounded whatever the commit's size")
I5 = Invariant("I5", "the indexer starts from the frontier of a commit at or below its position")
J1 = Invariant("J1", "a commit is put if absent under its number, and its act_id tells the winner")
J2 = Invariant("J2", "a lost number is retried blindly only if no winner moved the same partitions")
J3 = Invariant("J3", "txn passes a position only when all below it is in this or an earlier commit")
J4 = Invariant("J4", "bytes below the frontier are dropped only after comparison with the held bytes")
J5 = Invariant("J5", "a bus that does not hold what the journal has read is a new incarnation")
J6 = Invariant("J6", "the oldest version of a commit's object is the commit")
J7 = Invariant("J7", "a Delta checkpoint is opened only where a commit names it; what lies beside the log is not read")
J8 = Invariant("J8", "statistics in commits are of time and counts only")
M1 = Invariant("M1", "the bus forgets a position only after the archive has it")
Q1 = Invariant("Q1", "a query lists the tail before it reads the journal, and drops doubles by uid")
Q2 = Invariant("Q2", "a pack that is gone was removed by the journal, or is an integrity finding")
Q3 = Invariant("Q3", "no pruning step drops a match")
Q4 = Invariant("Q4", "every answer carries a coverage that adds up")
R1 = Invariant("R1", "nothing under hold is deleted")
R2 = Invariant("R2", "nothing is expired before the later of reading and commit time plus its class's minimum")
R4 = Invariant("R4", "no commit refers to a condemned object version")

ALL = {
    invariant.number: invariant
    for invariant in (
        *(C1, C2, C3, C4, C5, C7, C8, C9),
        *(P1, I1, I2, I5),
        *(J1, J2, J3, J4, J5, J6, J7, J8),
        M1,
        *(Q1, Q2, Q3, Q4),
        *(R1, R2, R4),
    )
}


class InvariantError(EvidenceError):
    """An invariant does not hold. ``facts['invariant']`` is its number."""

    code = "invariant"


def check(invariant: Invariant, condition: bool, **facts: object) -> None:  # noqa: FBT001 - reads as a sentence
    """Refuse to go on unless ``condition`` holds.

    Raises:
        InvariantError: naming the invariant; production counts it and stops the act, never drops data.

    """
    if not condition:
        raise InvariantError(f"{invariant.number} violated: {invariant.sentence}", invariant=invariant.number, **facts)
