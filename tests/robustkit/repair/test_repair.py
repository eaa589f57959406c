"""A briefly trained net is repaired from end to end, and judged by ordinary forward passes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load as unpack
from safetensors.torch import save as pack
from torch import Tensor, nn

from robustkit import data, models
from robustkit.data import ImageSet, Splits
from robustkit.errors import ConfigError, RepairError
from robustkit.models import Classifier
from robustkit.repair import (
    ARACHNE,
    FITNESS,
    HISTORY,
    METHODS,
    Patch,
    Repair,
    RepairConfig,
    RepairSets,
    Search,
    Selection,
    SwarmConfig,
    Swarms,
    TuneConfig,
    drop_shared,
    preset,
    repair,
    repair_sets,
    repairable,
    tune,
)
from robustkit.repair.search import choose_positives, siblings_of
from robustkit.training import TrainConfig, fit
from tests.robustkit.attacks.test_purity import mixed, same, state
from tests.robustkit.repair.nets import (
    bits,
    chosen,
    frozen,
    mixed_net,
    mlp,
    noise,
    parameter,
    same_tensors,
    seeded,
    wrap,
)

SWARM = SwarmConfig(particles=20, iterations=8)
HISTORY_60 = replace(HISTORY, top=60, on_empty="grow", n_positives=80, seed=1)
ARACHNE_1 = replace(ARACHNE, seed=1)
BOTH = pytest.mark.parametrize("method", [HISTORY_60, ARACHNE_1], ids=["history", "arachne"])


@dataclass
class Trained:
    """A net after two epochs, and after the one before."""

    model: Classifier
    previous: Classifier
    splits: Splits

    def repair(self, config: RepairConfig, swarm: SwarmConfig = SWARM, **more: Any) -> Repair:
        images = more.pop("images", self.splits.train)
        return repair(self.model, config, images, previous=self.previous, swarm=swarm, **more)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("checkpoints")
    splits = data.load("digits", train_size=300)
    model = models.build("small", num_classes=10, in_channels=1, image_size=16, width=4, seed=0)
    wanted = TrainConfig(epochs=3, batch_size=32, lr=0.02, schedule="constant", seed=0)
    fit(model, splits, wanted, checkpoint_dir=folder)
    last, before = (models.load(folder / f"epoch_{epoch:04d}.safetensors") for epoch in (3, 2))
    counts = repair_sets(last, splits.train, before).counts()
    assert min(counts.values()) > 5
    return Trained(last, before, splits)


def said(model: Classifier, images: ImageSet) -> list[int]:
    """Predictions by one ordinary forward pass."""
    with torch.no_grad():
        answers: list[int] = copy.deepcopy(model).eval()(images.floats()).argmax(dim=1).tolist()
    return answers


def check_figures(
    told: dict[str, Any],
    images: ImageSet,
    before: list[int],
    after: list[int],
    wanted: Callable[[int, int], bool] = lambda true, answer: True,
) -> None:
    """Accuracies and rates, counted image by image."""
    labels = images.labels.tolist()
    rows = list(zip(labels, before, after, strict=True))
    neg = [i for i, (y, b, _) in enumerate(rows) if b != y and wanted(y, b)]
    pos = [i for i, (y, b, _) in enumerate(rows) if b == y]
    repaired = [i for i in neg if after[i] == labels[i]]
    broken = [i for i in pos if after[i] != labels[i]]
    assert (told["n"], told["n_neg"], told["n_pos"]) == (len(rows), len(neg), len(pos))
    assert told["acc_before"] == pytest.approx(len(pos) / len(rows))
    assert told["acc_after"] == pytest.approx(sum(a == y for y, _, a in rows) / len(rows))
    assert told["rr"] == (pytest.approx(len(repaired) / len(neg)) if neg else None)
    assert told["br"] == (pytest.approx(len(broken) / len(pos)) if pos else None)
    if "repaired_indices" in told:
        assert (told["repaired_indices"], told["broken_indices"]) == (repaired, broken)


def untimed(made: Repair) -> dict[str, Any]:
    return {name: each for name, each in made.report.items() if name != "seconds"}


def entries(made: Repair) -> dict[str, Tensor]:
    return {
        f"{part}/{name}": getattr(change, part)
        for name, change in made.patch.changes.items()
        for part in ("indices", "old", "new")
    }


# ------------------------------------------------------------------------------------ the swarm


@BOTH
def test_a_repair_is_what_its_report_says(net: Trained, method: RepairConfig) -> None:
    train, test = net.splits.train, net.splits.test
    made = net.repair(method, held_out=test)
    report = made.report
    assert len(made.patch) == report["changed"] > 0
    applied = made.patch.apply(net.model)
    check_figures(report, train, said(net.model, train), said(applied, train))
    check_figures(report["held_out"], test, said(net.model, test), said(applied, test))
    assert report["rr"] > 0
    assert made.how == "products"
    run = made.runs[made.best]
    assert run.held_out is not None
    assert (report["iterations"], run.patch) == (run.iterations, made.patch)
    assert made.localisation is not None
    selection = made.localisation.selection
    assert report["localised"] == selection.counts()
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
    report = net.repair(method).report
    assert report["n_deg"] == sum(old == y != new for y, old, new in rows)
    assert report["n_imp"] == sum(new == y != old for y, old, new in rows)
    assert report["held_out"] is None


@BOTH
def test_the_fitness_that_was_found_is_the_patched_nets(net: Trained, method: RepairConfig) -> None:
    """The published equations again, on an ordinary forward pass of the patched net."""
    train = net.splits.train
    made = net.repair(method)
    found = made.runs[0].found
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
        assert run.found is not None
        assert run.found.values is None
        assert run.found.fitness <= run.found.original
    for told in (made.report, made.report["held_out"]):
        assert told["acc_after"] == told["acc_before"]
        assert (told["rr"], told["br"]) == (0.0, 0.0)
    assert made.report["changed"] == 0
    assert same_tensors(frozen(made.patch.apply(net.model)), frozen(net.model))


def test_candidates_that_are_the_model_itself_are_no_repair(net: Trained) -> None:
    still = SwarmConfig(particles=5, iterations=3, start="current", spread=0.0)
    assert len(net.repair(HISTORY_60, still).patch) == 0


@pytest.mark.parametrize("fitness", sorted(FITNESS))
def test_any_fitness_can_be_climbed(net: Trained, fitness: str) -> None:
    made = net.repair(
        replace(HISTORY_60, fitness=fitness, positives="all"), replace(SWARM, start="current")
    )
    found = made.runs[0].found
    assert found is not None
    assert found.fitness > found.original
    after, before = made.report["acc_after"], made.report["acc_before"]
    if fitness == "accuracy":
        assert after > before
    if fitness == "guarded":
        assert made.report["br"] <= 0.01


@BOTH
def test_runs_are_independent_and_the_best_is_chosen_by_fitness(
    net: Trained, method: RepairConfig
) -> None:
    together = net.repair(replace(method, runs=3))
    alone = net.repair(method)
    assert len(together.runs) == 3
    first = together.runs[0]
    assert (first.patch.child, first.found and first.found.trace) == (
        alone.patch.child,
        alone.runs[0].found and alone.runs[0].found.trace,
    )
    assert len({run.patch.child for run in together.runs}) == 3
    fitnesses = [run.found.fitness for run in together.runs if run.found is not None]
    assert together.best == fitnesses.index(max(fitnesses))
    assert together.patch is together.runs[together.best].patch
    for run in together.runs:
        after = said(run.patch.apply(net.model), net.splits.train)
        check_figures(
            run.verdict.to_dict(), net.splits.train, said(net.model, net.splits.train), after
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
        assert first.found is not None
        assert second.found is not None
        assert (first.found.trace, first.found.fitness) == (
            second.found.trace,
            second.found.fitness,
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
    assert made.how == "tail"
    assert set(made.report["localised"]) <= {"stage1.0", "stage2.0", "stage3.0"}
    applied = made.patch.apply(net.model)
    train = net.splits.train
    check_figures(made.report, train, said(net.model, train), said(applied, train))


def test_without_a_previous_checkpoint_arachne_works_and_history_does_not(net: Trained) -> None:
    train = net.splits.train
    made = repair(net.model, ARACHNE_1, train, swarm=SWARM)
    assert made.patch.child == net.repair(ARACHNE_1).patch.child
    assert (made.report["n_deg"], made.report["n_imp"]) == (None, None)
    with pytest.raises(RepairError, match="needs the checkpoint before"):
        repair(net.model, HISTORY_60, train, swarm=SWARM)


def test_nothing_but_failures_can_be_repaired(net: Trained) -> None:
    sets = repair_sets(net.model, net.splits.train)
    failures = net.splits.train.subset(torch.nonzero(sets.neg).squeeze(1))
    assert net.repair(ARACHNE_1, images=failures).report["rr"] > 0


# ------------------------------------------------------------------------------------- the sets

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "1")


def renamed(images: ImageSet) -> ImageSet:
    """Classes called by words, and the last one by the number of another."""
    return ImageSet(images.images, images.labels, NAMES)


def common_failures(net: Trained) -> list[tuple[int, int]]:
    """(true, predicted), the most frequent first."""
    train = net.splits.train
    rows = list(zip(train.labels.tolist(), said(net.model, train), strict=True))
    wrong = [row for row in rows if row[0] != row[1]]
    return sorted(set(wrong), key=lambda row: (-wrong.count(row), row))


@BOTH
@pytest.mark.parametrize("by", ["name", "number"])
@pytest.mark.parametrize("kind", ["labels", "pairs", "both"])
def test_labels_and_pairs_restrict_what_is_repaired(
    net: Trained, method: RepairConfig, kind: str, by: str
) -> None:
    images, held_out = renamed(net.splits.train), renamed(net.splits.test)
    pairs = [row for row in common_failures(net) if 1 not in row and 9 not in row]
    (true, other), (label, _) = pairs[0], next(row for row in pairs if row[0] != pairs[0][0])

    def called(number: int) -> str:
        return NAMES[number] if by == "name" else str(number)

    wanted: dict[str, tuple[str, ...]] = {}
    if kind != "pairs":
        wanted["labels"] = (called(label),)
    if kind != "labels":
        wanted["pairs"] = (f"{called(true)}:{called(other)}",)

    def of_these(y: int, answer: int) -> bool:
        return ("labels" in wanted and y == label) or (
            "pairs" in wanted and (y, answer) == (true, other)
        )

    of_labels, of_pairs = wanted.get("labels", ()), wanted.get("pairs", ())
    config = replace(method, localisation="arachne", labels=of_labels, pairs=of_pairs)
    made = net.repair(config, images=images, held_out=held_out)
    applied = made.patch.apply(net.model)
    before, after = said(net.model, images), said(applied, images)
    check_figures(made.report, images, before, after, of_these)
    assert (
        0
        < made.report["n_neg"]
        < sum(y != b for y, b in zip(images.labels.tolist(), before, strict=True))
    )
    others = said(net.model, held_out), said(applied, held_out)
    check_figures(made.report["held_out"], held_out, *others, of_these)


def test_a_name_goes_before_a_number(net: Trained) -> None:
    """The class called "1" is the tenth, not the second."""
    train = renamed(net.splits.train)
    sets = repair_sets(net.model, train, labels=("1",))
    labels = train.labels[sets.neg]
    assert len(labels)
    assert bool((labels == 9).all())


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"labels": ("zebra",)}, "no class 'zebra'"),
        ({"labels": ("sevem",)}, "no class 'sevem'; did you mean 'seven'"),
        ({"labels": ("10",)}, "no class '10'"),
        ({"labels": ("-2",)}, "no class '-2'"),
        ({"labels": ("2.0",)}, "no class '2.0'"),
        ({"pairs": ("two:zebra",)}, "no class 'zebra'"),
        ({"pairs": ("zebra:two",)}, "no class 'zebra'"),
        ({"pairs": ("two",)}, "pair 'two': expected TRUE:PREDICTED"),
        ({"pairs": ("two:two",)}, "pair 'two:two': a class is not mistaken for itself"),
    ],
)
@pytest.mark.parametrize("way", ["repair", "tune"])
def test_classes_that_are_not_there_are_an_error(
    net: Trained, way: str, wanted: dict[str, tuple[str, ...]], told: str
) -> None:
    images = renamed(net.splits.train)
    labels, pairs = wanted.get("labels", ()), wanted.get("pairs", ())

    def mend() -> object:
        if way == "repair":
            return net.repair(replace(ARACHNE_1, labels=labels, pairs=pairs), images=images)
        return tune(net.model, TuneConfig(steps=1, labels=labels, pairs=pairs), images)

    with pytest.raises(RepairError, match=told):
        mend()


def test_without_failures_there_is_nothing_to_repair(net: Trained) -> None:
    train = net.splits.train
    content = ImageSet(train.images, torch.tensor(said(net.model, train)), train.classes)
    message = f"no failures to repair: the model is right on {len(train)} of {len(train)} images"
    with pytest.raises(RepairError, match=message):
        net.repair(HISTORY_60, images=content)
    with pytest.raises(RepairError, match=message):
        tune(net.model, TuneConfig(steps=1), content)


# ----------------------------------------------------------------------------------- the search


@pytest.mark.parametrize("count", [1, 7, 20])
def test_the_hardest_successes_are_those_of_largest_squared_error(count: int) -> None:
    model, images = mlp(), noise(120)
    sets = repair_sets(model, images)
    assert int(sets.pos.sum()) > 20
    errors = []
    for i in torch.nonzero(sets.pos).flatten().tolist():
        softmax = model(images.floats(torch.tensor([i])))[0].detach().double().softmax(dim=0)
        hot = [float(k == images.labels[i]) for k in range(4)]
        errors.append((-sum((float(p) - h) ** 2 for p, h in zip(softmax, hot, strict=True)), i))
    config = RepairConfig(n_positives=count)
    found = choose_positives(model, images, sets, config, 0)
    assert found.tolist() == sorted(i for _, i in sorted(errors)[:count])


def test_equally_hard_successes_go_by_index() -> None:
    model, images = mlp(), noise(60)
    sets = repair_sets(model, images)
    right = torch.nonzero(sets.pos).flatten()
    doubled = images.subset(right[:6].repeat(2))
    sets = RepairSets(
        doubled.labels,
        torch.zeros(12, dtype=torch.bool),
        torch.ones(12, dtype=torch.bool),
        torch.zeros(12, dtype=torch.bool),
        torch.zeros(12, dtype=torch.bool),
    )
    three = choose_positives(model, doubled, sets, RepairConfig(n_positives=3), 0).tolist()
    hardest = choose_positives(model, doubled, sets, RepairConfig(n_positives=1), 0).tolist()
    assert hardest[0] < 6
    assert {hardest[0], hardest[0] + 6} < set(three)


def test_random_successes_are_drawn_anew_for_each_run() -> None:
    model, images = mlp(), noise(200)
    sets = repair_sets(model, images)
    right = set(torch.nonzero(sets.pos).flatten().tolist())
    config = RepairConfig(positives="random", n_positives=20)
    drawn = [choose_positives(model, images, sets, config, run).tolist() for run in range(3)]
    for each in drawn:
        assert each == sorted(set(each))
        assert len(each) == 20
        assert set(each) <= right
    assert len({tuple(each) for each in drawn}) == 3
    assert choose_positives(model, images, sets, config, 1).tolist() == drawn[1]
    other = replace(config, seed=5)
    assert choose_positives(model, images, sets, other, 1).tolist() != drawn[1]


@pytest.mark.parametrize("positives", ["all", "random", "hardest"])
def test_all_successes_are_watched_where_there_are_no_more(positives: str) -> None:
    model, images = mlp(), noise(30)
    sets = repair_sets(model, images)
    config = RepairConfig(positives=positives, n_positives=30)
    expected = torch.nonzero(sets.pos).flatten().tolist()
    assert choose_positives(model, images, sets, config, 0).tolist() == expected


def test_siblings_are_all_weights_of_the_layer() -> None:
    model = mixed_net()
    found = siblings_of(model, chosen(_2=[0, 50], _7=[3]))
    for place, layer in enumerate(["2", "2", "7"]):
        numbers = [float(each) for each in parameter(model, layer).detach().flatten()]
        mean = sum(numbers) / len(numbers)
        std = (sum((each - mean) ** 2 for each in numbers) / len(numbers)) ** 0.5
        assert float(found.mean[place]) == pytest.approx(mean, abs=1e-6)
        assert float(found.std[place]) == pytest.approx(std, rel=1e-5)
        extent = max(numbers) - min(numbers)
        assert float(found.extent[place]) == pytest.approx(extent, rel=1e-6)


# ---------------------------------------------------------------------------------- the baselines


@pytest.mark.parametrize("scope", ["last", "all"])
def test_descent_is_what_its_report_says_and_never_worse(net: Trained, scope: str) -> None:
    train, test = net.splits.train, net.splits.test
    before = state(net.model)
    made = tune(net.model, TuneConfig(scope=scope, steps=60, lr=0.01, runs=2), train, test)
    assert same(before, state(net.model))
    applied = made.patch.apply(net.model)
    check_figures(made.report, train, said(net.model, train), said(applied, train))
    check_figures(made.report["held_out"], test, said(net.model, test), said(applied, test))
    assert made.report["acc_after"] > made.report["acc_before"]
    assert made.report["iterations"] == 60
    names = set(made.patch.changes)
    if scope == "last":
        assert names == {"head.1.weight", "head.1.bias"}
    else:
        assert names == set(dict(net.model.net.named_parameters()))
    accuracies = [run.verdict.to_dict()["acc_after"] for run in made.runs]
    assert made.best == accuracies.index(max(accuracies))
    assert made.runs[0].patch.child != made.runs[1].patch.child


@pytest.mark.parametrize("scope", ["last", "all"])
@pytest.mark.parametrize("lr", [1e-6, 0.1, 30.0])
def test_descent_never_ends_below_where_it_began(net: Trained, scope: str, lr: float) -> None:
    train = net.splits.train
    made = tune(net.model, TuneConfig(scope=scope, steps=12, lr=lr, checks=4), train)
    applied = made.patch.apply(net.model)
    now, then = (
        sum(answer == y for answer, y in zip(said(each, train), train.labels.tolist(), strict=True))
        for each in (applied, net.model)
    )
    assert now >= then
    if lr == 30.0:
        # Nothing better was met: nothing is changed at all.
        assert (now, len(made.patch)) == (then, 0)


@pytest.mark.parametrize("settings", [{}, {"anchor": 5.0}, {"budget": 0.01}])
@pytest.mark.parametrize("scope", ["last", "all"])
def test_descent_is_reproducible(net: Trained, scope: str, settings: dict[str, Any]) -> None:
    """To the bit, whatever the global random state is; dropout's draws included."""
    model = wrap(
        seeded(
            lambda: nn.Sequential(
                nn.Flatten(), nn.Linear(36, 12), nn.ReLU(), nn.Dropout(0.4), nn.Linear(12, 4)
            )
        )
    )
    images = noise(50)
    config = TuneConfig(scope=scope, steps=25, lr=0.02, batch_size=16, seed=3, **settings)
    torch.manual_seed(1)
    first = tune(model, config, images)
    torch.manual_seed(2)
    random = torch.get_rng_state()
    second = tune(model, config, images)
    assert torch.equal(torch.get_rng_state(), random)
    assert len(first.patch) > 0
    assert same_tensors(entries(first), entries(second))
    assert untimed(first) == untimed(second)
    other = tune(model, replace(config, seed=4), images)
    assert not same_tensors(entries(first), entries(other))


