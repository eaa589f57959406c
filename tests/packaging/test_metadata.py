"""What is said of this release in several places is the same everywhere."""

from __future__ import annotations

import datetime
import re
from typing import Any

import pytest
import yaml

import robustkit
from tests.packaging.contents import PACKAGES, ROOT

# Of the Citation File Format 1.2.0: what a file must have, and what a reference must.
REQUIRED = {"authors", "cff-version", "message", "title"}
REFERENCE = {"authors", "title", "type"}


@pytest.fixture(name="citation")
def read_citation() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    return read


def test_the_citation_has_what_its_format_requires(citation: dict[str, Any]) -> None:
    assert citation.keys() >= REQUIRED
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert citation["license"] == "MIT"
    assert isinstance(citation["date-released"], datetime.date)
    assert all("name" in author for author in citation["authors"])


def test_the_papers_of_the_methods_can_be_found(citation: dict[str, Any]) -> None:
    assert len(citation["references"]) >= 2
    for paper in citation["references"]:
        assert paper.keys() >= REFERENCE
        assert re.fullmatch(r"10\.\d{4,9}/\S+", paper["doi"]), paper["title"]
        assert all(author.keys() >= {"family-names"} for author in paper["authors"])
        assert paper["start"] < paper["end"]


def test_citation_and_changelog_are_of_this_version(citation: dict[str, Any]) -> None:
    assert citation["version"] == robustkit.__version__
    changelog = (ROOT / "CHANGELOG.md").read_text()
    newest = re.search(r"^## (\S+) \((\S+)\)$", changelog, flags=re.MULTILINE)
    assert newest is not None
    assert newest[1] == robustkit.__version__
    assert newest[2] == str(citation["date-released"])


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_that_it_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()
