"""The study of people in photographs and paintings: its rules on figures that are made up."""

from __future__ import annotations

from typing import Any

import pytest

from adaptation.adapt.result import Candidate
from experiments.studies.base import Plan
from experiments.studies.people_art.claims import by_style, claims
from experiments.studies.people_art.jobs import (
    SOURCE,
    STYLES,
    TARGETS,
    Setting,
    Summary,
    chosen,
    tries,
)
from experiments.studies.people_art.study import SEEING, UNSEEING, check, figures, render, setting
from experiments.studies.thresholds import Points, constant_answer, left_out, trend
from robustkit.cli import main
from robustkit.errors import RunError
from tests.experiments.studies.completing import completed

NAMES = [style for group in STYLES.values() for style in group]
SEEDS = ("0", "1", "2")


def scored(value: float) -> dict[str, Any]:
    return {"ap50_area": value, "redrawn": [value - 0.01, value + 0.01]}


def trained(values: dict[str, float], styles: dict[str, float], distance: float) -> dict[str, Any]:
    return {
        "domains": {domain: scored(value) for domain, value in values.items()},
        "styles": styles,
        "attacked": 0.1,
        "distances": dict.fromkeys(values.keys() - {SOURCE}, distance),
        "told": {"local": 0.6, "whole": 0.5},
    }


def summary(gains: dict[str, float], by_distance: float, aligned: float = 0.1) -> Summary:
    """Gains of adversarial training by target, and by style in proportion to the distance."""
    plain = {SOURCE: 0.5, **dict.fromkeys(TARGETS, 0.3)}
    everywhere = dict.fromkeys(NAMES, 0.3)
    grown = {style: 0.3 + by_distance * (place - 12) for place, style in enumerate(NAMES)}
    adversarial = {SOURCE: 0.49, **{target: 0.3 + gains[target] for target in TARGETS}}
    recipes: dict[str, Any] = {}
    for number, seed in enumerate(SEEDS):
        apart = 0.001 * number
        for name, values, styles in (
            ("source", plain, everywhere),
            ("longer", plain, everywhere),
            ("adversarial", adversarial, grown),
        ):
            moved = {domain: value + apart for domain, value in values.items()}
            runs = recipes.setdefault(name, {}).setdefault("all", {})
            runs[seed] = trained(moved, styles, 5.0 + apart)
        for name, base in (("aligned", plain), ("adversarial+aligned", adversarial)):
            for target in TARGETS:
                values = {SOURCE: 0.5, target: base[target] + aligned + apart}
                runs = recipes.setdefault(name, {}).setdefault(target, {})
                runs[seed] = trained(values, {}, 3.0 + apart)
    return completed(
        Summary,
        {
            "recipes": recipes,
            "distances": {domain: {"ratio": 4.0} for domain in (SOURCE, *TARGETS)},
            "styles": {style: {"ratio": 2.0 + place} for place, style in enumerate(NAMES)},
            "choice": {"plain": 0.5, "tried": {}, "radius": "a", "weights": "b", "within": True},
        },
    )


def told(found: Summary) -> dict[str, bool | None]:
    return {claim.what: claim.holds for claim in claims(found)}


def test_claims_follow_their_rules() -> None:
    agreed = told(summary(dict.fromkeys(TARGETS, 0.1), 0.01))
    assert len(agreed) == 15
    assert all(agreed.values())
    other = told(summary({**dict.fromkeys(TARGETS, 0.1), "flat": -0.1}, -0.01, aligned=-0.1))
    assert other["adversarial training beats as many plain steps on abstract"] is True
    assert other["adversarial training beats as many plain steps on flat"] is False
    assert other["adversarial training gains more the farther the style"] is False
    assert other["alignment adds to adversarial training on painterly"] is False
    undecided = told(summary(dict.fromkeys(TARGETS, 0.0), 0.0))
    assert undecided["adversarial training beats as many plain steps on abstract"] is None
    assert undecided["adversarial training gains more the farther the style"] is None