@pytest.mark.parametrize("scope", ["last", "all"])
@pytest.mark.parametrize("training", [False, True])
def test_batch_norm_keeps_its_statistics(scope: str, training: bool) -> None:
    model = models.build("resnet20", num_classes=4, in_channels=1, image_size=8, width=2, seed=0)
    images = noise(60, side=8)
    model.train()(images.floats())
    model.train(training)
    before = state(model)
    made = tune(model, TuneConfig(scope=scope, steps=30, lr=0.02, batch_size=20), images)
    assert same(before, state(model))
    assert len(made.patch) > 0
    applied = made.patch.apply(model)
    buffers = dict(model.named_buffers())
    assert sum("running_var" in name for name in buffers) > 10
    assert same_tensors(buffers, dict(applied.named_buffers()))
    check_figures(made.report, images, said(model, images), said(applied, images))
    assert made.report["acc_after"] > made.report["acc_before"]


def test_descent_may_be_on_failures_alone() -> None:
    model, images = mlp(), noise(60)
    sets = repair_sets(model, images)
    failures = images.subset(torch.nonzero(sets.neg).squeeze(1))
    report = tune(model, TuneConfig(steps=40, lr=0.02, batch_size=16), failures).report
    assert report["n_pos"] == 0
    assert report["br"] is None
    assert report["rr"] > 0


