"""The jobs of the study: segments of a training, a choice of images, maps; their results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from msgspec import UNSET, Meta, UnsetType, field
from torch import Tensor, nn

from experiments.studies.base import StudyJob, StudySummary
from robustkit import data, explain, models, training
from robustkit.attacks import predict
from robustkit.cli.models import resolve_net
from robustkit.compute import derive_seed, device_of, resolve_device
from robustkit.data import ImageSet, Splits
from robustkit.errors import RunError
from robustkit.models import Classifier
from robustkit.reading import check_kind, read_json
from robustkit.report import chart
from robustkit.report.pictures import show_image
from robustkit.runs import atomic_path
from robustkit.runs.summaries import Amount, Count, Difference, Digits, MeanShare, Result, check_has

GROUPS = ("A", "B", "C")
WINDOW = 7
SHOWN = ("saliency", "guided", "gradcam")  # maps of a strip
KINDS = ("gradcam", "saliency", "deconvnet", "guided", "guided-minus", "guided-gradcam")
"""Of maps that claims or curves are about."""


class Errors(Result, frozen=True, kw_only=True):
    """On one part of the data."""

    error: MeanShare
    loss: Amount


class Trained(Result, frozen=True, kw_only=True):
    """A checkpoint."""

    train: Errors
    val: Errors | UnsetType = UNSET
    test: Errors
    last_layer_norm: Amount


class Likeness(Result, frozen=True, kw_only=True):
    """Of maps to those of the reference; None where none varies."""

    spearman: Difference | None
    ssim: Difference | None
    n: Count | UnsetType = UNSET
    constant: Count | UnsetType = UNSET


class Group(Result, frozen=True, kw_only=True):
    """Images of a group at a checkpoint."""

    n: Count
    entropy: Amount
    p_class: MeanShare
    maps: Mapping[str, Likeness]


class Measured(Likeness, frozen=True, kw_only=True):
    """A likeness as it was measured, with SSIM's window in pixels."""

    window: Count


class Seen(Group, frozen=True, kw_only=True):
    """A group as it was measured."""

    maps: dict[str, Measured]


Groups = dict[str, Group]
"""A net may be right about everything: then a group is empty, and left out."""


class Choice(Result, frozen=True, kw_only=True):
    """The checkpoint of lowest validation loss, counted from 1."""

    reference: Annotated[int, Meta(ge=1, le=10**6)]
    groups: dict[str, list[Count]] | UnsetType = UNSET


class Chosen(Choice, frozen=True, kw_only=True):
    """The same, and the indices of the test images that are looked at, by group."""

    groups: dict[str, list[Count]]


class Shown(Result, frozen=True, kw_only=True):
    """The checkpoints of a strip."""

    shown: list[Count]


class Arm(Result, frozen=True, kw_only=True):
    """Checkpoints by their numbers from 1, and the maps of each where they were made.

    `windows` are SSIM's, in pixels, which the checkpoints share.
    """

    train: dict[Digits, Trained]
    choice: Choice
    maps: dict[Digits, Groups]
    windows: dict[str, Count] = field(default_factory=dict)
    strips: Shown | UnsetType = UNSET


class Summary(StudySummary, frozen=True, kw_only=True):
    """Results by arm: with and without augmentation."""

    arms: Annotated[dict[str, Arm], Meta(max_length=50)]  # a panel each


def check(summary: Summary, where: str) -> None:
    """Raise `RunError` where checkpoints or maps are missing that others are set beside."""
    check_has(summary.arms, ("augmented",), f"{where}: arms")
    for name, result in summary.arms.items():
        _check_arm(result, f"{where}: arms.{name}")


