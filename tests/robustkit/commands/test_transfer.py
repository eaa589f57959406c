"""`robustkit transfer` from nets to report, and what it refuses."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustkit.attacks import crafting
from robustkit.cli.main import main
from tests.robustkit.commands.test_attack import nets  # noqa: F401 - the fixture

FEW = ["--test-size", "80", "--gradients", "40", "--device", "cpu", "--eps", "0.15"]
Nets = dict[str, str]


def transfer(out: Path, *arguments: str) -> int:
    cache = ["--cache", str(out.parent / "cache")]
    return main(["transfer", "--data", "digits", "--out", str(out), *cache, *FEW, *arguments])


def both(nets: Nets) -> list[str]:  # noqa: F811
    return ["--sources", *nets.values(), "--targets", *nets.values()]


def test_an_evaluation_leaves_summary_and_report(
    nets: Nets,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    assert transfer(out, *both(nets), "--targeted", "--ensembles", "logits", "loss") == 0
    summary = json.loads((out / "summary.json").read_text())
    sources = ["first", "second", "all, mean logits", "all, mean loss"]
    for kind in ("matrix", "flipped", "targeted"):
        assert list(summary[kind]) == sources
    for source in sources:
        for target in ("first", "second"):
            cell = summary["matrix"][source][target]
            for rate in (cell["headline"], cell["fooling"], cell["all"]):
                assert 0 <= rate["low"] <= rate["rate"] <= rate["high"] <= 1
            assert cell["headline"]["n"] == summary["n_common"]
            assert cell["all"]["n"] == 80
            assert -1 <= cell["cos_mean"] <= cell["cos_abs_mean"] <= 1
            steered = summary["targeted"][source][target]
            assert steered["reached"]["rate"] <= steered["headline"]["rate"]
    assert summary["matrix"]["first"]["first"]["cos_mean"] == pytest.approx(1)
    flipped = summary["flipped"]["first"]["first"]["headline"]["rate"]
    assert flipped < summary["matrix"]["first"]["first"]["headline"]["rate"]
    assert set(summary["mcnemar"]["first"]) == {"first | second"}
    assert summary["nets"]["first"]["grad_norm_mean"] > 0
    assert len(summary["cosines"]) == 6  # every two of two nets and two ensembles
    cosine = summary["cosines"]["first | second"]
    assert cosine.items() <= summary["matrix"]["first"]["second"].items()
    page = (out / "report.html").read_text()
    assert page.count("<svg") == 4
    assert "data:image/png" in page
    assert "first -> second" in capsys.readouterr().out
    assert main(["report", str(out)]) == 0


def test_the_second_time_everything_is_in_the_cache(nets: Nets, tmp_path: Path) -> None:  # noqa: F811
    for name in ("one", "two"):
        assert transfer(tmp_path / name, *both(nets)) == 0
    one, two = (json.loads((tmp_path / n / "summary.json").read_text()) for n in ("one", "two"))
    assert one["matrix"] == two["matrix"]
    assert one["sets"]["keys"] == two["sets"]["keys"]
    assert one["sets"]["misses"] > 0
    assert two["sets"]["misses"] == 0


@pytest.mark.parametrize("damage", ["half", "bits"])
def test_damage_in_the_cache_is_mended_and_said(
    nets: Nets,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: str,
) -> None:
    assert transfer(tmp_path / "one", *both(nets)) == 0
    for path in (tmp_path / "cache").iterdir():
        whole = path.read_bytes()
        flipped = whole[:-3] + bytes([whole[-3] ^ 16]) + whole[-2:]
        path.write_bytes(whole[: len(whole) // 2] if damage == "half" else flipped)
    capsys.readouterr()
    assert transfer(tmp_path / "two", *both(nets)) == 0
    said = capsys.readouterr().out
    assert "computed anew" in said
    one, two = (json.loads((tmp_path / n / "summary.json").read_text()) for n in ("one", "two"))
    assert one["matrix"] == two["matrix"]
    assert two["sets"]["notes"]
    assert "computed anew" in (tmp_path / "two" / "report.html").read_text()


def test_sets_go_out_and_come_in(nets: Nets, tmp_path: Path) -> None:  # noqa: F811
    first = ["--sources", nets["first"], "--targets", *nets.values()]
    assert transfer(tmp_path / "one", *first, "--export", "npz") == 0
    (file,) = (tmp_path / "one" / "sets").iterdir()
    given = ["--targets", *nets.values(), "--import", f"theirs={file}"]
    assert transfer(tmp_path / "two", *given) == 0
    one, two = (json.loads((tmp_path / n / "summary.json").read_text()) for n in ("one", "two"))
    for target in ("first", "second"):
        made, read = one["matrix"]["first"][target], two["matrix"]["theirs"][target]
        assert made["headline"] == read["headline"]
        assert read["fooling"]["n"] == 0
    provenance = two["sets"]["imported"]["theirs"]
    assert provenance["attack"]["name"] == "mifgsm"


def test_pictures_are_written(nets: Nets, tmp_path: Path) -> None:  # noqa: F811
    first = ["--sources", nets["first"], "--targets", nets["second"], "--no-control"]
    assert transfer(tmp_path / "run", *first, "--export", "png", "--test-size", "20") == 0
    (folder,) = (tmp_path / "run" / "sets").iterdir()
    assert len(list(folder.glob("*.png"))) == 20
    assert "flipped" not in json.loads((tmp_path / "run" / "summary.json").read_text())


def test_an_attack_that_trains_gets_the_training_images(nets: Nets, tmp_path: Path) -> None:  # noqa: F811
    attack = ["--attack", "torchattacks:LGV?epochs=1,nb_models_epoch=1", "--no-control"]
    few = ["--test-size", "20", "--gradients", "0"]
    assert transfer(tmp_path / "run", *both(nets), *attack, *few) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert len(summary["attack"]["examples"]) == 64
    assert summary["matrix"]["first"]["second"]["cos_mean"] is None


def test_a_run_can_be_repeated_from_its_folder(nets: Nets, tmp_path: Path) -> None:  # noqa: F811
    assert transfer(tmp_path / "one", *both(nets), "--ensembles", "loss") == 0
    config = str(tmp_path / "one" / "config.yaml")
    assert main(["transfer", "--config", config, "--out", str(tmp_path / "two")]) == 0
    one, two = (json.loads((tmp_path / n / "summary.json").read_text()) for n in ("one", "two"))
    assert one["matrix"] == two["matrix"]


FACTORY = """
import torch
from robustkit import models

