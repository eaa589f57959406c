"""The protocol's rules in whole runs: yardstick, weight of the penalty, baselines, several nets."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest

from evolution.protocol.config import EvolveConfig
from evolution.protocol.jobs import finite_gradients, load_evaluation, score
from evolution.protocol.reference import other_family
from evolution.protocol.result import read_summary
from evolution.protocol.workspace import open_workspace
from robustkit import attacks, models
from robustkit.runs import RunFolder
from tests.evolution.protocol.runs import INLINE, TINY, evolve, summary, trials

SEVERAL_TEXT = (
    "--reference small?width=4 vgg3?width=4 --surrogate small?width=8 cnn3 --surrogate-trainings 2 "
    "--baselines architecture --lam 1 --yardstick 1 --max-blocks 6"
)
SEVERAL = SEVERAL_TEXT.split()


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two references and two trainings of two surrogates."""
    folder = tmp_path_factory.mktemp("several") / "run"
    assert evolve(*TINY, *INLINE, *SEVERAL, "--out", str(folder)) == 0
    return folder


def test_the_weight_is_the_largest_that_costs_a_point_at_most(finished: Path) -> None:
    found, entries = summary(finished), {entry.id: entry.result for entry in trials(finished)}
    yardstick = [entries[name] or {} for name in ("baseline/R2", "baseline/R2-1")]
    accuracy = fmean(each["accuracy"] for each in yardstick)
    assert found["baseline"]["R2"]["accuracy"] == pytest.approx(accuracy)
    tried = {
        lam: [(entries[f"lambda/{lam}-{k}"] or {})["accuracy"] for k in (0, 1)]
        for lam in (3, 1)
        if f"lambda/{lam}-0" in entries
    }
    within = [lam for lam, each in tried.items() if fmean(each) >= accuracy - 0.01]
    assert found["penalty"]["accuracy"] == {f"{lam}": each for lam, each in tried.items()}
    assert found["penalty"]["within"] == bool(within)
    assert found["penalty"]["lam"] == max(within, default=1)
    assert max(within, default=1) == min(tried)  # smaller ones are not tried


def test_r_qualifies_by_its_transfer_to_its_own_architecture(finished: Path) -> None:
    found, entries = summary(finished), {entry.id: entry.result for entry in trials(finished)}
    again = entries["qualification/R2-1"] or {}
    qualification = found["qualification"]
    assert qualification["accuracy"] == [again["accuracy"]]
    assert qualification["transfer"]["rate"] == again["transfer"]
    assert qualification["testable"] == (again["transfer"] >= 0.5)
    doubt = [warning for warning in found["warnings"] if warning.startswith("not testable")]
    assert len(doubt) == (not qualification["testable"])


def test_the_threshold_is_the_mean_of_the_yardsticks_trainings(finished: Path) -> None:
    found = summary(finished)
    accuracies = [found["reference"]["accuracy"], *found["qualification"]["accuracy"]]
    rule = found["selection"]["E"]["rule"]
    assert f"at least {fmean(accuracies) - 0.01:.4f}" in rule
    assert "R's architecture, mean of 2 trainings" in rule


def test_baselines_are_nets_like_others(finished: Path) -> None:
    found = summary(finished)
    assert set(found["nets"]) == {"R", "R2", "Rp", "E", "E0", "RS", "P", "P0", "M"}
    assert set(found["comparisons"]) == set(found["nets"]) - {"R", "E"}
    cards = {
        role: models.read_card(finished / "nets" / f"{role}-0.safetensors") for role in ("P0", "R2")
    }
    assert cards["P0"].architecture == cards["R2"].architecture
    assert cards["P0"].preprocessing.input_size == (8, 8)
    assert cards["P0"].preprocessing.interpolation == "box"
    blueprint = models.read_card(finished / "nets" / "M-0.safetensors").architecture
    assert blueprint["family"] == "blueprint"


def test_both_searches_start_from_one_preset_and_networks_of_their_own(several: Path) -> None:
    first = {
        search: [
            e.payload for e in trials(several) if e.stage == search and not e.payload["generation"]
        ]
        for search in ("evolve", "random")
    }
    for payloads in first.values():
        assert [each["operator"] for each in payloads] == ["preset", "sample"]
    keys = [[each["genotype_key"] for each in payloads] for payloads in first.values()]
    assert keys[0][0] == keys[1][0]
    assert keys[0][1] != keys[1][1]


def test_several_references_and_surrogates_are_all_measured(several: Path) -> None:
    found = read_summary(RunFolder.open(several))
    assert found is not None
    assert found.sources == {
        "R": "small?width=4",
        "R.2": "vgg3?width=4",
        "S": "small?width=8",
        "S.2": "small?width=8",
        "S.3": "cnn3",
        "S.4": "cnn3",
    }
    evaluation = load_evaluation(several / "evaluation" / "E-0.safetensors")
    assert set(evaluation.under) == set(found.sources)
    assert set(found.nets.E.to_json()["transfer_from"]) == {"R.2", "S.2", "S.3", "S.4"}
    assert found.unseen["E"].worst_source in ("S", "S.2", "S.3", "S.4")
    first, second = (
        models.load(several / "nets" / f"{name}.safetensors") for name in ("S.3", "S.4")
    )
    assert models.digest(first) != models.digest(second)


def test_every_reference_qualifies_by_its_own_transfer(several: Path) -> None:
    again = {
        str(entry.id): entry.result or {}
        for entry in trials(several)
        if entry.stage == "qualification"
    }
    found = summary(several)
    both = {"R": found["qualification"], **found["further_qualifications"]}
    assert set(again) == {"qualification/R2-1", "qualification/R.2-1"}
    for name, trained in (
        ("R", again["qualification/R2-1"]),
        ("R.2", again["qualification/R.2-1"]),
    ):
        rate = both[name]["transfer"]
        assert (rate["rate"], rate["n"]) == (
            trained[f"transfer_{name}"],
            trained[f"transfer_{name}_n"],
        )
        assert trained[f"transfer_{name}"] <= trained["transfer_worst"]
        doubted = any(f"{name}'s own architecture" in warning for warning in found["warnings"])
        assert doubted == (not both[name]["testable"])


def test_another_family_is_neither_rs_nor_a_surrogates() -> None:
    card = {"family": "zoo", "name": "small", "options": {"width": 8}}

    class Space:
        config = EvolveConfig(reference=("x/R.safetensors",), surrogate=("resnet20?width=4",))

    assert other_family(Space, card) == "vgg3"  # type: ignore[arg-type]
    Space.config = EvolveConfig(family="vgg11")
    assert other_family(Space, card) == "vgg11"  # type: ignore[arg-type]


def test_a_trials_transfer_is_the_mean_over_references(several: Path) -> None:
    space = open_workspace(str(several))
    trial = next(entry.result for entry in trials(several) if entry.stage == "baseline")
    assert trial is not None
    assert trial["transfer"] <= trial["transfer_worst"] <= 2 * trial["transfer"]
    net, labels = space.net("E-0"), space.splits.val.labels
    measured = score(net, space, finite_gradients(net, space))
    right = attacks.predicted_classes(net, space.splits.val.images) == labels
    rates = []
    for name in ("R", "R.2"):
        made = space.adversarials(name, "val", flipped=False)
        common = right & made.correct
        wrong = attacks.predicted_classes(net, made.images) != labels
        rates.append(float(wrong[common].double().mean()) if common.any() else 1.0)
    assert measured["transfer"] == pytest.approx(fmean(rates))
    assert measured["transfer_worst"] == max(rates)