@pytest.mark.parametrize("budget", [0.0, 0.05, 0.3])
def test_a_budget_is_kept(net: Trained, budget: float) -> None:
    config = TuneConfig(scope="last", steps=40, lr=0.05, checks=40, budget=budget)
    told = tune(net.model, config, net.splits.train).report
    assert told["br"] <= budget
    free = tune(net.model, replace(config, budget=1.0), net.splits.train).report
    assert free["br"] > 0.0
    assert told["rr"] <= free["rr"]


def test_a_budget_of_everything_keeps_the_state_with_most_failures_repaired(net: Trained) -> None:
    config = TuneConfig(scope="last", steps=40, lr=0.05, checks=40, budget=1.0)
    accurate = tune(net.model, replace(config, budget=None), net.splits.train).report
    told = tune(net.model, config, net.splits.train).report
    assert told["rr"] >= accurate["rr"]
    assert told["acc_after"] <= accurate["acc_after"]


def test_an_anchor_holds_what_is_right(net: Trained) -> None:
    """The heavier the anchor, the less the answers on the successes move."""
    train = net.splits.train
    moved = []
    for anchor in (0.0, 100.0):
        config = TuneConfig(scope="last", steps=80, lr=0.02, checks=1, anchor=anchor, budget=1.0)
        made = tune(net.model, config, train)
        right = train.floats(torch.nonzero(made.sets.pos).flatten())
        with torch.no_grad():
            before, after = (
                each(right).softmax(dim=1) for each in (net.model, made.patch.apply(net.model))
            )
        moved.append(float((before * (before / after).log()).sum(dim=1).mean()))
    assert 0 < moved[1] < 0.5 * moved[0]