def _check_arm(result: Arm, where: str) -> None:
    count = len(result.train)
    if {int(number) for number in result.train} != set(range(1, count + 1)):
        raise RunError(f"{where}.train: checkpoints are not numbered from 1 to {count}")
    if result.choice.reference > count:
        reference = result.choice.reference
        raise RunError(f"{where}.choice.reference: {reference}, of {count} checkpoints")
    kinds: list[str] = []
    for number, groups in result.maps.items():
        check_has(groups, ("A",), f"{where}.maps.{number}")
        kinds = kinds or [*groups["A"].maps, *KINDS]
        for group, look in groups.items():
            check_has(look.maps, kinds, f"{where}.maps.{number}.{group}.maps")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One arm of the study: `count` training images of `data`, with or without augmentation."""

    path: str
    data: str
    model: str
    arm: str
    augment: str
    count: int
    lr: float
    epochs: int  # of a segment
    seed: int
    device: str = "cpu"

    def file(self, segment: int) -> Path:
        """Return the model after this segment, counted from 1."""
        return Path(self.path) / f"{self.arm}_{segment:04}.safetensors"

    def load(self, segment: int) -> Classifier:
        """Return the model after this segment, on its device, in evaluation mode."""
        return models.load(self.file(segment)).to(resolve_device(self.device)).eval()

    def choice(self) -> Path:
        """Return the file of the reference segment and the images that are looked at."""
        return Path(self.path) / f"{self.arm}_choice.json"

    def chosen(self, count: int) -> Chosen:
        """Return the content of that file; raises `RunError` unless it is of `count` test
        images.
        """
        path = self.choice()
        content = check_kind(
            read_json(path, error=RunError, follow=False), Chosen, str(path), error=RunError
        )
        check_has(content.groups, GROUPS, f"{path}: groups")
        if any(index >= count for group in GROUPS for index in content.groups[group]):
            raise RunError(f"{path}: groups: images beyond the {count} of the test set")
        return content

    def splits(self) -> Splits:
        """Return the data, its training part cut to `count` images, classes kept even."""
        splits = data.load(self.data)
        if self.count >= len(splits.train):
            return splits
        chosen = data.stratified_sample(splits.train.labels, self.count, self.seed)
        return splits.replaced(train=splits.train.subset(chosen))


@dataclass(frozen=True)
class Segment(StudyJob):
    """Go on training where the segment before ended; momentum starts anew."""

    setting: Setting
    number: int

    kind = Trained

    def run(self) -> Trained:
        """Return losses and errors on all three parts of the data, and the last layer's norm."""
        setting, splits = self.setting, self.setting.splits()
        if self.number == 1:
            net = resolve_net(setting.model, splits, seed=setting.seed)
        else:
            net = setting.load(self.number - 1)
        config = training.TrainConfig(
            epochs=setting.epochs,
            lr=setting.lr,
            schedule="constant",
            warmup=0.0,
            weight_decay=0.0,
            augment=setting.augment,
            seed=derive_seed("segment", setting.seed, self.number),
        )
        training.fit(net, splits, config, device=resolve_device(setting.device))
        models.save(net, setting.file(self.number))
        parts = {"train": splits.train, "val": splits.val, "test": splits.test}
        errors = {name: _loss_and_error(net, part) for name, part in parts.items()}
        norm = float(_last_layer(net).weight.detach().norm())
        return Trained(**errors, last_layer_norm=norm)


@dataclass(frozen=True)
class Choose(StudyJob):
    """The segment of lowest validation loss, and the images of A, B and C there.

    Per class of the test images: A the `each` surest right, B the `each` surest wrong, C the `few`
    least sure, right ones and wrong ones.
    """

    setting: Setting
    segments: int
    each: int
    few: int

    kind = Chosen

    def run(self) -> Chosen:
        """Return the reference and the indices of test images by group; also written to a file."""
        setting, splits = self.setting, self.setting.splits()
        losses = [
            _loss_and_error(setting.load(number), splits.val).loss
            for number in range(1, self.segments + 1)
        ]
        reference = 1 + min(range(len(losses)), key=losses.__getitem__)
        groups = choose_images(setting.load(reference), splits.test, self.each, self.few)
        chosen = Chosen(reference=reference, groups=groups)
        with atomic_path(setting.choice()) as temporary:
            temporary.write_text(json.dumps(chosen.to_json()))
        return chosen


@dataclass(frozen=True)
class Look(StudyJob):
    """The maps of a segment's model, against those of the reference: one job, one checkpoint."""

    setting: Setting
    number: int

    kind = dict[str, Seen]

    def run(self) -> dict[str, Seen]:
        """Return, by group, the likeness of every kind of map, entropy and the class's
        probability.
        """
        setting, splits = self.setting, self.setting.splits()
        choice = setting.chosen(len(splits.test))
        now, then = setting.load(self.number), setting.load(choice.reference)
        groups = {}
        for group, indices in choice.groups.items():
            if not indices:  # a net may be right about everything
                continue
            images = splits.test.subset(torch.tensor(indices))
            probabilities = predict(now, images.images).softmax(dim=1)
            maps, before = (heat_maps(net, images) for net in (now, then))
            groups[group] = Seen(
                n=len(images),
                entropy=float(torch.special.entr(probabilities).sum(dim=1).mean()),
                p_class=float(probabilities.gather(1, images.labels[:, None]).mean()),
                maps={name: likeness(maps[name], before[name]) for name in maps},
            )
        return groups


@dataclass(frozen=True)
class Strips(StudyJob):
    """A picture: some images of every group, their maps over the checkpoints."""

    setting: Setting
    segments: int
    columns: int

    kind = Shown

    def run(self) -> Shown:
        """Draw a strip for each kind of map of one image of each group; return its checkpoints."""
        setting, splits = self.setting, self.setting.splits()
        choice = setting.chosen(len(splits.test))
        chosen = [indices[0] for indices in choice.groups.values() if indices]
        names = [group for group, indices in choice.groups.items() if indices]
        images = splits.test.subset(torch.tensor(chosen))
        shown = _spaced(self.segments, self.columns, choice.reference)
        maps = {number: heat_maps(setting.load(number), images) for number in shown}
        file = Path(setting.path) / f"{setting.arm}_strips.png"
        draw_strips(images, names, maps, choice.reference, setting.epochs, file)
        return Shown(shown=shown)


