"""The report of an adaptation: what each recipe is worth on both domains."""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from markupsafe import Markup
from msgspec import UNSET

from adaptation import detectors
from adaptation.adapt.config import AdaptOptions
from adaptation.adapt.result import Adapted, Recipe, summary_of
from adaptation.adapt.workspace import open_workspace
from adaptation.evaluation import detect
from adaptation.recipes import PARTS
from adaptation.report import SURE, detections_figure, draw_explained, gains_figure
from robustkit.data.detection import shapes_config
from robustkit.data.detection.shapes import STYLES
from robustkit.errors import RunError
from robustkit.reading import check_regular
from robustkit.report import (
    PALETTE,
    Section,
    chart,
    eps_text,
    figure,
    format_estimate,
    format_percent,
    label,
    svg,
    table,
    write_page,
)
from robustkit.report.sections import settings_section
from robustkit.runs import RunFolder
from robustkit.runs.summaries import read_settings
from robustkit.stats import mean_over_trainings


def curves_figure(recipes: Mapping[str, Recipe]) -> Markup:
    """Return the loss over the steps, a line for each training."""

    with chart(7.6, 3.2) as drawing:
        axis = drawing.subplots()
        for number, (name, recipe) in enumerate(recipes.items()):
            for run, curve in enumerate(recipe.curves):
                if curve:
                    steps, losses = zip(*curve, strict=True)
                    colour = PALETTE[number % len(PALETTE)]
                    axis.plot(steps, losses, color=colour, lw=1, label=None if run else name)
        axis.set(xlabel="steps of its own", ylabel="loss")
        if axis.lines:
            axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
        return svg(drawing, alt="loss over the steps of every training")


def classes_figure(recipes: Mapping[str, Recipe]) -> Markup:
    """Return AP50 of every class on the target, a bar for each recipe, with its interval."""

    names = list(next(iter(recipes.values())).target.classes)
    width = 0.8 / len(recipes)
    with chart(max(7.6, 0.5 * len(names)), 3.2) as drawing:
        axis = drawing.subplots()
        for number, (name, recipe) in enumerate(recipes.items()):
            precisions = [recipe.target.classes[name].ap50_area for name in names]
            heights = [100 * (precision.value or 0) for precision in precisions]
            across = np.arange(len(names)) + (number - (len(recipes) - 1) / 2) * width
            colour = PALETTE[number % len(PALETTE)]
            axis.bar(across, heights, width, label=name, color=colour)
        axis.set_xticks(
            range(len(names)), [label(name) for name in names], rotation=45 if len(names) > 8 else 0
        )
        axis.set(ylabel="AP50 on the target, %", ylim=(0, 100))
        axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
        return svg(drawing, alt="precision of every class on the target by recipe")


PICTURED = 4


def write_report(folder: RunFolder, *, trust: Collection[str] = ()) -> Path:
    """Draw `report.html` from what the folder holds; returns its path.

    Detectors whose backbone a function makes are drawn only where `trust` names it. Raises
    `RunError` when the adaptation has not finished.
    """
    summary, options = summary_of(folder), read_settings(folder, AdaptOptions)
    recipes = summary.recipes
    sections = [
        _precision(summary, options),
        *_notes(summary),
        *_chosen(summary),
        _shift(summary),
        *_aligned(summary),
        *_overfitted(summary, options),
        Section(
            "classes",
            "Class by class",
            figure(classes_figure(recipes), "AP50 by area on the target, means over trainings."),
            "",
        ),
        _pictures(folder, list(recipes), trust),
        Section(
            "training",
            "Training",
            figure(curves_figure(recipes), "Means over a hundredth of the steps each."),
            "What is descended: recipes add parts to the detector's own loss.",
        ),
        settings_section(folder.config),
    ]
    return write_page(
        folder,
        "Adaptation",
        sections,
        subtitle=f"{options.source} to {options.target}, {options.detector}",
    )


