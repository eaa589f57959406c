from __future__ import annotations

import importlib
import random
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from robustkit.data import ImageSet, Splits
from robustkit.errors import ConfigError, DataError
from robustkit.jobs import DivergedError
from robustkit.models import Classifier, load
from robustkit.training import (
    EpochRecord,
    Examples,
    History,
    TrainConfig,
    compute_reference,
    evaluate,
    fit,
    fit_examples,
    make_examples,
)
from robustkit.training.step import step_loss
from tests.robustkit.attacks.nets import classifier, striped

fit_module = importlib.import_module(
    "robustkit.training.fit"
)  # the package has a function so called
VAL = striped(15, seed=1)
TRAIN = striped(48)


def config(**settings: Any) -> TrainConfig:
    return TrainConfig(**{"epochs": 2, "batch_size": 16, "lr": 0.1, **settings})


def train(net: Classifier | None = None, val: ImageSet | None = VAL, **settings: Any) -> History:
    wanted = config(**settings)
    return fit_examples(net or classifier(), make_examples(TRAIN, wanted), val, wanted)


def weights(net: Classifier) -> Tensor:
    return torch.cat([each.detach().flatten().float() for each in net.state_dict().values()])


def numpy_state() -> str:
    return repr([str(part) for part in np.random.get_state(legacy=True)])


def penalised(**settings: Any) -> tuple[Examples, TrainConfig]:
    wanted = config(views=2, augment="flip", lam=1.0, **settings)
    views = make_examples(TRAIN, wanted).views
    reference = compute_reference(classifier("resnet20", seed=9), views, TRAIN.labels)
    return make_examples(TRAIN, wanted, [reference]), wanted


def untimed(history: History) -> list[dict[str, Any]]:
    return [{**asdict(each), "seconds": 0.0} for each in history.records]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": "adam", "lr": 0.01},
        {"augment": "crop_flip"},
        {"views": 2, "augment": "flip"},
        {"adversarial": "pgd", "attack_steps": 2, "eps": 0.1},
        {"adversarial": "fgsm", "eps": 0.1},
        {"adversarial": "mifgsm", "attack_steps": 2, "eps": 0.1},
        {"bf16": True},
    ],
    ids=str,
)
def test_the_seed_decides_every_bit(settings: dict[str, Any]) -> None:
    nets = [classifier() for _ in range(3)]
    first, again, other = (
        train(net, seed=seed, **settings) for net, seed in zip(nets, (1, 1, 2), strict=True)
    )
    assert torch.equal(weights(nets[0]), weights(nets[1]))
    assert untimed(first) == untimed(again)
    assert not torch.equal(weights(nets[0]), weights(nets[2]))
    assert not torch.equal(weights(nets[0]), weights(classifier()))
    assert all(record.penalty is None for record in other.records)


def test_global_random_states_are_neither_used_nor_moved() -> None:
    torch.manual_seed(5)
    python, numpy, pytorch = random.getstate(), numpy_state(), torch.get_rng_state()
    first, second = classifier(), classifier()
    train(first)
    assert random.getstate() == python
    assert numpy_state() == numpy
    assert torch.equal(torch.get_rng_state(), pytorch)
    torch.manual_seed(6)
    train(second)
    assert torch.equal(weights(first), weights(second))


@pytest.mark.parametrize("name", ["small", "resnet20"])
@pytest.mark.parametrize("stats", ["batch", "running"])
def test_a_penalised_training_records_its_penalty(name: str, stats: str) -> None:
    examples, wanted = penalised(penalty_stats=stats)
    net = classifier(name)
    history = fit_examples(net, examples, VAL, wanted)
    for record in history.records:
        assert record.penalty is not None
        assert 0 <= record.penalty <= 1.01
        assert record.masked == 0
    again = classifier(name)
    fit_examples(again, examples, VAL, wanted)
    assert torch.equal(weights(net), weights(again))
    plain = classifier(name)
    fit_examples(plain, Examples(examples.views, examples.labels), VAL, wanted)
    assert not torch.equal(weights(net), weights(plain))


def test_the_penalty_falls_when_it_is_all_that_counts() -> None:
    wanted = config(views=1, lam=100.0, epochs=6, lr=0.002, warmup=0.0, schedule="constant")
    views = make_examples(TRAIN, wanted).views
    reference = compute_reference(classifier(), views, TRAIN.labels)
    history = fit_examples(classifier(), make_examples(TRAIN, wanted, [reference]), None, wanted)
    first, last = history.records[0].penalty, history.records[-1].penalty
    assert first is not None
    assert last is not None
    assert last < 0.5 * first


