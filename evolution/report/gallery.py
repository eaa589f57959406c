"""Adversarial images of R, each net's predictions for them, and its input gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
from markupsafe import Markup
from torch import Tensor

from evolution.protocol.gallery import shown_nets
from evolution.report.comparison import RED, SHOWN
from evolution.report.run_data import Evidence
from robustkit.report import Section, eps_text, image_uri
from robustkit.report.pictures import (
    Picture,
    gradient_picture,
    magnification,
    perturbation_picture,
    picture,
)

SIDE = 92  # pixels of the page


def gallery_section(evidence: Evidence) -> Section:
    """Return a row per image: clean, adversarial, difference, a map for R, R′ and E each."""
    roles = _roles(evidence)
    control = roles[1]
    note = (
        f"Test images that R, {control} and E classify correctly and whose adversarial fools R, "
        f"first those that fool {control} and not E: selected to show the difference, so no fair "
        "sample of it. "
        "The maps show where the input gradient of each net is large on the clean image."
    )
    count = len(evidence.gallery.labels)
    if count == 0:
        return Section("gallery", "Adversarial images", Markup("<p>There are none.</p>"), note)
    name = _namer(evidence.classes)
    rows = Markup().join(_row(evidence, index, name) for index in range(count))
    headers = ["clean image", "adversarial of R", "difference"]
    headers += [f"gradient of {role}" for role in roles]
    head = Markup().join(Markup('<th scope="col">{}</th>').format(header) for header in headers)
    caption = (
        f"Attack: {evidence.config.attack}, {evidence.config.norm}, ε = "
        f"{eps_text(evidence.config.eps)} in units of images in [0,1]. Below each map: the "
        "net's predictions for the clean image and for the adversarial, and the cosine of its "
        f"gradient with R's. {control} and E are the first of their trainings."
    )
    whole = Markup(
        '<div class="scroll"><table><caption>{}</caption><thead><tr>{}</tr></thead>'
        "<tbody>{}</tbody></table></div>"
    )
    return Section("gallery", "Adversarial images", whole.format(caption, head, rows), note)


def _roles(evidence: Evidence) -> list[str]:
    """Return the displayed roles of the gallery's nets, in order."""
    return [SHOWN[name] for name in shown_nets(evidence.summary.nets.roles)]


def _row(evidence: Evidence, index: int, name: Callable[[int], str]) -> Markup:
    shown = evidence.gallery
    truth = int(shown.labels[index])
    difference = shown.adversarial[index] - shown.clean[index]
    factor = magnification(difference)
    largest = float(difference.abs().max())
    cells = [
        _cell(picture(shown.clean[index]), f"test image of {name(truth)}", name(truth)),
        _cell(picture(shown.adversarial[index]), "its adversarial", ""),
        _cell(
            perturbation_picture(difference, factor),
            "the difference, magnified",
            Markup("× {}<br>at most {}").format(factor, eps_text(largest)),
        ),
    ]
    for net, role in enumerate(_roles(evidence)):
        before = int(shown.predicted[net, index])
        after = int(shown.predicted_adversarial[net, index])
        predictions = _said(name, truth, before, after)
        cosine = _cosine(shown.gradients[net, index], shown.gradients[0, index]) if net else None
        below = (
            predictions
            if cosine is None
            else predictions + Markup("<br>cos {:+.2f}").format(cosine)
        )
        picture_of = gradient_picture(shown.gradients[net, index])
        cells.append(_cell(picture_of, f"gradient of {role}", below))
    return Markup("<tr>") + Markup().join(cells) + Markup("</tr>")


def _cell(pixels: Picture, alt: str, below: str) -> Markup:
    scale = max(1, round(2 * SIDE / max(pixels.shape[:2])))
    return Markup(
        '<td style="vertical-align:top"><img src="{}" alt="{}" width="{}" height="{}">'
        "<small>{}</small></td>"
    ).format(image_uri(pixels, scale), alt, SIDE, SIDE, below)


def _said(name: Callable[[int], str], truth: int, before: int, after: int) -> Markup:
    right = Markup("{} ✓")
    wrong = Markup(f'<span style="color:{RED}">{{}} ✗</span>')
    first, second = (
        (right if prediction == truth else wrong).format(name(prediction))
        for prediction in (before, after)
    )
    return Markup("{} → {}").format(first, second)


def _cosine(first: Tensor, second: Tensor) -> float | None:
    """Return the cosine of two gradients; None where one is zero."""
    a, b = first.double().flatten(), second.double().flatten()
    norms = float(a.norm() * b.norm())
    return float(torch.dot(a, b)) / norms if norms > 0 else None


def _namer(classes: tuple[str, ...] | None) -> Callable[[int], str]:
    def name(label: int) -> str:
        return str(label) if classes is None else classes[label]

    return name