def _precision(summary: Adapted, options: AdaptOptions) -> Section:
    rows = []
    for name, recipe in summary.recipes.items():
        gain = None if recipe.gain is UNSET else recipe.gain.target
        rows.append(
            [
                name,
                format_percent(recipe.target.intervals.ap50_area),
                "–" if gain is None else format_percent(gain, sign=True),
                format_percent(recipe.target.intervals.coco_ap),
                format_percent(recipe.source.intervals.ap50_area),
                format_percent(recipe.robust_source_interval),
                format_percent(recipe.robust_target_interval),
                f"{recipe.seconds:.0f}",
            ]
        )
    headers = [
        *("recipe", "target AP50", "gain", "target COCO AP", "source AP50"),
        *("source, attacked", "target, attacked", "seconds"),
    ]
    first = next(iter(summary.recipes.values()))
    parts = "; ".join(
        f"{name}: {' + '.join(PARTS[part].says for part in name.split('+'))}"
        for name in summary.recipes
    )
    note = (
        f"In %, means over {first.seeds} trainings with 95 % intervals, those of AP50 and gain "
        "over trainings and pictures, others over trainings. AP50 by area, VOC's rules, "
        f"{first.target.images} test images of the target and "
        f"{first.source.images} of the source. Gain: points over `longer` where "
        f"that was asked, else over `source`, training by "
        f"training. Attacked: PGD-{options.judge_steps} within {eps_text(options.judge_eps)}, "
        f"{options.judge_images} images. {parts}."
    )
    return Section("precision", "Precision", table(headers, rows), note + _texture(options))


def _notes(summary: Adapted) -> list[Section]:
    """Return the section on whose weights the detectors started from, if there is anything
    to say.
    """
    lines = [Markup("<p>{}</p>").format(note) for note in summary.notes]
    return [Section("detector", "The detector", Markup("").join(lines), "")] if lines else []


def _chosen(summary: Adapted) -> list[Section]:
    """Return the section on how settings were chosen, if they were."""
    choice = summary.choice
    if choice is UNSET:
        return []
    rows = [["longer", "", _share(choice.plain), "–", ""]]
    for each in choice.tried:
        settings = ", ".join(
            f"{name} {eps_text(value) if name == 'eps' else f'{value:.3g}'}"
            for name, value in each.settings.items()
        )
        distance = "–" if each.distance is None else f"{each.distance:.1f}"
        answer = "chosen" if each.chosen else ""
        rows.append([each.recipe, settings, _share(each.ap50), distance, answer])
    note = (
        f"AP50 on {choice.images} images of the source that were set aside, one training each; "
        "no label of the target was seen. Radius and share: the largest that cost at most "
        f"{100 * choice.tolerance:g} points against `longer`; weights of alignment: those of the "
        "least distance, of those that cost no more."
    )
    if not choice.within:
        note += (
            " Not all could be chosen so: where none was within it, or nothing told settings apart "
            "(no precision to lose, no distance), the smallest were taken."
        )
    head = ["recipe", "settings", "source AP50, aside", "distance", ""]
    return [Section("choice", "What was chosen, and how", table(head, rows), note)]


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _texture(options: AdaptOptions) -> str:
    """Return a sentence on the strength of the classes' texture where images are rendered."""
    amplitudes = []
    for name, spec in (("source", options.source), ("target", options.target)):
        if spec.startswith("shapes:"):
            shapes = shapes_config(spec)
            amplitudes.append(f"{name} {eps_text(shapes.texture * STYLES[shapes.style].kept)}")
    if not amplitudes:
        return ""
    return (
        f" Amplitude of the texture that tells classes apart: {', '.join(amplitudes)} (0 in both: "
        "only shapes do, and adversarial training has nothing to take away)."
    )


def _shift(summary: Adapted) -> Section:
    shift = summary.measured
    if shift is None:
        return Section("shift", "How far the target is", Markup(), summary.advice)
    rows = [
        ["Fréchet distance", f"{shift.frechet:.4g}"],
        ["between halves of the source", f"{shift.within_source:.4g}"],
        ["ratio", f"{shift.ratio:.1f} [{shift.low:.1f}, {shift.high:.1f}]"],
        ["threshold", f"{shift.threshold:g}"],
        ["advice", shift.advice],
    ]
    seen = f"Of {summary.by}, on" if summary.by else "On"
    note = (
        f"{seen} {shift.images[0]} and {shift.images[1]} test images, in clouds of "
        f"{shift.cloud}; the interval is over random halves."
    )
    html = table(["", ""], rows)
    points = _points(summary.recipes, shift.ratio)
    if points:
        caption = "What each training gains on the target; dotted: the threshold of the advice."
        html += figure(Markup(gains_figure(points, shift.threshold)), caption)
    return Section("shift", "How far the target is", html, note)


