"""Contribution maps of a VGG: CAV at five layers, Grad-CAM beside, and the masking checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from experiments.studies.base import (
    Claim,
    PaperItem,
    Plan,
    Study,
    StudyJob,
    below,
    clear_of,
    everywhere,
    register,
)
from experiments.studies.contribution_maps.jobs import (
    PICTURES,
    CoverObjects,
    MaskMaps,
    Masks,
    Summary,
    TakeVgg,
    Trained,
    TrainVgg,
    check,
)
from robustkit.report import format_estimate, format_percent, markdown_table
from robustkit.stats import Mean

SMALL = {"data": "cifar10", "model": "vgg16?width=16", "epochs": 15}
REHEARSAL = {"data": "digits", "model": "vgg3", "epochs": 6}
CIRCLED = "①②③④⑤"
FEW = 20
VIEWS, MASKS = "contribution-views", "contribution-masking"


def jobs(plan: Plan) -> Sequence[Sequence[StudyJob]]:
    """Return a training, then the two checks of its maps."""
    chosen = REHEARSAL if plan.smoke else SMALL
    path = str(plan.folder / "vgg.safetensors")
    training: StudyJob = TrainVgg("train", path, seed=plan.seed, **chosen)  # type: ignore[arg-type]
    source, count = str(chosen["data"]), 20 if plan.smoke else 1000
    if plan.scale == "paper" and plan.weights is not None:
        training, source = TakeVgg("train", path, plan.weights), f"{PICTURES}{plan.images}"
    return [
        [training],
        [
            MaskMaps("masks", path, source, count, plan.seed),
            CoverObjects("objects", path, source, count, plan.seed),
        ],
    ]


def render(summary: Summary) -> str:
    """Return the masks, the likeness to Grad-CAM, the objects, in Markdown."""
    trained, masks, objects = summary.train, summary.masks, summary.objects
    parts = [
        "# Contribution maps",
        f"`{trained.model}`, {_accuracy(trained)}; n = {masks.n:,} images. Means with 95 % "
        "bootstrap intervals over images. Contributions and biases miss the score by at most "
        f"{masks.residual_max:.1e}.",
        "## Masking",
        "By how much the logit of the class falls when what CAV marks at a layer is set to 0, "
        "beside a random region of the same size; what it would be if the net were linear in it; "
        "and how often the answer changes. ① is what the last stage pools.",
        _masks(masks),
        "## Beside Grad-CAM",
        "Spearman's correlation of CAV's positive part with Grad-CAM at the same layer.",
        _alike(masks),
        "## Two objects in a picture",
        f"Of {objects.pairs:,} pictures of two test images side by side, {objects.n:,} have "
        "both classes on top. With one half covered its own class falls further than the other's "
        f"in {format_percent(objects.own, unit=' %')} of the cases.",
    ]
    return "\n\n".join(parts)


def _accuracy(trained: Trained) -> str:
    if trained.test_acc is None:
        return "torchvision's weights, targets its own answers"
    share = f"{100 * trained.test_acc:.2f} % of {trained.n:,} test images"
    return f"{share}, looked at where it is right"


def marked(masks: Masks) -> dict[str, str]:
    """Return layers by their numbers: ① the last, then back to the image."""
    layers = list(reversed(masks.layers))
    return {**dict(zip(layers, CIRCLED, strict=False)), "input": "pixels"}


def _masks(masks: Masks) -> str:
    rows = []
    for layer, mark in marked(masks).items():
        for kind in ("positive", "random, as positive", "negative", "random, as negative"):
            mask = masks.masks[f"{layer}/{kind}"]
            expected = "" if "random" in kind else f"{mask.expected.value:.2f}"
            share, changed = (
                f"{100 * (mask.share.value or 0):.0f} %",
                format_percent(mask.lost, unit=" %"),
            )
            rows.append([mark, kind, share, format_estimate(mask.drop), expected, changed])
    head = ["layer", "masked", "share", "fall", "if linear", "answer changes"]
    return markdown_table(head, rows)


def _alike(masks: Masks) -> str:
    named = {layer: mark for layer, mark in marked(masks).items() if layer in masks.like_gradcam}
    return markdown_table(
        [*named.values()], [[format_estimate(masks.like_gradcam[x]) for x in named]]
    )


def claims(summary: Summary) -> list[Claim]:
    """Return the publication's claims by rules fixed beforehand.

    A mask has an effect where the interval of the difference to a random region of the same size,
    image by image, leaves out 0, at every layer. Fewer than `FEW` pictures say nothing.
    """
    masks, objects = summary.masks, summary.objects
    layers = marked(masks)
    n = f"n = {masks.n:,}"
    beyond = {
        sign: {mark: masks.masks[f"{layer}/{sign}"].beyond_random for layer, mark in layers.items()}
        for sign in ("positive", "negative")
    }
    rises = {mark: masks.masks[f"{layer}/negative"].drop for layer, mark in layers.items()}
    alike = [masks.like_gradcam[layer].value for layer in reversed(masks.layers)]
    values = [value for value in alike if value is not None]
    several = objects.n >= FEW
    return [
        Claim(
            item=VIEWS,
            what="at ① CAV is most like Grad-CAM",
            published="the same tendency (Figure 6, two classes)",
            ours=f"Spearman ① to ⑤: {', '.join(map(_rounded, alike))}; {n}",
            holds=None if len(values) < len(alike) else values[0] == max(values),
        ),
        Claim(
            item=VIEWS,
            what="of two objects in a picture each class's score belongs to its own",
            published="boxer above, tiger cat below (masking either)",
            ours=f"{format_percent(objects.own, unit=' %')} of {objects.n} pictures",
            holds=clear_of(objects.own, 0.5) if several else None,
        ),
        Claim(
            item=MASKS,
            what="without its positive contributions a class falls further than without as much "
            "at random",
            published="tiger cat 11.07 → 8.34 (Figure 8 b)",
            ours=f"beyond random: {_listed(beyond['positive'])}; {n}",
            holds=everywhere([clear_of(mean, 0.0) for mean in beyond["positive"].values()]),
        ),
        Claim(
            item=MASKS,
            what="without the negative ones it falls less than without as much at random",
            published="tiger cat 11.07 → 13.81 (Figure 8 a)",
            ours=f"beyond random: {_listed(beyond['negative'])}; {n}",
            holds=everywhere([below(mean) for mean in beyond["negative"].values()]),
        ),
        Claim(
            item=MASKS,
            what="without the negative ones it rises",
            published="tiger cat 11.07 → 13.81 (Figure 8 a)",
            ours=f"fall: {_listed(rises)}; {n}",
            holds=everywhere([below(mean) for mean in rises.values()]),
        ),
        Claim(
            item=MASKS,
            what="VGG-16's ten likeliest classes of the published picture, before and after",
            published="Figure 5 and Table 1: boxer, bull mastiff, Great Dane, tiger cat, tiger",
            ours="needs ImageNet's weights and that picture: --scale paper",
            holds=None,
        ),
    ]


def _listed(means: Mapping[str, Mean]) -> str:
    return ", ".join(f"{mark} {format_estimate(mean)}" for mark, mean in means.items())


def _rounded(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


register(
    Study(
        name="contribution-maps",
        system="contribution maps",
        title="Contribution ratios through every layer (CAV) beside Grad-CAM, and masking",
        source="in Japanese: Equations 3 to 8, Figures 5 to 8 and Table 1, VGG-16",
        scales={
            "smoke": "digits, `vgg3`, 20 images; seconds",
            "small": "CIFAR-10, a VGG-16 of a quarter width, 1,000 images; ten minutes",
            "paper": "torchvision's VGG-16 with --weights, your pictures with --images; minutes",
        },
        items=(
            PaperItem(name=VIEWS, shows="Figures 5 to 7: CAV from ① to ⑤ beside Grad-CAM"),
            PaperItem(name=MASKS, shows="Figure 8, Table 1: what is masked, and what then"),
        ),
        deviations=(
            "Many images with intervals in the place of one picture.",
            "Where ① to ⑤ are is in a figure only: the five pooling stages, from the last.",
            "Masks are compared with random regions of the same size, which the source does not.",
        ),
        jobs=jobs,
        summary=Summary,
        check=check,
        claims=claims,
        render=render,
        options=("weights", "images"),
        small_deviations=(
            "CIFAR-10 and a VGG-16 of a quarter width trained on it, not ImageNet's.",
        ),
    )
)
