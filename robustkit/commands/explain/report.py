"""The report of the explanation of one model: the maps, and how good they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup
from msgspec import UNSET, UnsetType

from robustkit.commands.explain.panels import panel_name
from robustkit.commands.explain.result import (
    CONTROLS,
    Completeness,
    Image,
    MeanSimilarity,
    Scores,
    Summary,
    TransferOrigin,
    read,
    read_methods,
)
from robustkit.report import (
    PALETTE,
    Section,
    chart,
    figure,
    format_estimate,
    label,
    svg,
    table,
    write_page,
)
from robustkit.report.pictures import kept_picture
from robustkit.report.sections import settings_section, space_section
from robustkit.runs import RunFolder
from robustkit.stats import Mean

LINE_STYLES = ("-", "--", ":")


def write_report(folder: RunFolder) -> Path:
    """Draw `report.html` from what the folder holds and return its path.

    Raises `RunError` when the explanation has not finished, and, naming the entry, for
    what was edited in its files.
    """
    summary, methods = read(folder), read_methods(folder)
    sections = [
        _images(folder, summary),
        *_masking(summary),
        *scores_section(summary.scores),
        *_contrast(summary),
        *space_section(summary.pixel_space),
        settings_section(folder.config),
    ]
    return write_page(
        folder,
        "Explanation",
        sections,
        subtitle=f"{count_images(len(summary.images))}, {', '.join(methods)}",
    )


def scores_section(scores: Scores | UnsetType) -> list[Section]:
    """Return the section on how good every map is; none where maps were not checked."""
    if scores is UNSET:
        return []
    html = figure(
        _curves_figure(scores),
        "Probability of the class while pixels are deleted "
        "(left) or put into a blurred image (right), those of largest map first.",
    )
    html += _scores_table(scores)
    html += figure(
        _sanity_figure(scores),
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


def mean_text(mean: Mean) -> str | None:
    """Return a mean as `0.12 [0.10, 0.14]`, with the number of constant maps if there are any."""
    constant = mean.constant if isinstance(mean, MeanSimilarity) else UNSET
    if mean.value is None:
        return f"{constant} constant" if constant else None
    text = format_estimate(mean)
    return f"{text}, {constant} constant" if constant else text


def count_images(count: int) -> str:
    """Return a number of images in words."""
    return "1 image" if count == 1 else f"{count} images"


def _images(folder: RunFolder, summary: Summary) -> Section:
    html = Markup()
    transfer = summary.transfer
    other_name = "the other model" if transfer is UNSET else transfer.target
    for row, image in enumerate(summary.images):
        caption = _caption(image, other_name)
        html += Markup(
            "<figure><img src='{}' alt='{}' style='max-width:100%'>"
            "<figcaption>{}: {}</figcaption></figure>"
        ).format(kept_picture(folder, panel_name(row)), image.index, image.index, caption)
    note = (
        "Red speaks for the class, blue against it, each map by its own largest value. ① is the "
        "last layer, the highest number the input. Gradients are shown by magnitude."
    )
    if transfer is not UNSET:
        note = f"{_origin(transfer)} {note}"
    return Section("maps", "Maps", html, note)


def _caption(image: Image, other_name: str) -> str:
    text = f"score of {image.target} {image.score:.3f} (probability {image.probability:.1%})"
    text += f"; predicted {image.predicted}"
    if image.true is not None:
        text += f", true {image.true}"
    if image.other is not None:
        text += (
            f"; {other_name} says {image.other.predicted}, and gives {image.target} "
            f"{image.other.score:.3f} ({image.other.probability:.1%})"
        )
    if image.residual_max is not None:
        text += f"; contributions and biases miss the score by at most {image.residual_max:.1e}"
    return text


def _origin(transfer: TransferOrigin) -> str:
    """Return which images of a transfer evaluation these are, and of how many."""
    source, target = transfer.source, transfer.target
    shown = "after" if transfer.attacked else "before"
    return (
        f"Images {shown} an attack on {source} that fools {source}; {target} was "
        f"{transfer.which} by {transfer.found} of {transfer.fooling} such images, of "
        f"which these are the first. Maps without a name are {source}'s."
    )


def _masking(summary: Summary) -> list[Section]:
    masking = summary.mask
    if masking is UNSET:
        return []
    rows = [
        [
            image.index,
            f"{100 * masked.share:.1f} %",
            f"{masked.before:.3f}",
            f"{masked.after:.3f}",
            None if masked.predicted is None else f"{masked.predicted:.3f}",
            _list(masked.top_before),
            _list(masked.top_after),
        ]
        for image, masked in zip(summary.images, masking.images, strict=True)
    ]
    headers = ["image", "disabled", "score", "after", "if linear", "highest before", "after "]
    beyond = f" beyond its {masking.quantile:g}-quantile" if masking.quantile else ""
    note = f"{masking.what}{beyond} disabled at {masking.at}, filled with {masking.fill:g}."
    return [Section("masking", "Masking check", table(headers, rows), note)]


def _contrast(summary: Summary) -> list[Section]:
    contrast = summary.contrast
    if contrast is UNSET:
        return []
    rows = [
        [name, mean_text(maps.signed), mean_text(maps.absolute), mean_text(maps.ssim)]
        for name, maps in contrast.items()
    ]
    html = table(["map", "Spearman", "of magnitudes", "SSIM"], rows)
    window = next(iter(contrast.values())).ssim.window
    note = f"How alike the two models' maps of one image are; SSIM with a window of {window}."
    return [Section("contrast", "Two models", html, note)]


def _scores_table(scores: Scores) -> Markup:
    rows = []
    for name, score in scores.items():
        cells = [name, mean_text(score.deletion), mean_text(score.insertion)]
        if score.sanity is UNSET or score.stability is UNSET:  # a control
            cells += [None, None, None, None]
        else:
            absolute = score.sanity.absolute.value
            cells += [
                mean_text(score.sanity.signed),
                None if absolute is None else f"{absolute:.2f}",
                mean_text(score.stability.signed),
                _gap(score.completeness),
            ]
        rows.append(cells)
    headers = ["map", "deletion ↓", "insertion ↑", "sanity ↓", "of magnitudes", "stability ↑"]
    return table([*headers, "misses ↓"], rows)


def _curves_figure(scores: Scores) -> Markup:
    """Draw the mean probability over the share of pixels deleted, and inserted."""
    with chart(7.6, 3.2) as drawing:
        for axes, kind in zip(drawing.subplots(1, 2), ("deletion", "insertion"), strict=True):
            for number, (name, score) in enumerate(scores.items()):
                curve = (score.deletion if kind == "deletion" else score.insertion).curve
                share = [100 * step / (len(curve) - 1) for step in range(len(curve))]
                axes.plot(share, curve, label=label(name), **line_look(name, number))
            axes.set(xlabel=f"pixels, % ({kind})", ylim=(0, 1))
        drawing.axes[0].set_ylabel("probability of the class")
        drawing.axes[1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
        return svg(drawing, alt="deletion and insertion curves")


def _sanity_figure(scores: Scores) -> Markup:
    """Draw the signed rank correlation over the layers drawn anew, from the output back."""
    with chart(7.6, 3.2) as drawing:
        axes = drawing.subplots()
        layers: list[str] = []
        methods = {name: s.sanity for name, s in scores.items() if s.sanity is not UNSET}
        for number, (name, sanity) in enumerate(methods.items()):
            layers = list(sanity.cascading)
            values = [value_or_nan(maps.signed) for maps in sanity.cascading.values()]
            look = line_look(name, number)
            axes.plot(
                range(len(layers)), values, marker="o", markersize=3, label=label(name), **look
            )
        axes.axhline(0, color="0.8", linewidth=0.8)
        axes.set_xticks(range(len(layers)), map(label, layers), rotation=60, ha="right", fontsize=7)
        axes.set(ylabel="Spearman, signed")
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
        return svg(drawing, alt="likeness of maps under randomisation")


def line_look(name: str, number: int) -> Mapping[str, Any]:
    """Return colour and line style of the `number`-th map; controls are grey."""
    if name in CONTROLS:
        return {"color": "0.6", "linestyle": LINE_STYLES[1 + CONTROLS.index(name)]}
    style = LINE_STYLES[number // len(PALETTE) % len(LINE_STYLES)]
    return {"color": PALETTE[number % len(PALETTE)], "linestyle": style}


def value_or_nan(mean: Mean) -> float:
    """Return the value of a mean, NaN where there is none to draw."""
    return float("nan") if mean.value is None else mean.value


def _list(names: list[str]) -> Markup:
    return Markup('<small style="white-space:normal">{}</small>').format(", ".join(names))


def _gap(completeness: Completeness | UnsetType | None) -> str | None:
    if completeness is None or completeness is UNSET:
        return None
    mean = completeness.value
    return f"{mean:.2f}" if mean >= 0.01 else f"{mean:.0e}"