def test_steps_without_penalty_are_plain_steps_to_the_bit() -> None:
    """All of these: the only one that is not skipped, the first, is at the foot of the ramp."""
    examples, wanted = penalised(penalty_every=100, lam_ramp=1.0)
    net, plain = classifier(), classifier()
    history = fit_examples(net, examples, VAL, wanted)
    alone = Examples(examples.views, examples.labels)
    assert untimed(history) == untimed(fit_examples(plain, alone, VAL, replace(wanted, lam=0.0)))
    assert torch.equal(weights(net), weights(plain))
    assert [record.penalty for record in history.records] == [None, None]


def test_each_step_has_the_weight_of_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float | None, bool]] = []

    def watched(*arguments: Any, lam: float) -> Any:
        seen.append((lam, arguments[1].directions is not None))
        return step_loss(*arguments, lam=lam)

    monkeypatch.setattr(fit_module, "step_loss", watched)
    examples, wanted = penalised(penalty_every=2, lam_ramp=1.5, epochs=3)
    fit_examples(classifier(), examples, None, wanted)
    # 48 images in batches of 16: three steps an epoch, a ramp of 4.5 steps.
    places = [2 * min(1.0, step / 4.5) if step % 2 == 0 else 0.0 for step in range(9)]
    assert [lam for lam, _ in seen] == pytest.approx(places)
    assert [taken for _, taken in seen] == [place > 0 for place in places]


@pytest.mark.parametrize("kind", ["uniform", "mixed"])
def test_the_penalty_falls_on_noisy_views_of_every_augmentation(kind: str) -> None:
    for augment, views in (("flip", 2), ("crop_flip", 3)):
        wanted = config(
            views=views,
            augment=augment,
            penalty_views=kind,
            eps=0.1,
            lam=100.0,
            epochs=6,
            lr=0.002,
            warmup=0.0,
            schedule="constant",
            grad_loss="margin",
        )
        made = make_examples(TRAIN, wanted)
        reference = compute_reference(classifier(), made.views, TRAIN.labels, "margin")
        examples = make_examples(TRAIN, wanted, [reference])
        history = fit_examples(classifier(), examples, None, wanted)
        first, last = history.records[0].penalty, history.records[-1].penalty
        assert first is not None
        assert last is not None
        assert last < 0.7 * first


def test_rows_without_direction_are_counted() -> None:
    examples, wanted = penalised()
    examples.references[0].norms[:, :10] = 0.0
    history = fit_examples(classifier(), examples, VAL, wanted)
    assert [record.masked for record in history.records] == [10, 10]


def test_early_stopping_keeps_the_best_epochs_weights() -> None:
    net = classifier("resnet20")
    seen: dict[int, Tensor] = {}
    wanted = config(epochs=12, patience=2, lr=0.2, schedule="constant")
    examples = make_examples(TRAIN, wanted)
    history = fit_examples(
        net, examples, VAL, wanted, on_epoch=lambda r: seen.update({r.epoch: weights(net).clone()})
    )
    accuracies = [record.val_acc or 0.0 for record in history.records]
    assert history.best.epoch == 1 + accuracies.index(max(accuracies))
    assert torch.equal(weights(net), seen[history.best.epoch])
    assert evaluate(net, VAL).accuracy == history.best.val_acc
    assert len(history.records) in (history.best.epoch + 2, 12)
    assert len(history.records) > history.best.epoch  # else nothing was restored
    assert not net.training


def test_without_patience_the_last_epoch_counts() -> None:
    history = train(epochs=3)
    assert history.best is history.records[-1]
    assert [record.epoch for record in history.records] == [1, 2, 3]


def test_patience_needs_something_to_watch() -> None:
    with pytest.raises(ConfigError, match="patience needs validation images to watch"):
        train(val=None, patience=2)


def test_records_tell_what_happened() -> None:
    net = classifier()
    seen: list[EpochRecord] = []
    wanted = config(batch_size=20, schedule="constant", warmup=0.0)
    history = fit_examples(net, make_examples(TRAIN, wanted), VAL, wanted, on_epoch=seen.append)
    assert tuple(seen) == history.records
    last = history.records[-1]
    found = evaluate(net, VAL)
    assert (last.val_acc, last.val_loss) == (found.accuracy, found.loss)
    assert (last.lr, found.n) == (0.1, 15)
    assert 0 <= last.train_acc <= 1
    unwatched = train(val=None).records[-1]
    assert (unwatched.val_acc, unwatched.val_loss) == (None, None)


def test_it_learns() -> None:
    net = classifier("resnet20")
    history = train(net, epochs=8)
    assert history.records[-1].train_loss < 0.7 * history.records[0].train_loss


@pytest.mark.parametrize("val", [VAL, None])
def test_divergence_is_told_apart_from_bugs(val: ImageSet | None) -> None:
    with pytest.raises(DivergedError, match=r"training diverged in epoch [12]: "):
        train(val=val, lr=1e12, epochs=4, warmup=0.0)


def test_damage_by_the_very_last_step_is_seen_without_validation() -> None:
    wanted = config(epochs=1, batch_size=48, lr=1e38, weight_decay=1e10, warmup=0.0)
    with pytest.raises(DivergedError, match="epoch 1: weights are not finite"):
        fit_examples(classifier(), make_examples(TRAIN, wanted), None, wanted)