def _aligned(summary: Adapted) -> list[Section]:
    """Return the section on whether alignment acted, if there was any."""
    if all(recipe.told is UNSET for recipe in summary.recipes.values()):
        return []
    rows = []
    for name, recipe in summary.recipes.items():
        told = [] if recipe.told is UNSET else recipe.told
        local, whole = (
            format_percent(mean_over_trainings([getattr(each, kind) for each in told]))
            if told
            else "–"
            for kind in ("local", "whole")
        )
        known = [] if recipe.distances is UNSET else recipe.distances
        rows.append([name, local, whole, format_estimate(mean_over_trainings(known), ".1f")])
    note = (
        "How often the domain classifiers told places and images right in the last tenth of the "
        "steps, in % (50 is chance), and Fréchet's distance between source and target in that "
        "within the source, by each detector's own features of test images: what alignment is to "
        "bring down. Means over trainings."
    )
    head = ["recipe", "places told", "images told", "distance after"]
    return [Section("alignment", "Did alignment act?", table(head, rows), note)]


FEW = 0.05  # AP50 that a stronger attack may take from what one step leaves


def _overfitted(summary: Adapted, options: AdaptOptions) -> list[Section]:
    """Return the section on catastrophic overfitting, for recipes trained against one step."""
    rows = []
    for name, recipe in summary.recipes.items():
        one, many = recipe.one_step, recipe.robust_source_interval
        if one is UNSET or one.value is None or many.value is None:
            continue
        fallen = many.value < one.value / 2 and one.value - many.value > FEW
        answer = "overfitted: robust against one step alone" if fallen else "no"
        rows.append([name, format_percent(one), format_percent(many), answer])
    if not rows:
        return []
    note = (
        "Nets trained against one step may come to be robust against it and against nothing else "
        f"(Wong et al. 2020): AP50 on source images in %, attacked in one step and in "
        f"{options.judge_steps}, within {eps_text(options.judge_eps)}."
    )
    head = ["recipe", "one step", f"{options.judge_steps} steps", "catastrophic overfitting"]
    return [Section("overfitting", "One step of attack", table(head, rows), note)]


def _points(
    recipes: Mapping[str, Recipe], ratio: float
) -> dict[str, list[tuple[str, float, float]]]:
    """Return, by recipe and for every training, the target, its distance, and the gain there."""
    points: dict[str, list[tuple[str, float, float]]] = {}
    for name, recipe in recipes.items():
        if recipe.gain is UNSET:
            continue
        base = recipes[recipe.gain.over].by_seed
        for trained, plain in zip(recipe.by_seed, base, strict=True):
            now, before = trained.target.ap50_area, plain.target.ap50_area
            if now is not None and before is not None:
                points.setdefault(name, []).append(("target", ratio, now - before))
    return points


def _pictures(folder: RunFolder, names: list[str], trust: Collection[str]) -> Section:
    space = open_workspace(str(folder.path))
    html = Markup()
    files = {name: space.file(name, 0) for name in names}
    for file in files.values():
        check_regular(file, error=RunError, follow=False)
    unnamed = {code for file in files.values() for code in detectors.runs_code(file)} - set(trust)
    if unnamed:
        reason = (
            f"Not drawn: the backbone is made by {', '.join(sorted(unnamed))}, which is run only "
            "where it is named, as by adapt --resume."
        )
        return Section("detections", "Detections", html, reason)
    models = {name: detectors.load(file, trust=trust) for name, file in files.items()}
    for name, model in models.items():
        if model.classes != space.source.test.classes:
            raise RunError(f"{files[name]}: a detector of other classes than those of the images")
    for called, domain in (("source", space.source), ("target", space.target)):
        chosen = domain.test.subset(range(min(PICTURED, len(domain.test))))
        detections = {name: detect(model, chosen) for name, model in models.items()}
        drawn = detections_figure(chosen, detections, range(len(chosen)))
        html += _picture(
            drawn,
            f"The first test images of the {called}: what is there, and what each recipe's first "
            "training finds.",
        )
    chosen = space.target.test.subset(range(min(PICTURED, len(space.target.test))))
    detections = {name: detect(model, chosen) for name, model in models.items()}
    maps = draw_explained(models, chosen, detections, range(len(chosen)), 0.0)
    html += _picture(
        maps,
        "The same target images: the gradient of each detector's loss, and, for detectors of one "
        "stage, CAV and Grad-CAM of its surest box's class (red for, blue against).",
    )
    return Section("detections", "Detections", html, f"Drawn with a score of {SURE:g} or more.")


def _picture(drawn: bytes, caption: str) -> Markup:
    return Markup(
        "<figure><img src='data:image/png;base64,{}' alt='{}' style='max-width:100%'>"
        "<figcaption>{}</figcaption></figure>"
    ).format(base64.b64encode(drawn).decode(), caption, caption)
