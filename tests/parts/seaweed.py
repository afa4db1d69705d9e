"""SeaweedFS: an S3 server with versions, Object Lock and bucket policies, over TLS, one identity per service."""

from __future__ import annotations

import json
import secrets
import urllib.error
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.parts import artifacts, certificates
from tests.parts.process import Part, listens

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

IDENTITIES = ("admin", "ingest", "index", "query", "retention")
SERVICES = ("ingest", "index", "query", "retention")
ASKING = ("s3:GetBucketVersioning", "s3:GetBucketObjectLockConfiguration")
"""What each service asks at its start, to say what the archive is."""
LOCK_DAYS = 1

_ACTIONS: Mapping[str, Sequence[str]] = {
    "admin": ("Admin", "Read", "List", "Write", "Tagging"),
    "ingest": ("Read:{e}", "List:{e}", "Write:{e}", "Read:{w}", "List:{w}", "Write:{w}"),
    "index": ("Read:{e}", "List:{e}", "Read:{w}", "List:{w}"),
    # What query may put, under workspace/ alone, stands in the policy of the bucket.
    "query": ("Read:{e}", "List:{e}", "Read:{w}", "List:{w}"),
    "retention": ("Read:{e}", "List:{e}", "Write:{e}", "Read:{w}", "List:{w}", "Write:{w}"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Buckets:
    """The two buckets of one archive."""

    evidence: str
    work: str


class SeaweedPart(Part):
    """A server. ``endpoint_url``, ``ca_file``, ``credentials_file(identity)`` and buckets are what a client needs."""

    name: ClassVar[str] = "seaweedfs"
    ports: ClassVar[Sequence[str]] = (
        "master", "master_grpc", "volume", "volume_grpc", "filer", "filer_grpc", "s3", "s3_grpc",
    )  # fmt: skip
    region: ClassVar[str] = "us-east-1"

    @property
    def endpoint_url(self) -> str:
        """``https://host:port``."""
        return f"https://127.0.0.1:{self.port('s3')}"

    @property
    def ca_file(self) -> Path:
        """CA of its certificate."""
        return self.folder / "ca.pem"

    @property
    def buckets(self) -> Buckets:
        """The buckets that are there from the start: ``evidence`` and ``work``, locked by default for a day."""
        return Buckets(evidence="evidence", work="work")

    def credentials_file(self, identity: str) -> Path:
        """JSON with ``access_key_id`` and ``secret_access_key`` of one of IDENTITIES."""
        return self.folder / f"{identity}.json"

    def client(self, identity: str = "admin") -> S3Client:
        """Return a plain boto3 client."""
        keys = json.loads(self.credentials_file(identity).read_text(encoding="utf-8"))
        client: S3Client = boto3.client(
            "s3", endpoint_url=self.endpoint_url, verify=str(self.ca_file), region_name=self.region,
            aws_access_key_id=keys["access_key_id"], aws_secret_access_key=keys["secret_access_key"],
            config=Config(
                s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=30
            ),
        )  # fmt: skip
        return client

    def fresh_buckets(self, *, lock_days: int = 0, policies: bool = True) -> Buckets:
        """Make two new buckets with the rights of every service; ``lock_days`` is the default lock of ``evidence``."""
        mark = secrets.token_hex(4)
        return self._make(Buckets(evidence=f"evidence-{mark}", work=f"work-{mark}"), lock_days, policies=policies)

    def prepare(self) -> None:
        """Certificates, credentials, identities."""
        certificates.make(self.folder)
        identities = []
        for identity in IDENTITIES:
            keys = {"access_key_id": self.secret(f"key-{identity}"), "secret_access_key": self.secret(identity)}
            self._write_json(f"{identity}.json", keys)
            actions = [action.format(e="evidence*", w="work*") for action in _ACTIONS[identity]]
            credentials = [{"accessKey": keys["access_key_id"], "secretKey": keys["secret_access_key"]}]
            identities.append({"name": identity, "credentials": credentials, "actions": actions})
        self._write_json("s3.json", {"identities": identities})

    def command(self) -> Sequence[str]:
        """One process for master, volume, filer and S3; every port it would open is set, telemetry is off."""
        (self.folder / "data").mkdir(exist_ok=True)
        ports = {
            "master.port": "master", "master.port.grpc": "master_grpc", "volume.port": "volume",
            "volume.port.grpc": "volume_grpc", "filer.port": "filer", "filer.port.grpc": "filer_grpc",
            "s3.port": "s3", "s3.port.grpc": "s3_grpc",
        }  # fmt: skip
        return [
            str(artifacts.weed()), "-logtostderr=true", "server", "-dir", str(self.folder / "data"),
            "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false",
            "-filer", "-s3", f"-s3.config={self.folder / 's3.json'}",
            f"-s3.cert.file={self.folder / 'server.crt'}", f"-s3.key.file={self.folder / 'server.key'}",
            "-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=2000", "-master.volumeSizeLimitMB=256",
            # Alone, and restarted by tests: nobody to wait for on the way up or down.
            "-volume.preStopSeconds=0", "-master.electionTimeout=1s", "-master.heartbeatInterval=100ms",
            *(f"-{option}={self.port(port)}" for option, port in ports.items()),
        ]  # fmt: skip

    def environment(self) -> Mapping[str, str]:
        """One volume for a bucket, instead of seven: tests make many buckets."""
        return {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}

    def answers(self) -> bool:
        """Whether the server that answers with our certificate knows our admin's key and stores what it gives."""
        if not listens(self.port("s3")):
            return False
        try:
            client = self.client()
            present = {bucket.get("Name") for bucket in client.list_buckets()["Buckets"]}
            if "probe" not in present:
                client.create_bucket(Bucket="probe")
            client.put_object(Bucket="probe", Key="probe", Body=b"ready?")
        except (BotoCoreError, ClientError, urllib.error.URLError):
            return False
        return True

    def settle(self) -> None:
        """Make the two buckets."""
        self._make(self.buckets, LOCK_DAYS, policies=True)

    def _make(self, buckets: Buckets, lock_days: int, *, policies: bool) -> Buckets:
        client = self.client()
        client.create_bucket(Bucket=buckets.evidence, ObjectLockEnabledForBucket=True)
        client.create_bucket(Bucket=buckets.work)
        client.put_bucket_versioning(Bucket=buckets.work, VersioningConfiguration={"Status": "Enabled"})
        if lock_days:
            client.put_object_lock_configuration(
                Bucket=buckets.evidence,
                ObjectLockConfiguration={
                    "ObjectLockEnabled": "Enabled",
                    "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": lock_days}},
                },
            )
        if policies:
            client.put_bucket_policy(Bucket=buckets.evidence, Policy=json.dumps(evidence_policy(buckets.evidence)))
            client.put_bucket_policy(Bucket=buckets.work, Policy=json.dumps(work_policy(buckets.work)))
        return buckets


