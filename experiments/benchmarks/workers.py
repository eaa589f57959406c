"""Two worker processes against one, on trainings like a search's trials."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from experiments.benchmarks.record import Record, speedup
from experiments.benchmarks.timing import timed
from robustkit import data, models, training
from robustkit.jobs import open_executor


@dataclass(frozen=True)
class Training:
    """A short training of `small` on the embedded digits."""

    seed: int

    def run(self) -> float:
        """The last epoch's loss."""
        splits = data.load("digits")
        net = models.build("small", num_classes=10, in_channels=1, image_size=16, seed=self.seed)
        config = training.TrainConfig(epochs=2, seed=self.seed)
        return training.fit(net, splits, config).best.train_loss


def records() -> Iterator[Record]:
    """Eight trainings on warm workers."""
    with (
        open_executor("processes", workers=1) as single,
        open_executor("processes", workers=2) as pair,
    ):
        one, two = timed(
            {
                "one process": lambda: list(single.run(iter([Training(n) for n in range(8)]))),
                "two processes": lambda: list(pair.run(iter([Training(n) for n in range(8)]))),
            },
            rounds=5,
        )
    yield speedup("eight trainings in two processes beside one", two, one, at_least=1.6)
