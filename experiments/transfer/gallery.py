"""Adversarials of every source, and whom they mislead."""

from __future__ import annotations

from markupsafe import Markup

from experiments.pictures import Picture, magnification, perturbation_picture, picture
from experiments.transfer.export import Examples, load_examples
from robustkit.data import to_unit
from robustkit.runs import RunFolder
from robustkit.runs.report import Section, image_uri

SIDE = 92  # pixels of the page


def examples_section(folder: RunFolder, sources: list[str], targets: list[str]) -> Section:
    """For every source a few images: clean, adversarial, the difference, and who is misled."""
    kept, classes = load_examples(folder, len(sources), len(targets))
    note = (
        "Common images whose adversarial fools its source, first those on which targets disagree: "
        "chosen to show differences, so no fair sample."
    )
    parts = [
        _source(kept[number], source, targets, classes)
        for number, source in enumerate(sources)
        if number in kept
    ]
    html = Markup().join(parts) if parts else Markup("<p>There are none.</p>")
    return Section("examples", "Examples", html, note)


def _source(kept: Examples, source: str, targets: list[str], classes: list[str]) -> Markup:
    headers = ["clean", "adversarial", "difference", "mislead"]
    head = Markup().join(Markup('<th scope="col">{}</th>').format(each) for each in headers)
    rows = Markup()
    for index in range(len(kept.label)):
        clean, made = to_unit(kept.clean[index]), to_unit(kept.made[index])
        factor = magnification(made - clean)
        truth = classes[int(kept.label[index])]
        place = int(kept.index[index])
        verdicts = kept.misled[:, index].tolist()
        misled = [target for target, wrong in zip(targets, verdicts, strict=True) if wrong]
        spared = [target for target, wrong in zip(targets, verdicts, strict=True) if not wrong]
        rows += Markup("<tr>{}{}{}<td>{}</td></tr>").format(
            _cell(picture(clean), f"{truth}, image {place}"),
            _cell(picture(made), ""),
            _cell(perturbation_picture(made - clean, factor), f"× {factor}"),
            Markup("{}<br><small>not: {}</small>").format(
                ", ".join(misled) or "nobody", ", ".join(spared) or "–"
            ),
        )
    return Markup(
        '<h3>Made on {}</h3><div class="scroll"><table><thead><tr>{}</tr></thead>'
        "<tbody>{}</tbody></table></div>"
    ).format(source, head, rows)


def _cell(pixels: Picture, below: str | Markup) -> Markup:
    scale = max(1, round(2 * SIDE / max(pixels.shape[:2])))
    return Markup(
        '<td style="vertical-align:top"><img src="{}" alt="" width="{}" height="{}">'
        "<small>{}</small></td>"
    ).format(image_uri(pixels, scale), SIDE, SIDE, below)
