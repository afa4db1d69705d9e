"""OpenSearch, one node in the runner of its plugin authors: plain HTTP on loopback, no users."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import ClassVar

from tests.parts import artifacts
from tests.parts.process import Part, PartError, free_port_in

_ANSWER_SECONDS_MAX = 5
# The runner ends without a word where its base port is above these.
_RUNNERS_PORTS = range(9201, 9300)


class OpenSearchPart(Part):
    """A node. ``url`` is what a client needs."""

    name: ClassVar[str] = "opensearch"
    ports: ClassVar[Sequence[str]] = ("http",)

    @property
    def url(self) -> str:
        """``http://host:port``."""
        return f"http://127.0.0.1:{self.port('http')}"

    @property
    def cluster_name(self) -> str:
        """Its name, by which a stranger's node is told from ours."""
        return self.secret("ashiato")

    def choose_ports(self) -> dict[str, int]:
        """Return one of the hundred ports that the runner can use."""
        return {"http": free_port_in(_RUNNERS_PORTS)}

    def prepare(self) -> None:
        """Nothing: the runner writes its own configuration."""

    def settle(self) -> None:
        """Nothing: templates and indices are retention's to make."""

    def command(self) -> Sequence[str]:
        """The runner; it adds the node's number, 1, to the base port."""
        lib = artifacts.jars(self.name, artifacts.OPENSEARCH)
        return [
            str(artifacts.java()), "-Xms256m", "-Xmx768m", *self.java_options,
            "-cp", f"{lib}/*", "org.codelibs.opensearch.runner.OpenSearchRunner",
            "-basePath", str(self.folder / "node"), "-numOfNode", "1", "-clusterName", self.cluster_name,
            "-baseHttpPort", str(self.port("http") - 1),
        ]  # fmt: skip

    def answers(self) -> bool:
        """Whether our cluster answers, at our port, with its shards in place.

        Where the port is taken OpenSearch moves to the next one in silence; then a stranger answers here, or nobody.
        """
        try:
            health = self._get("/_cluster/health")
        except (OSError, urllib.error.URLError, ValueError):
            return False
        if health.get("cluster_name") != self.cluster_name:
            raise PartError(f"another OpenSearch answers at {self.url}: {health.get('cluster_name')}")
        return health.get("status") in ("yellow", "green")

    def _get(self, path: str) -> dict[str, object]:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=_ANSWER_SECONDS_MAX) as response:
            answer: dict[str, object] = json.load(response)
        return answer
