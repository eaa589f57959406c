"""Settings that `adapt` chooses on images of the source that are set aside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adaptation.adapt.choice import chosen_settings, grids
from adaptation.adapt.config import AdaptOptions
from adaptation.adapt.pipeline import config_of
from adaptation.adapt.result import Choice, cautions, summary_of
from adaptation.adapt.workspace import open_workspace
from adaptation.recipes import recipe
from robustkit.cli.main import main
from robustkit.errors import ConfigError
from robustkit.runs import RunFolder
from tests.adaptation.commands.runs import SMALL
from tests.adaptation.commands.runs import summary_of as json_of

CHOOSE = ["--choose", "eps=0.5,1/255", "mix=0.5,1", "local_weight=0.1,1"]


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "chosen"
    flags = ["--recipe", "longer,adversarial,adversarial+aligned", "--seeds", "1"]
    # Anything is within a tolerance of 1, and after six steps the largest radius is as good.
    told = [*SMALL, *flags, *CHOOSE, "--choose-tolerance", "1", "--out", str(out)]
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
    assert [each["chosen"] for each in radii] == [False, False, False, True]
    weights = [each for each in choice["tried"] if each["recipe"] == "aligned"]
    distances = [each["distance"] for each in weights]
    (best,) = [each for each in weights if each["chosen"]]
    if None not in distances:
        assert best["distance"] == min(distances)
    assert choice["images"] == 3  # a fifth of 16
    assert choice["within"]
    space = open_workspace(str(chosen))
    both = config_of(space, "adversarial+aligned", 0)
    assert (both.eps, both.mix) == (0.5, 1.0)
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
    assert lines[0].startswith("caution: no setting to choose from is within the tolerance")
    assert "40.0 % after as many plain steps" in lines[0]


def test_grids_go_to_the_recipe_that_tries_them() -> None:
    options = AdaptOptions(
        recipe=("adversarial+aligned", "fast"),
        choose=("mix=1,0.5", "eps=2/255,1/255", "global_weight=0.1,1"),
    )
    assert grids(options) == {
        "fast": {"eps": (1 / 255, 2 / 255), "mix": (0.5, 1.0)},
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
