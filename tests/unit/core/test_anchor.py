"""Anchors as people type them."""

from __future__ import annotations

import pytest

from ashiato.core.anchor import NAME_CHARS_MAX, Anchor, AnchorKind, parse_anchor
from ashiato.core.errors import RejectedError


@pytest.mark.parametrize(
    ("text", "kind", "namespace", "name"),
    [
        ("web-1", "pod", "", "web-1"),
        ("shop/web-1", "pod", "shop", "web-1"),
        ("pod:web-1", "pod", "", "web-1"),
        (" pod: shop/web-1 ", "pod", "shop", "web-1"),
        ("uid:d875adb5-5797-4992-a017-cb7cf682544e", "uid", "", "d875adb5-5797-4992-a017-cb7cf682544e"),
        ("workload:Deployment/web", "workload", "", "deployment/web"),
        ("workload:shop/Deployment/web", "workload", "shop", "deployment/web"),
        ("node:node-1.example", "node", "", "node-1.example"),
        ("image:ghcr.io/a/b:v1@sha256:ab", "image", "", "ghcr.io/a/b:v1@sha256:ab"),
        ("sa:shop/default", "sa", "shop", "default"),
        ("sa:system:serviceaccount:shop:default", "sa", "shop", "default"),
        ("user:system:node:node-1", "user", "", "system:node:node-1"),
        ("user:田中@example.com", "user", "", "田中@example.com"),
        ("ip:10.2.3.4", "ip", "", "10.2.3.4"),
        ("ip:FE80:0::1", "ip", "", "fe80::1"),
    ],
)
def test_an_anchor_is_a_kind_and_a_name(text: str, kind: str, namespace: str, name: str) -> None:
    anchor = parse_anchor(text)
    assert anchor == Anchor(kind=AnchorKind(kind), namespace=namespace, name=name)
    assert parse_anchor(str(anchor)) == anchor


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "pod:NAME"),
        ("pod:", "pod:NAME"),
        ("pod:a/b/c", "pod:NAMESPACE/NAME"),
        ("pod:/b", "pod:NAMESPACE/NAME"),
        ("pods:web", "no such kind"),
        ("workload:web", "workload:KIND/NAME"),
        ("workload:a//b", "workload:KIND/NAME"),
        ("sa:default", "sa:NAMESPACE/NAME"),
        ("user:", "name is needed"),
        ("node:a b", "name is needed"),
        ("ip:10.2.3", "not an IP"),
        ("x" * (NAME_CHARS_MAX + 1), "too long"),
    ],
)
def test_what_is_no_anchor_is_refused_with_the_form_it_needs(text: str, hint: str) -> None:
    with pytest.raises(RejectedError, match=hint):
        parse_anchor(text)
