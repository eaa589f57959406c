"""The report of a training's checkpoints: what their maps show, and how these change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from robustkit.commands.explain.checkpoints.result import Brief, EpochTold, Summary, read
from robustkit.commands.explain.checkpoints.strips import MOST, spread, strip_name
from robustkit.commands.explain.report import LINES, counted, mean_text, scores_section
from robustkit.commands.explain.result import Mean
from robustkit.commands.explain.scores import CONTROLS
from robustkit.report import (
    PALETTE,
    Section,
    chart,
    figure,
    label,
    percent,
    svg,
    table,
    write_page,
)
from robustkit.report.pictures import kept_picture
from robustkit.report.sections import settings_section
from robustkit.runs import RunFolder
from robustkit.training.checkpoints import spans

NAN = float("nan")
ANSWERS = {
    "validation accuracy": {"color": "black", "linestyle": "-"},
    "probability of the class": {"color": "0.5", "linestyle": "--"},
}
Points = list[tuple[int, float]]


def stability_figure(summary: Summary) -> Markup:
    """Rank correlation of the maps with the last and with the previous epoch's, and beside them
    validation accuracy where it is known, and the mean probability of the class."""
    final: dict[str, Points] = {}
    previous: dict[str, Points] = {}
    for name, found in summary["changes"].items():
        final[name] = [(each["epoch"], _mean(each["final"]["signed"])) for each in found]
        pairs = [(each["epoch"], each["previous"]) for each in found]
        previous[name] = [(epoch, _mean(each["signed"])) for epoch, each in pairs if each]
    titles = ["Spearman, with the last epoch", "Spearman, with the one before", "the training"]
    return _drawn([final, previous, _answer_curves(summary["epochs"])], titles, "maps over epochs")


def _answer_curves(epochs: Sequence[EpochTold]) -> dict[str, Points]:
    known = [(each["epoch"], each["val_acc"]) for each in epochs if each["val_acc"] is not None]
    sure = []
    for each in epochs:
        said = [image["probability"] for image in each["images"]]
        sure.append((each["epoch"], sum(said) / len(said)))
    return {name: points for name, points in zip(ANSWERS, (known, sure), strict=True) if points}


def scores_figure(epochs: Sequence[EpochTold]) -> Markup:
    """Deletion, insertion, sanity and stability of every map, by epoch."""
    scores = [(each["epoch"], each["scores"] or {}) for each in epochs]
    names = list(scores[-1][1])
    methods = [name for name in names if name not in CONTROLS]

    def curves(chosen: list[str], mean_of: Callable[[Brief], Mean]) -> dict[str, Points]:
        return {
            name: [(epoch, _mean(mean_of(told[name]))) for epoch, told in scores] for name in chosen
        }

    panels = {
        "deletion": curves(names, lambda brief: brief["deletion"]),
        "insertion": curves(names, lambda brief: brief["insertion"]),
        "sanity": curves(methods, lambda brief: brief["sanity"]["signed"]),
        "stability": curves(methods, lambda brief: brief["stability"]["signed"]),
    }
    alt = "deletion, insertion, sanity and stability by epoch"
    return _drawn(list(panels.values()), list(panels), alt)


def _mean(found: Mean) -> float:
    return NAN if found["mean"] is None else found["mean"]


def _drawn(panels: Sequence[Mapping[str, Points]], titles: Sequence[str], alt: str) -> Markup:
    """One panel beside the other, over the same epochs; what has the same name looks the same."""
    from matplotlib.ticker import MaxNLocator

    with chart(10, 3.4) as drawing:
        known: dict[str, Any] = {}
        places = drawing.subplots(1, len(panels), sharex=True)
        for place, curves, title in zip(places, panels, titles, strict=True):
            for number, (name, points) in enumerate(curves.items()):
                if points:
                    epochs, heights = zip(*points, strict=True)
                    known[name] = place.plot(epochs, heights, marker=".", **_look(name, number))[0]
            lowest = min((y for each in curves.values() for _, y in each), default=0.0)
            place.set(title=title, xlabel="epoch", ylim=(min(0.0, lowest) - 0.05, 1.05))
            place.xaxis.set_major_locator(MaxNLocator(integer=True))
        look: Any = {"fontsize": 8, "ncols": 6, "handlelength": 3}
        drawing.legend(known.values(), map(label, known), loc="outside lower center", **look)
        return svg(drawing, alt=alt)


def _look(name: str, number: int) -> dict[str, Any]:
    if name in CONTROLS:
        return {"color": "0.6", "linestyle": LINES[1 + CONTROLS.index(name)]}
    if name in ANSWERS:
        return dict(ANSWERS[name])
    colour = PALETTE[number % len(PALETTE)]
    return {"color": colour, "linestyle": LINES[number // len(PALETTE) % len(LINES)]}


ROWS = 12  # epochs in a table; of more an even choice is shown
TOLD = 6  # epochs in a line of the headline
OPEN = 40  # rows of a table that is open at once


def write_report(folder: RunFolder) -> Path:
    """Draw `report.html` from what the folder holds; returns its path.

    Raises `RunError` when the explanation has not finished, and, naming the entry, for
    what was edited in its files.
    """
    summary = read(folder)
    epochs = [each["epoch"] for each in summary["epochs"]]
    sections = [
        _strips(folder, summary),
        _answers(summary),
        *_changes(summary),
        *_scores(summary),
        settings_section(folder.config),
    ]
    return write_page(
        folder,
        "Explanation over a training",
        sections,
        subtitle=f"{counted(len(summary['images']))}, {_epochs(epochs)}, "
        f"{', '.join(summary['changes'])}",
    )


def headline(summary: Summary) -> list[str]:
    """For each method a line on how alike its maps are to the last epoch's."""
    lines = []
    for name, found in summary["changes"].items():
        *earlier, last = spread(found, TOLD)
        told = []
        for each in earlier:
            mean = each["final"]["signed"]["mean"]
            told.append(f"epoch {each['epoch']} {'–' if mean is None else f'{mean:.2f}'}")
        count = counted(len(summary["images"]))
        with_last = f"{name}: Spearman with epoch {last['epoch']}, mean over {count}"
        lines.append(f"{with_last}: {', '.join(told) or '–'}")
    return lines


