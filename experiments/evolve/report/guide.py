"""How the winner was chosen, how the figures are to be read, and what was set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from markupsafe import Markup

from experiments.evolve.report.evidence import Evidence
from experiments.evolve.report.players import MEANINGS, SHOWN, present
from experiments.evolve.report.words import compact, share
from experiments.evolve.result import Summary
from robustkit.runs.report import Section, number, table

READING = (
    (
        "headline",
        "of the images that every training of every net classifies correctly when clean: one "
        "common set, so that differences between nets are paired. The gap is on this set",
    ),
    (
        "fooling",
        "of those images whose adversarial fools the net it was made on: how far a success "
        "carries over. Empty (n = 0) where the source is never fooled, as with a flipped gradient",
    ),
    (
        "all",
        "of all test images, also those that a net gets wrong without any attack: what a user of "
        "the net would see. Cannot fall below the clean error by much",
    ),
)

TRANSFER = (
    "T(S→M), the transfer from S to M, is the share of adversarials made on S alone, at fixed ε "
    "and never stopped early, that M gets wrong. It is a share of three sets:",
)
REST = (
    "White-box accuracy is the share of all test images that a net gets right both clean and under "
    "its own adversarials. An adversarial from R's flipped gradient steps the other way: a net "
    "whose gradient is minus R's would fall for it.",
    "Intervals are Wilson's, over images. The gap's resamples images and trainings together; its "
    "p-value is the largest of McNemar's over pairs of trainings.",
    "The nets:",
)


def selection_section(evidence: Evidence) -> Section:
    """The stated rule, what it chose, and from how many."""
    selection = evidence.summary["selection"]
    rows = []
    for player, choice in (("E", selection["E"]), ("RS", selection["RS"])):
        seen = choice["validation"]
        rows.append(
            (
                SHOWN[player],
                f"candidate {choice['number']}",
                f"{choice['considered']}",
                share(seen["accuracy"]),
                share(seen["transfer"]),
                f"{seen['cos_abs']:.3f}",
                compact(seen["macs"]),
                choice["key"],
            )
        )
    headers = (
        "net",
        "chosen",
        "out of",
        "accuracy",
        "transfer from R",
        "|cos|",
        "MACs",
        "key of the architecture",
    )
    html = Markup("<p>The rule: {}.</p>").format(selection["E"]["rule"])
    if selection["RS"]["rule"] != selection["E"]["rule"]:
        html += Markup("<p>For RS: {}.</p>").format(selection["RS"]["rule"])
    html += table(headers, rows, caption="Validation figures, which the rule saw. It saw no test.")
    return Section("selection", "Selection", html)


def reading_section(summary: Summary) -> Section:
    """Who the nets are and what a transfer rate is a share of."""
    terms = [(SHOWN[name], MEANINGS[name]) for name in present(summary["nets"])]
    terms.append(("S", "a surrogate that took no part in any penalty, and attacks all others"))
    html = [*_paragraphs(TRANSFER), _terms(READING), *_paragraphs(REST), _terms(terms)]
    return Section("reading", "How to read the figures", Markup("\n").join(html))


def settings_section(config: dict[str, Any]) -> Section:
    """Every setting, and what the data were."""
    rows = [(name, _value(value)) for name, value in config.items()]
    whole = Markup("<details><summary>All settings</summary>{}</details>")
    return Section("settings", "Settings", whole.format(table(("option", "value"), rows)))


def _paragraphs(texts: Sequence[str]) -> list[Markup]:
    return [Markup("<p>{}</p>").format(each) for each in texts]


def _terms(terms: Iterable[tuple[str, str]]) -> Markup:
    item = Markup("<li><b>{}</b>: {}.</li>")
    return Markup("<ul>{}</ul>").format(Markup().join(item.format(*term) for term in terms))


def _value(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else number(value)
