"""The tour in `docs/tour.md`: its own commands, in order, with fewer generations and steps."""

from __future__ import annotations

import io
import json
import os
import re
import runpy
import shlex
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adaptation import detectors
from adaptation.adapt import AdaptOptions, make_detector
from robustkit import data, models, repair
from robustkit.attacks import predict
from robustkit.cli.main import main
from robustkit.cli.parser import config_from
from robustkit.errors import RobustkitError
from robustkit.runs import RunFolder

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tour.md"
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What the test sets otherwise, by verb; whatever else a command says, it does.
SHORTER = {
    "evolve": {
        **{"--population": "3", "--generations": "1", "--epochs": "1", "--final-epochs": "3"},
        **{"--final-seeds": "1", "--promote": "0", "--max-blocks": "3", "--channels": "[8,16]"},
        **{"--max-params": "40000", "--attack-steps": "3"},
        **{"--executor": "inline", "--workers": "1"},
    },
    "transfer": {"--gradients": "50"},
    "explain": {"--steps": "4"},
    "repair": {"--attack-images": "20"},
    "attack": {"--probe": "20"},
    "adapt": {
        **{"--seeds": "1", "--steps": "4", "--judge-steps": "1", "--judge-images": "4"},
        **{"--executor": "inline"},
    },
    "detect": {"--attack-images": "4", "--pictures": "2", "--attack-steps": "1"},
}
FEWER = ("shapes:clipart:200", "shapes:clipart:8"), ("shapes:comic:200", "shapes:comic:8")


def commands(block: str) -> list[list[str]]:
    """The arguments of every `robustkit` command of a fenced block."""
    lines = block.replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.strip()]


def shorter(arguments: list[str], pairs: str) -> list[str]:
    """The same command with the settings of `SHORTER`, and the confusions that were printed."""
    settings = dict(SHORTER.get(arguments[0], {}))
    if "--pairs" in arguments:
        settings["--pairs"] = pairs
    taken = list(arguments)
    for name, value in settings.items():
        if name in taken:
            taken[taken.index(name) + 1] = value
        else:
            taken += [name, value]
    for whole, few in FEWER:
        taken = [each.replace(whole, few) for each in taken]
    return taken


def walk(folder: Path, *, short: bool) -> list[str]:
    """Run every block of the page in `folder`; returns what the Python ones printed."""
    printed: list[str] = []
    before = Path.cwd()
    os.chdir(folder)
    try:
        for kind, block in BLOCK.findall(PAGE.read_text("utf-8")):
            if kind == "python":
                script = folder / "block.py"
                script.write_text(block, "utf-8")
                with redirect_stdout(io.StringIO()) as out:
                    runpy.run_path(str(script))
                printed.append(out.getvalue().strip())
                continue
            for each in commands(block):
                confused = printed[0] if printed else ""
                assert main(shorter(each, confused) if short else each) == 0, each
    finally:
        os.chdir(before)
    return printed


@pytest.fixture(scope="module")
def toured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("tour")
    return folder / "runs" / "tour", walk(folder, short=True)


