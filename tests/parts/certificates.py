"""A certificate authority of the tests' own, and a server certificate for loopback."""

from __future__ import annotations

from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)


def make(folder: Path) -> None:
    """Write ``ca.pem``, ``server.key``, ``server.crt`` and ``server.pem`` (key and chain in one) into ``folder``."""
    authority = trustme.CA(organization_name="Ashiato's tests")
    server = authority.issue_cert("127.0.0.1", "localhost")
    # Kafka takes a PKCS#8 key only; trustme writes the traditional form.
    key = load_pem_private_key(server.private_key_pem.bytes(), password=None)
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    chain_pem = b"".join(blob.bytes() for blob in server.cert_chain_pems)
    (folder / "ca.pem").write_bytes(authority.cert_pem.bytes())
    (folder / "server.crt").write_bytes(chain_pem)
    for name, content in (("server.key", key_pem), ("server.pem", key_pem + chain_pem)):
        path = folder / name
        path.touch(mode=0o600)
        path.write_bytes(content)
