"""The net of both studies of the publication, trained several times."""

from __future__ import annotations

from typing import Any

from experiments.reproduce.filters.jobs import TrainNet
from experiments.reproduce.study import Plan, Results

SOURCE = "Suzuki, Meng, Yamazaki (in Japanese)"
CHOSEN, SEEDS = 3, 3
EPOCHS = {"smoke": 3, "small": 20, "paper": 185}  # 540 steps each; the publication made 100,000
ONLY_SMALL = ("20 epochs, some 11,000 steps, in the place of 100,000.",)
DEVIATIONS = (
    "The rate, not published, falls to 0.",
    "54,000 of the 60,000 training images; 6,000 are kept for validation.",
)


def trainings_of(plan: Plan, filters: int) -> list[TrainNet]:
    """Trainings with so many filters a layer, one a seed, each with a file of its own."""
    data, seeds = ("digits", 1) if plan.smoke else ("mnist", SEEDS)
    return [
        TrainNet(
            f"train/{filters}/{number}",
            str(plan.folder / f"cnn3-{filters}-{number}.safetensors"),
            data,
            filters,
            EPOCHS[plan.scale],
            number,
        )
        for number in range(plan.seed, plan.seed + seeds)
    ]


def by_parts(study: str, results: Results) -> dict[str, Any]:
    """Results by the parts of their ids: `train/3/0` under `train`, `3`, `0`."""
    found: dict[str, Any] = {"study": study}
    for name, result in results.items():
        *parts, last = name.split("/")
        place = found
        for part in parts:
            place = place.setdefault(part, {})
        place[last] = result
    return found
