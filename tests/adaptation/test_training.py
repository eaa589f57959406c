"""The training of detectors: resumed to the same bits, shared by processes, stopped by a NaN."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from adaptation import detectors
from adaptation.evaluation import detect, evaluate
from adaptation.recipes import recipe
from adaptation.training import (
    DetectionConfig,
    StepRecord,
    adapt_statistics,
    loop,
    statistics,
    train_detector,
)
from adaptation.training.alignment import DomainClassifiers, grown, reversed_gradient
from adaptation.training.batches import AUGMENTATIONS, Drawing, mirrored
from adaptation.training.loop import learning_rate
from adaptation.training.step import Parts, radius, reversal, shard_loss
from adaptation.training.teacher import Thresholds, follow, make_teacher, objects_per_image
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
    config = DetectionConfig(steps=220, batch_size=6, warmup=20, lr=0.004, augment=())
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
    drawn = Drawing(source, 6, 1, ("flip",)).batch(3)
    parts = [drawn.part(number, 3) for number in range(3)]
    assert [name for part in parts for name in part.ids] == drawn.ids
    assert all(len(part.images) == 2 for part in parts)
    with pytest.raises(ConfigError, match="cannot be divided into 3 shards"):
        DetectionConfig(batch_size=8, shards=3)


def test_an_epoch_sees_every_image_once(source: DetectionSet) -> None:
    for epoch in range(2):
        steps = range(6 * epoch, 6 * epoch + 6)
        seen = [name for step in steps for name in Drawing(source, 4, 0).batch(step).ids]
        assert sorted(seen) == sorted(source.ids)
    assert Drawing(source, 4, 0).batch(0).ids != Drawing(source, 4, 0).batch(6).ids
    few = source.subset([0, 1])
    assert sorted(Drawing(few, 6, 0).batch(5).ids) == sorted(few.ids * 3)


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
    (turned,) = torch.autograd.grad((reversed_gradient(x, 0.5) * x.detach()).sum() * 2, x)
    torch.testing.assert_close(turned, -0.5 * plain)
    torch.manual_seed(0)
    classifiers = DomainClassifiers([3, 5])
    maps = {"0": torch.rand(4, 3, 8, 8, requires_grad=True), "1": torch.rand(4, 5, 2, 2)}
    told = classifiers.told(maps, 1.0)
    places = [
        net(level).sigmoid() for net, level in zip(classifiers.local, maps.values(), strict=True)
    ]
    by_level = [(probability - 1).square().mean() for probability in places]
    torch.testing.assert_close(told.local, sum(by_level) / 2)
    right = [(probability > 0.5).float().mean() for probability in places]
    torch.testing.assert_close(told.local_right, sum(right) / 2)
    chance = classifiers.whole(maps["1"])[:, 0].sigmoid()
    torch.testing.assert_close(told.whole, (-((1 - chance) ** 3) * chance.log()).mean())
    torch.testing.assert_close(told.whole_right, (chance > 0.5).float().mean())
    weights: list[Tensor] = list(classifiers.local.parameters())
    slopes = torch.autograd.grad(told.local, weights, retain_graph=True)
    # The classifiers learn at full speed whatever reaches the features.
    faint = classifiers.told(maps, 1.0, (0.0, 0.0)).local
    for slope, same in zip(slopes, torch.autograd.grad(faint, weights), strict=True):
        torch.testing.assert_close(slope, same)
    with torch.no_grad():
        for weight, slope in zip(weights, slopes, strict=True):
            weight.sub_(0.1 * slope)
    assert classifiers.told(maps, 1.0).local < told.local


def test_the_reversed_gradient_grows_as_published() -> None:
    for progress in (0.0, 0.03, 0.4, 1.0):
        assert grown(10.0, progress) == pytest.approx(2 / (1 + math.exp(-10 * progress)) - 1)
    config = DetectionConfig(steps=100, local_weight=0.5, global_weight=2.0)
    assert reversal(config, 0) == (0.0, 0.0)
    assert reversal(config, 99)[0] == pytest.approx(0.5, rel=1e-3)
    assert reversal(config, 99)[1] == pytest.approx(2.0, rel=1e-3)
    assert reversal(DetectionConfig(reversal=0, local_weight=0.5), 0)[0] == 0.5


@pytest.mark.parametrize("mix", [0.5, 1.0])
def test_alignment_compares_clean_images_with_clean_ones(
    source: DetectionSet, target: DetectionSet, mix: float
) -> None:
    model = fresh(source.classes).train()
    config = recipe(
        "adversarial+aligned",
        DetectionConfig(batch_size=4, eps=0.5, mix=mix, eps_warmup=0.0, reversal=0, adv_steps=1),
    )
    parts = Parts(classifiers=DomainClassifiers([32, 32, 32]))
    batches = [
        Drawing(images, 4, 0, domain=name).batch(0)
        for name, images in (("source", source), ("target", target))
    ]
    seen = shard_loss(model, batches[0], batches[1], parts, config, 3, 0).parts
    clean = batches[0].images[2:] if mix == 0.5 else batches[0].images
    assert parts.classifiers is not None
    ours = parts.classifiers.told(model.features(clean), 0.0)
    theirs = parts.classifiers.told(model.features(batches[1].images), 1.0)
    torch.testing.assert_close(seen["local"], (ours.local + theirs.local) / 2)
    torch.testing.assert_close(seen["global"], (ours.whole + theirs.whole) / 2)


def test_a_class_found_more_rarely_than_the_source_has_it_needs_less() -> None:
    thresholds = Thresholds(0.8, torch.tensor([1.0, 0.5, 0.25]))
    torch.testing.assert_close(thresholds.by_class(), torch.full((3,), 0.8))
    found = [
        torch.tensor([[0, 0.95], [0, 0.9], [1, 0.6]]),
        torch.tensor([[0, 0.85], [1, 0.5]]),
        torch.tensor([[0, 0.9]]),
        torch.zeros(0, 2),
    ]
    thresholds.remember(found)
    # Of four images: the fourth best of class 0 is surer than needed, the second of class 1 lies
    # between, and class 2 is never found.
    torch.testing.assert_close(thresholds.by_class(), torch.tensor([0.8, 0.5, 0.4]))
    for _ in range(300):
        thresholds.remember([torch.tensor([[2, 0.7]])])
    assert len(thresholds.seen) == 256
    assert thresholds.by_class().tolist() == pytest.approx([0.4, 0.4, 0.7])


def test_objects_are_counted_by_class(source: DetectionSet) -> None:
    counts = objects_per_image(source)
    for label in range(len(source.classes)):
        known = sum(int((each.labels == label).sum()) for each in source.truths)
        assert float(counts[label]) == pytest.approx(known / len(source))


@pytest.mark.parametrize(
    "names", [("photometric",), ("zoom_out",), ("iou_crop",), tuple(AUGMENTATIONS)]
)
def test_augmented_boxes_hold_what_they_held(names: tuple[str, ...], source: DetectionSet) -> None:
    changed = 0
    for number in range(4):
        drawn = Drawing(source, 6, 0, names).batch(number)
        for image, each, name in zip(drawn.images, drawn.truths, drawn.ids, strict=True):
            index = source.ids.index(name)
            plain, known = source.image(index) / 255, source.truths[index]
            changed += image.shape != plain.shape or not torch.equal(image, plain)
            assert set(each.labels.tolist()) <= set(known.labels.tolist())
            assert len(each) == len(each.boxes) == len(each.difficult) == len(each.area)
            _, height, width = image.shape
            assert (each.boxes >= 0).all()
            assert (each.boxes[:, 2] <= width).all()
            assert (each.boxes[:, 3] <= height).all()
            if names == ("photometric",):
                torch.testing.assert_close(each.boxes, known.boxes)
            if names == ("zoom_out",) and len(
                each
            ):  # moved, not scaled: the picture lies on a larger canvas
                sides = [boxes[:, 2:] - boxes[:, :2] for boxes in (each.boxes, known.boxes)]
                torch.testing.assert_close(sides[0], sides[1])
                x, y = (each.boxes[0, :2] - known.boxes[0, :2]).round().int().tolist()
                under = image[:, y : y + plain.shape[1], x : x + plain.shape[2]]
                torch.testing.assert_close(under, plain)
    assert changed >= 8


def test_an_image_without_objects_is_augmented_too(source: DetectionSet) -> None:
    empty = replace(source, truths=tuple(each.chosen(each.labels < 0) for each in source.truths))
    drawn = Drawing(empty, 24, 0, tuple(AUGMENTATIONS)).batch(0)
    assert not any(len(each) for each in drawn.truths)


def test_other_processes_load_the_same(source: DetectionSet) -> None:
    drawing = Drawing(source, 4, 0, tuple(AUGMENTATIONS))
    before = torch.get_rng_state()
    for own, theirs in zip(
        drawing.stream(range(2, 7)), drawing.stream(range(2, 7), workers=2), strict=True
    ):
        assert own.ids == theirs.ids
        for first, second in zip(own.images, theirs.images, strict=True):
            assert torch.equal(first, second)
        for one, other in zip(own.truths, theirs.truths, strict=True):
            assert torch.equal(one.boxes, other.boxes)
            assert torch.equal(one.labels, other.labels)
    assert torch.equal(torch.get_rng_state(), before)


def test_stages_have_rates_of_their_own(source: DetectionSet) -> None:
    model = fresh(source.classes)
    stages = model.stages()
    assert len(stages) == 4  # the stem and three levels
    before = {name: each.clone() for name, each in model.state_dict().items()}
    config = DetectionConfig(steps=1, batch_size=2, warmup=1, optimizer="sgd", momentum=0.0,
                             weight_decay=0.0, clip=1e9)  # fmt: skip
    moved = {}
    for decay in (1.0, 0.5, 0.0):
        net = fresh(source.classes)
        train_detector(net, source, replace(config, layer_decay=decay))
        moved[decay] = {name: each - before[name] for name, each in net.state_dict().items()}
    for name in before:
        depth = 4 if ".stem." in name else 3 - int(name.split(".")[3]) if ".levels." in name else 0
        torch.testing.assert_close(moved[0.5][name], 0.5**depth * moved[1.0][name])
        if depth:
            assert not moved[0.0][name].any()
        else:
            torch.testing.assert_close(moved[0.0][name], moved[1.0][name])


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


def test_statistics_are_of_pictures_from_all_over_the_list() -> None:
    batches = list(statistics._batches(2500))
    assert {len(rows) for rows in batches} == {statistics.BATCH}
    rows = [row for batch in batches for row in batch]
    assert len(set(rows)) == len(rows) == statistics.MOST // statistics.BATCH * statistics.BATCH
    assert rows == sorted(rows)
    assert rows[-1] > 2400
    assert list(statistics._batches(40)) == [list(range(32))]
    assert list(statistics._batches(5)) == [list(range(5))]


def test_rates_and_radii() -> None:
    config = DetectionConfig(steps=100, warmup=10, lr=0.1, eps=0.2, eps_warmup=0.5)
    assert learning_rate(config, 0) == pytest.approx(0.01)
    assert learning_rate(config, 9) == pytest.approx(0.1)
    assert learning_rate(config, 99) < 1e-4
    assert radius(config, 0) == pytest.approx(0.004)
    assert radius(config, 49) == radius(config, 99) == pytest.approx(0.2)
