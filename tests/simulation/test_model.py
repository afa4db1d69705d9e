"""Every interleaving in small bounds: archivers, zombies, crashes, lost replies, resends, a bus that forgets or is new.

After every step: what a commit passes is held (J3), no byte is held twice, the journal folds (J1-J5, R4), the bus
forgot nothing that no commit has (M1). Where nothing more can happen, every byte that was sent is held.
"""

from __future__ import annotations

import pytest

from ashiato.core import journal
from ashiato.core.journal import Commit, JournalState, Verdict
from tests.simulation.model import LINE, Bounds, Model, Rules
from tests.simulation.world import Sent

STATES_MAX = 250_000

# A resend of the same file with other borders, in one partition.
RESENT = (Sent(0, 0, 2 * LINE), Sent(0, 0, 3 * LINE))
# Two files in two partitions.
APART = (Sent(0, 0, 2 * LINE), Sent(1, 0, LINE))
# Both.
MIXED = (Sent(0, 0, 2 * LINE), Sent(1, 0, LINE), Sent(0, 0, 3 * LINE))
# A part of a file that comes before what lies in front of it, and then everything.
EARLY = (Sent(0, LINE, 2 * LINE), Sent(0, 0, 3 * LINE))


@pytest.mark.parametrize(
    ("model", "states_min"),
    [
        pytest.param(Model(script=MIXED), 10_000, id="two archivers"),
        pytest.param(Model(script=RESENT, archivers=3), 5_000, id="three archivers, one partition"),
        pytest.param(Model(script=APART, archivers=3), 20_000, id="three archivers, two partitions"),
        pytest.param(Model(script=EARLY, bounds=Bounds(crashes=1)), 1_000, id="bytes that come early"),
        pytest.param(
            Model(script=RESENT, bounds=Bounds(crashes=1, lost_replies=1)), 5_000, id="a crash and a lost reply"
        ),
        pytest.param(Model(script=APART, bounds=Bounds(crashes=1)), 5_000, id="a crash between two partitions"),
        pytest.param(Model(script=APART, bounds=Bounds(lost_replies=2)), 3_000, id="two lost replies"),
        pytest.param(Model(script=MIXED, bounds=Bounds(frees=True)), 20_000, id="a bus that forgets"),
        pytest.param(Model(script=RESENT, bounds=Bounds(renewals=1, frees=True)), 50_000, id="a bus that is made anew"),
        pytest.param(
            Model(script=RESENT, bounds=Bounds(condemnations=1, holds=1)), 5_000, id="retention condemns and holds"
        ),
    ],
)
def test_j1_to_j5_hold_in_every_interleaving(model: Model, states_min: int) -> None:
    states, wrong = model.search(states_max=STATES_MAX)
    assert wrong == ""
    # a search that visits little proves little
    assert states >= states_min


def _never_rebuilds(_mine: Commit, _winner: Commit) -> Verdict:
    return Verdict.TRY_NEXT


def _ignores_condemned(mine: Commit, winner: Commit) -> Verdict:
    return Verdict.TRY_NEXT if winner.condemned else journal.after_loss(mine, winner)


def _never_overtaken(_state: JournalState, _mine: Commit) -> bool:
    return False


@pytest.mark.parametrize(
    ("mutant", "found"),
    [
        pytest.param(
            Model(script=RESENT, rules=Rules(after_loss=_never_rebuilds)), "J3 violated", id="the loser never rebuilds"
        ),
        pytest.param(
            Model(script=APART, rules=Rules(overtaken=_never_overtaken)),
            "J3 violated",
            id="the next batch does not look at what was folded in",
        ),
        pytest.param(
            Model(
                script=APART, archivers=1, bounds=Bounds(lost_replies=1, holds=1), rules=Rules(trusts_the_number=True)
            ),
            "lost for good",
            id="a taken number is taken for the own one",
        ),
        pytest.param(
            Model(script=RESENT, rules=Rules(puts_first=False)), "not there", id="the commit goes before its packs"
        ),
        pytest.param(Model(script=RESENT, rules=Rules(trims=False)), "doubled", id="what came again is not trimmed"),
        pytest.param(
            Model(script=RESENT, bounds=Bounds(frees=True), rules=Rules(frees_ahead=1)),
            "the bus forgot",
            id="the bus forgets past the commit",
        ),
        pytest.param(
            Model(script=RESENT, bounds=Bounds(condemnations=1), rules=Rules(after_loss=_ignores_condemned)),
            "R4 violated",
            id="the loser does not look at what was condemned",
        ),
    ],
)
def test_a_mutant_of_a_rule_is_found_by_its_violation(mutant: Model, found: str) -> None:
    _, wrong = mutant.search(states_max=STATES_MAX)
    assert found in wrong


def test_j3_without_the_frontier_that_a_txn_follows_bytes_would_be_doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    # given a journal that neither looks before nor refuses after
    monkeypatch.setattr(JournalState, "_verify_move", lambda *_: None)
    mutant = Model(script=APART, rules=Rules(overtaken=_never_overtaken))
    # then an archiver that lost a number to a mover of another partition archives that partition's records again
    _, wrong = mutant.search(states_max=STATES_MAX)
    assert "doubled" in wrong


def test_m1_a_bus_that_forgets_the_record_before_the_commit_costs_a_scan_and_no_byte() -> None:
    model = Model(script=RESENT, bounds=Bounds(frees=True, crashes=1), rules=Rules(frees_ahead=0))
    _, wrong = model.search(states_max=STATES_MAX)
    assert wrong == ""
