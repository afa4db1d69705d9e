"""One connection to an S3 server: settings, whose fault an error was, and no retries behind the caller's back.

botocore repeats a PUT that got no answer and then reports 412 over its own object; so it may not repeat. Who calls
knows what may be done again.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import boto3
import botocore.exceptions as boto_errors
import msgspec
from botocore.config import Config

from ashiato.adapters.archive import ArchiveSettings
from ashiato.core.errors import (
    AlreadyExistsError,
    AshiatoError,
    EvidenceError,
    NotHeldError,
    OutcomeUnknownError,
    RefusedError,
    SettingsError,
    TransientError,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECTIONS_MAX: Final = 32
"""Connections kept open: archive calls come from worker threads, and there are no more of those."""

_ABSENT: Final = {"404", "NoSuchKey", "NoSuchVersion", "NoSuchBucket", "NotFound"}
_TAKEN: Final = {"412", "PreconditionFailed"}
_REFUSED: Final = {
    "403", "AccessDenied", "AllAccessDisabled", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken",
    "ExpiredToken", "AccountProblem", "RequestTimeTooSkewed", "Forbidden", "ObjectLocked",
}  # fmt: skip
_DAMAGED: Final = {"BadDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch", "InvalidDigest"}
_NEVER_SENT: Final = (
    boto_errors.EndpointConnectionError,
    boto_errors.ConnectTimeoutError,
    boto_errors.ProxyConnectionError,
)


class _Credentials(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    access_key_id: str
    secret_access_key: str
    session_token: str | None = None


def connect(settings: ArchiveSettings, *, attempts: int) -> S3Client:
    """Return a client; it is safe to use from several threads. Nothing is sent yet.

    ``attempts`` is how often one call is tried: a write once, so that its outcome is ours to find out.

    Raises:
        SettingsError: a file that cannot be read, an endpoint that is none.

    """
    keys = _credentials(settings.credentials_file) if settings.credentials_file else None
    if settings.ca_file:
        _check_ca(settings.ca_file)
    try:
        client = _make(
            "s3",
            endpoint_url=settings.endpoint_url or None,
            region_name=settings.region,
            verify=settings.ca_file or None,
            aws_access_key_id=keys.access_key_id if keys else None,
            aws_secret_access_key=keys.secret_access_key if keys else None,
            aws_session_token=keys.session_token if keys else None,
            config=Config(
                retries={"total_max_attempts": attempts, "mode": "standard"},
                connect_timeout=settings.connect_timeout_s,
                read_timeout=settings.read_timeout_s,
                max_pool_connections=CONNECTIONS_MAX,
                # Path style where the endpoint is not AWS's: others rarely have a name for each bucket.
                s3={"addressing_style": "path" if settings.endpoint_url else "auto"},
                # We give each PUT its checksum; what is read is held against its own.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                tcp_keepalive=True,
            ),
        )
    except (ValueError, boto_errors.BotoCoreError) as error:
        raise SettingsError(f"cannot make an S3 client: {error}") from error
    return client


_SESSION: Final = boto3.session.Session()
"""One for the process: it reads the description of S3, which takes longer than all the rest, once."""
_MAKING: Final = threading.Lock()


def _make(*arguments: Any, **named: Any) -> S3Client:
    # Clients may be used from several threads, and must not be made in several.
    with _MAKING:
        client: S3Client = _SESSION.client(*arguments, **named)
    return client


def _credentials(file: str) -> _Credentials:
    try:
        return msgspec.json.decode(Path(file).read_bytes(), type=_Credentials)
    except OSError as error:
        raise SettingsError(f"cannot read S3 credentials: {error.strerror}", credentials_file=file) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # The decoder's words may quote what it read, so they are not passed on.
        raise SettingsError(
            'S3 credentials must be JSON {"access_key_id": ..., "secret_access_key": ...}', credentials_file=file
        ) from error


def _check_ca(file: str) -> None:
    try:
        ssl.create_default_context(cafile=file)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"cannot read the CA of the S3 server's certificate: {error}", ca_file=file) from error


@contextmanager
def translated(what: str, *, writes: bool = False, **facts: object) -> Iterator[None]:
    """Raise what boto3 raises inside as one of our errors.

    ``writes``: an answer that did not come, or that is no answer, leaves it unknown whether the write took effect.
    """
    try:
        yield
    except boto_errors.ClientError as error:
        raise _of_answer(error, what, facts, writes=writes) from error
    except (boto_errors.NoCredentialsError, boto_errors.PartialCredentialsError) as error:
        raise SettingsError("no S3 credentials: name a credentials_file, or give this machine an identity") from error
    except boto_errors.SSLError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise SettingsError("the S3 server's certificate is not of the CA that the settings name") from error
        raise _unanswered(error, what, facts, writes=writes) from error
    except (boto_errors.BotoCoreError, OSError) as error:
        raise _unanswered(error, what, facts, writes=writes) from error


def _of_answer(error: boto_errors.ClientError, what: str, facts: dict[str, object], *, writes: bool) -> AshiatoError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    kinds: tuple[tuple[bool, type[AshiatoError], str], ...] = (
        (code in _TAKEN or status == 412, AlreadyExistsError, "the name is taken"),
        (code in _DAMAGED, TransientError, "the bytes that arrived are not those that were sent"),
        # (what AWS says of a version id that is none of its own)
        (
            code == "InvalidArgument" and "version" in str(error).lower(),
            NotHeldError,
            f"no such version, cannot {what}",
        ),
        (code in _ABSENT or status == 404, NotHeldError, f"no such object or bucket, cannot {what}"),
        (code in _REFUSED or status in (401, 403), RefusedError, f"the archive refuses: this user may not {what}"),
        (status == 416, EvidenceError, "object is shorter than it was"),
        (writes and (status >= 500 or status == 409), OutcomeUnknownError, f"unknown whether the archive did {what}"),
    )
    for applies, kind, message in kinds:
        if applies:
            return kind(message, **facts, answer=code or status)
    return TransientError(f"the archive could not {what}", **facts, answer=code or status)


def _unanswered(error: Exception, what: str, facts: dict[str, object], *, writes: bool) -> TransientError:
    kind = type(error).__name__
    if writes and not isinstance(error, _NEVER_SENT):
        return OutcomeUnknownError(f"the archive did not answer whether it could {what}: {kind}", **facts)
    return TransientError(f"the archive does not answer, cannot {what}: {kind}", **facts)