def test_time_ends_the_descent(net: Trained) -> None:
    config = TuneConfig(steps=10**9, checks=10**9, seconds=0.05)
    made = tune(net.model, config, net.splits.train)
    assert 0 < made.report["iterations"] < 10**9
    assert made.report["acc_after"] >= made.report["acc_before"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"scope": "lasst"}, "unknown scope 'lasst'; did you mean 'last'"),
        ({"steps": 0}, "steps must be at least 1, not 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"checks": 0}, "checks must be at least 1"),
        ({"runs": 0}, "runs must be at least 1"),
        ({"lr": 0.0}, "lr must be positive, not 0"),
        ({"lr": float("nan")}, "lr must be positive, not nan"),
        ({"seconds": 0.0}, "seconds must be positive, not 0"),
        ({"anchor": -1.0}, "anchor must not be negative, not -1"),
        ({"budget": 1.1}, "budget must be in .0,1.*not 1.1"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_settings_of_the_descent_are_checked(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        TuneConfig(**settings)


class Scaled(nn.Module):
    """Something comes behind the last fully connected layer, or it is never called."""

    def __init__(self, idle: bool) -> None:
        super().__init__()
        self.idle = idle
        self.body = nn.Linear(36, 4)
        self.last = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        y: Tensor = self.body(x.flatten(1))
        return y if self.idle else 2 * self.last(y)


@pytest.mark.parametrize(
    "idle",
    [
        False,
        True,
    ],
)
def test_the_last_layer_must_give_the_logits(idle: bool) -> None:
    model = wrap(seeded(lambda: Scaled(idle)))
    with pytest.raises(ConfigError, match="the last fully connected layer does not give the log"):
        tune(model, TuneConfig(steps=2), noise(20))
    assert not model.net.get_submodule("last")._forward_hooks
    assert tune(model, TuneConfig(scope="all", steps=2), noise(20)).how == "gradients"


@pytest.mark.parametrize("scope", ["last", "all"])
def test_a_model_without_gradients_can_be_tuned(scope: str) -> None:
    model = mlp().requires_grad_(False)
    before = state(model)
    made = tune(model, TuneConfig(scope=scope, steps=20, lr=0.05, batch_size=16), noise(60))
    assert made.report["acc_after"] > made.report["acc_before"]
    assert same(before, state(model))


# ------------------------------------------------------------------------------- methods by name


@pytest.mark.parametrize("name", sorted(METHODS))
def test_methods_are_known_by_name(net: Trained, name: str) -> None:
    method = METHODS.find(name)
    train = net.splits.train
    if isinstance(method.config, TuneConfig):
        made = tune(net.model, replace(method.config, steps=10), train)
        assert made.localisation is None
    else:
        config = replace(method.config, top=60, on_empty="grow", n_positives=80)
        made = net.repair(config, replace(method.swarm, particles=6, iterations=3))
        assert made.localisation is not None
    applied = made.patch.apply(net.model)
    check_figures(made.report, train, said(net.model, train), said(applied, train))


def test_the_two_papers_differ_in_their_settings() -> None:
    assert METHODS.find("history").config == HISTORY == RepairConfig()
    assert METHODS.find("arachne").config == ARACHNE
    assert (HISTORY.per_image, ARACHNE.per_image) == (1, 20)
    assert (HISTORY.positives, ARACHNE.positives) == ("hardest", "random")
    assert repairable(mlp(), ARACHNE.layers).keys() == {"3"}
    assert repairable(mlp(), HISTORY.layers).keys() == {"1", "3"}
    with pytest.raises(RepairError, match="unknown repair method 'arachna'; did you mean"):
        METHODS.find("arachna")


# ------------------------------------------------------------------------------- held-out images


@pytest.mark.parametrize("shared", [0, 1, 10])
def test_held_out_images_that_were_repaired_on_are_dropped(shared: int) -> None:
    images, others = noise(30), noise(20, seed=1)
    others.images[:shared] = images.images[5 : 5 + shared]
    kept, dropped = drop_shared(others, images)
    assert dropped == shared
    assert torch.equal(kept.images, others.images[shared:])
    assert torch.equal(kept.labels, others.labels[shared:])


def test_held_out_images_must_not_be_the_repair_set() -> None:
    images, others = noise(30), noise(20, seed=1)
    others.images[:11] = images.images[:11]
    with pytest.raises(RepairError, match="11 of the 20 held-out images are images repaired on"):
        drop_shared(others, images)
    with pytest.raises(RepairError, match="30 of the 30"):
        drop_shared(images, images)
