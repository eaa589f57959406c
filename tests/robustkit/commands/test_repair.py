"""`robustkit repair` from end to end, on the history of a short training."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from robustkit import data, models
from robustkit.attacks import predict
from robustkit.cli.main import main
from robustkit.errors import RunError
from robustkit.jobs import run_jobs
from robustkit.repair import Patch


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that is far from done, so that there is something to repair."""
    out = tmp_path_factory.mktemp("repair") / "train"
    flags = ["--data", "digits", "--model", "vgg3?width=8", "--epochs", "3", "--lr", "0.01"]
    flags += ["--schedule", "constant", "--warmup", "0", "--seed", "0"]
    assert main(["train", *flags, "--out", str(out)]) == 0
    return out


def mend(trained: Path, out: Path, *flags: str) -> int:
    quick = ["--attack-images", "20"]
    return main(["repair", "--run", str(trained), *quick, *flags, "--out", str(out)])


def test_a_repair_leaves_a_patch_and_figures_that_are_its_own(
    trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert (
        mend(
            trained, out, "--iterations", "5", "--runs", "2", "--on-empty", "grow", "--write-model"
        )
        == 0
    )
    summary = json.loads((out / "summary.json").read_text())
    model = models.load(trained / "history" / "epoch_0003.safetensors")
    patch = Patch.load(out / "patch.safetensors")
    repaired = patch.apply(model)
    assert models.digest(repaired) == models.digest(models.load(out / "model.safetensors"))
    splits = data.load("digits")
    for images, figures in ((splits.val, summary), (splits.test, summary["held_out"])):
        before = predict(model, images.images).argmax(dim=1) == images.labels
        after = predict(repaired, images.images).argmax(dim=1) == images.labels
        assert figures["acc_after"] == pytest.approx(float(after.double().mean()))
        assert figures["br"] == pytest.approx(float((before & ~after).sum() / before.sum()))
        assert figures["rr"] == pytest.approx(float((~before & after).sum() / (~before).sum()))
    assert summary["changed"] == len(patch)
    assert len(summary["runs"]) == 2
    page = (out / "report.html").read_text()
    assert page.count("<svg") == 2
    assert "data:image/png" in page


@pytest.mark.parametrize("method", ["arachne", "finetune", "anchored"])
def test_every_kind_of_method_runs(trained: Path, tmp_path: Path, method: str) -> None:
    budget = ["--iterations", "3"] if method == "arachne" else ["--steps", "20"]
    assert mend(trained, tmp_path / "run", "--method", method, *budget) == 0


def test_the_papers_protocol_has_no_held_out_images(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert mend(trained, out, "--protocol", "paper", "--iterations", "3", "--on-empty", "grow") == 0
    assert json.loads((out / "summary.json").read_text())["held_out"] is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--method", "hystory"], "did you mean 'history'?"),
        (["--labels", "cat"], "no class 'cat'"),
        (["--pairs", "3"], "expected TRUE:PREDICTED"),
        (["--layers", "head.9"], "no layer 'head.9'"),
        (["--repair-on", "test", "--held-out", "test"], "prove nothing"),
        (["--steps", "3"], "has no such setting"),
        (["--epoch", "9"], "no checkpoint of epoch 9 (there is 1 to 3)"),
        (["--previous", "x"], "--run has its own"),
    ],
)
def test_mistakes_are_said_in_one_line(
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    message: str,
) -> None:
    out = tmp_path / "run"
    assert mend(trained, out, *flags) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


def test_a_previous_model_of_another_architecture_is_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.safetensors"
    splits = data.load("digits")
    net = models.build(
        "small", num_classes=10, in_channels=1, image_size=16, classes=splits.train.classes
    )
    models.save(net, other)
    model = str(trained / "model.safetensors")
    flags = ["--model", model, "--previous", str(other), "--out", str(tmp_path / "run")]
    assert main(["repair", *flags]) == 2
    assert "of another architecture" in capsys.readouterr().err


KILLED = """
import os, signal, sys
import robustkit.commands.repair.search as states
from robustkit.cli.main import main
from robustkit.jobs import run_jobs

states.EVERY = 0.0
save = states.save_state

def save_and_fall(folder, search, key, number):
    save(folder, search, key, number)
    if (number, int(search.swarms.iteration.max())) == (int(os.environ.get("FALL", 0)), 4):
        os.kill(os.getpid(), signal.SIGKILL)

states.save_state = save_and_fall
main(sys.argv[1:])
"""


