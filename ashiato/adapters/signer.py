"""An Ed25519 key in a file (PKCS #8 PEM, as ``openssl genpkey`` writes it), made once, readable by its owner alone.

A lost key is no loss of evidence: what it signed stays signed. The key that is made then has another id, and its
beats count for nobody until it is enrolled.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

from nacl.exceptions import BadSignatureError
from nacl.exceptions import ValueError as BadLengthError
from nacl.signing import SigningKey, VerifyKey

from ashiato.adapters import files
from ashiato.core.attest import key_id_of
from ashiato.core.errors import AlreadyExistsError, SettingsError

_SEED_BYTES: Final = 32
_PRIVATE_DER: Final = bytes.fromhex("302e020100300506032b657004220420")
_PUBLIC_DER: Final = bytes.fromhex("302a300506032b6570032100")


class Ed25519Signer:
    """One key in memory."""

    def __init__(self, seed: bytes) -> None:
        self._key = SigningKey(seed)
        self.public_key = bytes(self._key.verify_key)
        self.key_id = key_id_of(self.public_key)

    def sign(self, message: bytes) -> bytes:
        """Return the signature."""
        return bytes(self._key.sign(message).signature)


def open_signer(path: Path, randomness: Callable[[int], bytes] = secrets.token_bytes) -> Ed25519Signer:
    """Return the signer of the key in ``path``; where there is none, make one, durably.

    Raises:
        SettingsError: the file holds no Ed25519 key.
        TransientError: it cannot be read or written.

    """
    return Ed25519Signer(_seed_of(read_or_make(path, lambda: _pem(_PRIVATE_DER + randomness(_SEED_BYTES))), path))


def open_existing_signer(path: Path) -> Ed25519Signer:
    """Return the signer of the key in ``path``.

    Raises:
        SettingsError: there is none, or it cannot be read.

    """
    try:
        return Ed25519Signer(_seed_of(path.read_bytes(), path))
    except OSError as error:
        raise SettingsError(f"cannot read the key {path}: {error.strerror}") from error


def read_or_make(path: Path, make: Callable[[], bytes]) -> bytes:
    """Return what a secret file holds; where there is none, make it, durably and only once.

    Raises TransientError.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise files.disk_error(error, path) from error
    content = make()
    try:
        files.write_new(path, content)
    except AlreadyExistsError:
        return path.read_bytes()
    return content


def verify_signature(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Tell whether ``signature`` is that key's over ``message``."""
    try:
        VerifyKey(public_key).verify(message, signature)
    except (BadSignatureError, BadLengthError):
        return False
    return True


def public_pem(public_key: bytes) -> str:
    """Return a public key as ``openssl pkey -pubin`` reads it."""
    text = base64.b64encode(_PUBLIC_DER + public_key).decode()
    return f"-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n"


def read_public_key(text: str) -> bytes:
    """Return the 32 bytes of a public key given as PEM, or as the base64 that a ledger states.

    Raises:
        SettingsError: it is none.

    """
    der = _unarmoured(text)
    raw = der.removeprefix(_PUBLIC_DER)
    if len(raw) != _SEED_BYTES:
        raise SettingsError("not an Ed25519 public key: PEM (BEGIN PUBLIC KEY) or base64 of 32 bytes is needed")
    return raw


def _seed_of(content: bytes, path: Path) -> bytes:
    der = _unarmoured(content.decode("ascii", "replace"))
    if not der.startswith(_PRIVATE_DER) or len(der) != len(_PRIVATE_DER) + _SEED_BYTES:
        raise SettingsError(f"{path} holds no Ed25519 key in PEM: make one with openssl genpkey -algorithm ed25519")
    return der[len(_PRIVATE_DER) :]


def _pem(der: bytes) -> bytes:
    return b"-----BEGIN PRIVATE KEY-----\n" + base64.b64encode(der) + b"\n-----END PRIVATE KEY-----\n"


def _unarmoured(text: str) -> bytes:
    body = "".join(line for line in text.split("\n") if not line.startswith("-----"))
    try:
        return base64.b64decode(body, validate=True)
    except ValueError:
        return b""