def evidence_policy(bucket: str) -> Mapping[str, object]:
    """Everybody may ask what the lock is; only retention deletes and locks, which `Write` alone would allow."""
    forbidden = [
        "s3:DeleteObject", "s3:DeleteObjectVersion", "s3:BypassGovernanceRetention", "s3:PutObjectRetention",
        "s3:PutObjectLegalHold",
    ]  # fmt: skip
    return _policy(
        _statement("Deny", ["ingest"], forbidden, f"arn:aws:s3:::{bucket}/*"),
        _statement("Allow", SERVICES, ASKING, f"arn:aws:s3:::{bucket}"),
    )


def work_policy(bucket: str) -> Mapping[str, object]:
    """Only retention deletes; query puts under `workspace/` alone."""
    deleting = ["s3:DeleteObject", "s3:DeleteObjectVersion"]
    return _policy(
        _statement("Deny", ["ingest", "query"], deleting, f"arn:aws:s3:::{bucket}/*"),
        _statement("Allow", ["query"], ["s3:PutObject"], f"arn:aws:s3:::{bucket}/workspace/*"),
        _statement("Allow", SERVICES, ASKING, f"arn:aws:s3:::{bucket}"),
    )


def _policy(*statements: Mapping[str, object]) -> Mapping[str, object]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _statement(effect: str, users: Sequence[str], actions: Sequence[str], resource: str) -> Mapping[str, object]:
    # SeaweedFS takes a principal without the account's number too, and then ignores the statement.
    principals = [f"arn:aws:iam::000000000000:user/{user}" for user in users]
    return {"Effect": effect, "Principal": {"AWS": principals}, "Action": list(actions), "Resource": [resource]}
