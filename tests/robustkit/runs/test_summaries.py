"""Summaries as types: what was ever committed fits them, and what was edited is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml

from robustkit.cli.models import check_code
from robustkit.commands.attack import result as of_attack
from robustkit.commands.transfer import result as of_transfer
from robustkit.errors import ModelError, RunError
from robustkit.geometry import INTERPOLATIONS
from robustkit.report import label
from robustkit.runs import RunFolder
from robustkit.runs.summaries import SavedGeometry
from tests.hostile.cases.summaries_models import PLACES
from tests.hostile.edits import paths
from tests.hostile.fixtures import made

COMMITTED = Path(__file__).parents[3] / "experiments" / "results" / "transfer-cifar10"
READERS: dict[str, Any] = {
    "attack": of_attack.read,
    "transfer-mifgsm": of_transfer.read,
    "transfer-pgd50": of_transfer.read,
}


def committed(name: str) -> RunFolder:
    """The folder of a committed run, of which there is no `env.json`."""
    saved = yaml.safe_load((COMMITTED / name / "config.yaml").read_text())
    return RunFolder(COMMITTED / name, saved["verb"], saved["config"], {})


@pytest.mark.parametrize("name", READERS)
def test_what_older_versions_wrote_is_read(name: str) -> None:
    summary = READERS[name](committed(name)).to_json()
    written = json.loads((COMMITTED / name / "summary.json").read_text())
    check_alike(written, summary)


def check_alike(written: Any, read: Any) -> None:
    """Whatever was read stands in the file, but for what older versions did not write."""
    if isinstance(read, dict) and isinstance(written, dict):
        for key, value in read.items():
            if key in written:
                check_alike(written[key], value)
            else:
                assert value in ([], None), key
    elif isinstance(read, list):
        for each in zip(written, read, strict=True):
            check_alike(*each)
    else:
        assert written == read


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"n": -1}, "summary.json: n: expected 'int' >= 0"),
        ({"models": {}}, "summary.json: models: expected 'object' of length >= 1"),
        ({"verb": "train"}, "summary.json: verb: the summary of 'train', in a run of 'attack'"),
        ({"format": 2}, "summary.json: format: 2, and this robustkit reads up to 1"),
        ({"attacks": ["pgd"]}, r"models.vgg5.curve\[0\].per_attack: 'pgd' is missing"),
        ({"eps": [0.1]}, r"models.vgg5.curve: expected 1 entries, not 4"),
    ],
)
def test_what_was_edited_is_named(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    written = json.loads((COMMITTED / "attack" / "summary.json").read_text())
    (tmp_path / "summary.json").write_text(json.dumps(written | change))
    with pytest.raises(RunError, match=told):
        of_attack.read(RunFolder(tmp_path, "attack", {}, {}))


def test_an_interval_whose_ends_are_turned_is_named(tmp_path: Path) -> None:
    written = json.loads((COMMITTED / "transfer-pgd50" / "summary.json").read_text())
    written["matrix"]["vgg5"]["vgg5"]["all"] |= {"low": 0.9, "high": 0.1}
    (tmp_path / "summary.json").write_text(json.dumps(written))
    with pytest.raises(RunError, match=r"matrix\.vgg5\.vgg5\.all: low 0\.9 and high 0\.1"):
        of_transfer.read(RunFolder(tmp_path, "transfer", {}, {}))


def test_the_filters_of_a_geometry_are_all_told() -> None:
    assert get_args(get_type_hints(SavedGeometry)["interpolation"]) == INTERPOLATIONS


def test_a_folder_runs_no_code_by_itself(tmp_path: Path) -> None:
    check_code(["net.safetensors", "vgg3", "own.py:make?width=8"], ["own.py:make"], tmp_path)
    with pytest.raises(ModelError, match=r"if you trust it, say so: --trust own\.py:make"):
        check_code(["own.py:make?width=8"], ["own.py:other"], tmp_path)


def test_names_in_figures_are_one_short_line() -> None:
    assert label("a$b_c") == r"a\$b_c"
    assert label("_a\n\x1b") == "\u200b_a\\n\\x1b"
    assert label("W" * 80) == "W" * 80
    assert len(label("W" * 81)) == 80


@pytest.mark.slow
@pytest.mark.parametrize("kind", PLACES)
def test_every_place_of_a_summary_is_edited(kind: str, tmp_path: Path) -> None:
    summary = json.loads((made(tmp_path, kind) / "summary.json").read_text())
    assert len(list(paths(summary))) == PLACES[kind]
