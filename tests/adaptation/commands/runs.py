"""A small adaptation that several files of tests look at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from robustkit.cli.main import main

RECIPES = "source,adversarial,aligned,teacher+free,oracle"
SMALL = [
    *("--source", "shapes:photo:16?side=64", "--target", "shapes:clipart:16?side=64"),
    *("--detector", "tiny_ssd?side=64&width=16", "--steps", "6", "--warmup", "2"),
    *("--batch-size", "4", "--judge-images", "4", "--judge-steps", "2", "--executor", "inline"),
    *("--workers", "1"),
]


def summary_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return found


@pytest.fixture(scope="session")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "adapt"
    assert main(["adapt", *SMALL, "--recipe", RECIPES, "--seeds", "2", "--out", str(out)]) == 0
    return out
