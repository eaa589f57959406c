"""The rule of choice and the claims, fixed before the run.

A *setting* is an option with a λ. It keeps accuracy where, on validation and in the mean over
trainings, it is at most one point below no penalty; the best setting of an option is, of those that
keep it, the one with the least T(R→net) on validation. What is claimed of the best settings is
decided on test images, by the interval of the difference to the best setting with clean views,
training by training: the same reference and the same initial weights. References with
T(R→R2) < 50 % on validation, R2 being R's architecture without a penalty, are left out.

Options are also compared at one loss of accuracy, `LOSS`: the transfer there is read from straight
lines through an option's λ, its noise alone being λ = 0, on test images and training by training.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from experiments.studies.base import Claim, below
from experiments.studies.penalty.jobs import CLEAN, NONE, OPTIONS, Measured, Summary
from robustkit.report import format_percent
from robustkit.stats import Mean, mean_over_trainings

OPTION, CONTROL, CHOICE, QUALIFIES, MATCHED = (
    "penalty-options",
    "penalty-controls",
    "penalty-choice",
    "penalty-references",
    "penalty-matched",
)
KEPT = 0.01  # accuracy that a setting may cost
QUALIFIED = 0.5  # T(R→R2) on validation
LOSS = 0.03  # of accuracy, at which options are compared
SAME = 0.02  # transfer by which a cheaper option may be worse


class Setting(NamedTuple):
    """An option and a λ, as in the summary."""

    option: str
    lam: str

    def __str__(self) -> str:
        return self.option if float(self.lam) == 0 else f"{self.option}, λ = {self.lam}"


PLAIN = Setting(NONE, "0")


def settings(summary: Summary) -> list[Setting]:
    """Return all settings, in the order of the options and of λ."""
    weights_of = next(iter(summary.trained.values()))
    return [
        Setting(option, lam)
        for option in OPTIONS
        for lam in sorted(weights_of.get(option, {}), key=float)
    ]


def qualified(summary: Summary) -> dict[str, Mean]:
    """Return T(R→R2) on validation of the references where it is at least 50 %."""
    return {
        name: transfer
        for name, transfer in qualification(summary).items()
        if transfer.value is not None and transfer.value >= QUALIFIED
    }


def qualification(summary: Summary) -> dict[str, Mean]:
    """Return T(R→R2) on validation by reference, the mean over trainings."""
    return {
        name: mean_over_trainings(
            [
                None if net.measured is None else net.measured.val_transfer.rate
                for net in options[NONE]["0"].values()
            ]
        )
        for name, options in summary.trained.items()
    }


def nets(summary: Summary, setting: Setting, names: list[str]) -> list[Measured | None]:
    """Return the nets of a setting by reference and seed; None for one that diverged."""
    return [
        trained.measured
        for name in names
        for _, trained in sorted(summary.trained[name][setting.option][setting.lam].items())
    ]


def difference(
    summary: Summary, one: Setting, two: Setting, names: list[str], measure: str
) -> Mean:
    """Return one setting's `measure` minus another's, training by training."""
    pairs = zip(nets(summary, one, names), nets(summary, two, names), strict=True)
    return mean_over_trainings(
        [
            None if a is None or b is None else value_of(a, measure) - value_of(b, measure)
            for a, b in pairs
        ]
    )


def value_of(net: Measured, measure: str) -> float:
    """Return a measure of a net; of a transfer its rate."""
    value = getattr(net, measure)
    return float(getattr(value, "rate", value))


def keeps_accuracy(summary: Summary, setting: Setting, names: list[str]) -> bool:
    """Return whether a setting is at most a point below no penalty; never where one diverged."""
    if None in nets(summary, setting, names):
        return False
    gained = difference(summary, setting, PLAIN, names, "val_accuracy")
    return gained.value is not None and gained.value >= -KEPT


def best(summary: Summary, options: set[str], names: list[str]) -> Setting | None:
    """Return the setting of these options that the rule chooses; None where none is within it."""
    return min(
        (
            setting
            for setting in settings(summary)
            if setting.option in options and keeps_accuracy(summary, setting, names)
        ),
        key=lambda setting: mean_transfer(summary, setting, names),
        default=None,
    )


def mean_transfer(summary: Summary, setting: Setting, names: list[str]) -> float:
    """Return T(R→net) on validation of a setting all of whose trainings have a result."""
    rates = [net.val_transfer.rate for net in nets(summary, setting, names) if net is not None]
    return sum(rates) / len(rates)


def clean(summary: Summary, names: list[str]) -> Setting:
    """Return the best setting with clean views; where none keeps accuracy, the smallest λ."""
    smallest = next(setting for setting in settings(summary) if setting.option == CLEAN)
    return best(summary, {CLEAN}, names) or smallest


def claims(summary: Summary) -> list[Claim]:
    """Return whether references qualify, then the claims of options, controls and the choice."""
    names = list(qualified(summary))
    found = list(_qualifications(summary))
    if names:
        found += [*_options(summary, names), *_controls(summary, names), _choice(summary, names)]
        found += _matched(summary, names)
    return found


def _qualifications(summary: Summary) -> Iterator[Claim]:
    known = qualified(summary)
    for name, transfer in qualification(summary).items():
        yield Claim(
            item=QUALIFIES,
            what=f"{name}: R's adversarials fool half of R2 and more",
            published="ours",
            ours=f"{format_percent(transfer, unit=' %')} on validation, {transfer.n} trainings",
            holds=name in known if transfer.value is not None else None,
        )


def _penalised(summary: Summary) -> list[str]:
    present = {setting.option for setting in settings(summary)}
    return [name for name, option in OPTIONS.items() if option.penalised and name in present]


def _options(summary: Summary, names: list[str]) -> Iterator[Claim]:
    against = clean(summary, names)
    for option in _penalised(summary):
        if option == CLEAN:
            continue
        chosen = best(summary, {option}, names)
        holds: bool | None = False
        if chosen is None:
            ours = f"accuracy {_least_cost(summary, option, names)} at the least costly λ"
        else:
            gap = difference(summary, chosen, against, names, "transfer")
            ours, holds = _gap(gap, chosen, against), below(gap)
        yield Claim(
            item=OPTION,
            what=f"{option}: less transfer than with clean views, accuracy kept",
            published="ours",
            ours=ours,
            holds=holds,
        )


def _controls(summary: Summary, names: list[str]) -> Iterator[Claim]:
    everything = settings(summary)
    for noise in ("uniform", "corner", "mixed"):
        control = Setting(f"{noise} alone", "0")
        tried = [setting for setting in everything if setting.option == noise]
        if control not in everything or not tried:
            continue
        setting = best(summary, {noise}, names) or tried[0]
        gap = difference(summary, setting, control, names, "transfer")
        yield Claim(
            item=CONTROL,
            what=f"{noise}: it is the penalty and not the noise",
            published="ours",
            ours=_gap(gap, setting, control),
            holds=below(gap),
        )


def matched_transfer(summary: Summary, option: str, names: list[str]) -> list[float | None]:
    """Return the transfer of an option at a loss of accuracy of `LOSS`, by reference and seed.

    None where a training diverged, and where the loss is outside those of the option's λ.
    """
    control = NONE if OPTIONS[option].noise == "clean" else f"{OPTIONS[option].noise} alone"
    plain = nets(summary, PLAIN, names)
    columns = [
        nets(summary, setting, names)
        for of in (control, option)
        for setting in settings(summary)
        if setting.option == of
    ]
    found: list[float | None] = []
    for without, *curve in zip(plain, *columns, strict=True):
        known = [net for net in curve if net is not None]
        if without is None or len(known) < len(curve):
            found.append(None)
            continue
        losses = [without.accuracy - net.accuracy for net in known]
        found.append(_at(LOSS, losses, [net.transfer.rate for net in known]))
    return found


def _at(loss: float, losses: list[float], rates: list[float]) -> float | None:
    """Return the rate where a line from one point to the next first crosses the loss."""
    points = list(zip(losses, rates, strict=True))
    for (before, first), (after, second) in pairwise(points):
        if before <= loss <= after:
            share = (loss - before) / (after - before) if after > before else 0.0
            return first + share * (second - first)
    return None


def _matched(summary: Summary, names: list[str]) -> Iterator[Claim]:
    base = matched_transfer(summary, CLEAN, names)
    for option in _penalised(summary):
        if option == CLEAN or sum(each.option == option for each in settings(summary)) < 2:
            continue
        gap = mean_over_trainings(
            [
                None if one is None or other is None else one - other
                for one, other in zip(matched_transfer(summary, option, names), base, strict=True)
            ]
        )
        lazy = OPTIONS[option].penalty_every > 1
        yield Claim(
            item=MATCHED,
            what=f"{option}: "
            + (f"at most {100 * SAME:g} points more transfer" if lazy else "less transfer")
            + f" than with clean views at every step, {100 * LOSS:g} points of accuracy lost",
            published="ours",
            ours=f"{format_percent(gap, sign=True, unit=' points')}, {gap.n} trainings",
            holds=below(gap, SAME if lazy else 0.0),
        )


def _choice(summary: Summary, names: list[str]) -> Claim:
    against = clean(summary, names)
    chosen = best(summary, set(_penalised(summary)), names)
    if chosen is None:
        ours, holds = "no setting keeps accuracy: the rule chooses nothing", None
    elif chosen.option == CLEAN:
        ours, holds = f"{chosen} is chosen itself", False
    else:
        gap = difference(summary, chosen, against, names, "transfer")
        ours, holds = _gap(gap, chosen, against), below(gap)
    return Claim(
        item=CHOICE,
        what="what the rule chooses transfers less than clean views",
        published="ours",
        ours=ours,
        holds=holds,
    )


def _gap(gap: Mean, one: Setting, other: Setting) -> str:
    return f"{one}: {format_percent(gap, sign=True, unit=' points')} of {other}, {gap.n} trainings"


def _least_cost(summary: Summary, option: str, names: list[str]) -> str:
    """Return the smallest loss of accuracy on validation among an option's λ."""
    gains = [
        difference(summary, setting, PLAIN, names, "val_accuracy")
        for setting in settings(summary)
        if setting.option == option
    ]
    known = [gain for gain in gains if gain.value is not None]
    if not known:
        return "every training"
    return format_percent(max(known, key=lambda gain: gain.value or 0), sign=True, unit=" points")
