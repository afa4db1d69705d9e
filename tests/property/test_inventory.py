"""The fold of the inventory: any order of rows, any repetition, any way of storing gives the same; time is honest."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from ashiato.adapters.inventory import decode_segment, encode_segment
from ashiato.core.inventory import Field, Inventory, Pods, PodView, Sighting, Told
from ashiato.core.inventory.records import APART, as_known, encode

UIDS = ("u-1", "u-2", "u-3")
NAMES = ("shop/a", "shop/b")
MOMENTS = st.integers(0, 40)


@st.composite
def sightings(draw: st.DrawFn) -> Sighting:
    uid, moment = draw(st.sampled_from(UIDS)), draw(MOMENTS)
    name = draw(st.sampled_from(NAMES))
    says = [(Field.NAME, name, moment)]
    says += draw(
        st.lists(
            st.one_of(
                st.tuples(st.just(Field.NODE), st.sampled_from(["n1", "n2"]), MOMENTS),
                st.tuples(st.just(Field.IP), st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00::1"]), MOMENTS),
                st.tuples(st.just(Field.IMAGE), st.sampled_from([f"c{APART}app:1", f"c{APART}app:2"]), MOMENTS),
                st.tuples(st.just(Field.ACCOUNT), st.sampled_from(["shop/x", "shop/y"]), MOMENTS),
                st.tuples(st.just(Field.LABEL), st.sampled_from(["app=a", "app=b"]), MOMENTS),
                st.tuples(st.just(Field.SEEN), st.just(""), MOMENTS),
                st.tuples(st.just(Field.GONE), MOMENTS.map(str), MOMENTS),
                MOMENTS.map(lambda at: (Field.CREATED, str(at), at)),
            ),
            max_size=5,
        )
    )
    key = f"pod:{uid}" if draw(st.booleans()) else f"pod@c/{name}"
    row, observed = f"F-{draw(st.integers(0, 15)):016x}", draw(MOMENTS)
    return Sighting(key, row, observed, draw(st.sampled_from(Told)), tuple(says))


def records(inventory: Inventory) -> dict[str, bytes]:
    return {key: inventory.record(key) for key in inventory.all_keys()}


def folded(told: Sequence[Sighting]) -> Inventory:
    inventory = Inventory()
    inventory.take(told)
    return inventory


@given(st.lists(sightings(), max_size=20), st.randoms(use_true_random=False), st.integers(1, 5))
def test_any_order_and_repetition_of_rows_gives_the_same_inventory(
    told: list[Sighting], random: Random, batch: int
) -> None:
    shuffled = [*told, *told[::2]]
    random.shuffle(shuffled)
    other = Inventory()
    for at in range(0, len(shuffled), batch):
        other.take(shuffled[at : at + batch])

    assert records(other) == records(folded(told))


@given(st.lists(sightings(), max_size=20), st.integers(0, 20))
def test_snapshots_joined_in_any_order_give_what_all_rows_give(told: list[Sighting], cut: int) -> None:
    parts = [decode_segment(encode_segment(sorted(records(folded(part)).items()))) for part in (told[:cut], told[cut:])]
    for order in (parts, parts[::-1], [*parts, *parts]):
        joined = Inventory()
        for part in order:
            joined.join(part)
        assert records(joined) == records(folded(told))


@given(st.lists(sightings(), max_size=20))
def test_what_is_taken_in_again_changes_nothing(told: list[Sighting]) -> None:
    inventory = folded(told)
    before = records(inventory)

    assert inventory.take(told) == set()
    assert records(inventory) == before


@given(st.lists(sightings(), min_size=1, max_size=20), MOMENTS)
def test_what_was_known_at_a_moment_is_bounded_by_what_had_been_read(told: list[Sighting], known: int) -> None:
    """The same claims, and never with a wider time than what was read by then."""
    inventory = folded(told)
    by_then = folded([one for one in told if one.observed_unix_nano <= known])
    for key in inventory.all_keys():
        now, then = as_known(inventory.claims(key), known), by_then.claims(key)
        assert now.keys() == then.keys()
        for held, claim in now.items():
            assert then[held].first.time_unix_nano <= claim.first.time_unix_nano
            assert claim.last.time_unix_nano <= then[held].last.time_unix_nano
            assert claim.known == then[held].known


@given(st.lists(sightings(), min_size=1, max_size=20), MOMENTS)
def test_every_question_finds_by_its_index_what_reading_all_pods_finds(told: list[Sighting], at: int) -> None:
    pods = Pods(folded(told))
    everything = pods.between()

    def uids(found: Sequence[PodView]) -> set[tuple[str, str]]:
        return {(pod.uid, pod.name) for pod in found}

    for node in ("n1", "n2"):
        meant = [pod for pod in everything if any(one.value == node and one.at(at) for one in pod.nodes)]
        assert uids(pods.on_node(node, at, at + 1)) == uids(meant)
    for address in ("10.0.0.1", "10.0.0.2", "fd00::1"):
        meant = [pod for pod in everything if any(one.value == address and one.at(at) for one in pod.addresses)]
        assert uids(pods.holding(address, at, at + 1)) == uids(meant)
    assert uids(pods.of_image("app")) == uids([pod for pod in everything if pod.images])
    assert uids(pods.labelled("app", "a")) == uids([pod for pod in everything if pod.labels.get("app") == "a"])
    for account in ("x", "y"):
        meant = [
            pod
            for pod in everything
            if any(one.value == f"shop/{account}" and one.within(at, at + 5) for one in pod.accounts)
        ]
        assert uids(pods.of_account("shop", account, at, at + 5)) == uids(meant)


@given(st.lists(sightings(), min_size=1, max_size=20))
def test_a_record_is_a_function_of_what_it_claims(told: list[Sighting]) -> None:
    inventory = folded(told)
    for key in inventory.all_keys():
        claims = inventory.claims(key)
        assert encode(dict(reversed(claims.items()))) == inventory.record(key)
