"""The report of the explanation of a training's checkpoints: the maps, and how they change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from msgspec import UNSET

from robustkit.commands.explain.panels import MOST_EPOCHS, spread, strip_name
from robustkit.commands.explain.report import (
    count_images,
    line_look,
    mean_text,
    scores_section,
    value_or_nan,
)
from robustkit.commands.explain.result import (
    BriefScore,
    CheckpointsSummary,
    EpochResult,
    read_checkpoints,
)
from robustkit.report import Section, chart, figure, label, percent, svg, table, write_page
from robustkit.report.pictures import kept_picture
from robustkit.report.sections import settings_section
from robustkit.runs import RunFolder
from robustkit.stats import Mean
from robustkit.training.checkpoints import spans

if TYPE_CHECKING:
    from matplotlib.lines import Line2D

_ROWS = 12  # epochs in a table; of more an even choice is shown
_HEADLINE_EPOCHS = 6  # epochs in a line of the headline
_MOST_OPEN = 40  # rows of a table that is not folded
_TRAINING_LOOKS = {
    "validation accuracy": {"color": "black", "linestyle": "-"},
    "probability of the class": {"color": "0.5", "linestyle": "--"},
}

Points = list[tuple[int, float]]  # an epoch and a value


def write_report(folder: RunFolder) -> Path:
    """Draw `report.html` from what the folder holds and return its path.

    Raises `RunError` when the explanation has not finished, and, naming the entry, for
    what was edited in its files.
    """
    summary = read_checkpoints(folder)
    epochs = [result.epoch for result in summary.epochs]
    sections = [
        _strips(folder, summary),
        _predictions(summary),
        *_changes(summary),
        *_scores(summary),
        settings_section(folder.config),
    ]
    return write_page(
        folder,
        "Explanation over a training",
        sections,
        subtitle=f"{count_images(len(summary.images))}, "
        f"epoch{'s' if len(epochs) > 1 else ''} {spans(epochs)}, {', '.join(summary.changes)}",
    )


def headline(summary: CheckpointsSummary) -> list[str]:
    """Return, for each method, a line on how similar its maps are to the last epoch's."""
    lines = []
    for name, changes in summary.changes.items():
        *earlier, last = spread(changes, _HEADLINE_EPOCHS)
        values = []
        for change in earlier:
            mean = change.final.signed.value
            values.append(f"epoch {change.epoch} {'–' if mean is None else f'{mean:.2f}'}")
        count = count_images(len(summary.images))
        with_last = f"{name}: Spearman with epoch {last.epoch}, mean over {count}"
        lines.append(f"{with_last}: {', '.join(values) or '–'}")
    return lines


def _strips(folder: RunFolder, summary: CheckpointsSummary) -> Section:
    html = Markup()
    for row, image in enumerate(summary.images):
        true = "" if image.true is None else f", true {image.true}"
        html += Markup("<h3>{}: score of {}{}</h3>").format(image.index, image.target, true)
        for name in summary.changes:
            # Smooth where a window is narrow: there is text in the picture.
            drawn = Markup("<img src='{}' alt='{}' style='image-rendering:auto'>").format(
                kept_picture(folder, strip_name(row, name)),
                f"{name} of {image.index} over the epochs",
            )
            html += figure(drawn)
    target = "The class looked at is the same in every epoch"
    if summary.target_epoch is not None:
        target += f": the one that the last, epoch {summary.target_epoch}, predicts"
    note = (
        f"{target}. Over each map: the class's probability, and what the checkpoint says "
        "where that is another class. Red speaks for the class, blue against it, each map by its "
        "own largest value; a map without colour is zero. Gradients are shown by magnitude."
    )
    note += _left_out(summary, "strips", MOST_EPOCHS)
    return Section("strips", "Maps over the epochs", html, note)


def _predictions(summary: CheckpointsSummary) -> Section:
    rows = []
    for result in spread(summary.epochs, _ROWS):
        cells = [str(result.epoch), percent(result.val_acc)]
        for image in result.images:
            text = Markup("{}").format(percent(image.probability))
            if image.predicted != image.target:
                text += Markup(" <small>says {}</small>").format(image.predicted)
            cells.append(text)
        rows.append(cells)
    headers = [f"{image.index}: {image.target}" for image in summary.images]
    html = table(["epoch", "validation accuracy", *headers], rows)
    note = "The probability of the class looked at, and what is predicted where it is another."
    note += _left_out(summary, "table", _ROWS)
    return Section("answers", "What the checkpoints say", html, note)


