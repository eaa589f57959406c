"""A study of sixty lines: does label noise cost a small net its robust accuracy?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.studies.base import Claim, Plan, Study, StudyJob, StudySummary, below, register
from robustkit import data, evaluation, models, training
from robustkit.attacks import PGD
from robustkit.report import format_percent, markdown_table
from robustkit.runs.summaries import Result, Share
from robustkit.stats import Mean, mean_over_trainings

NOISE = ("0", "0.3")


class Trained(Result, frozen=True, kw_only=True):
    """Robust accuracy of one training."""

    robust: Share


class Summary(StudySummary, frozen=True, kw_only=True):
    """Trainings by noise and seed."""

    trained: dict[str, dict[str, Trained]]


@dataclass(frozen=True)
class TrainNoisy(StudyJob):
    """Train on digits of which a share has another label."""

    noise: float
    seed: int

    kind = Trained

    def run(self) -> Trained:
        """Return the accuracy under PGD."""
        splits = data.load("digits", seed=self.seed)
        wrong = splits.train.labels[: int(self.noise * len(splits.train))]
        wrong += 1
        wrong %= 10
        net = models.build("small", num_classes=10, in_channels=1, image_size=16, seed=self.seed)
        training.fit(net, splits, training.TrainConfig(epochs=1, seed=self.seed))
        robust = evaluation.survivors(net.eval(), splits.test, PGD(eps=0.05, steps=3))
        return Trained(robust=float(robust.double().mean()))


def jobs(plan: Plan) -> Sequence[Sequence[TrainNoisy]]:
    """Return both amounts of noise and every seed."""
    seeds = range(2 if plan.smoke else 10)
    return [[TrainNoisy(f"trained/{n}/{seed}", float(n), seed) for n in NOISE for seed in seeds]]


def _means(summary: Summary) -> dict[str, Mean]:
    by_noise = summary.trained.items()
    return {n: mean_over_trainings([run.robust for run in of.values()]) for n, of in by_noise}


def render(summary: Summary) -> str:
    """Return the robust accuracies in Markdown."""
    rows = [[noise, format_percent(mean)] for noise, mean in _means(summary).items()]
    return "# Label noise\n\n" + markdown_table(["noise", "robust accuracy, %"], rows)


def claims(summary: Summary) -> list[Claim]:
    """Decide that noise lowers robust accuracy, seed by seed."""
    plain, noisy = (summary.trained[noise] for noise in NOISE)
    lost = mean_over_trainings([noisy[seed].robust - plain[seed].robust for seed in plain])
    what, ours = "label noise lowers robust accuracy", format_percent(lost, sign=True)
    return [Claim(item="label-noise", what=what, published="ours", ours=ours, holds=below(lost))]


register(
    Study(
        name="label-noise",
        title="Label noise and robust accuracy",
        source="does label noise cost robust accuracy?",
        scales={"smoke": "two seeds", "small": "ten seeds"},
        jobs=jobs,
        summary=Summary,
        render=render,
        claims=claims,
    )
)
