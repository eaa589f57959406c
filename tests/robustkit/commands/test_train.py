from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from robustkit import models
from robustkit.cli.main import main

Images = Callable[..., str]
QUICK = ["--epochs", "1", "--batch-size", "16", "--model", "small", "--device", "cpu"]


@pytest.fixture
def images(tmp_path: Path) -> Images:
    """Writes an npz of made-up images, two classes told apart by brightness."""

    def write(classes: int = 2, dtype: type = np.uint8, **replaced: np.ndarray) -> str:
        rng = np.random.default_rng(0)
        arrays: dict[str, np.ndarray] = {}
        for part, count in (("train", 80), ("test", 20)):
            labels = np.arange(count) % classes
            noise = rng.integers(0, 60, (count, 16, 16))
            arrays[f"x_{part}"] = (noise + 150 * labels[:, None, None] // classes).astype(dtype)
            arrays[f"y_{part}"] = labels.astype(np.int64)
        path = tmp_path / f"images{classes}.npz"
        arrays.update(replaced)
        np.savez(path, **arrays)  # type: ignore[arg-type]
        return f"npz:{path}"

    return write


def train(out: Path, *arguments: str) -> int:
    return main(["train", *QUICK, "--out", str(out), *arguments])


def test_a_training_leaves_model_history_summary_and_report(
    images: Images, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, data = tmp_path / "run", images()
    assert train(out, "--data", data, "--epochs", "3", "--lr", "0.02") == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["epochs"] == 3
    assert summary["data"] == data
    assert summary["model"] == "small"
    assert summary["clean"]["n"] == 20
    assert 0 <= summary["clean"]["low"] <= summary["clean_acc"] <= summary["clean"]["high"] <= 1
    assert summary["robust"] is None
    model = models.load(out / "model.safetensors")
    assert summary["params"] == sum(parameter.numel() for parameter in model.parameters())
    assert len(list((out / "history").glob("*.safetensors"))) == 3
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 3
    assert "<svg" in (out / "report.html").read_text()
    assert "n = 20" in capsys.readouterr().out


def test_a_run_can_be_repeated_from_its_folder_to_the_bit(images: Images, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert train(first, "--data", images(), "--seed", "3") == 0
    config = str(first / "config.yaml")
    assert main(["train", "--config", config, "--out", str(second)]) == 0
    pair = [models.load(out / "model.safetensors") for out in (first, second)]
    assert models.digest(pair[0]) == models.digest(pair[1])
    drawn = (first / "report.html").read_bytes()
    assert main(["report", str(first)]) == 0
    assert (first / "report.html").read_bytes() == drawn


def test_penalty_and_adversarial_training_are_recorded(images: Images, tmp_path: Path) -> None:
    data = images()
    assert train(tmp_path / "ref", "--data", data) == 0
    reference = str(tmp_path / "ref" / "model.safetensors")
    out = tmp_path / "run"
    penalty = ["--penalty-against", reference, "--lam", "1", "--augment", "flip", "--views", "2"]
    attack = ["--adversarial", "pgd", "--attack-steps", "1", "--eps", "8/255"]
    assert train(out, "--data", data, *penalty, *attack) == 0
    (epoch,) = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert 0 <= epoch["penalty"] <= 1
    summary = json.loads((out / "summary.json").read_text())
    assert summary["robust"]["n"] == 20
    assert summary["robust"]["rate"] <= summary["clean_acc"]
    assert summary["robust"]["attack"]["eps"] == 8 / 255
    doubts = [each["name"] for each in summary["robust"]["diagnostics"]]
    assert "softmax outputs" not in doubts


def test_a_penalty_on_noisy_views_is_trained_with(images: Images, tmp_path: Path) -> None:
    data = images()
    assert train(tmp_path / "ref", "--data", data) == 0
    against = ["--penalty-against", str(tmp_path / "ref" / "model.safetensors"), "--lam", "3"]
    digests = set()
    for number, options in enumerate(
        (
            [],
            ["--penalty-views", "mixed"],
            ["--penalty-views", "mixed", "--augment", "crop_flip", "--views", "2"],
            ["--penalty-every", "2"],
            ["--lam-ramp", "1"],
            ["--grad-loss", "margin"],
        )
    ):
        out = tmp_path / f"run{number}"
        assert train(out, "--data", data, *against, *options) == 0
        (epoch,) = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        assert 0 <= epoch["penalty"] <= 1
        digests.add(models.digest(models.load(out / "model.safetensors")))
    assert len(digests) == 6


def refused(capsys: pytest.CaptureFixture[str], out: Path, message: str, *arguments: str) -> None:
    """Exit code 2, one line on stderr with `message` in it, and nothing left behind."""
    assert train(out, *arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("robustkit: error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "digit"], "did you mean 'digits'?"),
        (["--data", "npz:nowhere.npz"], "nowhere.npz"),
        (["--data", "folder:nowhere"], "nowhere"),
        (["--eps", "8"], "eps must be in [0,1]"),
        (["--lam", "1e400"], "--lam: expected a number"),
        (["--seed", "-1"], "seed must be at least 0"),
        (["--epochs", "0"], "epochs must be at least 1"),
        (["--train-size", "1000000"], "1000000"),
        (["--model", "smal"], "did you mean 'small'?"),
        (["--model", "nowhere.safetensors"], "nowhere.safetensors"),
        (["--optimizer", "sdg"], "did you mean 'sgd'?"),
        (["--device", "tpu"], "tpu"),
        (["--lam", "1"], "--penalty-against MODEL"),
        (["--penalty-against", "m.safetensors"], "--lam 1"),
        (["--penalty-against", "small", "--lam", "1"], "untrained"),
        (
            ["--penalty-against", "m.safetensors", "--lam", "1", "--augment", "flip"],
            "give --views N",
        ),
        (["--weights", "nowhere.safetensors"], "nowhere.safetensors"),
        (["--penalty-every", "2"], "--penalty-every does nothing without a penalty"),
        (["--lam-ramp", "1"], "--lam-ramp does nothing without a penalty"),
        (["--penalty-every", "0"], "penalty_every must be at least 1, not 0"),
        (["--penalty-views", "nois"], "unknown penalty_views 'nois'"),
        (["--penalty-views", "corner", "--eps", "0.003"], "eps must be at least 1/255"),
        (["--penalty-views", "corner", "--augment", "crop"], "set views above 0"),
        (["--lam-ramp", "3", "--epochs", "2"], "lam_ramp must be at most the 2 epochs"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    refused(capsys, tmp_path / "run", message, *arguments)


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"x_train": np.zeros((80, 16, 16), np.float32)}, "float32"),
        ({"x_train": np.zeros((80, 16), np.uint8)}, "(80, 16)"),
        ({"y_train": np.full(80, -1)}, "-1"),
        ({"y_train": np.zeros(80)}, "float64"),
        ({"y_train": np.zeros(80, np.int64), "y_test": np.zeros(20, np.int64)}, "one class"),
        ({"y_train": np.arange(79) % 2}, "79"),
        ({"x_test": np.zeros((0, 16, 16), np.uint8), "y_test": np.zeros(0, np.int64)}, "test"),
        (
            {"x_train": np.zeros((80, 16, 20), np.uint8), "x_test": np.zeros((20, 16, 20), "u1")},
            "20x16 pixels",
        ),
    ],
)
def test_unusable_images_are_one_line(
    images: Images,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    replaced: dict[str, np.ndarray],
    message: str,
) -> None:
    refused(capsys, tmp_path / "run", message, "--data", images(**replaced))


@pytest.mark.parametrize("option", ["model: 2020", "data: 3", "out: [run]", "device: 1"])
def test_a_file_gives_text_where_text_is_needed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    file = tmp_path / "options.yaml"
    file.write_text(option)
    message = f"options.yaml: {option.partition(':')[0]}: expected text"
    refused(capsys, tmp_path / "run", message, "--config", str(file))


def test_a_missing_key_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "half.npz", x_train=np.zeros((4, 16, 16), np.uint8))
    refused(capsys, tmp_path / "run", "y_train", "--data", f"npz:{tmp_path / 'half.npz'}")


def test_a_model_for_other_classes_is_refused(
    images: Images, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = models.build("small", num_classes=3, in_channels=1, image_size=16, seed=0)
    models.save(model, tmp_path / "three.safetensors")
    file = str(tmp_path / "three.safetensors")
    refused(capsys, tmp_path / "run", "3 classes", "--data", images(), "--model", file)


def test_a_truncated_model_is_refused(
    images: Images, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = models.build("small", num_classes=2, in_channels=1, image_size=16, seed=0)
    file = tmp_path / "half.safetensors"
    models.save(model, file)
    file.write_bytes(file.read_bytes()[:-100])
    refused(capsys, tmp_path / "run", "half.safetensors", "--data", images(), "--model", str(file))


def test_an_existing_folder_is_not_touched(
    images: Images, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious").write_text("mine")
    assert train(tmp_path / "run", "--data", images()) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["precious"]


def test_a_divergence_says_what_to_try(
    images: Images, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path / "run", "--data", images(), "--lr", "1e30", "--epochs", "3") == 2
    error = capsys.readouterr().err
    assert "diverged" in error
    assert "lower --lr" in error


def test_a_full_disk_is_one_line(
    images: Images,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*arguments: object, **named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert train(tmp_path / "run", "--data", images()) == 2
    error = capsys.readouterr().err
    assert "no space left on the device" in error
    assert error.count("\n") == 1


def test_the_global_generator_is_left_alone(images: Images, tmp_path: Path) -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    assert train(tmp_path / "run", "--data", images()) == 0
    assert torch.equal(torch.get_rng_state(), before)


def test_epochs_go_to_tensorboard_when_asked(images: Images, tmp_path: Path) -> None:
    assert train(tmp_path / "run", "--data", images(), "--tensorboard") == 0
    assert list((tmp_path / "run" / "tensorboard").glob("events.out.tfevents.*"))


def test_a_missing_tensorboard_is_said_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    refused(capsys, tmp_path / "run", "pip install 'robustkit[tensorboard]'", "--tensorboard")