def test_every_table_and_figure_is_drawn() -> None:
    found = summary(dict.fromkeys(TARGETS, 0.1), 0.01)
    check(found, "summary.json")
    page = render(found)
    assert page.count("| ukiyoe | flat |") == 1
    assert "## Did alignment act?" in page
    ((name, drawn),) = figures(found)
    assert name == "styles.svg"
    assert drawn.startswith("<svg")
    del found.recipes["longer"]
    with pytest.raises(RunError, match="recipes: 'longer' is missing"):
        check(found, "summary.json")


def apart(points: Points) -> dict[str, Points]:
    return {str(number): [point] for number, point in enumerate(points)}


def test_a_threshold_is_tried_on_targets_that_it_was_not_fitted_on() -> None:
    points = [(1.0, -1.0), (2.0, -1.0), (4.0, 1.0), (8.0, 1.0)]
    # Without the second the threshold lies halfway between 1 and 4, at 2, which is no gain at 2;
    # without the third at 4, which is none at 4 either, and there is one.
    assert left_out(apart(points)) == [True, True, False, True]
    assert constant_answer(points) == 2
    lonely = [(1.0, 1.0), (2.0, -1.0), (4.0, 1.0), (8.0, 1.0)]
    assert sum(left_out(apart(lonely))) <= 3
    assert len(by_style(summary(dict.fromkeys(TARGETS, 0.1), 0.01))) == len(NAMES)


def test_a_trend_is_over_targets() -> None:
    rising = [(float(n), 0.1 * n + 0.5 * (-1) ** n) for n in range(20)]
    found = trend(rising)
    assert found is not None
    assert 0 < found.low < found.correlation < found.high
    assert found.p_value < 0.05
    assert found.n == 20
    falling = trend([(a, -b) for a, b in rising])
    assert falling is not None
    assert falling.correlation == pytest.approx(-found.correlation)
    assert trend(rising[:3]) is None
    assert trend([(1.0, 0.1), (1.0, 0.2), (1.0, 0.3), (1.0, 0.4)]) is None


@pytest.fixture
def rehearsal(tmp_path: Any) -> Setting:
    return setting(Plan(folder=tmp_path, scale="smoke"))


def test_the_rule_takes_the_largest_radius_within_the_tolerance(rehearsal: Setting) -> None:
    names = [job.id for jobs in tries(rehearsal) for job in jobs]
    first, longer, weak, strong, low, high = names
    assert first == "choose/source"

    def found(*values: tuple[float, float | None]) -> Any:
        results = {
            name: Candidate(ap50=ap50, distance=distance)
            for name, (ap50, distance) in zip(names[1:], values, strict=True)
        }
        return chosen(strict, results)

    strict = Setting(**{**vars(rehearsal), "tolerance": 0.02})
    both = found((0.5, None), (0.5, None), (0.49, None), (0.5, 3.0), (0.5, 2.0))
    assert (both.radius, both.weights) == (strong, high)
    weaker = found((0.5, None), (0.5, None), (0.4, None), (0.5, 3.0), (0.3, 2.0))
    assert (weaker.radius, weaker.weights) == (weak, low)
    none = found((0.5, None), (0.1, None), (0.2, None), (0.1, 3.0), (0.1, 2.0))
    assert (none.radius, none.weights) == (weak, low)
    assert longer == "choose/longer"


def test_pictures_and_weights_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ROBUSTKIT_DATA", str(tmp_path))
    out = tmp_path / "out"
    assert main(["reproduce", "people-art", "--out", str(out)]) == 2
    assert "no people_art in the folder that ROBUSTKIT_DATA names" in capsys.readouterr().err
    assert not out.exists()


def test_recipes_that_see_a_target_are_trained_for_each() -> None:
    assert not set(UNSEEING) & set(SEEING)
