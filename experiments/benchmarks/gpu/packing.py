"""Short penalised trainings, one process or several of them on one device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from experiments.benchmarks.gpu.setting import Setting
from experiments.benchmarks.record import Record, per_second
from experiments.benchmarks.timing import CLASSES, timings
from robustkit import models, training
from robustkit.compute import resolve_device
from robustkit.errors import DeviceError
from robustkit.jobs import Executor, Ok, open_executor
from robustkit.training.references import unit_rows


@dataclass(frozen=True)
class Candidate:
    """A training as a search has many: a small net, a few epochs, the penalty."""

    seed: int
    device: str
    images: int
    side: int
    epochs: int

    def run(self) -> float:
        """The last epoch's loss."""
        generator = torch.Generator().manual_seed(self.seed)
        shape = (self.images, 3, self.side, self.side)
        views = torch.randint(256, (1, *shape), generator=generator, dtype=torch.uint8)
        directions, norms = unit_rows(torch.randn(shape, generator=generator))
        reference = training.ReferenceGradients(directions[None].half(), norms[None])
        examples = training.Examples(views, torch.arange(self.images) % CLASSES, (reference,))
        net = models.build(
            "small", num_classes=CLASSES, in_channels=3, image_size=self.side, seed=self.seed
        )
        config = training.TrainConfig(
            epochs=self.epochs, batch_size=min(64, self.images), lr=0.01, lam=1.0, seed=self.seed
        )
        history = training.fit_examples(
            net, examples, None, config, device=resolve_device(self.device)
        )
        return history.best.train_loss


def records(setting: Setting, device: torch.device) -> Iterator[Record]:
    """Trainings ended in a second with 1, 2, … processes at work on `device`."""
    candidates = [
        Candidate(seed, str(device), setting.candidate_images, setting.side, setting.epochs)
        for seed in range(setting.candidates)
    ]
    with open_executor("processes", workers=max(setting.packs)) as executor:
        works = [partial(_train, executor, candidates, at_once) for at_once in setting.packs]
        # The first round starts processes, and CUDA in each: it is the warm-up.
        seconds = timings(*works, rounds=setting.pack_rounds)
    single, *packed = (
        per_second(_processes(count), "trainings", setting.candidates, values)
        for count, values in zip(setting.packs, seconds, strict=True)
    )
    yield Record(what=_title(setting.packs[0]), ours=single, higher=True)
    for count, each in zip(setting.packs[1:], packed, strict=True):
        yield Record(what=_title(count), ours=each, peer=single, higher=True)


def _train(executor: Executor, candidates: Sequence[Candidate], at_once: int) -> None:
    """Train all candidates, so many at a time; the other processes are idle."""
    ended = 0

    def jobs() -> Iterator[Candidate | None]:
        for number, candidate in enumerate(candidates):
            while number - ended >= at_once:
                yield None
            yield candidate

    for _, outcome in executor.run(jobs()):
        ended += 1
        if not isinstance(outcome, Ok):
            raise DeviceError(f"{_title(at_once)}: a training ended as {outcome.kind}")


def _title(count: int) -> str:
    return f"candidates, {_processes(count)} on one device"


def _processes(count: int) -> str:
    return f"{count} process{'es' if count > 1 else ''}"
