"""The hot index on OpenSearch, retention's side: daily indices, made beforehand and dropped when they are old.

It imports no Arrow, because retention needs none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ashiato.adapters import opensearch_mapping as mapping
from ashiato.adapters.opensearch_client import OpenSearchClient
from ashiato.core.errors import AlreadyExistsError, NotHeldError


class OpenSearchKeeper:
    """Retention's side: makes and deletes daily indices."""

    def __init__(self, client: OpenSearchClient, *, replicas: int = 1) -> None:
        """``replicas`` of each index; 0 for a single node."""
        self._client = client
        self._replicas = replicas

    async def prepare(self, days: Sequence[str], classes: Sequence[str]) -> None:
        """Make the template, the fixed indices, and the indices of these UTC days and classes.

        Raises:
            RejectedError: a day or class cannot stand in a name.
            RefusedError: the credentials do not allow it.
            TransientError: not reachable.

        """
        wanted = [mapping.index_of(name, day) for day in days for name in classes]
        await self._client.ask(
            "PUT", f"/_index_template/{mapping.TEMPLATE}", body=mapping.template(replicas=self._replicas)
        )
        present = set(await self._names())
        if mapping.index_behind(mapping.STATE) not in present:
            await self._create(mapping.STATE, mapping.state_index(replicas=self._replicas))
        for name in (mapping.MISDATED, *wanted):
            if mapping.index_behind(name) not in present:
                await self._create(name, {})

    async def days(self) -> Sequence[tuple[str, str]]:
        """Return (day, class) of every daily index, in order."""
        found = (mapping.day_and_class(name) for name in await self._names())
        return sorted(pair for pair in found if pair is not None)

    async def drop(self, day: str, retention_class: str) -> None:
        """Delete one daily index; one that is gone already is success."""
        try:
            await self._client.ask("DELETE", f"/{mapping.index_behind(mapping.index_of(retention_class, day))}")
        except NotHeldError:
            return

    async def close(self) -> None:
        """Let go of the connection."""
        await self._client.close()

    async def _names(self) -> list[str]:
        answer = await self._client.ask(
            "GET", f"/_cat/indices/{mapping.PREFIX}*", params={"format": "json", "h": "index"}
        )
        return [str(line["index"]) for line in answer.get("items", ())]

    async def _create(self, name: str, body: Mapping[str, object]) -> None:
        try:
            await self._client.ask("PUT", f"/{mapping.index_behind(name)}", body=mapping.aliased(name, body))
        except AlreadyExistsError:
            return
