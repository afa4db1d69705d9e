"""Anchors: what a person types to say where a timeline starts, as ``pod:shop/web-1`` or ``ip:10.2.3.4``.

An anchor is a name and no more: which pods, files and events it means is for whoever knows the inventory to say.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ashiato.core.errors import RejectedError

NAME_CHARS_MAX: Final = 1024
"""Characters of an anchor: an image's reference is the longest."""


class AnchorKind(StrEnum):
    """What is named."""

    POD = "pod"
    UID = "uid"
    WORKLOAD = "workload"
    NODE = "node"
    IMAGE = "image"
    SERVICE_ACCOUNT = "sa"
    USER = "user"
    IP = "ip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """One anchor; ``str()`` gives the text that parses to it."""

    kind: AnchorKind
    name: str
    """The name; of a workload ``<kind>/<name>``, the kind in lower case."""
    namespace: str = ""
    """'' where none was said: any namespace that has the name."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.namespace}/{self.name}" if self.namespace else f"{self.kind}:{self.name}"


def parse_anchor(text: str) -> Anchor:
    """Return the anchor that ``text`` names; a bare name is a pod's.

    Raises:
        RejectedError: not an anchor; the message says what the kind needs.

    """
    stripped = text.strip()
    if len(stripped) > NAME_CHARS_MAX:
        raise RejectedError("the anchor is too long", chars_max=NAME_CHARS_MAX)
    prefix, colon, rest = stripped.partition(":")
    if not colon:
        return _pod(stripped)
    try:
        kind = AnchorKind(prefix)
    except ValueError as error:
        kinds = ", ".join(f"{kind}:" for kind in AnchorKind)
        raise RejectedError(f"no such kind of anchor; there are {kinds}", anchor=stripped) from error
    return _READERS.get(kind, _named)(rest.strip(), kind)


def _pod(text: str, kind: AnchorKind = AnchorKind.POD) -> Anchor:
    namespace, slash, name = text.rpartition("/")
    if "/" in namespace or (slash and not namespace) or not _is_name(name):
        raise RejectedError("a pod is named pod:NAME or pod:NAMESPACE/NAME", anchor=text)
    return Anchor(kind=kind, namespace=namespace, name=name)


def _workload(text: str, kind: AnchorKind) -> Anchor:
    parts = text.split("/")
    if len(parts) not in (2, 3) or not all(map(_is_name, parts)):
        raise RejectedError("a workload is named workload:KIND/NAME or workload:NAMESPACE/KIND/NAME", anchor=text)
    namespace = parts[0] if len(parts) == 3 else ""
    return Anchor(kind=kind, namespace=namespace, name=f"{parts[-2].lower()}/{parts[-1]}")


def _service_account(text: str, kind: AnchorKind) -> Anchor:
    parts = text.removeprefix("system:serviceaccount:").replace(":", "/").split("/")
    if len(parts) != 2 or not all(map(_is_name, parts)):
        raise RejectedError("a service account is named sa:NAMESPACE/NAME", anchor=text)
    return Anchor(kind=kind, namespace=parts[0], name=parts[1])


def _address(text: str, kind: AnchorKind) -> Anchor:
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise RejectedError("not an IP address", anchor=text) from error
    return Anchor(kind=kind, name=str(address))


def _named(text: str, kind: AnchorKind) -> Anchor:
    """Users and images are named by anything; a user's name may hold colons, an image's slashes."""
    if not text or re.search(r"\s", text):
        raise RejectedError(f"a name is needed after {kind}:", anchor=text)
    return Anchor(kind=kind, name=text)


def _is_name(text: str) -> bool:
    return re.fullmatch(r"[^\s/:]+", text) is not None


_READERS: Final = {
    AnchorKind.POD: _pod,
    AnchorKind.WORKLOAD: _workload,
    AnchorKind.SERVICE_ACCOUNT: _service_account,
    AnchorKind.IP: _address,
}
