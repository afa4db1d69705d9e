"""Which archive: settings, the address a person types, and the adapter they name.

An address is a folder, or ``s3://evidence-bucket[?endpoint=URL&work=BUCKET&credentials=FILE&ca=FILE&region=NAME]``.
The work bucket is ``<evidence>-work`` unless it is named.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

import msgspec

from ashiato.adapters.archive_directory import DirectoryGovernor, DirectoryReader, DirectoryWriter
from ashiato.core.errors import SettingsError
from ashiato.core.ports import ArchiveGovernor, ArchiveReader, ArchiveWriter


class ArchiveSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``directory``, or ``evidence_bucket`` with what S3 needs."""

    directory: str = ""
    """Folder of the archive on one machine; '' where it is S3."""
    evidence_bucket: str = ""
    """Bucket of packs and journal: versioned, with Object Lock."""
    work_bucket: str = ""
    """Bucket of frontiers and what else can be made again."""
    endpoint_url: str = ""
    """'' is AWS's own."""
    region: str = "us-east-1"
    """Region that requests are signed for."""
    ca_file: str = ""
    """CA of the server's certificate; '' trusts the system's."""
    credentials_file: str = ""
    """JSON ``{"access_key_id": ..., "secret_access_key": ...}``; '' asks the machine's own identity."""
    connect_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=600)] = 5.0
    """What a connection to the S3 server may take."""
    read_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 60.0
    """What the S3 server may leave a request without a word."""


def parse_address(address: str) -> ArchiveSettings:
    """Return the settings that an address names.

    Raises:
        SettingsError: an unknown scheme or parameter.

    """
    if not address.startswith("s3://"):
        if "://" in address:
            raise SettingsError("an archive is a folder or s3://bucket", address=address)
        return ArchiveSettings(directory=address)
    parts = urlsplit(address)
    given = dict(parse_qsl(parts.query))
    known = {
        "endpoint": "endpoint_url", "work": "work_bucket", "credentials": "credentials_file", "ca": "ca_file",
        "region": "region",
    }  # fmt: skip
    if unknown := sorted(set(given) - set(known)):
        raise SettingsError(
            f"unknown parameter in the archive's address: {', '.join(unknown)}; known: {', '.join(known)}"
        )
    if not parts.netloc:
        raise SettingsError("s3:// needs the name of a bucket", address=address)
    values = {known[name]: value for name, value in given.items()}
    named = {"evidence_bucket": parts.netloc, "work_bucket": f"{parts.netloc}-work", **values}
    return msgspec.convert(named, ArchiveSettings)


def open_reader(settings: ArchiveSettings) -> ArchiveReader:
    """Return what can get and list."""
    if settings.directory:
        return DirectoryReader(Path(settings.directory))
    from ashiato.adapters.archive_s3 import S3Reader  # noqa: PLC0415 - only S3 users need boto3

    return S3Reader(_s3(settings))


def open_writer(settings: ArchiveSettings) -> ArchiveWriter:
    """Return what can put as well."""
    if settings.directory:
        return DirectoryWriter(Path(settings.directory))
    from ashiato.adapters.archive_s3 import S3Writer  # noqa: PLC0415 - only S3 users need boto3

    return S3Writer(_s3(settings))


def open_governor(settings: ArchiveSettings) -> ArchiveGovernor:
    """Return what can delete as well."""
    if settings.directory:
        return DirectoryGovernor(Path(settings.directory))
    from ashiato.adapters.archive_s3 import S3Governor  # noqa: PLC0415 - only S3 users need boto3

    return S3Governor(_s3(settings))


def _s3(settings: ArchiveSettings) -> ArchiveSettings:
    if not settings.evidence_bucket or not settings.work_bucket:
        raise SettingsError("the archive needs a directory, or an evidence_bucket and a work_bucket")
    return settings