class Rolled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = models.load({file!r})

    def forward(self, x):
        return self.body(x).roll({by}, dims=1)

def make():
    return Rolled()
"""


def test_a_factory_whose_code_changed_is_another_net(
    nets: Nets,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    accuracies = []
    for by in (0, 1):
        Path("rolled.py").write_text(FACTORY.format(file=nets["first"], by=by))
        sys.modules.pop("rolled", None)
        importlib.invalidate_caches()
        shutil.rmtree("__pycache__", ignore_errors=True)
        given = ["--sources", "net=rolled:make", "--targets", "net=rolled:make"]
        assert transfer(tmp_path / f"run{by}", *given) == 0
        summary = json.loads((tmp_path / f"run{by}" / "summary.json").read_text())
        accuracies.append(summary["nets"]["net"]["clean_acc"])
    assert accuracies[0] > 0.5 > accuracies[1]


def test_without_a_cache_nothing_is_kept_and_nothing_made_twice(
    nets: Nets,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []
    original = crafting.Recipe._crafted

    def count(*arguments: Any) -> Any:
        made.append(1)
        return original(*arguments)

    monkeypatch.setattr(crafting.Recipe, "_crafted", count)
    monkeypatch.setattr("robustkit.attacks.cache.SMALL", 0)
    few = ["--no-control", "--export", "npz", "--cache", "none"]
    assert transfer(tmp_path / "run", *both(nets), *few) == 0
    assert len(made) == 2
    assert not (tmp_path / "none").exists()


def mistakes(nets: Nets) -> list[tuple[list[str], str]]:  # noqa: F811
    first, second = nets.values()
    pair = ["--sources", first, "--targets", second]
    loss = ["--attack", "torchattacks:PGD", "--ensembles", "loss"]
    return [
        (["--targets", first], "--sources: name at least one model"),
        (["--sources", first], "--targets: name at least one model"),
        ([*pair, "--attack", "mifgsmm"], "unknown attack 'mifgsmm'; did you mean 'mifgsm'"),
        ([*pair, "--attack", "torchattacks:PDG"], "did you mean 'PGD'"),
        ([*pair, "--eps", "3"], "eps must be in [0, 1]"),
        ([*pair, "--attack", "mifgsm?alpha=-1"], "alpha must be at least 0, not -"),
        ([*pair, "--ensembles", "mean"], "unknown ensemble 'mean'"),
        ([*pair, "--ensembles", "loss"], "an ensemble needs at least two sources"),
        ([*pair, "--gradients", "-1"], "gradients must not be negative"),
        ([*pair, "--export", "jpg"], "--export must be none, npz, png, not 'jpg'"),
        ([*pair, "--import", "no.npz"], "no.npz: No such file"),
        (
            [*pair, "--attack", "torchattacks:DeepFool"],
            "which the control and targets need: say --no-control",
        ),
        (["--sources", f"x={first}", "--targets", f"x={second}"], "to tell them apart"),
        ([*pair, "--attack", "mifgsm?targeted=true"], "set targeted by"),
        ([*pair, "--gradients", "-3"], "gradients must not be negative, not -3"),
        ([*pair, "--cache", first], "cannot be a folder"),
        (["--sources", first, second, "--targets", first, *loss], "takes its own loss"),
        (["--sources", "resnet18", "--targets", first], "resnet18: untrained"),
    ]


@pytest.mark.parametrize("number", range(18))
def test_mistakes_get_one_line_and_leave_nothing(
    nets: Nets,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    number: int,
) -> None:
    arguments, message = mistakes(nets)[number]
    out = tmp_path / "run"
    assert transfer(out, *arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("robustkit: error: ")
    assert said.count("\n") == 1
    assert message in said
    assert not out.exists()


def test_an_npz_of_other_images_is_refused(
    nets: Nets,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    np.savez(tmp_path / "bad.npz", images=np.full((80, 1, 16, 16), 7.0))
    given = ["--targets", nets["first"], "--import", str(tmp_path / "bad.npz")]
    assert transfer(tmp_path / "run", *given) == 2
    assert "not in [0,1]" in capsys.readouterr().err


def test_an_evaluation_is_the_same_on_every_executor(
    nets: Nets,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # paths are those of the driver, wherever workers are
    there = [os.path.relpath(each, tmp_path) for each in nets.values()]
    flags = ["--sources", *there, "--targets", *there, "--ensembles", "logits", "--targeted"]
    summaries = []
    for number, executor in enumerate((["inline"], ["processes", "--workers", "2"])):
        out = tmp_path / str(number)
        cache = ["--cache", str(tmp_path / f"cache-{number}"), "--executor", *executor]
        assert transfer(out, *flags, *cache) == 0
        summaries.append(json.loads((out / "summary.json").read_text()))
    assert summaries[1]["sets"]["misses"] < summaries[0]["sets"]["misses"]  # the workers' work
    for summary in summaries:
        del summary["seconds"]
        summary["sets"] |= {"hits": 0, "misses": 0}
    assert summaries[0] == summaries[1]
    assert set(summaries[0]["matrix"]) == {"first", "second", "all, mean logits"}


def test_workers_need_no_cache_that_stays(nets: Nets, tmp_path: Path) -> None:  # noqa: F811
    flags = ["--cache", "none", "--no-control", "--executor", "processes", "--workers", "2"]
    assert transfer(tmp_path / "run", *both(nets), *flags) == 0
    assert not (tmp_path / "none").exists()


def test_an_executor_that_cannot_be_is_told_before_there_is_a_folder(
    nets: Nets,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ["--executor", "inline", "--workers", "3"]
    assert transfer(tmp_path / "run", *both(nets), *flags) == 2
    assert "executor 'inline' runs one job at a time, not 3" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
