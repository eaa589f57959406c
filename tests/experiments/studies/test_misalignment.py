"""The study of misalignment: its rules on figures made up, and two references as a rehearsal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from experiments.studies import find
from experiments.studies.misalignment.claims import accuracy_gained, claims
from experiments.studies.misalignment.jobs import NETS, CompareAttention, Evolution, Summary
from experiments.studies.misalignment.study import render
from robustkit import data, models
from robustkit.cli.main import main
from tests.experiments.studies.completing import completed


def rate(value: float, half: float = 0.05) -> dict[str, Any]:
    return {"headline": {"rate": value, "n": 200, "low": value - half, "high": value + half}}


def evolution(gap: tuple[float, float, float], lost: float = 0.0, e0: float = 0.3) -> Any:
    plain = [0.70, 0.71, 0.72]
    nets = {
        "R2": {"clean_acc_by_seed": plain, "transfer_from_R": rate(0.8)},
        "E": {"clean_acc_by_seed": [each - lost for each in plain], "transfer_from_R": rate(0.3)},
        "E0": {"clean_acc_by_seed": plain, "transfer_from_R": rate(e0)},
    }
    points = dict(zip(("points", "low", "high"), gap, strict=True))
    return {"gap": {**points, "p_value": 1e-4, "n": 200}, "nets": nets, "test_images": 2000}


def looks(beyond: float) -> dict[str, Any]:
    def each(value: float) -> dict[str, Any]:
        return {"mean": value, "low": value - 0.01, "high": value + 0.01, "n": 9, "without": 0}

    nets = {name: {"like_R": each(0.3), "beyond_R2": each(beyond)} for name in ("R2", "Rp", "E")}
    return {"n": 9, "gradient": nets, "gradcam": nets}


def told(evolutions: dict[str, Any], attention: dict[str, Any]) -> dict[str, str]:
    found = claims(completed(Summary, {"evolutions": evolutions, "attention": attention}))
    return {each.what: each.verdict for each in found}


def test_a_gap_agrees_where_its_interval_lies_above_ten_points() -> None:
    found = told(
        {
            "a": evolution((31.5, 20.2, 40.0)),
            "b": evolution((12.0, 8.0, 16.0)),
            "c": evolution((3.0, -2.0, 8.0)),
        },
        {},
    )
    verdicts = [found[f"{name}: T(R→R′) − T(R→E) is more than 10 points"] for name in "abc"]
    assert verdicts == ["agrees", "not testable here", "disagrees"]
    assert found["so it is for every reference"] == "disagrees"
    assert (
        told({"a": evolution((31.5, 20.2, 40.0))}, {})["so it is for every reference"] == "agrees"
    )
    nothing = evolution((0, 0, 0))
    nothing["gap"] = {**dict.fromkeys(("points", "low", "high", "p_value")), "n": 0}
    assert set(told({"a": nothing}, {}).values()) >= {"not testable here"}


def test_a_reference_that_is_not_testable_is_told_before_its_nets() -> None:
    weak = evolution((31.5, 20.2, 40.0))
    transfer = {"rate": 0.4, "n": 900, "low": 0.37, "high": 0.43}
    weak["qualification"] = {"accuracy": [0.5], "transfer": transfer, "testable": False}
    weak["penalty"] = {"lam": 1.0, "within": False}
    page = render(completed(Summary, {"evolutions": {"a": weak}, "attention": {}}))
    told = "T(R→R2) on validation 40.0 % [37.0, 43.0]: **not testable**, below 50 %. λ = 1, the"
    assert told in page
    assert page.index("not testable") < page.index("| net |")


def test_nothing_is_decided_of_a_reference_that_is_not_testable() -> None:
    below_half = {
        "accuracy": [0.6],
        "transfer": {"rate": 0.3, "n": 200, "low": 0.2, "high": 0.4},
        "testable": False,
    }
    weak = evolution((31.5, 20.2, 40.0)) | {"qualification": below_half}
    found = told({"a": weak, "b": evolution((31.5, 20.2, 40.0))}, {})
    assert found["a: T(R→R′) − T(R→E) is more than 10 points"] == "not testable here"
    assert found["b: T(R→R′) − T(R→E) is more than 10 points"] == "agrees"
    assert found["a: clean accuracy is kept (E at most 1 point below R2)"] == "not testable here"
    assert found["so it is for every reference"] == "not testable here"


def test_accuracy_is_kept_by_welchs_interval() -> None:
    lost = evolution((31.5, 20.2, 40.0), lost=0.1)
    gained = accuracy_gained(completed(Evolution, lost).nets)
    ours, plain = (lost["nets"][net]["clean_acc_by_seed"] for net in ("E", "R2"))
    assert gained.value == pytest.approx(-0.1)
    expected = stats.ttest_ind(ours, plain, equal_var=False).confidence_interval()
    assert (gained.low, gained.high) == pytest.approx((expected.low, expected.high))
    claim = "clean accuracy is kept (E at most 1 point below R2)"
    kept = evolution((31.5, 20.2, 40.0), lost=-0.1)
    unsure = evolution((31.5, 20.2, 40.0), lost=0.01)
    found = told({"a": lost, "b": kept, "c": unsure}, {})
    assert [found[f"{name}: {claim}"] for name in "abc"] == [
        "disagrees",
        "agrees",
        "not testable here",
    ]


def test_structure_and_attention_need_intervals_apart() -> None:
    found = told(
        {
            name: evolution((31.5, 20.2, 40.0), e0=e0)
            for name, e0 in {"a": 0.3, "b": 0.95, "c": 0.75}.items()
        },
        {"a": looks(-0.2), "b": looks(0.2), "c": looks(0.0)},
    )
    structure = "the structure alone lowers transfer (E0, without penalty, below R2)"
    pixels = "E looks at other pixels than R, more so than R2 does"
    for claim in (structure, pixels):
        assert [found[f"{name}: {claim}"] for name in "abc"] == [
            "agrees",
            "disagrees",
            "not testable here",
        ]


def test_nets_that_are_right_on_no_image_together_leave_it_open(tmp_path: Path) -> None:
    splits = data.load("digits")
    (tmp_path / "nets").mkdir()
    for file in NETS.values():
        net = models.build("small", num_classes=10, in_channels=1, image_size=16, seed=0)
        with torch.no_grad():  # the same answer whatever it sees: R2's is another
            for weight in net.parameters():
                weight.zero_()
            list(net.parameters())[-1][1 if file == "R2-0" else 0] = 1.0
        models.save(net, tmp_path / "nets" / f"{file}.safetensors")
    assert (splits.test.labels == 0).any()
    found = CompareAttention("attention/x", str(tmp_path), "digits", 20).run()
    assert found.n == 0
    summary = completed(Summary, {"evolutions": {}, "attention": {"x": found.to_json()}})
    verdicts = {each.verdict for each in claims(summary)}
    assert verdicts == {"not testable here"}
    page = render(summary)
    assert "| x | 0 | – | – | – | – | – | – |" in page


def test_the_study_in_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "study"
    flags = ["--scale=smoke", "--executor=inline"]
    assert main(["reproduce", "misalignment", *flags, "--out", str(out)]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert set(summary["evolutions"]) == set(summary["attention"]) == {"plain", "vgg"}
    for name, each in summary["evolutions"].items():
        # What is quoted is what the evolution's own folder says.
        own = json.loads((out / name / "summary.json").read_text())
        assert {key: own[key] for key in each} == each
        seen = summary["attention"][name]
        assert 0 <= seen["n"] <= 20
        assert seen["gradient"]["R2"]["beyond_R2"]["mean"] in (0, None)
        # The first search's comparisons are those of the evolution itself.
        searches = summary["searches"][name]
        assert searches["seeds"] == 2
        assert set(searches["against"]) == set(each["comparisons"])
        for role, compared in each["comparisons"].items():
            found = searches["against"][role]
            assert found["transfer"][0] == compared["transfer"]["points"]
            assert found["accuracy"][0] == compared["accuracy"]["points"]
            assert found["verdicts"][0] == compared["verdict"]
            if role in ("E0", "RS"):
                assert "transfers" not in found
            elif found["transfer"][0] is not None:
                assert np.mean(found["transfers"][0]) == pytest.approx(found["transfer"][0])
                assert np.mean(found["accuracies"][0]) == pytest.approx(found["accuracy"][0])
        other = json.loads((out / f"{name}-search-1" / "summary.json").read_text())
        assert searches["against"]["RS"]["verdicts"][1] == other["comparisons"]["RS"]["verdict"]
        assert other["reference"]["accuracy"] == own["reference"]["accuracy"]
        assert set(other["nets"]) == {"R", "E", "E0", "RS"}
    together = summary["together"]
    assert together["sources"]["R.2"] == "vgg3?width=4"
    assert {name for name in together["sources"] if name[0] == "S"} == {"S", "S.2", "S.3", "S.4"}
    assert {each["verdict"] for each in summary["claims"]} == {"not testable here"}
    names = {each.name for each in find("misalignment")[0].items}
    assert {each["exhibit"] for each in summary["claims"]} == names
    # A lost summary is made again from what the folders hold.
    (out / "summary.json").unlink()
    capsys.readouterr()
    assert main(["reproduce", "--resume", str(out)]) == 0
    assert "evolve/vgg: there already" in capsys.readouterr().out
    assert json.loads((out / "summary.json").read_text()) == summary


def compared(gains: list[float], accuracies: list[float]) -> dict[str, Any]:
    return {"transfer": gains, "accuracy": accuracies, "verdicts": ["better"] * len(gains)}


@pytest.mark.parametrize(
    ("gains", "accuracies", "verdict"),
    [
        ([9.0, 10.0, 11.0], [0.0, 0.1, 0.2], "agrees"),
        ([9.0, 10.0, 11.0], [-0.9, -0.9, -0.9], "agrees"),
        ([9.0, 10.0, 11.0], [-1.1, -1.1, -1.1], "disagrees"),
        ([9.0, 10.0, 11.0], [-1.5, -0.8, -0.1], "not testable here"),
        ([-9.0, 10.0, 1.0], [0.0, 0.0, 0.0], "not testable here"),
        ([-9.0, -10.0, -11.0], [0.0, 0.0, 0.0], "disagrees"),
        ([-9.0, -10.0, -11.0], [4.0, 4.0, 4.0], "not testable here"),
    ],
)
def test_a_search_is_worth_it_at_equal_accuracy_alone(
    gains: list[float], accuracies: list[float], verdict: str
) -> None:
    against = {"P0": compared(gains, accuracies)}
    volumes = {"evolve": [2.0, 3.0, 4.0], "random": [1.0, 1.9, 3.1]}
    searches = {name: {"seeds": 3, "against": against, "hypervolume": volumes} for name in "abcd"}
    found = claims(completed(Summary, {"evolutions": {}, "attention": {}, "searches": searches}))
    by_claim = {each.what: each.verdict for each in found}
    what = "a: E transfers less than R behind an average pool (P0) at equal accuracy"
    assert by_claim[what] == verdict
    area = "a: evolution's trials dominate a larger area than random search's"
    assert by_claim[area] == "agrees"  # 1.0, 1.1 and 0.9 more
    every = "E beats every cheap alternative at equal accuracy for three references of four"
    assert by_claim[every] == verdict  # of three references as of each
    del searches["d"]
    found = claims(completed(Summary, {"evolutions": {}, "attention": {}, "searches": searches}))
    assert {each.what: each.verdict for each in found}[every] == "not testable here"
