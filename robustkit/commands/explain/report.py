"""The report of an explanation: what the maps show, and whether they are any good."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from markupsafe import Markup
from msgspec import UNSET

from robustkit.commands.explain.panels import panel_name
from robustkit.commands.explain.result import (
    Mean,
    Missed,
    Score,
    Scores,
    Summary,
    Transfer,
    read,
    read_methods,
)
from robustkit.commands.explain.scores import CONTROLS
from robustkit.report import PALETTE, Section, chart, figure, label, svg, table, write_page
from robustkit.report.pictures import kept_picture
from robustkit.report.sections import settings_section, space_section
from robustkit.runs import RunFolder

LINES = ("-", "--", ":")


def curves_figure(scores: Mapping[str, Score]) -> Markup:
    """Mean probability over the share of pixels deleted, and inserted."""

    with chart(7.6, 3.2) as drawing:
        curves = {
            "deletion": {name: each["deletion"]["curve"] for name, each in scores.items()},
            "insertion": {name: each["insertion"]["curve"] for name, each in scores.items()},
        }
        for place, (kind, found) in zip(drawing.subplots(1, 2), curves.items(), strict=True):
            for number, (name, curve) in enumerate(found.items()):
                share = [100 * step / (len(curve) - 1) for step in range(len(curve))]
                control = name in CONTROLS
                place.plot(
                    share,
                    curve,
                    label=label(name),
                    color="0.6" if control else PALETTE[number % len(PALETTE)],
                    linestyle=LINES[1 + CONTROLS.index(name)]
                    if control
                    else LINES[number // len(PALETTE) % len(LINES)],
                )
            place.set(xlabel=f"pixels, % ({kind})", ylim=(0, 1))
        drawing.axes[0].set_ylabel("probability of the class")
        drawing.axes[1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
        return svg(drawing, alt="deletion and insertion curves")


def sanity_figure(scores: Mapping[str, Score]) -> Markup:
    """Signed rank correlation over the layers drawn anew, from the output back."""

    with chart(7.6, 3.2) as drawing:
        place = drawing.subplots()
        methods = [name for name in scores if name not in CONTROLS]
        layers: list[str] = []
        for number, name in enumerate(methods):
            found = scores[name]["sanity"]["cascading"]
            layers = list(found)
            means = [each["signed"]["mean"] for each in found.values()]
            values = [float("nan") if mean is None else mean for mean in means]
            colour = PALETTE[number % len(PALETTE)]
            line = LINES[number // len(PALETTE) % len(LINES)]
            places = range(len(layers))
            place.plot(
                places, values, line, marker="o", markersize=3, label=label(name), color=colour
            )
        place.axhline(0, color="0.8", linewidth=0.8)
        place.set_xticks(
            range(len(layers)), map(label, layers), rotation=60, ha="right", fontsize=7
        )
        place.set(ylabel="Spearman, signed")
        place.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
        return svg(drawing, alt="likeness of maps under randomisation")


def write_report(folder: RunFolder) -> Path:
    """Draw `report.html` from what the folder holds; returns its path.

    Raises `RunError` when the explanation has not finished, and, naming the entry, for
    what was edited in its files.
    """
    summary, methods = read(folder), read_methods(folder)
    sections = [
        _images(folder, summary),
        *_masking(summary),
        *scores_section(summary.get("scores")),
        *_contrast(summary),
        *space_section(summary.get("pixel_space", UNSET)),
        settings_section(folder.config),
    ]
    return write_page(
        folder,
        "Explanation",
        sections,
        subtitle=f"{counted(len(summary['images']))}, {', '.join(methods)}",
    )


def _images(folder: RunFolder, summary: Summary) -> Section:
    html = Markup()
    transfer = summary.get("transfer")
    whom = "the other model" if transfer is None else transfer["target"]
    for row, image in enumerate(summary["images"]):
        said = f"predicted {image['predicted']}"
        if image["true"] is not None:
            said += f", true {image['true']}"
        if image["other"] is not None:
            other = image["other"]
            said += (
                f"; {whom} says {other['predicted']}, and gives {image['target']} "
                f"{other['score']:.3f} ({other['probability']:.1%})"
            )
        residual = image["residual_max"]
        if residual is not None:
            said += f"; contributions and biases miss the score by at most {residual:.1e}"
        html += Markup(
            "<figure><img src='{}' alt='{}' style='max-width:100%'>"
            "<figcaption>{}: score of {} {:.3f} (probability {:.1%}); {}</figcaption></figure>"
        ).format(
            kept_picture(folder, panel_name(row)),
            image["index"],
            image["index"],
            image["target"],
            image["score"],
            image["probability"],
            said,
        )
    note = (
        "Red speaks for the class, blue against it, each map by its own largest value. ① is the "
        "last layer, the highest number the input. Gradients are shown by magnitude."
    )
    if transfer is not None:
        note = f"{_whence(transfer)} {note}"
    return Section("maps", "Maps", html, note)


def _whence(transfer: Transfer) -> str:
    """Which images of a transfer evaluation these are, and of how many."""
    source, target = transfer["source"], transfer["target"]
    shown = "after" if transfer["attacked"] else "before"
    return (
        f"Images {shown} an attack on {source} that fools {source}; {target} was "
        f"{transfer['which']} by {transfer['found']} of {transfer['fooling']} such images, of "
        f"which these are the first. Maps without a name are {source}'s."
    )


def _masking(summary: Summary) -> list[Section]:
    found = summary.get("mask")
    if found is None:
        return []
    rows = [
        [
            image["index"],
            f"{100 * each['share']:.1f} %",
            f"{each['before']:.3f}",
            f"{each['after']:.3f}",
            None if each["predicted"] is None else f"{each['predicted']:.3f}",
            _list(each["top_before"]),
            _list(each["top_after"]),
        ]
        for image, each in zip(summary["images"], found["images"], strict=True)
    ]
    headers = ["image", "disabled", "score", "after", "if linear", "highest before", "after "]
    beyond = f" beyond its {found['quantile']:g}-quantile" if found["quantile"] else ""
    note = f"{found['what']}{beyond} disabled at {found['at']}, filled with {found['fill']:g}."
    return [Section("masking", "Masking check", table(headers, rows), note)]


def scores_section(scores: Scores | None) -> list[Section]:
    """Deletion, insertion, sanity and stability of every map; nothing where it was not checked."""
    if scores is None:
        return []
    rows = []
    for name, each in scores.items():
        cells = [name, mean_text(each["deletion"]), mean_text(each["insertion"])]
        if name in CONTROLS:
            cells += [None, None, None, None]
        else:
            cells += [
                mean_text(each["sanity"]["signed"]),
                _brief(each["sanity"]["absolute"]),
                mean_text(each["stability"]["signed"]),
                _gap(each["completeness"]),
            ]
        rows.append(cells)
    headers = ["map", "deletion ↓", "insertion ↑", "sanity ↓", "of magnitudes", "stability ↑"]
    headers += ["misses ↓"]
    html = figure(
        curves_figure(scores),
        "Probability of the class while pixels are deleted "
        "(left) or put into a blurred image (right), those of largest map first.",
    )
    html += table(headers, rows)
    html += figure(
        sanity_figure(scores),
        "Rank correlation with the map of a net whose layers "
        "were drawn anew, from the last one to the one named.",
    )
    note = (
        "Means over images with 95 % bootstrap intervals. Deletion and insertion: area under the "
        "curve. Sanity: Spearman's correlation with the map of the same net, all weights random; a "
        "map that stays alike does not show what was learnt. Stability: the same under noise. "
        "Constant maps have no ranks and are counted. Misses: by how much maps that divide a score "
        "among the pixels do not add up to it."
    )
    return [Section("scores", "Are the maps any good?", html, note)]


def _contrast(summary: Summary) -> list[Section]:
    found = summary.get("contrast")
    if found is None:
        return []
    rows = [
        [name, mean_text(each["signed"]), mean_text(each["absolute"]), mean_text(each["ssim"])]
        for name, each in found.items()
    ]
    html = table(["map", "Spearman", "of magnitudes", "SSIM"], rows)
    window = next(iter(found.values()))["ssim"]["window"]
    note = f"How alike the two models' maps of one image are; SSIM with a window of {window}."
    return [Section("contrast", "Two models", html, note)]


def _list(names: list[str]) -> Markup:
    return Markup('<small style="white-space:normal">{}</small>').format(", ".join(names))


def _gap(found: Missed | None) -> str | None:
    if found is None:
        return None
    return f"{found['mean']:.2f}" if found["mean"] >= 0.01 else f"{found['mean']:.0e}"


def _brief(found: Mean) -> str | None:
    return None if found["mean"] is None else f"{found['mean']:.2f}"


def counted(images: int) -> str:
    """So many images, in words."""
    return "1 image" if images == 1 else f"{images} images"


def mean_text(found: Mean) -> str | None:
    """{mean, low, high, constant} as `0.12 [0.10, 0.14]`, with how many maps were constant."""
    if found["mean"] is None:
        return None if not found.get("constant") else f"{found['constant']} constant"
    text = f"{found['mean']:.2f}"
    if found["low"] is not None:
        text += f" [{found['low']:.2f}, {found['high']:.2f}]"
    if found.get("constant"):
        text += f", {found['constant']} constant"
    return text