def summary(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return found


def test_every_command_is_of_this_tool_and_has_its_own_folder() -> None:
    blocks = [block for kind, block in BLOCK.findall(PAGE.read_text("utf-8")) if kind == "sh"]
    made = [each[each.index("--out") + 1] for block in blocks for each in commands(block)]
    assert len(made) == len(set(made)) == 9
    for block in blocks:
        assert all(line.startswith(("robustkit ", "    ")) for line in block.splitlines())


def test_one_file_travels(toured: tuple[Path, list[str]]) -> None:
    tour, printed = toured
    net = models.load(tour / "evolved" / "nets" / "E-0.safetensors")
    e, r = models.digest(net), models.load(tour / "evolved" / "nets" / "R.safetensors")
    assert printed[-1].split() == ["repaired/model", "True", "detector/source-0", "True"]
    # What was attacked, repaired and put under a detector is E, by its file.
    for run, option in (("attacked", "targets"), ("after", "targets"), ("robust", "model")):
        named = dict(each.split("=") for each in RunFolder.open(tour / run).config[option])
        assert models.digest(models.load(tour.parents[1] / named["E"])) == e
    assert summary(tour / "repaired")["parent"] == e
    # Its patch is of E alone, and makes the file beside it.
    patch = repair.Patch.load(tour / "repaired" / "patch.safetensors")
    repaired = models.load(tour / "repaired" / "model.safetensors")
    assert models.digest(patch.apply(net)) == models.digest(repaired) != e
    with pytest.raises(RobustkitError):
        patch.apply(r)


def test_the_images_explained_are_those_the_attack_failed_on(
    toured: tuple[Path, list[str]],
) -> None:
    tour, _ = toured
    nets = tour / "evolved" / "nets"
    r, e = (models.load(nets / f"{name}.safetensors") for name in ("R", "E-0"))
    with np.load(tour / "why" / "maps.npz") as saved:
        made = torch.from_numpy(saved["images"])
    found = summary(tour / "why")
    rows = torch.tensor([int(each["index"].split()[1].strip(",")) for each in found["images"]])
    test = data.load("digits").test
    labels = test.labels[rows]
    assert 0 < (made - test.floats(rows)).abs().max() <= 0.15 + 1e-6
    assert bool((predict(r, made).argmax(1) != labels).all())
    assert bool((predict(e, made).argmax(1) == labels).all())
    cell = summary(tour / "attacked")["matrix"]["R"]["E"]["fooling"]
    assert found["transfer"]["found"] == cell["n"] - round(cell["n"] * cell["rate"])


def test_the_repair_is_judged_on_one_common_set(toured: tuple[Path, list[str]]) -> None:
    tour, printed = toured
    asked = {tuple(map(int, each.split(":"))) for each in printed[0].split(",")}
    test = data.load("digits").test
    nets = {
        "E": models.load(tour / "evolved" / "nets" / "E-0.safetensors"),
        "repaired": models.load(tour / "repaired" / "model.safetensors"),
        "R": models.load(tour / "evolved" / "nets" / "R.safetensors"),
    }
    said = {name: predict(net, test.images).argmax(1) for name, net in nets.items()}
    for index in summary(tour / "repaired")["repaired_indices"]:
        assert (int(test.labels[index]), int(said["E"][index])) in asked
    common = torch.stack([each == test.labels for each in said.values()]).all(dim=0)
    after = summary(tour / "after")
    assert after["n_common"] == int(common.sum())
    cells = [after["matrix"]["R"][name]["headline"]["n"] for name in ("E", "repaired")]
    assert cells == [int(common.sum())] * 2
    assert 0 <= after["mcnemar"]["R"]["E | repaired"] <= 1
    # E → R's adversarials are the same set in both evaluations: nothing is made twice.
    assert after["sets"]["keys"]["R"] == summary(tour / "attacked")["sets"]["keys"]["R"]
    assert set(summary(tour / "robust")["models"]) == {"E", "repaired"}


def test_the_detector_starts_from_these_weights(toured: tuple[Path, list[str]]) -> None:
    tour, _ = toured
    net = models.load(tour / "evolved" / "nets" / "E-0.safetensors")
    config = dict(RunFolder.open(tour / "detector", command="adapt").config)
    config["backbone"] = str(tour.parents[1] / config["backbone"])
    options = config_from(AdaptOptions, config)
    trained = detectors.load(tour / "detector" / "source-0.safetensors")
    fresh = make_detector(options, trained.classes, seed=1)
    own = net.net.state_dict()
    for made, same in ((fresh, True), (trained, False)):
        body: Any = made.net.get_submodule("backbone")
        taken = {
            name: each
            for name, each in body.net.state_dict().items()
            if not name.startswith("_tensor_constant")
        }
        assert taken.keys() <= own.keys()
        assert len(taken) > 2
        assert all(torch.equal(each, own[name]) for name, each in taken.items()) == same
    # What the repair moved is not in it: the repaired net is the same backbone.
    repaired = models.load(tour / "repaired" / "model.safetensors").net.state_dict()
    assert all(torch.equal(repaired[name], own[name]) for name in taken)
    # Its control has the same architecture, and other weights.
    other = detectors.load(tour / "detector-fresh" / "source-0.safetensors")
    assert other.card.architecture == trained.card.architecture
    assert other.card.parent != trained.card.parent
    assert summary(tour / "found")["images"] == 8


@pytest.mark.slow
def test_the_tour_as_it_is_written(tmp_path: Path) -> None:
    """Some minutes; the pairs named on the page are those that its own net confuses."""
    printed = walk(tmp_path, short=False)
    assert printed[-1].split() == ["repaired/model", "True", "detector/source-0", "True"]
