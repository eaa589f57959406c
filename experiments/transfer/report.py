"""The report of a transfer evaluation."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from experiments.pages import (
    eps_text,
    settings_section,
    space_section,
    warnings_of,
    warnings_section,
)
from experiments.summaries import DataSettings, Rate, read_settings
from experiments.transfer.gallery import examples_section
from experiments.transfer.heatmap import heatmap
from experiments.transfer.result import Attack, Cosines, Denominator, Summary, read
from robustkit.runs import RunFolder, write_text
from robustkit.runs.report import (
    Section,
    duration,
    figure,
    number,
    percent,
    render_report,
    table,
)

MEANINGS: dict[Denominator, str] = {
    "headline": "over the images that every net classifies correctly, the share the target gets "
    "wrong: one common set, so cells can be compared",
    "fooling": "the same among those of them that fool the source",
    "all": "over all images, clean errors included",
}


def write_report(folder: RunFolder) -> Path:
    """Draw `report.html` from what the folder holds; returns its path.

    Raises `RunError` when the evaluation has not finished, and, naming the entry, for
    what was edited in its files.
    """
    summary = read(folder)
    data = read_settings(folder, DataSettings)["data"]
    attack = summary["attack"]
    sections = [
        *warnings_section(warnings_of(summary["nets"])),
        _matrix(summary),
        _table(summary),
        _significance(summary),
        *_variants(summary),
        *_gradients(summary),
        examples_section(folder, list(summary["matrix"]), _targets(summary)),
        _sets(summary),
        *space_section(summary.get("pixel_space", {})),
        settings_section(folder.config),
    ]
    page = render_report(
        "Transfer of adversarials",
        sections,
        subtitle=f"{attack['name']}{_steps(attack)} at {attack['norm']} "
        f"ε = {eps_text(attack['eps'])}; "
        f"{summary['n']:,} images of {data}; "
        f"{duration(summary['seconds']['total'])}",
        env=folder.env,
        command=folder.command,
    )
    path = folder.file("report.html")
    write_text(path, page)
    return path


def _steps(attack: Attack) -> str:
    return f", {attack['steps']} steps," if "steps" in attack else ""


def _targets(summary: Summary) -> list[str]:
    return list(next(iter(summary["matrix"].values())))


def _matrix(summary: Summary) -> Section:
    drawn = Markup().join(
        figure(heatmap(summary["matrix"], kind), f"{kind}: {meaning}.")
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
        [f"{source} → {target}", *(_rate(cell[kind]) for kind in MEANINGS)]
        for source, row in summary["matrix"].items()
        for target, cell in row.items()
    ]
    note = "With 95 % Wilson intervals and the number of images each rate is taken over."
    return Section("rates", "Every rate", table(["", *MEANINGS], rows), note)


def _significance(summary: Summary) -> Section:
    rows = [
        [source, pair.replace(" | ", " and "), f"{p:.2g}"]
        for source, pairs in summary["mcnemar"].items()
        for pair, p in pairs.items()
    ]
    note = (
        f"McNemar's exact test over the {summary['n_common']:,} common images: could one source's "
        "adversarials mislead two targets equally often? Not corrected for the number of pairs."
    )
    html = table(["source", "targets", "p"], rows) if rows else Markup("<p>One target only.</p>")
    return Section("mcnemar", "Do targets differ?", html, note)


def _variants(summary: Summary) -> list[Section]:
    """The targeted matrix and the sign-flipped control, where they were made."""
    sections = []
    if "targeted" in summary:
        rows = [
            [f"{source} → {target}", _rate(cell["reached"]), _rate(cell["headline"])]
            for source, row in summary["targeted"].items()
            for target, cell in row.items()
        ]
        note = (
            "Steered to another label, drawn once for every image and shared by all sources; over "
            "the common images, the share that the target takes for that label, and the share it "
            "gets wrong in any way."
        )
        html = table(["", "reached the label", "wrong"], rows)
        sections.append(Section("targeted", "Targeted", html, note))
    if "flipped" in summary:
        note = (
            "The same attack steering to the true label. It should mislead nobody: a target that "
            "errs here has gradients that point against the source's, and would fall to an "
            "attacker who turns the sign."
        )
        drawn = figure(heatmap(summary["flipped"], "headline"), "headline, sign-flipped control.")
        sections.append(Section("flipped", "Sign-flipped control", drawn, note))
    return sections


def _gradients(summary: Summary) -> list[Section]:
    if "gradient_images" not in summary:
        return []
    rows = [
        [pair.replace(" | ", " and "), found["cos_mean"], found["cos_abs_mean"], *_quartiles(found)]
        for pair, found in summary["cosines"].items()
    ]
    cosines = table(["", "mean cos", "mean |cos|", "25 %", "median", "75 %"], rows)
    norms = table(
        ["net", "clean accuracy", "mean norm", "25 %", "median", "75 %", "zero"],
        [
            [
                name,
                percent(net["clean_acc"]),
                net["grad_norm_mean"],
                *net["grad_norm_quartiles"],
                percent(net["grad_zero"]),
            ]
            for name, net in summary["nets"].items()
        ],
    )
    note = (
        f"Input gradients of the cross-entropy on {summary['gradient_images']:,} clean images: "
        "cosines between every two nets, L2 norms, and the share of images where the gradient is "
        "exactly zero. Much of the asymmetry of transfer comes from the norms."
    )
    return [Section("gradients", "Gradients", cosines + norms, note)]


def _sets(summary: Summary) -> Section:
    sets = summary["sets"]
    rows = [
        [name, key, number(str(sets["imported"].get(name, "crafted here")))]
        for name, key in sets["keys"].items()
    ]
    html = table(["source", "key", "from"], rows)
    for line in sets["notes"]:
        html += Markup("<p>{}</p>").format(line)
    note = (
        f"{sets['hits']} results were taken from the cache, {sets['misses']} computed. A key names "
        "weights, images, attack and seed."
    )
    return Section("sets", "Adversarial sets", html, note)


def _rate(rate: Rate) -> Markup:
    if rate["rate"] is None:
        return Markup("– <small>n = 0</small>")
    return percent(rate["rate"], rate["low"], rate["high"], rate["n"])


def _quartiles(found: Cosines) -> list[float] | list[None]:
    return found["cos_quartiles"] or [None, None, None]
