"""Kubernetes audit events as Google's Cloud Logging has them: a LogEntry whose ``protoPayload`` tells the request."""

from __future__ import annotations

from typing import Any, Final

from ingest.parse.fields import Fields, dict_or_empty, text_or_none
from ingest.parse.times import in_utc

PARSER: Final = "audit/2;gke"

_HTTP: Final = {0: 200, 3: 400, 5: 404, 6: 409, 7: 403, 8: 429, 9: 412, 10: 409, 12: 501, 13: 500, 14: 503, 16: 401}
"""gRPC codes (``google.rpc.Code``) as HTTP has them; the first is told by no status at all."""
_PREFIX: Final = "io.k8s."


def parse(entry: dict[str, Any]) -> Fields | None:
    """Return what a LogEntry of ``k8s.io`` says, None where it is another thing."""
    payload = dict_or_empty(entry.get("protoPayload"))
    method = text_or_none(payload.get("methodName"))
    if method is None or (payload.get("serviceName") != "k8s.io" and not method.startswith(_PREFIX)):
        return None
    operation = dict_or_empty(entry.get("operation"))
    time = in_utc(entry.get("timestamp"))
    asked = dict_or_empty(payload.get("requestMetadata"))
    *_, verb = method.split(".")
    resource, namespace, name = _object(text_or_none(payload.get("resourceName")) or "")
    code = dict_or_empty(payload.get("status")).get("code", 0)
    return Fields(
        parser=PARSER,
        event_name="k8s.audit",
        time_unix_nano=time[0] if time else None,
        time_uncertainty_ns=time[1] if time else None,
        audit_id=text_or_none(operation.get("id")) or text_or_none(entry.get("insertId")),
        audit_stage=_stage(operation),
        user_name=text_or_none(dict_or_empty(payload.get("authenticationInfo")).get("principalEmail")),
        event_action=verb,
        object_resource=resource or _of_method(method),
        object_namespace=namespace,
        object_name=name,
        http_status_code=_HTTP.get(code, 500) if isinstance(code, int) and not isinstance(code, bool) else None,
        source_address=text_or_none(asked.get("callerIp")) or text_or_none(asked.get("callerIP")),
    )


def _stage(operation: dict[str, Any]) -> str:
    """Return the stage: an entry that begins an operation without ending it is what ResponseStarted is."""
    is_begun = operation.get("first") is True and operation.get("last") is not True
    return "ResponseStarted" if is_begun else "ResponseComplete"


def _object(path: str) -> tuple[str | None, str | None, str | None]:
    """Return (resource, namespace, name) of ``core/v1/namespaces/shop/pods/web-1/exec``."""
    parts = path.split("/")
    if len(parts) < 3:
        return None, None, None
    rest, namespace = parts[2:], None
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    name = rest[1] if len(rest) > 1 else None
    return (f"{rest[0]}/{rest[2]}" if len(rest) > 2 else rest[0]) or None, namespace, name


def _of_method(method: str) -> str | None:
    """Return the resource of ``io.k8s.core.v1.pods.exec.create``."""
    parts = method.removeprefix(_PREFIX).split(".")
    at = next((at for at, part in enumerate(parts) if part[:1] == "v" and part[1:2].isdigit()), None)
    return "/".join(parts[at + 1 : -1]) or None if at is not None else None
