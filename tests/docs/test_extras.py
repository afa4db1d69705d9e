"""Each service's extra names exactly what the service can import: its image holds that and no more."""

from __future__ import annotations

import re
import sys
import tomllib

import grimp
import pytest

from tests.docs.reference import ROOT

OURS = ("ashiato", "collector", "ingest", "query", "retention")
DISTRIBUTION_OF = {
    "aiokafka": "aiokafka", "apscheduler": "apscheduler", "apsw": "apsw", "boto3": "boto3", "botocore": "boto3",
    "fastapi": "fastapi", "httpx": "httpx", "msgspec": "msgspec", "nacl": "pynacl", "numpy": "numpy",
    "opensearchpy": "opensearch-py",
    "orjson": "orjson", "prometheus_client": "prometheus-client", "pyarrow": "pyarrow", "pydantic": "pydantic",
    "pyfusefilter": "pyfusefilter",
    "rfc8785": "rfc8785", "rich": "rich", "starlette": "fastapi", "structlog": "structlog", "typer": "typer",
    "uvicorn": "uvicorn", "xxhash": "xxhash", "zstandard": "zstandard",
}  # fmt: skip
TYPES_ONLY = {"mypy_boto3_s3"}


@pytest.mark.parametrize("service", ["collector", "ingest", "query", "retention"])
def test_an_extra_names_what_its_service_imports(service: str) -> None:
    graph = grimp.build_graph(*OURS, include_external_packages=True, exclude_type_checking_imports=True)
    modules = {module for module in graph.modules if module == service or module.startswith(f"{service}.")}
    reached = set(modules)
    for module in modules:
        reached |= graph.find_upstream_modules(module)
    outside = {module.partition(".")[0] for module in reached} - set(OURS) - sys.stdlib_module_names - TYPES_ONLY

    needed = {DISTRIBUTION_OF[name] for name in outside}

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert needed - _names(project["dependencies"]) == _names(project["optional-dependencies"][service])


def _names(wanted: list[str]) -> set[str]:
    return {re.split(r"[\[<>=!~ ]", name, maxsplit=1)[0] for name in wanted}
