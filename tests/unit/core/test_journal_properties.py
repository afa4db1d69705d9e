"""What the journal promises for every commit: bytes give it back, a verdict depends on what happened alone."""

from __future__ import annotations

from dataclasses import replace

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from ashiato.core import journal
from ashiato.core.journal import AddedPack, Commit, Condemned, FrontierRef, PageRef, RemovedPack, Txn, Verdict
from tests.unit.core.commits import commit, created

_NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
_HEX = st.text("0123456789abcdef", min_size=64, max_size=64)
_ACTS = st.text("0123456789abcdef", min_size=32, max_size=32)
_TIMES = st.integers(0, (1 << 63) - 1)
_COUNTS = st.integers(0, (1 << 62))
_DAYS = st.dates().map(lambda day: day.isoformat())

_FRONTIERS = st.builds(
    FrontierRef, path=_NAMES, version_id=_NAMES, sha256=_HEX,
    new_pages=st.lists(st.builds(PageRef, path=_NAMES, version_id=_NAMES), max_size=2).map(tuple),
)  # fmt: skip
_TXNS = st.builds(
    Txn, topic=st.sampled_from(["ashiato.bulk", "ashiato.priority"]), partition=st.integers(0, 3),
    incarnation=st.builds("{}#{}".format, _NAMES, st.integers(0, 9)), next=_COUNTS, frontier=_FRONTIERS,
    follows=st.just("") | _HEX,
)  # fmt: skip
_PACKS = st.builds(
    AddedPack, path=_NAMES, version_id=_NAMES, sha256=_HEX, size=_COUNTS, rows=_COUNTS, raw_bytes=_COUNTS,
    retention_class=_NAMES, day=_DAYS, time_min_unix_nano=_TIMES, time_max_unix_nano=_TIMES,
    observed_min_unix_nano=_TIMES, observed_max_unix_nano=_TIMES, manifest_path=_NAMES,
    manifest_version_id=_NAMES, manifest_sha256=_HEX,
)  # fmt: skip
_REMOVED = st.builds(RemovedPack, path=_NAMES, version_id=_NAMES, retention_class=_NAMES, day=_DAYS, size=_COUNTS)
_CONDEMNED = st.builds(Condemned, bucket=st.sampled_from(["evidence", "work"]), path=_NAMES, version_id=_NAMES)


@st.composite
def commits(draw: st.DrawFn, kind: str | None = None) -> Commit:
    n, time = draw(st.integers(0, 10**20 - 1)), draw(_TIMES)
    adds = [replace_commit(pack, n, time) for pack in draw(st.lists(_PACKS, max_size=3))]
    return Commit(
        n=n, act_id=draw(_ACTS), kind=kind or draw(st.sampled_from(journal.ACT_KINDS)), actor=draw(_NAMES),
        time_unix_nano=time, txns=tuple(draw(st.lists(_TXNS, max_size=3, unique_by=lambda moved: moved.where))),
        adds=tuple(adds), removes=tuple(draw(st.lists(_REMOVED, max_size=2))),
        condemned=tuple(draw(st.lists(_CONDEMNED, max_size=2))),
        facts=draw(st.dictionaries(_NAMES, _NAMES, max_size=3)),
        activates=draw(
            st.dictionaries(st.builds("{}:{}".format, st.sampled_from(["t", "a:b"]), st.integers(0, 3)), _COUNTS)
        ),
    )  # fmt: skip


def replace_commit(pack: AddedPack, n: int, time: int) -> AddedPack:
    return msgspec.structs.replace(pack, commit=n, commit_time_unix_nano=time)


@given(commits())
def test_the_bytes_of_a_commit_give_it_back(whole: Commit) -> None:
    content = journal.encode(whole)
    assert journal.decode(content, whole.n) == whole
    # canonical: what was read is written the same way, and every line is one JSON object
    assert journal.encode(journal.decode(content, whole.n)) == content
    assert all(isinstance(msgspec.json.decode(line), dict) for line in content.splitlines())


@given(commits(kind="archive"), commits())
def test_j2_a_verdict_is_rebuild_exactly_where_something_of_mine_was_touched(mine: Commit, winner: Commit) -> None:
    moved = {where.where for where in mine.txns} & {where.where for where in winner.txns}
    gone = {(item.bucket, item.path, item.version_id) for item in winner.condemned} & set(mine.refers_to())
    inside = [
        name
        for name, position in winner.activates.items()
        for own in mine.txns
        if name == f"{own.topic}:{own.partition}" and position < own.next
    ]
    expected = Verdict.REBUILD if moved or gone or inside else Verdict.TRY_NEXT
    assert journal.after_loss(mine, winner) is expected


@given(commits(kind="archive"), st.data())
def test_j2_touching_anything_of_mine_has_me_build_again(mine: Commit, data: st.DataObject) -> None:
    referred = sorted(mine.refers_to())
    touches = [commit(mine.n, act="w", txns=(own,)) for own in mine.txns]
    touches += [
        commit(mine.n, "condemn", act="w", condemned=(Condemned(bucket=bucket, path=path, version_id=version),))
        for bucket, path, version in referred
    ]
    if touches:
        assert journal.after_loss(mine, data.draw(st.sampled_from(touches))) is Verdict.REBUILD


@given(st.lists(commits(kind="hold"), max_size=4))
def test_a_fold_counts_every_commit_once_and_in_order(acts: list[Commit]) -> None:
    numbered = [replace(act, n=n, txns=(), adds=(), removes=(), condemned=()) for n, act in enumerate(acts, 1)]
    state = journal.fold([created(), *numbered])
    assert state.next_n == len(acts) + 1
    assert state.last_time_unix_nano == max(act.time_unix_nano for act in [created(), *numbered])
