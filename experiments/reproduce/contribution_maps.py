"""Contribution maps of a VGG: CAV at five layers, Grad-CAM beside, and the masking checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.pieces import Piece
from experiments.reproduce.maps.jobs import CoverObjects, MaskMaps, TakeVgg, TrainVgg
from experiments.reproduce.maps.pictures import PICTURES
from experiments.reproduce.registry import EXPERIMENTS
from experiments.reproduce.study import Plan, Results, Study
from experiments.wording import number, percent, verdicts

SMALL = {"data": "cifar10", "model": "vgg16?width=16", "epochs": 15}
REHEARSAL = {"data": "digits", "model": "vgg3", "epochs": 6}
CIRCLED = "①②③④⑤"
FEW = 20


def phases(plan: Plan) -> Sequence[Sequence[Piece]]:
    """A training, then the two checks of its maps."""
    chosen = REHEARSAL if plan.quick else SMALL
    path = str(plan.folder / "vgg.safetensors")
    made: Piece = TrainVgg("train", path, seed=plan.seed, **chosen)  # type: ignore[arg-type]
    source, count = str(chosen["data"]), 20 if plan.quick else 1000
    if plan.weights is not None:
        made, source = TakeVgg("train", path, plan.weights), f"{PICTURES}{plan.images}"
    return [
        [made],
        [
            MaskMaps("masks", path, source, count, plan.seed),
            CoverObjects("objects", path, source, count, plan.seed),
        ],
    ]


def summarise(results: Results) -> dict[str, Any]:
    """The three results by name."""
    return {"study": "contribution-maps", **results}


def render(summary: Mapping[str, Any]) -> str:
    """The masks, the likeness to Grad-CAM, the objects and the claims, in Markdown."""
    trained, masks, objects = (summary[name] for name in ("train", "masks", "objects"))
    parts = [
        "# Contribution maps",
        f"`{trained['model']}`, {_accuracy(trained)}; n = {masks['n']:,} images. Means with 95 % "
        "bootstrap intervals over images. Contributions and biases miss the score by at most "
        f"{masks['residual_max']:.1e}.",
        "## Masking",
        "By how much the logit of the class falls when what CAV marks at a layer is set to 0, "
        "beside a random region of the same size; what it would be if the net were linear in it; "
        "and how often the answer changes. ① is what the last stage pools.",
        _masks(masks),
        "## Beside Grad-CAM",
        "Spearman's correlation of CAV's positive part with Grad-CAM at the same layer.",
        _alike(masks),
        "## Two objects in a picture",
        f"Of {objects['pairs']:,} pictures of two test images side by side, {objects['n']:,} have "
        "both classes on top. With one half covered its own class falls further than the other's "
        f"in {percent(objects['own'], unit=' %')} of the cases.",
        "## Claims",
        verdicts(claims(summary)),
    ]
    return "\n\n".join(parts) + "\n"


def _accuracy(trained: Mapping[str, Any]) -> str:
    if trained["test_acc"] is None:
        return "torchvision's weights, targets its own answers"
    share = f"{100 * trained['test_acc']:.2f} % of {trained['n']:,} test images"
    return f"{share}, looked at where it is right"


def marked(masks: Mapping[str, Any]) -> dict[str, str]:
    """Layers by their numbers: ① the last, then back to the image."""
    layers = list(reversed(masks["layers"]))
    return {**dict(zip(layers, CIRCLED, strict=False)), "input": "pixels"}


def _masks(masks: Mapping[str, Any]) -> str:
    lines = ["| layer | masked | share | fall | if linear | answer changes |", "|---" * 6 + "|"]
    for layer, mark in marked(masks).items():
        for kind in ("positive", "random, as positive", "negative", "random, as negative"):
            each = masks["masks"][f"{layer}/{kind}"]
            expected = "" if "random" in kind else f"{each['expected']['mean']:.2f}"
            lines.append(
                f"| {mark} | {kind} | {100 * each['share']['mean']:.0f} % | "
                f"{number(each['drop'])} | {expected} | {percent(each['lost'], unit=' %')} |"
            )
    return "\n".join(lines)


def _alike(masks: Mapping[str, Any]) -> str:
    named = {layer: mark for layer, mark in marked(masks).items() if layer in masks["like_gradcam"]}
    cells = [number(masks["like_gradcam"][layer]) for layer in named]
    head = "| " + " | ".join(named.values()) + " |"
    return "\n".join([head, "|---" * len(cells) + "|", "| " + " | ".join(cells) + " |"])


def claims(summary: Mapping[str, Any]) -> dict[str, bool | None]:
    """The publication's claims by a rule fixed beforehand; None where nothing was to be measured.

    A mask has an effect where the interval of the difference to a random region of the same size,
    image by image, leaves out 0, at every layer. Fewer than `FEW` pictures say nothing.
    """
    masks, objects = summary["masks"], summary["objects"]
    layers = marked(masks)
    beyond = {
        sign: [masks["masks"][f"{layer}/{sign}"]["beyond"] for layer in layers]
        for sign in ("positive", "negative")
    }
    rises = [masks["masks"][f"{layer}/negative"]["drop"] for layer in layers]
    alike = [masks["like_gradcam"][layer]["mean"] for layer in reversed(masks["layers"])]
    known = masks["n"] > 1  # one image has no interval
    return {
        "without its positive contributions a class falls further than without as much at random": (
            all(each["low"] > 0 for each in beyond["positive"]) if known else None
        ),
        "without the negative ones it falls less than without as much at random": (
            all(each["high"] < 0 for each in beyond["negative"]) if known else None
        ),
        "without the negative ones it rises": (
            all(each["high"] < 0 for each in rises) if known else None
        ),
        "① is most like Grad-CAM": None if None in alike else alike[0] == max(alike),
        "a class's score belongs to its object": (
            objects["own"]["low"] > 0.5 if objects["n"] >= FEW else None
        ),
    }


EXPERIMENTS.enter(
    "contribution-maps",
    Study(
        name="contribution-maps",
        title="Contribution ratios through every layer (CAV) beside Grad-CAM, and masking",
        source="in Japanese: Equations 3 to 8, the maps ① to ⑤ of VGG-16 and its masking tables",
        phases=phases,
        summarise=summarise,
        render=render,
        takes=("weights", "images"),
    ),
)