def test_every_epoch_leaves_a_checkpoint(tmp_path: Path) -> None:
    net, wanted = classifier(), config(epochs=3)
    fit_examples(net, make_examples(TRAIN, wanted), VAL, wanted, checkpoint_dir=tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"epoch_{number:04d}.safetensors" for number in (1, 2, 3)]
    kept = [load(tmp_path / name) for name in names]
    assert torch.equal(weights(kept[-1]), weights(net))
    assert not torch.equal(weights(kept[0]), weights(kept[1]))
    assert kept[1].card.provenance["epoch"] == 2


def test_fewer_images_than_a_batch_are_one_batch() -> None:
    history = train(batch_size=1000)
    assert len(history.records) == 2


def test_fit_trains_on_train_and_watches_val() -> None:
    splits = Splits(TRAIN, VAL, striped(6, seed=2), "striped")
    first, second = classifier(), classifier()
    history = fit(first, splits, config())
    assert untimed(history) == untimed(train(second))
    assert torch.equal(weights(first), weights(second))


def test_fit_refuses_a_reference_on_other_images() -> None:
    splits = Splits(TRAIN, VAL, striped(6, seed=2), "striped")
    reference = compute_reference(classifier(), VAL.images[None], VAL.labels)
    with pytest.raises(DataError, match="compute them on these views"):
        fit(classifier(), splits, config(lam=1.0), references=[reference])


def test_evaluation_is_the_definition_and_leaves_the_mode() -> None:
    net = classifier("resnet20").train()
    found = evaluate(net, VAL)
    assert net.training
    probabilities = net.eval()(VAL.floats()).detach().double().softmax(dim=1)
    right = [int(row.argmax()) == int(y) for row, y in zip(probabilities, VAL.labels, strict=True)]
    losses = [-float(row[y].log()) for row, y in zip(probabilities, VAL.labels, strict=True)]
    assert found.correct.tolist() == right
    assert found.accuracy == pytest.approx(sum(right) / 15)
    assert found.loss == pytest.approx(sum(losses) / 15, rel=1e-5)


def test_a_plain_module_is_trained_on_sets_of_every_kind(tmp_path: Path) -> None:
    """As the same net with a card is, to the bit; it cannot be saved epoch by epoch."""
    own = config(lr=0.05, batch_size=8)
    sets = ((TRAIN.floats(), TRAIN.labels), DataLoader(TensorDataset(VAL.floats(), VAL.labels)))
    trained = []
    for given in (Splits(TRAIN, VAL, VAL, "striped"), sets):
        torch.manual_seed(0)
        module = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(TRAIN.images[0].numel(), TRAIN.num_classes)
        )
        history = fit(module, given, own)
        trained.append([history.best.val_acc, *module.state_dict().values()])
        assert evaluate(module, sets[1]).accuracy == history.records[-1].val_acc
    assert trained[0][0] == trained[1][0]
    assert all(map(torch.equal, trained[0][1:], trained[1][1:]))
    with pytest.raises(ConfigError, match=r"wrap the module, models\.wrap"):
        fit(module, sets, own, checkpoint_dir=tmp_path)
    with pytest.raises(DataError, match="training needs Splits, or a pair"):
        fit(module, (TRAIN.images, TRAIN.labels), own)


@pytest.mark.parametrize("last", [1, 2])
def test_a_stopped_training_is_the_beginning_of_the_whole_one(last: int) -> None:
    whole, stopped = classifier(), classifier()
    examples, wanted = make_examples(TRAIN, config(epochs=4)), config(epochs=4)
    kept: list[Tensor] = []
    full = fit_examples(
        whole, examples, VAL, wanted, on_epoch=lambda record: kept.append(weights(whole).clone())
    )
    part = fit_examples(
        stopped, examples, VAL, wanted, stop_after=lambda record: record.epoch == last
    )
    assert untimed(part) == untimed(full)[:last]
    assert torch.equal(weights(stopped), kept[last - 1])
    assert not stopped.training


@pytest.mark.parametrize(
    ("settings", "known"),
    [({}, True), ({"bf16": True}, True), ({"channels_last": True}, False), ({"patience": 1}, None)],
    ids=str,
)
def test_the_history_knows_what_the_net_it_leaves_gets_right(
    settings: dict[str, Any], known: bool | None
) -> None:
    net = classifier()
    history = train(net, epochs=2, **settings)
    if history.correct is not None:
        assert torch.equal(history.correct, evaluate(net, VAL).correct)
    if known is not None:
        assert (history.correct is not None) == known


def test_without_watched_images_nothing_is_known_to_be_right() -> None:
    wanted = config(epochs=1)
    assert fit_examples(classifier(), make_examples(TRAIN, wanted), None, wanted).correct is None
