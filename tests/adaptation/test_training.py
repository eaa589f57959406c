"""The training of detectors: resumed to the same bits, shared by processes, stopped by a NaN."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from adaptation import detectors
from adaptation.evaluation import detect, evaluate
from adaptation.recipes import recipe
from adaptation.training import DetectionConfig, StepRecord, adapt_statistics, loop, train_detector
from adaptation.training.batches import draw_batch, mirrored
from adaptation.training.loop import learning_rate
from adaptation.training.methods import DomainClassifiers, follow, make_teacher, reversed_gradient
from adaptation.training.step import radius
from robustkit.data.detection import DetectionSet, load_detection, truth
from robustkit.errors import ConfigError, ModelError, RunError
from robustkit.jobs import DivergedError
from tests.adaptation.small import SPEC, fresh

RECIPES = ("source", "adversarial", "fast", "free", "aligned", "teacher", "adversarial+aligned",
           "free+teacher", "oracle")  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_a_resumed_training_is_the_same_to_the_bit(
    name: str,
    source: DetectionSet,
    target: DetectionSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = recipe(name, DetectionConfig(steps=7, batch_size=4, warmup=2, sure=0.05))
    labelled = target if config.domain == "target" else source
    whole: list[StepRecord] = []
    straight = train_detector(
        fresh(source.classes), labelled, config, target=target, on_step=whole.append
    )
    file = tmp_path / "state.safetensors"
    parts: list[StepRecord] = []

    def stop(record: StepRecord) -> None:
        parts.append(record)
        if record.step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "EVERY", 1)
    with pytest.raises(KeyboardInterrupt):
        train_detector(
            fresh(source.classes), labelled, config, target=target, checkpoint=file, on_step=stop
        )
    # Stopped after step 3, before it was written: step 3 is made again.
    del parts[2]
    resumed = train_detector(
        fresh(source.classes),
        labelled,
        config,
        target=target,
        checkpoint=file,
        on_step=parts.append,
    )
    assert parts == whole
    assert detectors.digest(resumed) == detectors.digest(straight)
    again = train_detector(fresh(source.classes), labelled, config, target=target, checkpoint=file)
    assert detectors.digest(again) == detectors.digest(straight)


def test_a_checkpoint_of_another_training_is_refused(source: DetectionSet, tmp_path: Path) -> None:
    file = tmp_path / "state.safetensors"
    config = DetectionConfig(steps=1, batch_size=2)
    train_detector(fresh(source.classes), source, config, checkpoint=file)
    wide = fresh(source.classes, "tiny_ssd?side=64&width=32")
    with pytest.raises(RunError, match="damaged, or the state of another training"):
        train_detector(wide, source, config, checkpoint=file)
    file.write_bytes(b"nothing")
    with pytest.raises(RunError, match="damaged"):
        train_detector(fresh(source.classes), source, config, checkpoint=file)


def test_a_loss_that_is_not_finite_stops_with_its_step_and_images(
    source: DetectionSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "state.safetensors"
    model = fresh(source.classes)

    def poison(record: StepRecord) -> None:
        if record.step == 2:
            next(iter(model.parameters())).data.fill_(torch.nan)

    monkeypatch.setattr(loop, "EVERY", 1)
    config = DetectionConfig(steps=9, batch_size=4)
    with pytest.raises(DivergedError, match=r"not finite at step 3, on train_0000\d\d, train_"):
        train_detector(model, source, config, checkpoint=file, on_step=poison)
    assert file.is_file()  # of step 1: what step 2 left was never written as good


def test_a_tiny_set_is_learnt_by_heart() -> None:
    few = load_detection("shapes:clipart:6?side=64", "train")
    model = detectors.build("tiny_ssd?side=64", few.classes, seed=0)
    config = DetectionConfig(steps=220, batch_size=6, warmup=20, lr=0.004, flip=False)
    train_detector(model, few, config)
    precision = evaluate(detect(model, few), few.truths, few.classes).ap50_area
    assert precision is not None
    assert precision >= 0.95


def test_two_processes_give_the_losses_of_one(source: DetectionSet, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "import sys\n"
        "from adaptation import detectors\n"
        "from adaptation.recipes import recipe\n"
        "from adaptation.training import DetectionConfig, train_detector\n"
        "from adaptation.training.processes import process_group, rank\n"
        "from robustkit.data.detection import load_detection\n"
        "source = load_detection('shapes:photo:24?side=64', 'train')\n"
        "target = load_detection('shapes:clipart:24?side=64', 'train')\n"
        "base = DetectionConfig(steps=4, batch_size=4, warmup=2, shards=2)\n"
        "with process_group():\n"
        "    for name in ('source', 'adversarial+aligned', 'free', 'teacher'):\n"
        f"        model = detectors.build({SPEC!r}, source.classes, seed=0)\n"
        "        told = []\n"
        "        train_detector(model, source, recipe(name, base), target=target,\n"
        "                       on_step=lambda r: told.append(f'{r.loss:.5f}'))\n"
        "        if rank() == 0:\n"
        "            print(name, *told, flush=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    said = []
    for processes in (1, 2):
        launched = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        done = subprocess.run(
            [*launched, f"--nproc-per-node={processes}", str(script)],
            env=environment, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        said.append([line.split() for line in done.stdout.splitlines()])
    one, two = said
    assert [line[0] for line in one] == [line[0] for line in two]
    for first, second in zip(one, two, strict=True):
        assert len(first) == 5
        for a, b in zip(first[1:], second[1:], strict=True):
            assert float(a) == pytest.approx(float(b), rel=2e-4)


def test_shards_are_equal_parts(source: DetectionSet) -> None:
    drawn = draw_batch(source, 3, 6, seed=1, flip=True)
    parts = [drawn.part(number, 3) for number in range(3)]
    assert [name for part in parts for name in part.ids] == drawn.ids
    assert all(len(part.images) == 2 for part in parts)
    with pytest.raises(ConfigError, match="cannot be divided into 3 shards"):
        DetectionConfig(batch_size=8, shards=3)


def test_an_epoch_sees_every_image_once(source: DetectionSet) -> None:
    for epoch in range(2):
        steps = range(6 * epoch, 6 * epoch + 6)
        seen = [name for step in steps for name in draw_batch(source, step, 4, 0, flip=False).ids]
        assert sorted(seen) == sorted(source.ids)
    assert (
        draw_batch(source, 0, 4, 0, flip=False).ids != draw_batch(source, 6, 4, 0, flip=False).ids
    )
    few = source.subset([0, 1])
    assert sorted(draw_batch(few, 5, 6, 0, flip=False).ids) == sorted(few.ids * 3)


def test_a_mirrored_box_covers_the_mirrored_pixels() -> None:
    image = torch.zeros(3, 10, 20)
    image[:, 2:5, 3:9] = 1
    moved = mirrored(truth([[3, 2, 9, 5]], [0]), 20)
    x1, y1, x2, y2 = map(int, moved.boxes[0].tolist())
    flipped = image.flip(-1)
    assert float(flipped[:, y1:y2, x1:x2].min()) == 1
    assert flipped.sum() == flipped[:, y1:y2, x1:x2].sum()


def test_the_gradient_is_reversed_and_the_classifiers_learn() -> None:
    x = torch.rand(2, 3, 4, 4, requires_grad=True)
    (plain,) = torch.autograd.grad((x * x).sum(), x)
    (turned,) = torch.autograd.grad((reversed_gradient(x) * x.detach()).sum() * 2, x)
    torch.testing.assert_close(turned, -plain)
    torch.manual_seed(0)
    classifiers = DomainClassifiers(3, 3)
    maps = {"0": torch.rand(4, 3, 8, 8, requires_grad=True), "1": torch.rand(4, 3, 2, 2)}
    local, whole = classifiers.losses(maps, 1.0)
    probability = classifiers.local(maps["0"]).sigmoid()
    torch.testing.assert_close(local, (probability - 1).square().mean())
    logit = classifiers.whole(maps["1"])[:, 0]
    chance = logit.sigmoid()
    torch.testing.assert_close(whole, (-((1 - chance) ** 3) * chance.log()).mean())
    weights: list[Tensor] = list(classifiers.local.parameters())
    slopes = torch.autograd.grad(local, weights, retain_graph=True)
    with torch.no_grad():
        for weight, slope in zip(weights, slopes, strict=True):
            weight.sub_(0.1 * slope)
    assert classifiers.losses(maps, 1.0)[0] < local


def test_the_teacher_follows_slowly(source: DetectionSet) -> None:
    model = fresh(source.classes, "tiny_ssd?side=64&width=16&norm=batch")
    teacher = make_teacher(model)
    before = {name: each.clone() for name, each in teacher.state_dict().items()}
    for parameter in model.parameters():
        parameter.data += 1
    follow(teacher, model, 0.9)
    for name, each in teacher.named_parameters():
        torch.testing.assert_close(each, before[name] + 0.1)
        assert not each.requires_grad


def test_statistics_become_the_targets(source: DetectionSet, target: DetectionSet) -> None:
    model = fresh(source.classes, "tiny_ssd?side=64&width=16&norm=batch")
    seen: list[Tensor] = []
    first = next(each for each in model.modules() if isinstance(each, nn.BatchNorm2d))
    handle = first.register_forward_hook(lambda *given: seen.append(given[1][0]))
    adapt_statistics(model, target)
    handle.remove()
    maps = torch.cat(seen)
    assert first.running_mean is not None
    torch.testing.assert_close(first.running_mean, maps.mean((0, 2, 3)), atol=1e-5, rtol=1e-4)
    assert not model.training
    assert first.momentum == 0.1
    with pytest.raises(ModelError, match="adabn adapts batch norm, and this detector has none"):
        adapt_statistics(fresh(source.classes), target)


def test_rates_and_radii() -> None:
    config = DetectionConfig(steps=100, warmup=10, lr=0.1, eps=0.2, eps_warmup=0.5)
    assert learning_rate(config, 0) == pytest.approx(0.01)
    assert learning_rate(config, 9) == pytest.approx(0.1)
    assert learning_rate(config, 99) < 1e-4
    assert radius(config, 0) == pytest.approx(0.004)
    assert radius(config, 49) == radius(config, 99) == pytest.approx(0.2)
