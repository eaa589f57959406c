"""The report of a transfer evaluation: matrices, tests, gradients and examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup
from msgspec import UNSET

from robustkit.commands.transfer.export import Examples, load_examples
from robustkit.commands.transfer.result import Attack, Cell, Denominator, Summary, read
from robustkit.data import to_unit
from robustkit.report import (
    PALETTE,
    Section,
    chart,
    duration,
    eps_text,
    figure,
    format_percent,
    image_uri,
    label,
    number,
    percent,
    percent_of,
    svg,
    table,
    write_page,
)
from robustkit.report.pictures import Picture, magnification, perturbation_picture, picture
from robustkit.report.sections import settings_section, space_section, warnings_section
from robustkit.runs import RunFolder
from robustkit.runs.summaries import DataSettings, read_settings
from robustkit.stats import Rate

MEANINGS: dict[Denominator, str] = {
    "headline": "over the images that every net classifies correctly, the share the target gets "
    "wrong: one common set, so cells can be compared",
    "fooling": "the same among those of them that fool the source",
    "all": "over all images, clean errors included",
}
_DARK = 0.42  # rate from which on a cell is dark enough for white text
_SIDE = 92  # pixels of an example on the page
_NO_QUARTILES: tuple[float | None, ...] = (None, None, None)


def write_report(folder: RunFolder) -> Path:
    """Draw `report.html` from what the folder holds and return its path.

    Raises `RunError` when the evaluation has not finished, and, naming the entry, for
    what was edited in its files.
    """
    summary = read(folder)
    data = read_settings(folder, DataSettings).data
    attack = Attack.from_json(summary.attack, "attack")
    sections = [
        *warnings_section({name: net.warnings for name, net in summary.nets.items()}),
        _matrix(summary),
        _table(summary),
        _significance(summary),
        *_variants(summary),
        *_gradients(summary),
        examples_section(folder, list(summary.matrix), _targets(summary)),
        _sets(summary),
        *space_section(summary.pixel_space),
        settings_section(folder.config),
    ]
    return write_page(
        folder,
        "Transfer of adversarials",
        sections,
        subtitle=f"{attack.name}{_steps(attack)} at {attack.norm} "
        f"ε = {eps_text(attack.eps)}; "
        f"{summary.n:,} images of {data}; "
        f"{duration(summary.seconds.total)}",
    )


def heatmap(matrix: Mapping[str, Mapping[str, Cell]], kind: Denominator) -> Markup:
    """Draw the rates of one denominator as shaded cells with their values, in percent."""
    from matplotlib.colors import LinearSegmentedColormap

    sources, targets = list(matrix), list(next(iter(matrix.values())))
    shades = LinearSegmentedColormap.from_list("transfer", ["#f3f5f8", PALETTE[0], "#152f57"])
    widest = max(len(name) for name in sources)
    size = (1.1 * len(targets) + 0.085 * widest + 1.0, 0.52 * len(sources) + 0.9)
    tips = {}
    with chart(*size) as drawing:
        axes = drawing.subplots()
        for down, source in enumerate(sources):
            for across, target in enumerate(targets):
                rate = getattr(matrix[source][target], kind)
                gid = f"{kind}-{down}-{across}"
                _draw_cell(axes, (across, down), rate.value, shades, gid, framed=source == target)
                tips[gid] = _tip(source, target, rate)
        axes.set(xlim=(0, len(targets)), ylim=(len(sources), 0))
        axes.set_xticks([index + 0.5 for index in range(len(targets))], map(label, targets))
        axes.set_yticks([index + 0.5 for index in range(len(sources))], map(label, sources))
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_ylabel("made on")
        axes.set_xlabel("scored on")
        axes.xaxis.set_label_position("top")
        alt = f"transfer from {', '.join(sources)} to {', '.join(targets)}, {kind}, in percent"
        return svg(drawing, alt=alt, tips=tips)


def _draw_cell(
    axes: Any,
    place: tuple[int, int],
    value: float | None,
    shades: Callable[[float], Any],
    gid: str,
    *,
    framed: bool,
) -> None:
    """Draw a shaded cell with its value in percent; `place` counts columns and rows."""
    from matplotlib.patches import Rectangle

    across, down = place
    cell = Rectangle(
        (across + 0.02, down + 0.03),
        0.96,
        0.94,
        facecolor=shades(value) if value is not None else "#d9dce1",
        edgecolor=PALETTE[1] if framed else "none",
        linewidth=2 if framed else 0,
    )
    cell.set_gid(gid)
    axes.add_patch(cell)
    axes.text(
        across + 0.5,
        down + 0.5,
        "n = 0" if value is None else f"{100 * value:.1f}",
        ha="center",
        va="center",
        color="#fefefe" if value is not None and value > _DARK else "#16202e",
    )


def examples_section(folder: RunFolder, sources: list[str], targets: list[str]) -> Section:
    """Return a few images of every source: clean, adversarial, difference, targets misled."""
    examples, classes = load_examples(folder, len(sources), len(targets))
    note = (
        "Common images whose adversarial fools its source, first those on which targets disagree: "
        "chosen to show differences, so no fair sample."
    )
    parts = [
        _source_examples(examples[number], source, targets, classes)
        for number, source in enumerate(sources)
        if number in examples
    ]
    html = Markup().join(parts) if parts else Markup("<p>There are none.</p>")
    return Section("examples", "Examples", html, note)


def _matrix(summary: Summary) -> Section:
    drawn = Markup().join(
        figure(heatmap(summary.matrix, kind), f"{kind}: {meaning}.")
        for kind, meaning in MEANINGS.items()
    )
    note = (
        "How often a target errs on adversarials made on a source alone, in percent. Framed: the "
        "source itself. Low transfer is not robustness: an attack on the target itself may still "
        "succeed."
    )
    return Section("matrix", "Transfer", drawn, note)


def _table(summary: Summary) -> Section:
    rows = [
        [f"{source} → {target}", *(_rate(getattr(cell, kind)) for kind in MEANINGS)]
        for source, row in summary.matrix.items()
        for target, cell in row.items()
    ]
    note = "With 95 % Wilson intervals and the number of images each rate is taken over."
    return Section("rates", "Every rate", table(["", *MEANINGS], rows), note)


def _significance(summary: Summary) -> Section:
    rows = [
        [source, pair.replace(" | ", " and "), f"{p:.2g}"]
        for source, pairs in summary.mcnemar.items()
        for pair, p in pairs.items()
    ]
    note = (
        f"McNemar's exact test over the {summary.n_common:,} common images: could one source's "
        "adversarials mislead two targets equally often? Not corrected for the number of pairs."
    )
    html = table(["source", "targets", "p"], rows) if rows else Markup("<p>One target only.</p>")
    return Section("mcnemar", "Do targets differ?", html, note)


def _variants(summary: Summary) -> list[Section]:
    """Return the targeted matrix and the sign-flipped control, where they were made."""
    sections = []
    if summary.targeted is not UNSET:
        rows = [
            [f"{source} → {target}", _rate(cell.reached), _rate(cell.headline)]
            for source, row in summary.targeted.items()
            for target, cell in row.items()
            if cell.reached is not UNSET
        ]
        note = (
            "Steered to another label, drawn once for every image and shared by all sources; over "
            "the common images, the share that the target takes for that label, and the share it "
            "gets wrong in any way."
        )
        html = table(["", "reached the label", "wrong"], rows)
        sections.append(Section("targeted", "Targeted", html, note))
    if summary.flipped is not UNSET:
        note = (
            "The same attack steering to the true label. It should mislead nobody: a target that "
            "errs here has gradients that point against the source's, and would fall to an "
            "attacker who turns the sign."
        )
        drawn = figure(heatmap(summary.flipped, "headline"), "headline, sign-flipped control.")
        sections.append(Section("flipped", "Sign-flipped control", drawn, note))
    return sections


def _gradients(summary: Summary) -> list[Section]:
    if summary.gradient_images is UNSET or summary.cosines is UNSET:
        return []
    rows = [
        [
            pair.replace(" | ", " and "),
            compared.cos_mean,
            compared.cos_abs_mean,
            *(compared.cos_quartiles or _NO_QUARTILES),
        ]
        for pair, compared in summary.cosines.items()
    ]
    cosines = table(["", "mean cos", "mean |cos|", "25 %", "median", "75 %"], rows)
    norms = table(
        ["net", "clean accuracy", "mean norm", "25 %", "median", "75 %", "zero"],
        [
            [
                name,
                percent(net.clean_acc),
                net.grad_norm_mean or None,
                *(net.grad_norm_quartiles or _NO_QUARTILES),
                percent(net.grad_zero or 0.0),
            ]
            for name, net in summary.nets.items()
        ],
    )
    note = (
        f"Input gradients of the cross-entropy on {summary.gradient_images:,} clean images: "
        "cosines between every two nets, L2 norms, and the share of images where the gradient is "
        "exactly zero. Much of the asymmetry of transfer comes from the norms."
    )
    return [Section("gradients", "Gradients", cosines + norms, note)]


def _sets(summary: Summary) -> Section:
    sets = summary.sets
    rows = [
        [name, key, number(str(sets.imported.get(name, "crafted here")))]
        for name, key in sets.keys.items()
    ]
    html = table(["source", "key", "from"], rows)
    for line in sets.notes:
        html += Markup("<p>{}</p>").format(line)
    note = (
        f"{sets.hits} results were taken from the cache, {sets.misses} computed. A key names "
        "weights, images, attack and seed."
    )
    return Section("sets", "Adversarial sets", html, note)


def _source_examples(
    examples: Examples, source: str, targets: list[str], classes: list[str]
) -> Markup:
    headers = ["clean", "adversarial", "difference", "mislead"]
    head = Markup().join(Markup('<th scope="col">{}</th>').format(text) for text in headers)
    rows = Markup()
    for index in range(len(examples.labels)):
        image, adversarial = to_unit(examples.images[index]), to_unit(examples.adversarials[index])
        factor = magnification(adversarial - image)
        truth = classes[int(examples.labels[index])]
        position = int(examples.indices[index])
        wrong = dict(zip(targets, examples.misled[:, index].tolist(), strict=True))
        misled = [target for target in targets if wrong[target]]
        spared = [target for target in targets if not wrong[target]]
        rows += Markup("<tr>{}{}{}<td>{}</td></tr>").format(
            _picture_cell(picture(image), f"{truth}, image {position}"),
            _picture_cell(picture(adversarial), ""),
            _picture_cell(perturbation_picture(adversarial - image, factor), f"× {factor}"),
            Markup("{}<br><small>not: {}</small>").format(
                ", ".join(misled) or "nobody", ", ".join(spared) or "–"
            ),
        )
    return Markup(
        '<h3>Made on {}</h3><div class="scroll"><table><thead><tr>{}</tr></thead>'
        "<tbody>{}</tbody></table></div>"
    ).format(source, head, rows)


def _picture_cell(drawn: Picture, below: str | Markup) -> Markup:
    scale = max(1, round(2 * _SIDE / max(drawn.shape[:2])))
    return Markup(
        '<td style="vertical-align:top"><img src="{}" alt="" width="{}" height="{}">'
        "<small>{}</small></td>"
    ).format(image_uri(drawn, scale), _SIDE, _SIDE, below)


def _tip(source: str, target: str, rate: Rate) -> str:
    shown = "no image to count"
    if rate.value is not None:
        shown = format_percent(rate, unit=" %", with_n=True)
    return f"{source} → {target}\n{shown}"


def _rate(rate: Rate) -> Markup:
    if rate.value is None:
        return Markup("– <small>n = 0</small>")
    return percent_of(rate, with_n=True)


def _steps(attack: Attack) -> str:
    return "" if attack.steps is UNSET else f", {attack.steps} steps,"


def _targets(summary: Summary) -> list[str]:
    return list(next(iter(summary.matrix.values())))
