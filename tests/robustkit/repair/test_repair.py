"""A briefly trained net is repaired from end to end, and judged by ordinary forward passes."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load as unpack
from safetensors.torch import save as pack

from robustkit import models
from robustkit.errors import RepairError
from robustkit.repair import (
    FITNESS,
    Patch,
    RepairConfig,
    Search,
    Selection,
    SwarmConfig,
    Swarms,
    preset,
    repair,
    repair_sets,
)
from robustkit.repair.search import choose_positives
from tests.robustkit.attacks.test_state_preserved import mixed, same, state
from tests.robustkit.repair.nets import (
    bits,
    frozen,
    same_tensors,
)
from tests.robustkit.repair.trained import (
    ARACHNE_1,
    BOTH,
    HISTORY_60,
    SWARM,
    Trained,
    check_figures,
    entries,
    known,
    said,
    untimed,
)


@BOTH
def test_a_repair_is_what_its_report_says(net: Trained, method: RepairConfig) -> None:
    train, test = net.splits.train, net.splits.test
    made = net.repair(method, held_out=test)
    result = made.result
    assert len(made.patch) == result.changed > 0
    applied = made.patch.apply(net.model)
    check_figures(result, train, said(net.model, train), said(applied, train))
    check_figures(result.held_out, test, said(net.model, test), said(applied, test))
    assert known(result.rr) > 0
    assert made.scored_by == "products"
    run = made.runs[made.best]
    assert run.held_out is not None
    assert (result.iterations, run.patch) == (run.iterations, made.patch)
    assert made.localisation is not None
    selection = made.localisation.selection
    assert result.localised == selection.counts()
    for name, change in made.patch.changes.items():
        allowed = set(selection.indices[name.removesuffix(".weight")].tolist())
        assert set(change.indices.tolist()) <= allowed
    before, after = (dict(each.net.named_parameters()) for each in (net.model, applied))
    assert {name for name in before if not torch.equal(before[name], after[name])} == set(
        made.patch.changes
    )


@BOTH
def test_the_sets_of_a_report_are_counted_image_by_image(
    net: Trained, method: RepairConfig
) -> None:
    train = net.splits.train
    now, earlier = said(net.model, train), said(net.previous, train)
    rows = list(zip(train.labels.tolist(), earlier, now, strict=True))
    result = net.repair(method).result
    assert result.n_deg == sum(old == y != new for y, old, new in rows)
    assert result.n_imp == sum(new == y != old for y, old, new in rows)
    assert result.held_out is None


@BOTH
def test_the_fitness_that_was_found_is_the_patched_nets(net: Trained, method: RepairConfig) -> None:
    """The published equations again, on an ordinary forward pass of the patched net."""
    train = net.splits.train
    made = net.repair(method)
    found = made.runs[0].search
    assert found is not None
    selection = made.localisation.selection if made.localisation else Selection({})
    watched = choose_positives(net.model, train, made.sets, method, 0)
    rows = [torch.nonzero(made.sets.neg).squeeze(1), watched]
    figures = []
    for model in (net.model, made.patch.apply(net.model)):
        with torch.no_grad():
            log_p = model(train.floats()).double().log_softmax(dim=1)
        for which in rows:
            losses = -log_p[which, train.labels[which]]
            hits = log_p[which].argmax(dim=1) == train.labels[which]
            figures.append((int(hits.sum()), float(losses.mean())))
    (no, l_neg), (all_pos, l_pos), (patched, m_neg), (intact, m_pos) = figures
    assert (no, all_pos) == (0, len(watched))
    if method.fitness == "history":
        expected = patched / len(rows[0]) / (m_neg / l_neg) + intact / all_pos / (m_pos / l_pos)
        original = 1.0
        assert found.original == 1.0
    else:
        expected = (patched + 1) / (m_neg + 1) + (intact + 1) / (m_pos + 1)
        original = 1 / (l_neg + 1) + (all_pos + 1) / (l_pos + 1)
    assert found.fitness == pytest.approx(expected, rel=1e-4)
    assert found.original == pytest.approx(original, rel=1e-5)
    assert found.fitness > found.original
    assert found.values is not None
    assert bits(selection.values(made.patch.apply(net.model))) == bits(found.values)
    assert len(found.trace) == found.iterations == made.runs[0].iterations
    assert list(found.trace) == sorted(found.trace)
    assert found.trace[-1] == found.fitness


@BOTH
def test_the_same_seed_makes_the_same_repair_to_the_bit(net: Trained, method: RepairConfig) -> None:
    torch.manual_seed(1)
    first = net.repair(method, held_out=net.splits.test)
    torch.manual_seed(2)
    second = net.repair(method, held_out=net.splits.test)
    other = net.repair(replace(method, seed=2))
    assert same_tensors(entries(first), entries(second))
    assert untimed(first) == untimed(second)
    assert first.patch.child == second.patch.child
    assert not same_tensors(entries(first), entries(other))


@BOTH
def test_models_and_random_states_are_left_as_they_were(net: Trained, method: RepairConfig) -> None:
    before = [state(net.model), state(net.previous)]
    net.repair(method, held_out=net.splits.val)
    assert same(before, [state(net.model), state(net.previous)])


@BOTH
def test_a_model_in_train_mode_is_repaired_alike_and_stays_in_it(
    net: Trained, method: RepairConfig
) -> None:
    models_given = [copy.deepcopy(each) for each in (net.model, net.previous)]
    for each in models_given:
        mixed(each)
    before = [state(each) for each in models_given]
    made = Trained(models_given[0], models_given[1], net.splits).repair(method)
    assert same_tensors(entries(made), entries(net.repair(method)))
    assert same(before, [state(each) for each in models_given])


@BOTH
def test_where_nothing_is_fitter_the_patch_is_empty(net: Trained, method: RepairConfig) -> None:
    """One particle each, far away from all that could be right."""
    lost = SwarmConfig(particles=1, iterations=1, start="current", spread=1e6)
    wanted = replace(method, fitness="accuracy", positives="all", runs=2)
    made = net.repair(wanted, lost, held_out=net.splits.val)
    assert [len(run.patch) for run in made.runs] == [0, 0]
    for run in made.runs:
        assert run.search is not None
        assert run.search.values is None
        assert run.search.fitness <= run.search.original
    assert made.result.held_out is not None
    for metrics in (made.result, made.result.held_out):
        assert metrics.acc_after == metrics.acc_before
        assert (metrics.rr, metrics.br) == (0.0, 0.0)
    assert made.result.changed == 0
    assert same_tensors(frozen(made.patch.apply(net.model)), frozen(net.model))


def test_candidates_that_are_the_model_itself_are_no_repair(net: Trained) -> None:
    still = SwarmConfig(particles=5, iterations=3, start="current", spread=0.0)
    assert len(net.repair(HISTORY_60, still).patch) == 0


@pytest.mark.parametrize("fitness", sorted(FITNESS))
def test_any_fitness_can_be_climbed(net: Trained, fitness: str) -> None:
    made = net.repair(
        replace(HISTORY_60, fitness=fitness, positives="all"), replace(SWARM, start="current")
    )
    found = made.runs[0].search
    assert found is not None
    assert found.fitness > found.original
    after, before = made.result.acc_after, made.result.acc_before
    if fitness == "accuracy":
        assert after > before
    if fitness == "guarded":
        assert known(made.result.br) <= 0.01


@BOTH
def test_runs_are_independent_and_the_best_is_chosen_by_fitness(
    net: Trained, method: RepairConfig
) -> None:
    together = net.repair(replace(method, runs=3))
    alone = net.repair(method)
    assert len(together.runs) == 3
    first = together.runs[0]
    assert (first.patch.child, first.search and first.search.trace) == (
        alone.patch.child,
        alone.runs[0].search and alone.runs[0].search.trace,
    )
    assert len({run.patch.child for run in together.runs}) == 3
    fitnesses = [run.search.fitness for run in together.runs if run.search is not None]
    assert together.best == fitnesses.index(max(fitnesses))
    assert together.patch is together.runs[together.best].patch
    for run in together.runs:
        after = said(run.patch.apply(net.model), net.splits.train)
        check_figures(
            run.effect.metrics(), net.splits.train, said(net.model, net.splits.train), after
        )


@BOTH
@pytest.mark.parametrize("stop", [1, 5])
def test_a_resumed_repair_is_one_that_was_never_stopped(
    net: Trained, method: RepairConfig, stop: int
) -> None:
    wanted, kept = replace(method, runs=2), list[tuple[bytes, list[list[float]]]]()

    def keep(search: Search) -> None:
        tensors = {name: each.clone() for name, each in search.swarms.tensors().items()}
        kept.append((pack(tensors), copy.deepcopy(search.traces)))

    whole = net.repair(wanted, on_iteration=keep)
    assert len(kept) == SWARM.iterations
    packed, traces = kept[stop]
    resumed = net.repair(wanted, resume=Search(Swarms(**unpack(packed)), traces))
    for first, second in zip(whole.runs, resumed.runs, strict=True):
        assert first.patch.child == second.patch.child
        assert first.search is not None
        assert second.search is not None
        assert (first.search.trace, first.search.fitness) == (
            second.search.trace,
            second.search.fitness,
        )
    assert untimed(whole) == untimed(resumed)


def test_a_saved_patch_repairs_the_saved_model(net: Trained, tmp_path: Path) -> None:
    made = net.repair(HISTORY_60)
    made.patch.save(tmp_path / "patch.safetensors")
    models.save(net.model, tmp_path / "model.safetensors")
    again = Patch.load(tmp_path / "patch.safetensors").apply(
        models.load(tmp_path / "model.safetensors")
    )
    assert same_tensors(frozen(again), frozen(made.patch.apply(net.model)))


def test_convolutions_and_the_printed_swarm_repair_too(net: Trained) -> None:
    config = replace(HISTORY_60, layers=("conv",), top=200, use_diff=False)
    made = net.repair(config, preset("paper-literal", particles=6, iterations=4, start="current"))
    assert made.scored_by == "tail"
    assert set(made.result.localised) <= {"stage1.0", "stage2.0", "stage3.0"}
    applied = made.patch.apply(net.model)
    train = net.splits.train
    check_figures(made.result, train, said(net.model, train), said(applied, train))


def test_without_a_previous_checkpoint_arachne_works_and_history_does_not(net: Trained) -> None:
    train = net.splits.train
    made = repair(net.model, ARACHNE_1, train, swarm=SWARM)
    assert made.patch.child == net.repair(ARACHNE_1).patch.child
    assert (made.result.n_deg, made.result.n_imp) == (None, None)
    with pytest.raises(RepairError, match="needs the checkpoint before"):
        repair(net.model, HISTORY_60, train, swarm=SWARM)


def test_nothing_but_failures_can_be_repaired(net: Trained) -> None:
    sets = repair_sets(net.model, net.splits.train)
    failures = net.splits.train.subset(torch.nonzero(sets.neg).squeeze(1))
    assert known(net.repair(ARACHNE_1, images=failures).result.rr) > 0
