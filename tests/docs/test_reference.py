"""The docs say what the code does."""

from __future__ import annotations

import re

from ashiato.core.invariants import ALL
from tests.docs.reference import PATH, ROOT, event_classes, render


def test_the_reference_is_what_the_code_says() -> None:
    written = PATH.read_text(encoding="utf-8")

    assert written == render(), "run: python -m tests.docs.reference"


def test_every_setting_has_a_sentence() -> None:
    settings = render().split("## Events")[0]

    bare = re.findall(r"^\| `(\w+)` \|.*\|  \|$", settings, re.MULTILINE)

    assert not bare, f"say what these settings do, in a docstring below each: {bare}"


def test_every_event_says_what_happened() -> None:
    assert event_classes()
    for event in event_classes():
        assert (event.__doc__ or "").strip(), event.__name__
        assert all(metric.help for metric in event.metrics), event.__name__


def test_every_invariant_is_named_by_a_test() -> None:
    folder = ROOT / "tests"
    text = "\n".join(path.read_text(encoding="utf-8") for path in folder.rglob("test_*.py") if "docs" not in path.parts)
    text += "\n".join(path.read_text(encoding="utf-8") for path in folder.rglob("*_contract.py"))

    missing = [number for number in ALL if not re.search(rf"\b{number}\b|_{number.lower()}_", text)]

    assert not missing, f"no test names these invariants: {missing}"


def test_every_command_of_the_readme_exists() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    reference = render()
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")

    for command in set(re.findall(r"^ashiato (\w+)", readme, re.MULTILINE)):
        assert f"### `ashiato {command}`" in reference
    for target in set(re.findall(r"`?make ([\w-]+)", readme)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
