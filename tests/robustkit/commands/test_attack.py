"""`robustkit attack` from nets to report, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from robustkit import attacks, data, models
from robustkit.cli.main import main
from robustkit.cli.models import name_models
from robustkit.errors import ConfigError
from robustkit.training import TrainConfig, fit

FEW = ["--test-size", "60", "--probe", "40", "--device", "cpu"]


@pytest.fixture(scope="session")
def nets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files of two nets trained on digits."""
    folder, splits = tmp_path_factory.mktemp("nets"), data.load("digits")
    mean, std = data.channel_stats(splits.train)
    files = {}
    for seed, name in enumerate(("first", "second")):
        net = models.build(
            "small",
            num_classes=10,
            in_channels=1,
            image_size=16,
            classes=splits.train.classes,
            mean=mean,
            std=std,
            seed=seed,
        )
        fit(net, splits, TrainConfig(epochs=2, seed=seed))
        files[name] = str(folder / f"{name}.safetensors")
        models.save(net, files[name])
    return files


def attack(out: Path, *arguments: str) -> int:
    return main(["attack", "--data", "digits", "--out", str(out), *FEW, *arguments])


def test_an_evaluation_leaves_summary_and_report(
    nets: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    listed = ["--attack", "fgsm", "pgd?steps=5", "torchattacks:PGD?steps=3"]
    eps = ["--eps", "0.15,0.02", "--restarts", "2"]
    assert attack(out, "--model", *nets.values(), *listed, *eps) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert list(summary["models"]) == ["first", "second"]
    assert summary["eps"] == [0.02, 0.15]
    for judged in summary["models"].values():
        assert judged["n"] == 60
        assert 0 <= judged["low"] <= judged["robust_acc"] <= judged["high"] <= 1
        assert judged["robust_acc"] <= judged["clean_acc"]
        assert [point["eps"] for point in judged["curve"]] == [0.02, 0.15]
        accuracies = [point["robust_acc"] for point in judged["curve"]]
        assert accuracies == sorted(accuracies, reverse=True)
        assert judged["robust_acc"] == accuracies[-1]
        after = [each["robust_acc"] for each in judged["per_attack"].values()]
        assert list(judged["per_attack"]) == listed[1:]
        assert after == sorted(after, reverse=True)
        assert after[-1] == judged["robust_acc"]
        assert isinstance(judged["diagnostics"], list)
    page = (out / "report.html").read_text()
    assert "<svg" in page
    assert "Are the figures evidence?" in page
    assert "n = 60" in capsys.readouterr().out
    assert main(["report", str(out)]) == 0


def test_the_figure_is_that_of_the_library(nets: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert attack(out, "--model", f"mine={nets['first']}", "--attack", "fgsm", "--eps", "0.1") == 0
    (judged,) = json.loads((out / "summary.json").read_text())["models"].values()
    test = data.load("digits").test
    net = models.load(nets["first"])
    chosen = data.stratified_sample(test.labels, 60, 0)
    some = test.subset(chosen)
    made = attacks.FGSM(eps=0.1)(net, some.floats(), some.labels)
    with torch.no_grad():
        right = (net(made).argmax(1) == some.labels) & (net(some.floats()).argmax(1) == some.labels)
    assert judged["robust_acc"] == pytest.approx(float(right.double().mean()))


def test_a_run_can_be_repeated_from_its_folder(nets: dict[str, str], tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    listed = ["--attack", "fgsm", "pgd?steps=2", "--eps", "0.02,0.1"]
    assert attack(first, "--model", *nets.values(), *listed) == 0
    again = ["attack", "--config", str(first / "config.yaml"), "--out", str(second)]
    assert main(again) == 0
    one, two = (json.loads((out / "summary.json").read_text()) for out in (first, second))
    for summary in (one, two):
        for judged in summary["models"].values():
            for point in judged["curve"]:
                del point["seconds"]
    assert one["models"] == two["models"]
    (tmp_path / "short.yaml").write_text(f"model: {nets['first']}\nattack: fgsm\n")
    short = ["--config", str(tmp_path / "short.yaml")]
    assert attack(tmp_path / "third", *short) == 0


PROBABILITIES = """
import torch
from robustkit import models

def net(num_classes, in_channels, image_size):
    body = models.load({file!r}).net
    return torch.nn.Sequential(body, torch.nn.Softmax(dim=1))

class Plain(torch.nn.Module):
    def forward(self, x):
        return torch.stack([x.mean(dim=(1, 2, 3)) * k for k in range(10)], dim=1)

def no_weights():
    return Plain()

def not_a_number(num_classes, in_channels, image_size):
    body = models.load({file!r}).net
    torch.nn.init.constant_(next(body.parameters()), float("nan"))
    return body

def detector():
    from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_fpn
    return fasterrcnn_mobilenet_v3_large_fpn(weights=None, weights_backbone=None).eval()
"""


def test_factories_that_are_no_classifiers_are_named(
    nets: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("soft_nets.py").write_text(PROBABILITIES.format(file=nets["first"]))
    assert attack(tmp_path / "run", "--model", "soft=soft_nets:net", "--attack", "fgsm") == 2
    assert "soft_nets:net: gives probabilities" in capsys.readouterr().err
    assert attack(tmp_path / "plain", "--model", "soft_nets:no_weights", "--attack", "fgsm") == 0
    assert "! clean accuracy at chance" in capsys.readouterr().out
    assert attack(tmp_path / "other", "--model", "soft_nets:not_a_number") == 2
    assert "soft_nets:not_a_number: its logits are not finite" in capsys.readouterr().err
    assert attack(tmp_path / "other", "--model", "soft_nets:detector") == 2
    said = capsys.readouterr().err
    assert "soft_nets:detector" in said
    assert said.count("\n") == 1


def test_weights_go_to_the_models_that_are_no_files(nets: dict[str, str], tmp_path: Path) -> None:
    state = tmp_path / "weights.pt"
    torch.save(models.load(nets["first"]).net.state_dict(), state)
    given = ["--model", nets["first"], "copy=small", "--weights", str(state), "--attack", "fgsm"]
    assert attack(tmp_path / "run", *given) == 0
    judged = json.loads((tmp_path / "run" / "summary.json").read_text())["models"]
    for name in ("clean_acc", "robust_acc", "n"):
        assert judged["first"][name] == judged["copy"][name]


MISTAKES = [
    (["--attack", "pgdd"], "unknown attack 'pgdd'; did you mean 'pgd'"),
    (["--attack", "pgd?stepps=3"], "unknown parameter 'stepps'; did you mean 'steps'"),
    (["--attack", "torchattacks:PDG"], "torchattacks has no attack 'PDG'; did you mean 'PGD'"),
    (["--attack", "torchattacks:CW?cc=1"], "torchattacks:CW: unknown parameter 'cc'"),
    (["--attack", "pgd?alpha=-1"], "alpha must be at least 0, not -"),
    (["--attack", "pgd", "pgd"], "the same attack twice"),
    (["--eps", "1.5"], "eps must be in [0, 1]"),
    (["--eps", "8/255,oops"], "--eps"),
    (["--norm", "l3"], "unknown norm 'l3'"),
    (["--norm", "l2", "--eps", "1e38"], "eps must be at most 16 in l2"),
    (["--attack", "pgd?eps=0.1"], "set eps by --eps"),
    (["--attack", "pgd?norm=l2"], "set norm by --norm"),
    (["--attack", "torchattacks:PGD?targeted=true"], "set targeted by"),
    (["--attack", "torchattacks:APGD?loss=dlrr"], "torchattacks:APGD"),
    (["--attack", "torchattacks:Square?loss=foo"], "torchattacks:Square"),
    (["--attack", "torchattacks:PIFGSM"], "torchattacks:PIFGSM failed on images of 1x16x16"),
    (["--attack", "torchattacks:LGV?epochs=0"], "epochs must be at least 1"),
    (["--model", "=x.safetensors"], "expected NAME=MODEL"),
    (["--restarts", "0"], "restarts must be at least 1"),
    (["--probe", "-1"], "probe must be at least 0"),
    (["--split", "trian"], "split must be test, val or train, not 'trian'"),
    (["--batch-size", "0"], "--batch-size must be auto or a whole number from 1 on, not '0'"),
    (["--test-size", "0"], "--test-size must be at least 1"),
    (["--test-size", "100000"], "100000"),
    (["--model", "small"], "small: untrained; give a trained model's file"),
    (["--model", "no/such.safetensors"], "no/such.safetensors"),
    (["--weights", "w.safetensors"], "--weights w.safetensors: no model left"),
    (["--data", "digitts"], "unknown data 'digitts'; did you mean 'digits'"),
    (["--attak", "pgd"], "unknown option '--attak'; did you mean '--attack'"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_mistakes_get_one_line_and_leave_nothing(
    nets: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    out = tmp_path / "run"
    model = [] if "--model" in arguments else ["--model", nets["first"]]
    assert attack(out, *model, *arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("robustkit: error: ")
    assert said.count("\n") == 1
    assert message in said
    assert not out.exists()


def test_no_model_at_all_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert attack(tmp_path / "run") == 2
    assert "--model: name at least one model" in capsys.readouterr().err


def test_models_of_other_classes_or_channels_are_refused(
    nets: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    renamed = models.build(
        "small", num_classes=10, in_channels=1, image_size=16, classes="abcdefghij", seed=0
    )
    models.save(renamed, tmp_path / "letters.safetensors")
    colour = models.build("small", num_classes=10, in_channels=3, image_size=16, seed=0)
    models.save(colour, tmp_path / "colour.safetensors")
    few = models.build("small", num_classes=4, in_channels=1, image_size=16, seed=0)
    models.save(few, tmp_path / "few.safetensors")
    for name, message in (("few", "its classes are 0, 1, 2, 3, those of digits"), ("colour", "3")):
        file = str(tmp_path / f"{name}.safetensors")
        assert attack(tmp_path / "run", "--model", nets["first"], file) == 2
        said = capsys.readouterr().err
        assert f"{name}.safetensors" in said
        assert message in said
    # Names on one side alone: by index, and said.
    letters = str(tmp_path / "letters.safetensors")
    assert attack(tmp_path / "run", "--model", nets["first"], letters) == 0
    assert "letters: classes matched by index" in capsys.readouterr().out


def test_nets_go_by_short_names_that_differ() -> None:
    assert name_models(["a/R.safetensors", "b/R.safetensors", "E=c/E-0.safetensors"]) == {
        "R": "a/R.safetensors",
        "b/R": "b/R.safetensors",
        "E": "c/E-0.safetensors",
    }
    assert name_models(["pkg.mod:make", "vgg11?width=16"]) == {
        "pkg.mod:make": "pkg.mod:make",
        "vgg11?width=16": "vgg11?width=16",
    }
    with pytest.raises(ConfigError, match="two models called 'E': write NAME="):
        name_models(["E=a.safetensors", "E=b.safetensors"])