def _epochs(epochs: list[int]) -> str:
    return f"epoch{'s' if len(epochs) > 1 else ''} {spans(epochs)}"


def _strips(folder: RunFolder, summary: Summary) -> Section:
    html = Markup()
    for row, image in enumerate(summary["images"]):
        true = "" if image["true"] is None else f", true {image['true']}"
        html += Markup("<h3>{}: score of {}{}</h3>").format(image["index"], image["target"], true)
        for name in summary["changes"]:
            # Smooth where a window is narrow: there is text in the picture.
            drawn = Markup("<img src='{}' alt='{}' style='image-rendering:auto'>").format(
                kept_picture(folder, strip_name(row, name)),
                f"{name} of {image['index']} over the epochs",
            )
            html += figure(drawn)
    note = (
        f"{_whose(summary)} Over each map: the class's probability, and what the checkpoint says "
        "where that is another class. Red speaks for the class, blue against it, each map by its "
        "own largest value; a map without colour is zero. Gradients are shown by magnitude."
    )
    return Section(
        "strips", "Maps over the epochs", html, note + _left_out(summary, "strips", MOST)
    )


def _whose(summary: Summary) -> str:
    if summary["target_epoch"] is None:
        return "The class looked at is the same in every epoch."
    return (
        "The class looked at is the same in every epoch: the one that the last, epoch "
        f"{summary['target_epoch']}, predicts."
    )


def _answers(summary: Summary) -> Section:
    rows = []
    for each in spread(summary["epochs"], ROWS):
        cells = [str(each["epoch"]), percent(each["val_acc"])]
        for image in each["images"]:
            text = Markup("{}").format(percent(image["probability"]))
            if image["predicted"] != image["target"]:
                text += Markup(" <small>says {}</small>").format(image["predicted"])
            cells.append(text)
        rows.append(cells)
    headers = [f"{image['index']}: {image['target']}" for image in summary["images"]]
    html = table(["epoch", "validation accuracy", *headers], rows)
    note = "The probability of the class looked at, and what is predicted where it is another."
    return Section(
        "answers", "What the checkpoints say", html, note + _left_out(summary, "table", ROWS)
    )


def _changes(summary: Summary) -> list[Section]:
    if len(summary["epochs"]) == 1:
        return []
    html = figure(
        stability_figure(summary),
        "Rank correlation of every epoch's maps with those of the last epoch and of the epoch "
        "before it, means over images; beside it how the training went.",
    )
    rows = []
    for name, found in summary["changes"].items():
        for each in spread(found, ROWS):
            before, last = each["previous"], each is found[-1]
            rows.append(
                [
                    name,
                    str(each["epoch"]),
                    None if last else mean_text(each["final"]["signed"]),
                    None if before is None else mean_text(before["signed"]),
                    None if last else mean_text(each["final"]["ssim"]),
                ]
            )
    told = table(["map", "epoch", "with the last", "with the one before", "SSIM, last"], rows)
    html += told if len(rows) <= OPEN else _folded("figures by map and epoch", told)
    window = next(iter(summary["changes"].values()))[0]["final"]["ssim"]["window"]
    note = (
        f"Spearman's correlation, means over {counted(len(summary['images']))} with 95 % bootstrap "
        f"intervals; SSIM with a window of {window}. The one before is the epoch explained before "
        "it. Constant maps have no ranks and are counted."
    )
    note += _left_out(summary, "table", ROWS)
    return [Section("changes", "How the maps change", html, note)]


def _folded(title: str, html: Markup) -> Markup:
    return Markup("<details><summary>{}</summary>{}</details>").format(title, html)


def _scores(summary: Summary) -> list[Section]:
    """By epoch as curves; the last epoch's as for one model."""
    sections = scores_section(summary.get("scores"))
    if not sections:
        return []
    if len(summary["epochs"]) == 1:
        return sections
    (found,) = sections
    html = figure(
        scores_figure(summary["epochs"]),
        "By epoch: area under the curves of deletion (lower is better) and insertion (higher is "
        "better), likeness to the maps of a random net (lower) and under noise (higher).",
    )
    last = summary["epochs"][-1]["epoch"]
    html += Markup("<h3>Epoch {}</h3>").format(last) + found.html
    return [Section(found.id, found.title, html, found.note)]


def _left_out(summary: Summary, where: str, shown: int) -> str:
    count = len(summary["epochs"])
    return f" In the {where}: {shown} of {count} epochs." if count > shown else ""
