"""The ready configurations of `experiments/configs`, each run with a tiny override.

On `$ROBUSTKIT_DATA` where it is set, otherwise on small files that are made here.
"""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from robustkit import models
from robustkit.cli.main import main

CONFIGS = Path(__file__).parents[2] / "experiments" / "configs"
DATA = Path(os.environ["ROBUSTKIT_DATA"]) if "ROBUSTKIT_DATA" in os.environ else None
INLINE = ("--executor=inline", "--workers=1")
BOX = "<xmin>4</xmin><ymin>4</ymin><xmax>40</xmax><ymax>40</ymax>"


def run(config: str, out: Path, *overrides: str) -> dict[str, Any]:
    """Return the summary of the command that a configuration is named after."""
    command = config.partition("-")[0]
    file = CONFIGS / f"{config}.yaml"
    assert main([command, f"--config={file}", *overrides, *INLINE, f"--out={out}"]) == 0
    assert (out / "report.html").is_file()
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return summary


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_configuration_says_how_it_is_launched(file: Path) -> None:
    command = file.stem.partition("-")[0]
    assert f"robustkit {command} --config experiments/configs/{file.name}" in file.read_text()
    assert main([command, f"--config={file}", "--print_config"]) == 0


def test_an_evolution_on_cifar10(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part, count in (("train", 400), ("test", 100)):
        arrays[f"x_{part}"] = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        arrays[f"y_{part}"] = np.arange(count) % 10
    if DATA is not None:
        with np.load(DATA / "cifar10.npz", allow_pickle=False) as whole:
            arrays = {name: whole[name][: len(known)] for name, known in arrays.items()}
    np.savez(tmp_path / "cifar.npz", **arrays)
    summary = run(
        "evolve-cifar10",
        tmp_path / "run",
        *(
            f"--data=npz:{tmp_path / 'cifar.npz'}",
            "--reference=small?width=8",
            "--surrogate=vgg3?width=4",
        ),
        *("--population=2", "--generations=1", "--screen=1", "--promote=1", "--train-size=100"),
        *("--epochs=1", "--final-epochs=1", "--final-seeds=1", "--test-size=50", "--views=1"),
        *("--max-params=30000", "--max-macs=300000", "--attack-steps=1", "--max-blocks=3"),
        *("--channels=[8]", "--kinds=[conv]", "--kernels=[3]", "--norms=[none]", "--batch-size=50"),
    )
    assert {"R", "E", "Rp"} <= summary["nets"].keys()


@pytest.mark.parametrize("name", ["clipart", "watercolor", "comic"])
def test_an_adaptation_from_voc(name: str, tmp_path: Path) -> None:
    if DATA is None:
        folders = {name: _voc(tmp_path / name) for name in ("voc", "clipart")}
        source, target = (f"voc:{folder}" for folder in folders.values())
        parts = {"source": f"{source}:train", "source-test": f"{source}:test"}
        parts |= {"target": f"{target}:train", "target-test": f"{target}:test"}
    else:
        people = f"voc:{DATA / 'people_art'}"
        parts = {"source": f"{people}:photo_train", "source-test": f"{people}:photo_test"}
        parts |= {"target": f"{people}:cubism_train", "target-test": f"{people}:cubism_test"}
    summary = run(
        f"adapt-voc-{name}",
        tmp_path / "run",
        *(f"--{part}={spec}" for part, spec in parts.items()),
        *("--detector=tiny_ssd?side=64&width=16", "--recipe=source,longer,fast,aligned"),
        *("--steps=2", "--warmup=1", "--batch-size=2", "--judge-images=2", "--judge-steps=1"),
        *("--seeds=1", "--no-bf16", "--loader-workers=1"),
    )
    assert list(summary["recipes"]) == ["source", "longer", "fast", "aligned"]
    assert len(summary["choice"]["tried"]) == 10


def _voc(folder: Path) -> Path:
    """Make a folder of VOC's layout with eight pictures of a person in each part."""
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    for part in ("train", "test"):
        names = [f"{part}{number}" for number in range(8)]
        (folder / "ImageSets" / "Main" / f"{part}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            Image.effect_noise((64, 64), 60).convert("RGB").save(
                folder / "JPEGImages" / f"{name}.jpg"
            )
            (folder / "Annotations" / f"{name}.xml").write_text(
                "<annotation><size><width>64</width><height>64</height></size>"
                f"<object><name>person</name><bndbox>{BOX}</bndbox></object></annotation>"
            )
    return folder


def test_transfer_between_models_of_imagenet(tmp_path: Path) -> None:
    if DATA is None:
        nets = []
        for name in ("small", "vgg3"):
            net = models.build(name, num_classes=1000, in_channels=3, image_size=32, seed=0)
            nets.append(f"{name}={tmp_path / name}.safetensors")
            models.save(net, tmp_path / f"{name}.safetensors")
        (tmp_path / "photos").mkdir()
        for number in range(8):
            picture = Image.effect_noise((40, 36), 60).convert("RGB")
            picture.save(tmp_path / "photos" / f"{number}.png")
        rows = [(f"{number}.png", number) for number in range(8)]
        spec = f"images:{tmp_path / 'photos'}?labels={tmp_path / 'labels.csv'}"
    else:
        pytest.importorskip("efficientnet_lite_pytorch")
        nets = ["lite0=tests.lite:lite0", "lite1=tests.lite:lite1"]
        folder = DATA / "imagenet1000"
        with (folder / "labels.csv").open(newline="") as lines:
            chosen = list(csv.DictReader(lines))[::250]
        rows = [(row["filename"], int(row["label"])) for row in chosen]
        spec = f"images:{folder / 'images'}?labels={tmp_path / 'labels.csv'}"
    with (tmp_path / "labels.csv").open("w", newline="") as lines:
        csv.writer(lines).writerows([("filename", "label"), *rows])
    summary = run(
        "transfer-imagenet",
        tmp_path / "run",
        *("--sources", *nets, "--targets", *nets, f"--data={spec}", "--test-size=4"),
        *("--attack=mifgsm?steps=1", f"--cache={tmp_path / 'cache'}"),
        "--gradients=0",
    )
    assert summary
