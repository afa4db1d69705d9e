"""What a node has to trust: the collector's own environment, made as its image makes it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES_MAX = 15
NOT_ON_A_NODE = ("pydantic", "boto3", "botocore", "fastapi", "opensearchpy", "numpy", "pyarrow")
LOOK = """
import importlib.metadata, importlib.util, json, pkgutil, sys
import collector
for module in pkgutil.walk_packages(collector.__path__, "collector."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
import collector.__main__
json.dump(
    {
        "packages": sorted(distribution.metadata["Name"] for distribution in importlib.metadata.distributions()),
        "found": [name for name in sys.argv[1:] if importlib.util.find_spec(name) is not None],
    },
    sys.stdout,
)
"""


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an environment that holds the collector's extra and nothing else."""
    folder = tmp_path_factory.mktemp("node")
    uv = Path(sys.executable).parent / "uv"
    python = folder / "venv/bin/python"
    for arguments in (
        ("venv", "--quiet", "--python", sys.executable, str(folder / "venv")),
        ("pip", "install", "--quiet", "--python", str(python), f"{ROOT}[collector]"),
    ):
        subprocess.run([uv, *arguments], check=True, timeout=240)
    return python


def test_a_node_holds_few_packages_and_none_of_the_heavy_ones(interpreter: Path) -> None:
    told = subprocess.run(
        [interpreter, "-c", LOOK, *NOT_ON_A_NODE],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=interpreter.parent,
    )
    assert told.returncode == 0, told.stderr
    there = json.loads(told.stdout)

    assert "ashiato" in there["packages"]
    assert len(there["packages"]) <= PACKAGES_MAX, there["packages"]
    assert there["found"] == []
