"""The node's key: made once, its owner's alone, in a form that other tools read."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ashiato.adapters.clock import clock_state
from ashiato.adapters.signer import (
    Ed25519Signer,
    open_existing_signer,
    open_signer,
    public_pem,
    read_or_make,
    read_public_key,
    verify_signature,
)
from ashiato.core.attest import key_id_of
from ashiato.core.errors import SettingsError


def test_a_key_is_made_once_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "node.key"
    first, second = open_signer(path), open_signer(path)
    assert first.key_id == second.key_id == key_id_of(first.public_key)
    assert path.stat().st_mode & 0o777 == 0o600
    assert open_existing_signer(path).public_key == first.public_key
    assert [name.name for name in path.parent.iterdir()] == ["node.key"]


def test_a_signature_is_one_keys_over_one_message() -> None:
    one, other = Ed25519Signer(b"1" * 32), Ed25519Signer(b"2" * 32)
    signature = one.sign(b"message")
    assert verify_signature(one.public_key, signature, b"message")
    assert not verify_signature(other.public_key, signature, b"message")
    assert not verify_signature(one.public_key, signature, b"messagf")
    for broken in (b"", signature[:-1], signature + b"\0", bytes(64)):
        assert not verify_signature(one.public_key, broken, b"message")
    assert not verify_signature(b"", signature, b"message")


def test_rfc_8032_test_2() -> None:
    seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    signer = Ed25519Signer(seed)
    assert signer.public_key.hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert signer.sign(b"\x72").hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )


def test_openssl_reads_the_key_and_its_keys_are_read(tmp_path: Path) -> None:
    def openssl(*words: str) -> str:
        return subprocess.run(["openssl", *words], capture_output=True, text=True, check=True).stdout

    ours = open_signer(tmp_path / "ours")
    assert openssl("pkey", "-in", str(tmp_path / "ours"), "-pubout") == public_pem(ours.public_key)
    (tmp_path / "theirs").write_text(openssl("genpkey", "-algorithm", "ed25519"))
    theirs = open_signer(tmp_path / "theirs")
    assert read_public_key(openssl("pkey", "-in", str(tmp_path / "theirs"), "-pubout")) == theirs.public_key


@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff\xfe", b"-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_what_is_no_key_is_refused_and_stays(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "node.key"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match="no Ed25519 key"):
        open_signer(path)
    assert path.read_bytes() == content
    with pytest.raises(SettingsError):
        read_public_key(content.decode("latin-1"))
    with pytest.raises(SettingsError):
        open_existing_signer(tmp_path / "missing")


def test_a_secret_is_made_once(tmp_path: Path) -> None:
    assert read_or_make(tmp_path / "s", lambda: b"first") == b"first"
    assert read_or_make(tmp_path / "s", lambda: b"second") == b"first"


def test_the_kernel_says_whether_its_clock_is_synchronised() -> None:
    assert clock_state() in ("synchronised", "unsynchronised", "unknown")