def _changes(summary: CheckpointsSummary) -> list[Section]:
    if len(summary.epochs) == 1:
        return []
    html = figure(
        _changes_figure(summary),
        "Rank correlation of every epoch's maps with those of the last epoch and of the epoch "
        "before it, means over images; beside it how the training went.",
    )
    rows = []
    for name, changes in summary.changes.items():
        for change in spread(changes, _ROWS):
            before, is_last = change.previous, change is changes[-1]
            rows.append(
                [
                    name,
                    str(change.epoch),
                    None if is_last else mean_text(change.final.signed),
                    None if before is None else mean_text(before.signed),
                    None if is_last else mean_text(change.final.ssim),
                ]
            )
    headers = ["map", "epoch", "with the last", "with the one before", "SSIM, last"]
    html += _folded("figures by map and epoch", table(headers, rows), len(rows))
    window = next(iter(summary.changes.values()))[0].final.ssim.window
    note = (
        f"Spearman's correlation, means over {count_images(len(summary.images))} with 95 % "
        f"bootstrap intervals; SSIM with a window of {window}. The one before is the epoch "
        "explained before it. Constant maps have no ranks and are counted."
    )
    note += _left_out(summary, "table", _ROWS)
    return [Section("changes", "How the maps change", html, note)]


def _scores(summary: CheckpointsSummary) -> list[Section]:
    """Return the scores by epoch as curves, and the last epoch's as for one model."""
    sections = scores_section(summary.scores)
    if not sections or len(summary.epochs) == 1:
        return sections
    (last,) = sections
    html = figure(
        _scores_figure(summary.epochs),
        "By epoch: area under the curves of deletion (lower is better) and insertion (higher is "
        "better), likeness to the maps of a random net (lower) and under noise (higher).",
    )
    html += Markup("<h3>Epoch {}</h3>").format(summary.epochs[-1].epoch) + last.html
    return [Section(last.id, last.title, html, last.note)]


def _changes_figure(summary: CheckpointsSummary) -> Markup:
    """Draw the correlation with the last and with the previous epoch's maps, and the training."""
    final: dict[str, Points] = {}
    previous: dict[str, Points] = {}
    for name, changes in summary.changes.items():
        final[name] = [(each.epoch, value_or_nan(each.final.signed)) for each in changes]
        previous[name] = [
            (each.epoch, value_or_nan(each.previous.signed))
            for each in changes
            if each.previous is not None
        ]
    panels = {
        "Spearman, with the last epoch": final,
        "Spearman, with the one before": previous,
        "the training": _training_curves(summary.epochs),
    }
    return _draw_panels(panels, "maps over epochs")


def _training_curves(epochs: Sequence[EpochResult]) -> dict[str, Points]:
    """Return the validation accuracy where it is known, and the classes' mean probability."""
    accuracy = [(result.epoch, result.val_acc) for result in epochs if result.val_acc is not None]
    probability = []
    for result in epochs:
        values = [image.probability for image in result.images]
        probability.append((result.epoch, sum(values) / len(values)))
    curves = zip(_TRAINING_LOOKS, (accuracy, probability), strict=True)
    return {name: points for name, points in curves if points}


def _scores_figure(epochs: Sequence[EpochResult]) -> Markup:
    """Draw deletion, insertion, sanity and stability of every map by epoch."""

    def curves(mean_of: Callable[[BriefScore], Mean | None]) -> dict[str, Points]:
        points: dict[str, Points] = {name: [] for name in epochs[-1].scores or {}}
        for result in epochs:
            scores = result.scores or {}
            for name in points:
                mean = mean_of(scores[name])
                if mean is not None:
                    points[name].append((result.epoch, value_or_nan(mean)))
        return points

    panels = {
        "deletion": curves(lambda score: score.deletion),
        "insertion": curves(lambda score: score.insertion),
        "sanity": curves(lambda score: None if score.sanity is UNSET else score.sanity.signed),
        "stability": curves(
            lambda score: None if score.stability is UNSET else score.stability.signed
        ),
    }
    return _draw_panels(panels, "deletion, insertion, sanity and stability by epoch")


def _draw_panels(panels: Mapping[str, Mapping[str, Points]], alt: str) -> Markup:
    """Draw panels side by side over the same epochs; curves of one name look the same."""
    from matplotlib.ticker import MaxNLocator

    with chart(10, 3.4) as drawing:
        lines: dict[str, Line2D] = {}
        axes = drawing.subplots(1, len(panels), sharex=True)
        for axis, (title, curves) in zip(axes, panels.items(), strict=True):
            for number, (name, points) in enumerate(curves.items()):
                if points:
                    epochs, heights = zip(*points, strict=True)
                    look = _TRAINING_LOOKS.get(name) or line_look(name, number)
                    lines[name] = axis.plot(epochs, heights, marker=".", **look)[0]
            lowest = min((y for points in curves.values() for _, y in points), default=0.0)
            axis.set(title=title, xlabel="epoch", ylim=(min(0.0, lowest) - 0.05, 1.05))
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        place: Any = {"fontsize": 8, "ncols": 6, "handlelength": 3}
        drawing.legend(lines.values(), map(label, lines), loc="outside lower center", **place)
        return svg(drawing, alt=alt)


def _folded(title: str, html: Markup, rows: int) -> Markup:
    """Return a table that has to be opened where it has many rows."""
    if rows <= _MOST_OPEN:
        return html
    return Markup("<details><summary>{}</summary>{}</details>").format(title, html)


def _left_out(summary: CheckpointsSummary, where: str, shown: int) -> str:
    count = len(summary.epochs)
    return f" In the {where}: {shown} of {count} epochs." if count > shown else ""
