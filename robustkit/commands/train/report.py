"""The report of a training: what came out, how it went, with which settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from robustkit.commands.train.result import Attack, SavedEpoch, Summary, read, read_epochs
from robustkit.report import (
    Cell,
    Section,
    cards,
    chart,
    duration,
    figure,
    number,
    percent,
    percent_of,
    svg,
    write_page,
)
from robustkit.report.sections import settings_section
from robustkit.runs import RunFolder
from robustkit.stats import KnownRate


def write_report(folder: RunFolder) -> Path:
    """Draw `report.html` from the folder's summary and metrics; returns its path.

    Raises `RunError` when the training has not finished, and, naming the entry, for
    what was edited in its files.
    """
    summary, epochs = read(folder), read_epochs(folder)
    return write_page(
        folder,
        f"Training of {summary.model} on {summary.data}",
        [_result(summary), _course(epochs), settings_section(folder.config)],
        subtitle=f"{summary.epochs} epochs in {duration(summary.seconds)}",
    )


def rates(summary: Summary) -> list[tuple[str, Markup]]:
    """Return the measured rates: each with its name, and as text with interval and n."""
    named: list[tuple[str, KnownRate]] = [("clean accuracy, test", summary.clean)]
    if summary.robust is not None:
        attack = Attack.from_json(summary.robust.attack, "attack")
        how = f"{attack.name}, {attack.steps} steps, eps {number(attack.eps)}"
        named.append((f"robust accuracy, test ({how})", summary.robust))
    return [(name, percent_of(rate, with_n=True)) for name, rate in named]


def _result(summary: Summary) -> Section:
    best = f"epoch {summary.best_epoch} of {summary.epochs}"
    facts: list[tuple[str, Cell, str]] = [
        *((name, rate, "") for name, rate in rates(summary)),
        ("validation accuracy", percent(summary.val_acc), best),
        ("parameters", summary.params, ""),
        ("multiply-accumulates", summary.macs, "per image"),
    ]
    return Section("result", "Result", cards(facts))


def _course(epochs: Sequence[SavedEpoch]) -> Section:
    """Losses, accuracies and, where there is one, the penalty over the epochs."""

    panels: list[tuple[str, tuple[str, ...]]] = [
        ("loss (nats)", ("train_loss", "val_loss")),
        ("accuracy", ("train_acc", "val_acc")),
    ]
    if any(epoch.penalty is not None for epoch in epochs):
        panels.append(("misalignment penalty", ("penalty",)))
    numbers = [epoch.epoch for epoch in epochs]
    with chart(3.6 * len(panels), 2.8) as drawing:
        for axes, (title, names) in zip(drawing.subplots(1, len(panels)), panels, strict=True):
            for name in names:
                curve: list[Any] = [getattr(epoch, name) for epoch in epochs]
                axes.plot(numbers, curve, marker=".", label=name.replace("_", " "))
            axes.set(title=title, xlabel="epoch")
            axes.legend()
        drawn = svg(drawing, alt=f"{', '.join(title for title, _ in panels)} over the epochs")
    return Section("course", "Course", figure(drawn))
