"""`robustkit explain --transfer`: images by what an attack on one net did to another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from robustkit import data, models
from robustkit.attacks import predict
from robustkit.cli.main import main
from robustkit.runs import RunFolder
from tests.robustkit.commands.test_attack import nets  # noqa: F401 - the fixture
from tests.robustkit.commands.test_transfer import Nets, transfer

QUICK = ["--method", "saliency", "--no-check"]
EPS = 0.15  # of `transfer` in those tests


@pytest.fixture(scope="module")
def evaluated(nets: Nets, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    out = tmp_path_factory.mktemp("explain-transfer") / "run"
    named = [f"{name}={spec}" for name, spec in nets.items()]
    # A radius at which some images mislead both nets, and some one alone.
    assert transfer(out, "--sources", named[0], "--targets", *named, "--attack", "fgsm") == 0
    return out


def show(evaluated: Path, out: Path, *flags: str) -> dict[str, Any]:
    arguments = ["--transfer", str(evaluated), *flags, *QUICK, "--out", str(out)]
    assert main(["explain", *arguments]) == 0
    found: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return found


@pytest.mark.parametrize("which", ["spared", "misled"])
def test_images_are_those_the_attack_did_this_to(
    evaluated: Path,
    nets: Nets,  # noqa: F811
    tmp_path: Path,
    which: str,
) -> None:
    out = tmp_path / "run"
    summary = show(evaluated, out, "--which", which, "--target", "true")
    indices = [int(image["index"].split()[1].strip(",")) for image in summary["images"]]
    assert len(indices) == min(12, summary["transfer"]["found"])
    test = data.load("digits").test
    chosen = torch.tensor(indices)
    with np.load(out / "maps.npz") as saved:
        made = torch.from_numpy(saved["images"])
    assert 0 < (made - test.floats(chosen)).abs().max() <= EPS + 1e-6
    labels = test.labels[chosen]
    first, second = (models.load(nets[name]) for name in ("first", "second"))
    for net in (first, second):
        assert bool((predict(net, test.images[chosen]).argmax(1) == labels).all())
    assert bool((predict(first, made).argmax(1) != labels).all())
    assert bool(((predict(second, made).argmax(1) != labels) == (which == "misled")).all())
    # Both kinds together are all images that the attack fools its source with.
    cell = json.loads((evaluated / "summary.json").read_text())["matrix"]["first"]["second"]
    misled = round(cell["fooling"]["rate"] * cell["fooling"]["n"])
    assert summary["transfer"]["fooling"] == cell["fooling"]["n"]
    assert summary["transfer"]["found"] == (
        misled if which == "misled" else cell["fooling"]["n"] - misled
    )
    assert f"second was {which} by" in (out / "report.html").read_text()


def test_the_same_images_before_the_attack_and_a_saved_configuration(
    evaluated: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    attacked = show(evaluated, tmp_path / "attacked")
    clean = show(evaluated, out, "--clean", "--pair", "first:second")
    named = [image["index"] for image in clean["images"]]
    assert [image["index"] for image in attacked["images"]] == [
        f"{each}, attacked" for each in named
    ]
    assert all(image["predicted"] == image["true"] for image in clean["images"])
    test = data.load("digits").test
    with np.load(out / "maps.npz") as saved:
        for row, name in enumerate(named):
            np.testing.assert_array_equal(
                saved["images"][row], test.floats(torch.tensor([int(name.split()[1])]))[0]
            )
    saved_one = ["--config", str(out / "config.yaml"), "--out", str(tmp_path / "again")]
    assert main(["explain", *saved_one]) == 0
    again = json.loads((tmp_path / "again" / "summary.json").read_text())
    assert again["images"] == clean["images"]
    assert RunFolder.open(out, command="explain").config["pair"] == "first:second"


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--which", "broken"], "--which: of --transfer it is spared or misled, not 'broken'"),
        (["--pair", "first:secnod"], "no such SOURCE:TARGET; did you mean 'first:second'"),
        (["--pair", "first:first"], "no such SOURCE:TARGET"),
        (["--index", "0"], "--index: --transfer has its own"),
        (["--image", "x.png"], "--image: --transfer has its own"),
        (["--data", "mnist"], "--data: --transfer has its own"),
        (["--split", "val"], "--split: --transfer has its own"),
        (["--model", "x.safetensors"], "--model: --transfer has its own"),
        (["--repair", "x"], "--repair and --transfer exclude each other"),
        (["--run", "x"], "--transfer: --run explains the checkpoints of a training"),
    ],
)
def test_what_does_not_go_with_it(
    evaluated: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    told: str,
) -> None:
    out = tmp_path / "run"
    assert main(["explain", "--transfer", str(evaluated), *flags, "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
    assert not out.exists()


def test_which_pair_and_of_what(
    nets: Nets,  # noqa: F811
    evaluated: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [f"{name}={spec}" for name, spec in nets.items()]
    both, own = tmp_path / "both", tmp_path / "own"
    assert transfer(both, "--sources", *given, "--targets", *given) == 0
    assert transfer(own, "--sources", given[0], "--targets", given[0]) == 0
    weak = tmp_path / "weak"  # an attack that fools nobody
    flags = ["--sources", given[0], "--targets", given[1], "--attack", "fgsm"]
    assert transfer(weak, *flags, "--eps", "0.0001") == 0
    unfinished = tmp_path / "unfinished"
    shutil.copytree(evaluated, unfinished)
    (unfinished / "summary.json").unlink()
    for flags, told in (
        (["--transfer", str(both)], "--pair: which of SOURCE:TARGET, first:second, second:first?"),
        (["--transfer", str(own)], "no net was attacked through another one"),
        (["--transfer", str(weak)], "of the 0 images that all nets get right"),
        (["--transfer", str(unfinished)], "not finished, there is nothing to explain yet"),
        (["--transfer", str(tmp_path / "none")], "there is no such folder"),
        (["--pair", "first:second"], "--pair is of --transfer DIR, which is missing"),
        (["--clean"], "--clean is of --transfer DIR, which is missing"),
        (["--which", "spared"], "of --repair DIR or --transfer DIR, which are missing"),
    ):
        assert main(["explain", *flags, "--out", str(tmp_path / "run")]) == 2
        assert told in capsys.readouterr().err
        assert not (tmp_path / "run").exists()


def test_another_net_under_the_same_name_is_noticed(
    nets: Nets,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, out = tmp_path / "first.safetensors", tmp_path / "run"
    shutil.copy(nets["first"], file)
    assert transfer(out, "--sources", str(file), "--targets", f"second={nets['second']}") == 0
    shutil.copy(nets["second"], file)
    assert main(["explain", "--transfer", str(out), "--out", str(tmp_path / "not")]) == 2
    assert "no more what they were; evaluate anew" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "change", "told"),
    [
        ("summary.json", "{}", "summary.json: object missing required field 'sets'"),
        ("summary.json", "[" * 100_000, "summary.json: lists and objects are nested"),
        ("config.yaml", {"sources": ...}, "config: object missing required field 'sources'"),
        ("config.yaml", {"seed": "x"}, "config.yaml: config: seed: expected 'int', got 'str'"),
        (
            "config.yaml",
            {"targets": "first"},
            "config.yaml: config: targets: expected 'array', got 'str'",
        ),
    ],
)
def test_an_evaluation_that_was_edited_is_one_line(
    evaluated: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    file: str,
    change: str | dict[str, object],
    told: str,
) -> None:
    run = shutil.copytree(evaluated, tmp_path / "edited")
    if isinstance(change, dict):
        saved = yaml.safe_load((run / file).read_text())
        named = {**saved["config"], **change}
        saved["config"] = {name: value for name, value in named.items() if value is not ...}
        change = yaml.safe_dump(saved)
    (run / file).write_text(change)
    out = tmp_path / "run"
    assert main(["explain", "--transfer", str(run), "--pair", "first:second", f"--out={out}"]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
    assert not out.exists()
