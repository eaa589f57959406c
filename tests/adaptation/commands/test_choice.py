"""Settings that `adapt` chooses on images of the source that are set aside."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from adaptation.adapt.choice import check_objects, chosen_settings, grids, taken
from adaptation.adapt.config import AdaptOptions
from adaptation.adapt.pipeline import config_of
from adaptation.adapt.result import Candidate, Choice, cautions, summary_of
from adaptation.adapt.workspace import open_workspace
from adaptation.recipes import recipe
from robustkit.cli.main import main
from robustkit.data.detection import load_detection
from robustkit.errors import ConfigError, DataError
from robustkit.runs import RunFolder
from tests.adaptation.commands.runs import SMALL
from tests.adaptation.commands.runs import summary_of as json_of

CHOOSE = ["--choose", "eps=0.5,1/255", "mix=0.5,1", "local_weight=0.1,1"]


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "chosen"
    flags = ["--recipe", "longer,adversarial,adversarial+aligned", "--seeds", "1"]
    told = [*SMALL, *flags, *CHOOSE, "--out", str(out)]
    assert main(["adapt", *told]) == 0
    return out


def test_the_rule_chooses_and_all_recipes_follow(chosen: Path) -> None:
    choice = json_of(chosen)["choice"]
    radii = [each for each in choice["tried"] if each["recipe"] == "adversarial"]
    assert [(each["settings"]["eps"], each["settings"]["mix"]) for each in radii] == [
        (1 / 255, 0.5),
        (1 / 255, 1.0),
        (0.5, 0.5),
        (0.5, 1.0),
    ]
    level = choice["plain"] - choice["tolerance"]
    kept = [each for each in radii if level > 0 and each["ap50"] >= level]
    (strongest,) = [each for each in radii if each["chosen"]]
    assert strongest == (kept[-1] if kept else radii[0])
    weights = [each for each in choice["tried"] if each["recipe"] == "aligned"]
    (best,) = [each for each in weights if each["chosen"]]
    assert best == weights[0]  # three images have no distance, by which to choose
    assert choice["images"] == 3  # a fifth of 16
    assert not choice["within"]
    space = open_workspace(str(chosen))
    both = config_of(space, "adversarial+aligned", 0)
    assert {"eps": both.eps, "mix": both.mix} == strongest["settings"]
    assert both.local_weight == best["settings"]["local_weight"]
    longer, given = config_of(space, "longer", 0), space.given_config("longer", 0)
    assert longer == given
    page = (chosen / "report.html").read_text()
    assert "What was chosen, and how" in page
    assert "Did alignment act?" in page


def test_what_is_chosen_on_is_not_trained_on_meanwhile(chosen: Path) -> None:
    from adaptation.adapt.choice import set_aside

    space = open_workspace(str(chosen))
    rest, aside = set_aside(space)
    assert not set(rest.ids) & set(aside.ids)
    assert {*rest.ids, *aside.ids} == set(space.source.train.ids)
    assert len(aside) == 3


def test_a_resumed_choice_is_the_same(chosen: Path, tmp_path: Path) -> None:
    before = json_of(chosen)["choice"]
    (chosen / "summary.json").unlink()
    assert main(["adapt", "--resume", str(chosen)]) == 0
    assert json_of(chosen)["choice"] == before


def example(ap50: list[float], **changed: Any) -> Choice:
    tried: list[dict[str, Any]] = [
        {"recipe": "aligned", "settings": {}, "ap50": each, "distance": None, "chosen": True}
        for each in ap50
    ]
    plain = {"plain": 0.4, "tolerance": 0.02, "images": 10, "tried": tried, "within": True}
    return Choice.from_json({**plain, **changed}, "example")


def test_costs_beyond_the_tolerance_are_said(chosen: Path) -> None:
    adapted = summary_of(RunFolder.open(chosen, command="adapt"))
    lines = cautions(replace(adapted, choice=example([0.1], within=False)))
    assert lines[0].startswith("caution: not all could be chosen: nothing is within the tolerance")
    assert "after as many plain steps 40.0 %" in lines[0]


def test_what_was_not_measured_is_not_chosen() -> None:
    def found(*values: tuple[float | None, float | None]) -> Any:
        return [
            (number, Candidate(ap50=ap50, distance=distance))
            for number, (ap50, distance) in enumerate(values)
        ]

    rule = partial(taken, tolerance=0.02)
    both = found((0.5, 3.0), (0.49, 2.0), (0.3, 1.0))
    assert rule(both, 0.5, nearest=False) == (1, True)
    assert rule(both, 0.5, nearest=True) == (1, True)
    assert rule(both, 0.9, nearest=False) == (0, False)
    # Nothing to lose, nothing to compare with, nothing measured.
    for plain in (None, 0.0, 0.02):
        assert rule(found((0.0, None), (0.0, None)), plain, nearest=False) == (0, False)
    assert rule(found((None, None), (None, None)), 0.5, nearest=False) == (0, False)
    assert rule(found((0.5, None), (0.5, None)), 0.5, nearest=True) == (0, False)
    assert rule(found((0.5, None), (0.5, 4.0)), 0.5, nearest=True) == (1, True)


def test_images_without_objects_decide_nothing() -> None:
    images = load_detection("shapes:photo:4?side=64", "train")
    check_objects(images)
    empty = tuple(each.chosen(each.labels < 0) for each in images.truths)
    with pytest.raises(DataError, match="no object in the 4 images that are set aside"):
        check_objects(replace(images, truths=empty))


def test_a_choice_that_no_batch_can_have_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = [*SMALL, "--choose", "mix=0.05,0.5", "--out", str(tmp_path / "run")]
    assert main(["adapt", *told]) == 2
    assert "mix 0.05 of a batch of 4 leaves no image adversarial" in capsys.readouterr().err


def test_grids_go_to_the_recipe_that_tries_them() -> None:
    options = AdaptOptions(
        recipe=("adversarial+aligned", "fast"),
        choose=("mix=1,0.5", "eps=2/255,1/255", "global_weight=0.1,1"),
    )
    assert grids(options) == {
        "adversarial": {"eps": (1 / 255, 2 / 255), "mix": (0.5, 1.0)},
        "aligned": {"global_weight": (0.1, 1.0)},
    }
    assert chosen_settings(example([]), recipe("fast")) == recipe("fast")


@pytest.mark.parametrize(
    ("choose", "said"),
    [
        ("eps", "expected NAME=VALUE,VALUE, not 'eps'"),
        ("epz=1,2", "unknown setting to choose 'epz'; did you mean 'eps'"),
        ("eps=1/255", "two or more distinct values"),
        ("eps=1/255,x", "expected numbers between commas"),
        ("eps=1/255,2", r"eps must be in \[0,1\]"),
        ("local_weight=1,2", "of the recipe aligned, which is not asked"),
    ],
)
def test_choices_that_are_none(choose: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        AdaptOptions(choose=(choose,))


def test_a_setting_is_given_or_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    told = [*SMALL, "--choose", "eps=1/255,2/255", "--eps", "8/255", "--out", str(out)]
    assert main(["adapt", *told]) == 2
    assert "--eps is to be chosen; leave it out" in capsys.readouterr().err
    assert not out.exists()