def choose_images(model: Classifier, images: ImageSet, each: int, few: int) -> dict[str, list[int]]:
    """Return indices of A, B and C: see `Choose`. Sureness is the highest probability."""
    probabilities = predict(model, images.images).softmax(dim=1)
    sure, answer = probabilities.max(dim=1)
    right = answer == images.labels
    groups: dict[str, list[int]] = {group: [] for group in GROUPS}
    for number in range(images.num_classes):
        of_class = images.labels == number
        for group, mask in (("A", of_class & right), ("B", of_class & ~right)):
            groups[group] += _most(sure, mask, each)
        for mask in (of_class & right, of_class & ~right):
            groups["C"] += _most(-sure, mask, few)
    return groups


def heat_maps(model: Classifier, images: ImageSet) -> dict[str, Tensor]:
    """Return maps (N,H,W) of the true class by every method.

    Grad-CAM of the last stage is enlarged, and there as "gradcam, native" at its own size.
    """
    x = images.floats().to(device_of(model))
    with explain.trace(model, x, images.labels) as trace:
        cams = explain.gradcam(trace)
        last = list(cams)[-1]
        height, width = x.shape[2:]
        rectified = {rule: explain.rectified(trace, rule) for rule in explain.RELU_RULES}
        maps = {
            "saliency": explain.saliency(trace).sum(dim=1),
            **{rule: each.sum(dim=1) for rule, each in rectified.items()},
            "guided x input": (rectified["guided"] * x).sum(dim=1),
            "gradcam": explain.enlarged(cams[last], (height, width)),
            "gradcam, native": cams[last],
            "guided-gradcam": explain.guided_gradcam(trace, last).sum(dim=1),
        }
        return {name: each.cpu() for name, each in maps.items()}


def likeness(now: Tensor, then: Tensor) -> Measured:
    """Return Spearman and SSIM of maps with those of the reference; constant maps counted."""
    window = min(WINDOW, 2 * ((min(now.shape[-2:]) - 1) // 2) + 1)
    ranks = explain.spearman(now, then)
    # Maps of fewer than 3 x 3 have no structure.
    structure = explain.ssim(now, then, window=window).mean if window > 1 else None
    return Measured(
        spearman=ranks.mean,
        ssim=structure,
        n=len(ranks.values),
        constant=ranks.constant,
        window=window,
    )


def _most(values: Tensor, mask: Tensor, count: int) -> list[int]:
    """Return indices of the `count` largest values where `mask` is True, ties by index."""
    among = torch.nonzero(mask).squeeze(1)
    order = torch.sort(values[among], descending=True, stable=True).indices
    chosen: list[int] = among[order[:count]].tolist()
    return chosen


def _loss_and_error(net: Classifier, images: ImageSet) -> Errors:
    logits = predict(net, images.images)
    wrong = logits.argmax(dim=1) != images.labels
    loss = float(F.cross_entropy(logits, images.labels))
    return Errors(loss=loss, error=float(wrong.double().mean()))


def _last_layer(net: Classifier) -> nn.Linear:
    return [module for module in net.modules() if isinstance(module, nn.Linear)][-1]


def _spaced(segments: int, columns: int, reference: int) -> list[int]:
    """Return about `columns` segments, evenly spread, the reference among them."""
    count = min(columns, segments)
    even = {1 + round(place * (segments - 1) / max(count - 1, 1)) for place in range(count)}
    return sorted(even | {reference})


def draw_strips(
    images: ImageSet,
    names: list[str],
    maps: Mapping[int, Mapping[str, Tensor]],
    reference: int,
    epochs: int,
    file: Path,
) -> None:
    """Draw a row for each image and kind of map, a column for each checkpoint."""
    rows, columns = len(images) * len(SHOWN), 1 + len(maps)
    with chart(0.9 * columns, 0.95 * rows) as drawing:
        axes: Any = drawing.subplots(rows, columns, squeeze=False)
        for axis in axes.ravel():
            axis.set_axis_off()
        for number in range(len(images)):
            for offset, kind in enumerate(SHOWN):
                row = number * len(SHOWN) + offset
                show_image(axes[row, 0], images.images[number])
                axes[row, 0].set_title(f"{names[number]}: {kind}", fontsize=7)
                for column, (segment, segment_maps) in enumerate(maps.items(), start=1):
                    values = segment_maps[kind][number]
                    size = float(values.abs().max()) or 1.0
                    axis = axes[row, column]
                    axis.imshow(values.numpy(), cmap="bwr", vmin=-size, vmax=size)
                    if row == 0:
                        mark = " ref." if segment == reference else ""
                        axis.set_title(f"{segment * epochs}{mark}", fontsize=7)
        with atomic_path(file) as temporary:
            drawing.savefig(temporary, format="png", dpi=90)
