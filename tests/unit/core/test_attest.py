"""Spans, salts and the verification of a ledger: what does not fit is found, and nothing passes on an empty set."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator

import pytest
import rfc8785

from ashiato.adapters.signer import Ed25519Signer, verify_signature
from ashiato.core import attest, ledger
from ashiato.core.attest import Account, check_span, digest_of, salt_of, salts_touching, verify_ledger
from ashiato.core.errors import EvidenceError, RejectedError
from ashiato.core.ledger import Beat, Born, Closed, Config, Gap, Head, Span, Statement, Unattested

SIGNER, OTHER = Ed25519Signer(b"k" * 32), Ed25519Signer(b"o" * 32)
SECRET = b"s" * 32
START = Head()
SOURCE = "container/c/n/shop/web/uid/app"


def chain(*statements: Statement, signer: Ed25519Signer | None = SIGNER, head: Head = START) -> list[bytes]:
    lines = []
    for at, statement in enumerate(statements):
        line, head = ledger.append(head, statement, node="n", time_unix_nano=at, boot_nano=at, signer=signer)
        lines.append(line)
    return lines


def born(file_id: str = "F") -> Born:
    return Born(file_id=file_id, source=SOURCE, path="/x", partition=0, topic="t")


def span(start: int, end: int, file_id: str = "F") -> Span:
    return Span(file_id=file_id, offset_start=str(start), offset_end=str(end), sha256="0" * 64)


def gap(start: int, end: int | str, file_id: str = "F") -> Gap:
    return Gap(source=SOURCE, reason="truncated", file_id=file_id, offset_start=str(start), offset_end=str(end))


def closed(size: int, file_id: str = "F") -> Closed:
    return Closed(file_id=file_id, source=SOURCE, size=str(size), reason="rotated")


BEAT = Beat(watermark_unix_nano="1")


def verified(*statements: Statement, pinned: Iterable[bytes] = (SIGNER.public_key,)) -> Account:
    return verify_ledger(chain(*statements, BEAT), pinned=pinned, verify=verify_signature)


# -- spans and bytes -----------------------------------------------------------------------------------------------


def test_a_digest_is_over_salt_offset_and_bytes_in_whatever_parts() -> None:
    salt = salt_of(SECRET, "F", 7)
    expected = hashlib.sha256(salt + (7).to_bytes(8, "big") + b"abc").hexdigest()
    assert digest_of(salt, 7, [b"abc"]) == digest_of(salt, 7, [b"a", b"", b"bc"]) == (expected, 3)
    assert len(salt) == attest.SALT_BYTES
    assert len({salt_of(SECRET, "F", 7), salt_of(SECRET, "F", 8), salt_of(SECRET, "G", 7), salt_of(b"", "F", 7)}) == 4


def stated(content: bytes, start: int = 0) -> tuple[Span, tuple[int, bytes]]:
    salt = salt_of(SECRET, "F", start)
    sha256, length = digest_of(salt, start, [content])
    told = Span(file_id="F", offset_start=str(start), offset_end=str(start + length), sha256=sha256)
    return told, (start, salt)


def test_a_span_is_held_against_its_bytes() -> None:
    told, salt = stated(b"hello", start=3)

    def read(file_id: str, start: int, end: int) -> Iterator[bytes]:
        assert (file_id, start, end) == ("F", 3, 8)
        yield from (b"he", b"llo")

    # a salt of another making that was sent for the same span is passed over
    check_span(told, [(3, b"x" * 32), salt, (0, b"y" * 32)], read)


@pytest.mark.parametrize(
    ("held", "salted", "reason"),
    [(b"hellO", True, "not those"), (b"hell", True, "missing"), (b"", True, "missing"), (b"hello", False, "salt")],
)
def test_a_span_whose_bytes_or_salt_are_not_held_fails(held: bytes, salted: bool, reason: str) -> None:  # noqa: FBT001 - one case of a table
    told, salt = stated(b"hello")
    with pytest.raises(EvidenceError, match=reason):
        check_span(told, [salt] if salted else [], lambda *_: [held])


@pytest.mark.parametrize("bounds", [("5", "5"), ("9", "5"), ("", "5"), ("-1", "5"), ("0", str(2**63)), ("0", "x")])
def test_a_span_of_no_range_fails(bounds: tuple[str, str]) -> None:
    with pytest.raises(EvidenceError):
        check_span(
            Span(file_id="F", offset_start=bounds[0], offset_end=bounds[1], sha256=""), [(0, b"")], lambda *_: []
        )


def test_only_salts_of_spans_that_a_range_touches_are_kept() -> None:
    a, b, c = (0, b"a"), (10, b"b"), (20, b"c")
    assert salts_touching((a, b, c), 0, 10) == (a,)
    assert salts_touching((c, a, b), 9, 11) == (a, b)
    assert salts_touching((a, b, c), 10, 20) == (b,)
    assert salts_touching((a, b, c), 25, 30) == (c,)
    assert salts_touching((b, c), 0, 10) == ()
    assert salts_touching((a, b, c), 15, 15) == ()
    # two salts of one span, of a secret that was lost between: either may be the one
    assert salts_touching(((0, b"a"), (0, b"z"), b), 3, 4) == ((0, b"a"), (0, b"z"))
    assert salts_touching(((0, b"a"), (0, b"z"), b), 15, 16) == (b,)


# -- the ledger ------------------------------------------------------------------------------------------------------


def test_a_ledger_that_adds_up_is_verified_and_counted() -> None:
    account = verified(
        Config(sha256="", key_id=SIGNER.key_id, public_key=base64.b64encode(SIGNER.public_key).decode()),
        born(), span(0, 5), span(5, 9), closed(9),
    )  # fmt: skip
    file = account.files["F"]
    assert (file.spans, file.attested_bytes, file.stated_end) == (2, 9, 9)
    assert (account.lines, account.signed_n, account.beats) == (6, 5, 1)
    assert account.keys == {SIGNER.key_id: SIGNER.public_key}


def test_nothing_to_verify_never_passes() -> None:
    with pytest.raises(EvidenceError, match="no ledger"):
        verify_ledger([], pinned=[SIGNER.public_key], verify=verify_signature)
    with pytest.raises(EvidenceError, match="no beat is signed"):
        verify_ledger(chain(born()), pinned=[SIGNER.public_key], verify=verify_signature)
    with pytest.raises(EvidenceError, match="no key"):
        verified(born(), pinned=())


def test_a_beat_of_another_key_or_none_fails() -> None:
    with pytest.raises(EvidenceError, match="no key"):
        verified(born(), pinned=[OTHER.public_key])
    with pytest.raises(EvidenceError, match="no key"):
        verify_ledger(chain(BEAT, signer=None), pinned=[SIGNER.public_key], verify=verify_signature)


def test_a_signature_is_over_the_beat_itself_and_the_chain_before_it() -> None:
    lines = chain(born(), span(0, 5), BEAT)
    forged = lines[-1].replace(b'"watermark_unix_nano":"1"', b'"watermark_unix_nano":"2"')
    assert forged != lines[-1]
    with pytest.raises(EvidenceError, match="signature is wrong"):
        verify_ledger([*lines[:-1], forged], pinned=[SIGNER.public_key], verify=verify_signature)
    # a chain that was made anew from the changed line on has no signature that fits
    remade = chain(born(), span(0, 6), signer=None)
    _, head = ledger.append(
        Head(n=1, prev=ledger.digest(remade[0])), span(0, 6), node="n", time_unix_nano=1, boot_nano=1
    )
    told = ledger.parse(lines[-1]) | {"prev": head.prev}
    with pytest.raises(EvidenceError, match="signature is wrong"):
        verify_ledger([*remade, rfc8785.dumps(told) + b"\n"], pinned=[SIGNER.public_key], verify=verify_signature)
    with pytest.raises(RejectedError):
        ledger.signed_bytes(lines[0])


@pytest.mark.parametrize(
    "statements",
    [
        (span(0, 5), span(6, 9)),
        (span(0, 5), span(4, 9)),
        (span(1, 5),),
        (span(0, 5), closed(6)),
        (span(0, 5), closed(4)),
        (gap(0, 5), span(6, 9)),
        (span(0, 5), gap(7, 9), span(9, 10)),
        (span(0, 5), gap(5, 9), closed(10)),
    ],
)
def test_c9_a_hole_or_an_overlap_fails(statements: tuple[Statement, ...]) -> None:
    with pytest.raises(EvidenceError, match=r"contiguous|nothing states"):
        verified(born(), *statements)


@pytest.mark.parametrize(
    "statements",
    [
        (span(0, 5), gap(5, 9), span(9, 12), closed(12)),
        (span(0, 5), gap(5, ""), span(5, 12), closed(12)),
        (span(0, 5), gap(5, 20), span(8, 12), closed(12)),
        (gap(12, ""), span(0, 12), closed(12)),
        (gap(0, ""), closed(0)),
        (Unattested(file_id="F", source=SOURCE, offset_start="0", offset_end="4", reason="r"), span(4, 6), closed(6)),
        (span(0, 5), closed(5), span(5, 7), closed(7)),
        (gap(0, 3), gap(3, 6), span(6, 7)),
    ],
)
def test_c9_gaps_are_upper_bounds_and_bridge_what_is_missing(statements: tuple[Statement, ...]) -> None:
    assert verified(born(), *statements).files["F"].born


def test_a_ledger_whose_oldest_files_are_gone_is_verified_from_its_first_line() -> None:
    lines = chain(born(), span(0, 5), span(5, 9), closed(9), BEAT)
    account = verify_ledger(lines[2:], pinned=[SIGNER.public_key], verify=verify_signature)
    assert (account.first_n, account.files["F"].attested_bytes) == (2, 4)


def test_reading_without_verifying_passes_over_what_does_not_fit() -> None:
    account = attest.read_ledger([b"garbage", *chain(born(), span(3, 5), span(7, 9), BEAT, signer=None)])
    assert (account.lines, account.files["F"].stated_end) == (4, 9)


def test_lines_of_version_1_are_read_and_the_next_signature_stands_for_them() -> None:
    old = ledger.encode(ledger.decode(chain(BEAT, signer=None)[0])).replace(b'"v":2', b'"v":1')
    lines = [old, *chain(BEAT, head=Head(n=1, prev=ledger.digest(old)))]
    account = verify_ledger(lines, pinned=[SIGNER.public_key], verify=verify_signature)
    assert (account.beats, account.signed_n) == (2, 1)
