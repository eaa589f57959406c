"""`robustkit explain --run`: the maps of every checkpoint of a training, on any executor."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from robustkit import data, models
from robustkit.attacks import predict
from robustkit.cli.main import main
from robustkit.commands.explain.checkpoints import ExplainCheckpoint
from robustkit.commands.explain.panels import spread
from robustkit.runs import Ledger, RunFolder
from robustkit.training.checkpoints import spans

METHODS = ["cav", "saliency"]
QUICK = ["--index", "0,5,9", "--method", ",".join(METHODS), "--no-check"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("explain") / "train"
    flags = ["--data", "digits", "--model", "small", "--epochs", "3", "--seed", "0"]
    assert main(["train", *flags, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def explained(trained: Path) -> Path:
    out = trained.parent / "inline"
    assert main(["explain", "--run", str(trained), *QUICK, "--out", str(out)]) == 0
    return out


def arrays(out: Path) -> dict[str, Any]:
    with np.load(out / "maps.npz") as saved:
        return dict(saved)


def test_two_workers_give_what_one_gives_to_the_bit(
    trained: Path, explained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    flags = [*QUICK, "--executor", "processes", "--workers", "2", "--out", str(out)]
    assert main(["explain", "--run", str(trained), *flags]) == 0
    for name in ("maps.npz", "summary.json", "strip_000_cav.png"):
        assert (out / name).read_bytes() == (explained / name).read_bytes()
    assert not (out / "checkpoint").exists()


def test_every_checkpoint_is_explained_as_it_is_alone(
    trained: Path, explained: Path, tmp_path: Path
) -> None:
    summary = json.loads((explained / "summary.json").read_text())
    splits = data.load("digits")
    pixels = splits.test.images[[0, 5, 9]]
    nets = [models.load(trained / f"history/epoch_{epoch:04}.safetensors") for epoch in (1, 2, 3)]
    targets = predict(nets[-1], pixels).argmax(dim=1)
    assert summary["target_epoch"] == 3
    metrics = RunFolder.open(trained).metrics()
    for net, told, known in zip(nets, summary["epochs"], metrics, strict=True):
        assert (told["epoch"], told["val_acc"]) == (known["epoch"], known["val_acc"])
        logits = predict(net, pixels)
        for row, image in enumerate(told["images"]):
            assert image["target"] == splits.test.classes[targets[row]]
            assert image["predicted"] == splits.test.classes[logits[row].argmax()]
            assert image["score"] == pytest.approx(float(logits[row, targets[row]]), abs=1e-4)
    one = tmp_path / "one"
    model = str(trained / "history/epoch_0001.safetensors")
    flags = ["--index", "5", "--target", summary["images"][1]["target"], "--no-check"]
    flags += ["--method", "cav,saliency", "--out", str(one)]
    assert main(["explain", "--model", model, *flags]) == 0
    for name in METHODS:
        found = arrays(explained)[f"{name}/epoch_0001"]
        assert found.shape == (3, 16, 16)
        np.testing.assert_allclose(found[1], arrays(one)[name][0], atol=1e-5)


def test_likeness_is_with_the_last_epoch_and_the_one_before(explained: Path) -> None:
    summary = json.loads((explained / "summary.json").read_text())
    maps = arrays(explained)

    def oracle(name: str, first: int, second: int) -> list[float]:
        a, b = (maps[f"{name}/epoch_{epoch:04}"] for epoch in (first, second))
        return [spearmanr(x.ravel(), y.ravel()).statistic for x, y in zip(a, b, strict=True)]

    for name in METHODS:
        first, second, last = summary["changes"][name]
        assert first["previous"] is None
        for found, pair in (
            (first["final"], (1, 3)),
            (second["final"], (2, 3)),
            (second["previous"], (2, 1)),
            (last["previous"], (3, 2)),
            (last["final"], (3, 3)),
        ):
            expected = oracle(name, *pair)
            assert found["images"] == pytest.approx(expected)
            assert found["signed"]["mean"] == pytest.approx(np.mean(expected))
            assert found["signed"]["n"] == 3


def test_an_interrupted_run_goes_on_where_it_was(
    trained: Path,
    explained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, done = tmp_path / "run", ExplainCheckpoint.run
    ran: list[int] = []

    def striking(job: ExplainCheckpoint) -> Mapping[str, Any]:
        if job.epoch == 3 and len(ran) == 2:
            raise KeyboardInterrupt
        ran.append(job.epoch)
        return done(job)

    monkeypatch.setattr(ExplainCheckpoint, "run", striking)
    assert main(["explain", "--run", str(trained), *QUICK, "--out", str(out)]) == 130
    assert f"robustkit explain --resume {out}" in capsys.readouterr().err
    ran.append(0)
    assert main(["explain", "--resume", str(out), "--workers", "1", "--epochs", "1,2,3"]) == 0
    assert ran == [1, 2, 0, 3]
    for name in ("maps.npz", "summary.json"):
        assert (out / name).read_bytes() == (explained / name).read_bytes()
    before = {file: file.read_bytes() for file in out.iterdir()}
    assert main(["explain", "--resume", str(out)]) == 0
    assert {file: file.read_bytes() for file in out.iterdir()} == before
    assert main(["explain", "--resume", str(out), "--index", "1"]) == 2
    assert "option 'index' is" in capsys.readouterr().err


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut short"])
def test_maps_lost_on_the_way_are_made_anew(
    explained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: bytes
) -> None:
    out = tmp_path / "run"
    shutil.copytree(explained, out)
    for name in ("summary.json", "report.html", "maps.npz"):
        (out / name).unlink()
    (out / "checkpoint").mkdir()
    (out / "checkpoint" / "epoch_0002.npz").write_bytes(damage)
    assert main(["explain", "--resume", str(out)]) == 0
    assert "epoch_0002: its maps are lost or damaged and made anew" in capsys.readouterr().out
    for name in ("maps.npz", "summary.json"):
        assert (out / name).read_bytes() == (explained / name).read_bytes()


def test_the_report_is_drawn_from_the_folder_alone(explained: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    shutil.copytree(explained, alone)
    page = (alone / "report.html").read_text()
    (alone / "report.html").unlink()
    (alone / "ledger.sqlite").unlink()
    assert main(["report", str(alone)]) == 0
    assert (alone / "report.html").read_text() == page
    assert page.count("data:image/png") == 3 * len(METHODS)
    assert page.count("<svg") == 1
    assert "validation accuracy" in page


def test_maps_are_checked_epoch_by_epoch(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    flags = ["--index", "1,2", "--method", "saliency", "--epochs", "3,1", "--target", "true"]
    assert main(["explain", "--run", str(trained), *flags, "--steps", "4", "--out", str(out)]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert [each["epoch"] for each in summary["epochs"]] == [1, 3]
    assert summary["target_epoch"] is None
    assert list(summary["scores"]) == ["saliency", "random", "edges"]
    with Ledger.open(out / "ledger.sqlite") as ledger:
        result = ledger.get("epoch_0003").result  # type: ignore[union-attr]
    assert result is not None
    layers = list(summary["scores"]["saliency"]["sanity"]["cascading"])
    assert layers == result["layers"] != sorted(layers)
    brief = summary["epochs"][1]["scores"]
    for name in ("saliency", "random", "edges"):
        assert brief[name]["deletion"]["mean"] == summary["scores"][name]["deletion"]["mean"]
    page = (out / "report.html").read_text()
    assert page.count("<svg") == 4
    # What the folder says of itself makes the same run again.
    again = tmp_path / "again"
    assert main(["explain", "--config", str(out / "config.yaml"), "--out", str(again)]) == 0
    assert (again / "summary.json").read_bytes() == (out / "summary.json").read_bytes()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--run", "nowhere"], "nowhere is not a run folder: there is no such folder"),
        (["--run", "{explained}"], "is a run of 'explain', not of 'train'"),
        (["--run", "{bare}"], "no checkpoints in its history/, nothing to explain"),
        (["--run", "{damaged}"], "epoch_0002.safetensors: damaged"),
        (["--run", "{run}", "--epochs", "2,9"], "no checkpoint of epoch 9 (there is 1 to 3)"),
        (["--run", "{run}", "--epochs", "one"], "--epochs: numbers between commas, not 'one'"),
        (["--run", "{run}", "--epochs", "1,01"], "--epochs: the same epoch twice"),
        (["--run", "{run}", "--model", "x"], "--model: --run explains the checkpoints"),
        (["--run", "{run}", "--contrast", "x"], "--contrast: --run explains the checkpoints"),
        (["--run", "{run}", "--repair", "x"], "--repair: --run explains the checkpoints"),
        (["--run", "{run}", "--mask", "positive"], "--mask is for one model"),
        (["--run", "{run}", "--which", "broken"], "--which names images of --repair"),
        (["--run", "{run}", "--index", "447"], "--index 447: test has 447 images, 0 to 446"),
        (["--run", "{run}", "--image", "x.png"], "name the images: either --index"),
        (["--run", "{run}", "--layers", "net.no"], "no layer 'net.no'"),
        (["--run", "{run}", "--weights", "x"], "no model left to take them"),
        (["--run", "{run}", "--workers", "2"], "executor 'inline' runs one job at a time"),
        (["--run", "{run}", "--executor", "moon"], "unknown executor 'moon'"),
        (["--model", "{model}", "--epochs", "1"], "--epochs names checkpoints of --run DIR"),
        (["--model", "{model}", "--executor", "processes"], "--executor is for the checkpoints"),
        (["--model", "{model}", "--workers", "3"], "--workers is for the checkpoints of --run"),
    ],
)
def test_mistakes_are_said_in_one_line(
    trained: Path,
    explained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    told: str,
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(trained, bare, ignore=shutil.ignore_patterns("epoch_*"))
    damaged = tmp_path / "damaged"
    shutil.copytree(trained, damaged)
    os.truncate(damaged / "history/epoch_0002.safetensors", 3000)
    named = {"run": trained, "explained": explained, "bare": bare, "damaged": damaged}
    named["model"] = trained / "model.safetensors"
    out = tmp_path / "out"
    given = [flag.format(**named) for flag in flags]
    images = [] if "--index" in given else ["--index", "0"]
    assert main(["explain", *given, *images, "--no-check", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
    assert not out.exists()


def test_one_model_is_explained_as_ever(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, saved = tmp_path / "run", tmp_path / "saved.yaml"
    flags = ["--model", str(trained / "model.safetensors"), "--index", "0", "--no-check"]
    flags += ["--method", "saliency"]
    assert main(["explain", *flags, "--print_config"]) == 0
    saved.write_text(capsys.readouterr().out)
    assert main(["explain", "--config", str(saved), "--out", str(out)]) == 0
    assert not {"run", "epochs", "executor", "workers"} & set(RunFolder.open(out).config)
    assert not (out / "ledger.sqlite").exists()
    assert main(["explain", "--resume", str(out)]) == 2
    assert "only explanations with --run can be resumed" in capsys.readouterr().err


def test_the_printed_options_are_options(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved, out = tmp_path / "saved.yaml", tmp_path / "run"
    flags = ["--run", str(trained), "--index", "0", "--method", "saliency", "--no-check"]
    assert main(["explain", *flags, "--epochs", "2", "--print_config"]) == 0
    saved.write_text(capsys.readouterr().out)
    assert main(["explain", "--config", str(saved), "--out", str(out)]) == 0
    assert set(arrays(out)) == {"images", "saliency/epoch_0002"}


def test_epochs_in_words_and_evenly_spread() -> None:
    assert spans([]) == "none"
    assert spans([7, 1, 2, 3]) == "1 to 3, 7"
    assert spread(range(1, 6), 9) == [1, 2, 3, 4, 5]
    assert spread(range(1, 101), 4) == [1, 34, 67, 100]