def test_a_killed_search_goes_on_where_it_was(trained: Path, tmp_path: Path) -> None:
    flags = ["--run", str(trained), "--iterations", "8", "--runs", "2", "--on-empty", "grow"]
    flags += ["--attack-images", "0"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(["repair", *flags, "--out", str(whole)]) == 0
    command = [sys.executable, "-c", KILLED, "repair", *flags, "--out", str(killed)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert not (killed / "summary.json").exists()
    state = killed / "search-0.safetensors"
    assert state.exists()
    assert main(["repair", "--resume", str(killed)]) == 0
    assert not state.exists()
    patches = [Patch.load(out / "patch.safetensors") for out in (whole, killed)]
    assert patches[0].child == patches[1].child
    summaries = [json.loads((out / "summary.json").read_text()) for out in (whole, killed)]
    for summary in summaries:
        assert summary.pop("seconds") > 0
    assert summaries[0] == summaries[1]


@pytest.mark.parametrize("method", [["--on-empty", "grow"], ["--method", "finetune"]])
def test_a_repair_is_the_same_on_every_executor(
    trained: Path, tmp_path: Path, method: list[str]
) -> None:
    length = ["--steps", "20"] if "finetune" in method else ["--iterations", "5"]
    flags = ["--run", str(trained), "--runs", "3", "--attack-images", "0", *method, *length]
    found = []
    for name, executor in (
        ("inline", ["--executor", "inline"]),
        ("processes", ["--executor", "processes", "--workers", "2"]),
    ):
        out = tmp_path / name
        assert main(["repair", *flags, *executor, "--out", str(out)]) == 0
        summary = json.loads((out / "summary.json").read_text())
        assert summary.pop("seconds") > 0
        assert len(summary["runs"]) == 3
        assert not list(out.glob("search-*"))
        found.append((summary, Patch.load(out / "patch.safetensors").child))
    assert found[0] == found[1]


def test_a_worker_that_localised_other_weights_is_found_out(
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def elsewhere(*arguments: Any, **options: Any) -> list[Any]:
        return [replace(found, key="another") for found in run_jobs(*arguments, **options)]

    monkeypatch.setattr("robustkit.commands.repair.search.run_jobs", elsewhere)
    flags = ["--iterations", "2", "--on-empty", "grow", "--executor", "processes"]
    assert mend(trained, tmp_path / "run", *flags) == 2
    assert "a worker localised other weights" in capsys.readouterr().err


def test_a_search_stopped_inline_goes_on_in_processes(trained: Path, tmp_path: Path) -> None:
    """The second run was under way, the first was done: neither is searched again."""
    flags = ["--run", str(trained), "--iterations", "8", "--runs", "2", "--on-empty", "grow"]
    flags += ["--attack-images", "0"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(["repair", *flags, "--out", str(whole)]) == 0
    command = [sys.executable, "-c", KILLED, "repair", *flags, "--out", str(killed)]
    ended = subprocess.run(command, check=False, env=os.environ | {"FALL": "1"})
    assert ended.returncode == -signal.SIGKILL
    assert (killed / "search-0.safetensors").exists()
    assert (killed / "search-1.safetensors").exists()
    moved = ["--executor", "processes", "--workers", "2"]
    assert main(["repair", "--resume", str(killed), *moved]) == 0
    patches = [Patch.load(out / "patch.safetensors") for out in (whole, killed)]
    assert patches[0].child == patches[1].child


def test_a_damaged_state_of_a_search_is_said_and_kept(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert mend(trained, out, "--iterations", "3", "--on-empty", "grow") == 0
    (out / "summary.json").unlink()
    (out / "search-0.safetensors").write_bytes(b"damaged")
    capsys.readouterr()
    assert main(["repair", "--resume", str(out)]) == 2
    assert "search-0.safetensors: damaged" in capsys.readouterr().err
    assert (out / "search-0.safetensors").exists()


def test_a_budget_is_for_what_minds_it(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mend(trained, tmp_path / "run", "--budget", "0.01") == 2
    assert "--budget: the fitness 'history' has none; guarded does" in capsys.readouterr().err
    assert mend(trained, tmp_path / "run", "--method", "guarded", "--budget", "2") == 2
    assert "budget must be in [0,1]" in capsys.readouterr().err
    out = tmp_path / "none"
    flags = ["--method", "guarded", "--budget", "0", "--iterations", "3", "--on-empty", "grow"]
    assert mend(trained, out, *flags) == 0
    assert json.loads((out / "summary.json").read_text())["br"] == 0


def test_the_settings_of_a_repair_repeat_it(trained: Path, tmp_path: Path) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    assert mend(trained, first, "--iterations", "3", "--on-empty", "grow") == 0
    assert main(["repair", "--config", str(first / "config.yaml"), "--out", str(again)]) == 0
    patches = [Patch.load(out / "patch.safetensors") for out in (first, again)]
    assert patches[0].child == patches[1].child


def test_a_first_checkpoint_can_be_repaired_without_history(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mend(trained, tmp_path / "no", "--epoch", "1") == 2
    assert (
        "no checkpoint of epoch 0, which localisation by history needs" in capsys.readouterr().err
    )
    flags = ["--epoch", "1", "--method", "arachne", "--iterations", "2"]
    assert mend(trained, tmp_path / "run", *flags) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["n_deg"] is None


def test_a_saved_search_belongs_to_its_settings(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    flags = ["--run", str(trained), "--iterations", "8", "--on-empty", "grow"]
    flags += ["--attack-images", "0"]
    command = [sys.executable, "-c", KILLED, "repair", *flags, "--out", str(out)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    config = out / "config.yaml"
    config.write_text(config.read_text().replace("seed: 0", "seed: 5"))
    assert main(["repair", "--resume", str(out)]) == 2
    assert "or settings than config.yaml names" in capsys.readouterr().err
    state = out / "search-0.safetensors"
    whole = bytearray(state.read_bytes())
    whole[-1] ^= 1
    state.write_bytes(bytes(whole))
    assert main(["repair", "--resume", str(out)]) == 2
    assert "does not match its checksum" in capsys.readouterr().err


def test_what_was_found_is_kept_when_a_report_cannot_be_written(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise RunError("no space left")

    monkeypatch.setattr("robustkit.commands.repair.command.write_report", full)
    out = tmp_path / "run"
    assert mend(trained, out, "--iterations", "2", "--on-empty", "grow") == 2
    assert (out / "patch.safetensors").exists()
    assert (out / "summary.json").exists()


def test_tuning_by_the_clock_keeps_what_it_reached(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    flags = ["--method", "finetune", "--steps", "1000000", "--seconds", "1"]
    assert mend(trained, out, *flags) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["changed"] > 0
    assert summary["acc_after"] > summary["acc_before"]
