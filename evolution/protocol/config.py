"""Every setting of an evolution run, checked where it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from evolution.halving import rungs
from evolution.objectives import (
    MEASURES,
    Measure,
    Objective,
    bounded_below,
    own_measures,
    parse_objectives,
)
from evolution.protocol.roles import BASELINES, REFERENCE, SURROGATE, source_names
from evolution.space import SearchSpace
from evolution.strategies import STRATEGIES
from robustkit.attacks import Attack, make
from robustkit.data import check_views
from robustkit.errors import ConfigError
from robustkit.settings import check_choice, setting
from robustkit.training import TrainConfig

MODES = ("generational", "steady")
BEFORE: Mapping[str, object] = {"early_stop": None, "penalty_every": 1}
"""What folders had that are older than an option whose default is another now."""
MOST_NETS = 16  # references, or surrogates
MOST_SOURCES = 99  # trainings of surrogates


@dataclass(frozen=True, kw_only=True)
class EvolveConfig:
    """One experiment: evolve nets away from a reference, and compare them with their controls.

    Budgets are in epochs and images, never seconds. Trials train on `train_size` images of the
    training split (None: all of it) for `epochs`; the reference trains on all of it, the
    nets compared on training and validation split together, for `final_epochs`. `eps` is in units
    of images in [0,1]; `lam`, `lam_ramp`, `phi`, `grad_loss`, `penalty_views`, `penalty_every` and
    `penalty_stats` are the penalty's, `bf16` and `channels_last` for speed (see `TrainConfig`).
    Noise in views, of radius `eps`, is for penalised nets; others train on the views without it.

    With several references the penalty is against all of them, transfer is the mean over them, and
    R, whose architecture R2, R' and P have, is the first. `lam` is the penalty's weight or several,
    of which one is chosen by a rule: the largest that costs R's architecture at most `tolerance` of
    validation accuracy at trial budget.

    The evolved net E is the one with the least transfer among those whose validation accuracy is
    at least that of R's architecture trained alike, without the penalty, minus `tolerance`. With
    `promote` > 0 the best so many of the search are first trained again at `final_epochs` on the
    whole training split, and compared with R. What R's architecture achieves is the mean of
    `yardstick` trainings.

    `baselines` are what E has to beat at equal accuracy: R's own architecture (R2, and R' with the
    penalty), another `family` of nets (F0, F), R's architecture behind a 2x2 average pool (P0, P),
    and random architectures without the penalty (M).

    `mode` "steady" has no generations: `in_flight` candidates are under way at any time, each bred
    from what is known when it is asked for. Faster with trials of different lengths, and no longer
    the same on any number of workers, but a stopped run goes on as it was.

    With `halving` a steady search spends the same epochs on more candidates: each is trained for
    few, one of so many goes on to so many times more, up to `epochs`. With `inherit` the trials of
    the search start from weights of their parents; whatever is compared is trained from scratch.
    """

    reference: tuple[str, ...] = setting(
        ("small",),
        "R, or several references: a trained model, taken as it is (a .safetensors file, "
        "torchvision:NAME?weights=DEFAULT or FILE, a factory that returns a trained net), or an "
        "architecture, to be trained (a name in the zoo, torchvision:NAME, package.module:factory)",
    )
    surrogate: tuple[str, ...] = setting(
        ("vgg3",), "nets that take no part in the penalty and attack all others"
    )
    surrogate_trainings: int = setting(1, "trainings of each surrogate, each a source of attacks")
    population: int = setting(8, "candidates of a generation")
    generations: int = setting(3, "generations, the first one included")
    strategy: str = setting("nsga2", "nsga2, mu_plus_lambda, ageing, local or random")
    mode: str = setting(
        "generational", "generational, or steady: no worker waits for a generation to end"
    )
    in_flight: int | None = setting(
        None, "candidates under way in steady mode; none: as many as --workers"
    )
    halving: int | None = setting(
        None,
        "of so many candidates one goes on to so many times more epochs, up to --epochs, in "
        "steady mode; as many epochs in all as without; none: all have --epochs",
    )
    inherit: bool = setting(
        False,
        "trials of the search start from weights of their parents; promoted candidates and "
        "final trainings from scratch",
    )
    presets: bool = setting(
        True,
        "R's architecture and nets of known families, as far as the space has them, are in the "
        "first generation of both searches (of strategy local R's alone)",
    )
    screen: int = setting(
        1,
        "possible children, of which the one with the best predicted score is evaluated; 1 leaves "
        "the strategy as published",
    )
    objectives: str = setting(
        "accuracy:max,transfer:min,macs:min",
        "NAME:max|min[:WEIGHT][>=BOUND|<=BOUND],... over accuracy, transfer, macs, "
        "params, cos_abs, grad_norm",
    )
    floor: float = setting(
        0.01,
        "accuracy a candidate may lie below R's architecture at trial budget and still be "
        "feasible for the search",
    )
    early_stop: float | None = setting(
        None,
        "accuracy below that of R's architecture at the same epoch by which a trial of a search "
        "ends after half of its epochs; null: none does",
    )
    tolerance: float = setting(
        0.01,
        "accuracy that E may lie below R's when it is selected: R's architecture at trial budget "
        "or, with promote, R itself",
    )
    yardstick: int = setting(
        3, "trainings of R's architecture whose mean accuracy E is compared with when selected"
    )
    baselines: tuple[str, ...] = setting(
        tuple(BASELINES),
        "what to compare with: architecture (R's own), family, pool, random; or none of them",
    )
    family: str | None = setting(
        None, "architecture of baseline family; null: small or, where that is R's, vgg3"
    )
    promote: int = setting(
        6,
        "how many of each search are trained again for final_epochs before one is selected; "
        "0 selects from the trials",
    )
    train_size: int | None = setting(
        None, "training images of a trial, classes kept even; null: all"
    )
    epochs: int = setting(3, "epochs of a trial")
    final_epochs: int = setting(
        5, "epochs of the reference, promoted candidates and final trainings"
    )
    final_seeds: int = setting(3, "final trainings of each net compared")
    test_size: int | None = setting(
        None, "test images of the final comparison, classes kept even; null: all"
    )
    lam: float | tuple[float, ...] = setting(
        (0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
        "weight of the misalignment penalty; of several between commas the largest that costs R's "
        "architecture no more accuracy than the tolerance",
    )
    lam_ramp: float = setting(0.0, "epochs of a training over which that weight grows from 0")
    penalty_views: str = setting(
        "clean",
        "noise of radius eps in the views that penalised nets train on: clean (none), uniform, "
        "corner (plus or minus eps), or mixed of all three",
    )
    penalty_every: int = setting(
        4, "steps of which one has the penalty, with so many times its weight"
    )
    phi: str = setting("square", "square, abs, relu or logsumexp of the cosine")
    grad_loss: str = setting("ce", "loss whose gradients are compared: ce or margin")
    penalty_stats: str = setting(
        "batch", "batch norm in the penalty's gradients: batch (cheap) or running (uncoupled)"
    )
    attack: str = setting("pgd", "fgsm, pgd or mifgsm")
    norm: str = setting("linf", "linf, l2 or l1")
    eps: float = setting(
        8 / 255,
        "radius of the attack, in units of images in [0,1]; fractions such as 8/255 are read",
    )
    attack_steps: int = setting(10, "steps of the attack")
    batch_size: int = setting(64, "images of a training step")
    bf16: bool = setting(
        False,
        "forward passes of trainings in bfloat16, for GPUs; R's gradients, attacks and scores "
        "stay in float32",
    )
    channels_last: bool = setting(
        False, "weights and batches of trainings in memory with channels innermost, for GPUs"
    )
    optimizer: str = setting("sgd", "sgd or adam")
    lr: float = setting(0.05, "peak learning rate")
    weight_decay: float = setting(5e-4, "weight decay")
    augment: str = setting(
        "none", "none, flip, crop or crop_flip; as stored views, since R's gradients are"
    )
    views: int = setting(1, "stored views of each image, the first being the image itself")
    min_blocks: int = setting(2, "fewest blocks with weights")
    max_blocks: int = setting(8, "most blocks")
    max_params: int = setting(400_000, "most parameters")
    max_macs: int | None = setting(
        None, "most multiply-accumulates per image; null: as many as R takes"
    )
    kinds: tuple[str, ...] = setting(SearchSpace().kinds, "kinds of blocks")
    norms: tuple[str, ...] = setting(SearchSpace().norms, "normalisations")
    activations: tuple[str, ...] = setting(SearchSpace().activations, "activations")
    channels: tuple[int, ...] = setting(SearchSpace().channels, "widths of blocks, ascending")
    kernels: tuple[int, ...] = setting(SearchSpace().kernels, "kernel sizes, odd and ascending")
    seed: int = setting(0, "seed of everything")
    search_seed: int | None = setting(
        None,
        "seed of both searches and of the trainings of what they propose, of nothing else: another "
        "search away from the same R; null: seed",
    )

    def __post_init__(self) -> None:
        for name in ("reference", "surrogate"):
            if isinstance(getattr(self, name), str):  # of run folders that knew one alone
                object.__setattr__(self, name, (getattr(self, name),))
        self._check_nets()
        for name, least in (
            ("population", 2),
            ("generations", 1),
            ("screen", 1),
            ("final_seeds", 1),
            ("yardstick", 1),
            ("surrogate_trainings", 1),
        ):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, not {getattr(self, name)}")
        for name in ("floor", "tolerance"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be in [0,1], not {getattr(self, name):g}")
        if self.early_stop is not None and not 0 <= self.early_stop <= 1:
            raise ConfigError(f"early_stop must be in [0,1] or null, not {self.early_stop:g}")
        if self.promote < 0:
            raise ConfigError(f"promote must not be negative, not {self.promote}")
        if self.views < 1:
            raise ConfigError(
                f"views must be at least 1 (the penalty's are fixed), not {self.views}"
            )
        STRATEGIES.find(self.strategy)
        check_choice("mode", self.mode, MODES)
        if self.in_flight is not None and self.in_flight < 1:
            raise ConfigError(f"in_flight must be at least 1, not {self.in_flight}")
        if self.in_flight is not None and self.mode != "steady":
            raise ConfigError("in_flight is of mode 'steady' alone")
        if self.halving is not None:
            if self.mode != "steady":
                raise ConfigError("halving goes with mode 'steady': its rungs wait for nobody")
            self._check_budget(rungs(self.epochs, self.halving), self.halving)
        if self.inherit and self.halving is None and self.promote < 1:
            raise ConfigError(
                "inherit is for screening alone: promote must be at least 1, so that E is chosen "
                "from nets trained from scratch"
            )
        if not 0 <= self.eps <= 1:
            raise ConfigError(f"eps must be in [0,1], in units of images, not {self.eps:g}")
        parse_objectives(self.objectives, MEASURES)
        self.space(reference_macs=1)
        self.make_attack()
        self._check_penalty()
        check_views(self.views, self.augment)

    def _check_penalty(self) -> None:
        """Raise `ConfigError` for settings of the penalty that do not fit every training."""
        if self.penalty_views != "clean" and self.norm != "linf":
            raise ConfigError(
                f"penalty_views {self.penalty_views}: its noise is of the linf ball; norm is "
                f"'{self.norm}'"
            )
        shortest = self.epochs if self.halving is None else rungs(self.epochs, self.halving)[0]
        for final, lam in product((False, True), self.lams):
            made = self.training(penalised=True, final=final, seed=0, lam=lam)
            replace(made, epochs=made.epochs if final else shortest)  # as on the lowest rung

    def _check_nets(self) -> None:
        """Check how many nets there are, and the baselines' and weights' names."""
        for name in ("reference", "surrogate"):
            given = getattr(self, name)
            if not 1 <= len(given) <= MOST_NETS:
                raise ConfigError(f"{name}: 1 to {MOST_NETS} nets, not {len(given)}")
            if len(set(given)) < len(given):
                raise ConfigError(f"{name}: {given[0]} … are not distinct; name each once")
        sources = len(self.surrogate) * self.surrogate_trainings
        if sources > MOST_SOURCES:
            raise ConfigError(f"surrogate_trainings: {sources} surrogates, at most {MOST_SOURCES}")
        for baseline in self.baselines:
            check_choice("baseline", baseline, tuple(BASELINES))
        if len(set(self.baselines)) < len(self.baselines):
            raise ConfigError(f"baselines: {', '.join(self.baselines)} are not distinct")
        if not self.lams or len({f"{lam:g}" for lam in self.lams}) < len(self.lams):
            raise ConfigError("lam: give one weight, or several distinct ones between commas")
        if len(self.lams) > 1 and not all(lam > 0 for lam in self.lams):
            raise ConfigError("lam: the weights to choose from must be positive")

    @property
    def lams(self) -> tuple[float, ...]:
        """Return the penalty's weight, or those to choose from, ascending."""
        return tuple(sorted(self.lam)) if isinstance(self.lam, tuple | list) else (self.lam,)

    @property
    def references(self) -> tuple[str, ...]:
        """Return the names of the references: R, R.2, …"""
        return source_names(REFERENCE, len(self.reference))

    @property
    def surrogates(self) -> dict[str, str]:
        """Return the surrogates' architectures by name, one for each training: S, S.2, …"""
        specs = [spec for spec in self.surrogate for _ in range(self.surrogate_trainings)]
        return dict(zip(source_names(SURROGATE, len(specs)), specs, strict=True))

    def _check_budget(self, epochs: tuple[int, ...], rate: int) -> None:
        """Raise `ConfigError` where the epochs are too few for anybody to get to the last rung.

        While one climbs, whoever else is under way spends as much on others. That is an estimate:
        where short trials end long after long ones, it may take more.
        """
        last, others_in_flight = len(epochs) - 1, (self.in_flight or 1) - 1
        least = sum(rung_epochs * rate ** (last - rung) for rung, rung_epochs in enumerate(epochs))
        least += others_in_flight * sum(epochs)
        if self.search_epochs < least:
            raise ConfigError(
                f"halving by {rate}: the last of {len(epochs)} rungs is reached after {least} "
                f"epochs with {others_in_flight + 1} under way, and {self.population} x "
                f"{self.generations} candidates have {self.search_epochs}; raise generations, or "
                "lower epochs or in_flight"
            )

    @property
    def search_epochs(self) -> int:
        """Return the epochs that a search may spend on its trials."""
        return self.population * self.generations * self.epochs

    def space(self, *, reference_macs: int) -> SearchSpace:
        """Return the networks that may be proposed; by default none costs more than R does."""
        return SearchSpace(
            min_blocks=self.min_blocks,
            max_blocks=self.max_blocks,
            max_params=self.max_params,
            max_macs=reference_macs if self.max_macs is None else self.max_macs,
            kinds=tuple(self.kinds),
            norms=tuple(self.norms),
            activations=tuple(self.activations),
            channels=tuple(self.channels),
            kernels=tuple(self.kernels),
        )

    @property
    def seed_of_searches(self) -> int:
        """Return the seed of the searches, of their trials and of the nets that they find."""
        return self.seed if self.search_seed is None else self.search_seed

    def objectives_above(self, baseline: float) -> tuple[Objective, ...]:
        """Return the objectives, accuracy bounded below at `baseline` (in [0,1]) minus `floor`.

        A bound that the objectives state themselves stays.
        """
        objectives = parse_objectives(self.objectives, MEASURES)
        return bounded_below(objectives, baseline - self.floor)

    def own_measures(self) -> dict[str, Measure]:
        """Return the user's own objectives, which trials of this run measure."""
        return own_measures(parse_objectives(self.objectives, MEASURES))

    def make_attack(self, *, flipped: bool = False) -> Attack:
        """Return the attack; `flipped` descends the true label's loss (sign-flipped gradient)."""
        steps = {} if self.attack == "fgsm" else {"steps": self.attack_steps}
        return make(self.attack, eps=self.eps, norm=self.norm, targeted=flipped, **steps)

    def training(
        self, *, penalised: bool, final: bool, seed: int, lam: float | None = None
    ) -> TrainConfig:
        """Return how a net of this run is trained; `lam` is the penalty's weight if it was chosen.

        Raises `ValueError` for a penalised training where it was not and there are several.
        """
        if penalised and lam is None:
            (lam,) = self.lams
        noise = {"penalty_views": self.penalty_views, "eps": self.eps}
        penalty: dict[str, Any] = {
            "lam": lam,
            "lam_ramp": self.lam_ramp,
            "penalty_every": self.penalty_every,
            **(noise if self.penalty_views != "clean" else {}),
        }
        return TrainConfig(
            epochs=self.final_epochs if final else self.epochs,
            batch_size=self.batch_size,
            bf16=self.bf16,
            channels_last=self.channels_last,
            optimizer=self.optimizer,
            lr=self.lr,
            weight_decay=self.weight_decay,
            augment=self.augment,
            views=self.views,
            phi=self.phi,
            grad_loss=self.grad_loss,
            penalty_stats=self.penalty_stats,
            seed=seed,
            **(penalty if penalised else {}),
        )
