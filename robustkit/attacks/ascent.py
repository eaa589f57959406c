"""How far an attack on one batch has come: what its components look at and keep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from robustkit.attacks.norms import Norm
from robustkit.compute import draws

Gradient = Callable[[Tensor], Tensor]
"""The ascended direction at images (n,C,H,W) of those still attacked, of the same shape."""


@dataclass(eq=False, kw_only=True)
class Ascent:
    """One attack on one batch of N images.

    `clean` (N,C,H,W) and `labels` (N,) are what it was given, `seeds` int64 (N,) each image's own.
    `source` is the model as it is, `model` as components have changed it. `rows` are those still
    attacked, of whom all methods speak. `calls` counts the gradients of the present step, of
    `steps`, and `copy` the copies of an image that one of them is the mean of. `others` (P,C,H,W)
    are images that may be mixed in; None: the batch's. `layer` is whose features are attacked, if
    any; `here` (n,C,H,W) are the adversarials as they stand.
    """

    source: nn.Module
    model: nn.Module
    clean: Tensor
    labels: Tensor
    seeds: Tensor
    eps: float
    alpha: float
    decay: float
    targeted: bool
    steps: int
    rows: Tensor
    geometry: Norm
    others: Tensor | None = None
    layer: nn.Module | None = None
    here: Tensor | None = None
    step: int = 0
    calls: int = 0
    copy: int = 0
    kept: dict[str, Tensor] = field(default_factory=dict)
    gradient_at: Callable[[nn.Module, Tensor], Tensor] | None = None

    @property
    def sign(self) -> float:
        """1 where the loss is ascended, -1 towards a target."""
        return -1.0 if self.targeted else 1.0

    def gradient_of(self, model: nn.Module, images: Tensor) -> Tensor:
        """Return the gradient of the loss of another model at images (n,C,H,W)."""
        assert self.gradient_at is not None  # set before the first step
        return self.gradient_at(model, images)

    def inside(self, adversarials: Tensor) -> Tensor:
        """Return the nearest images (n,C,H,W) in the ball, then in the range."""
        delta = self.geometry.project(adversarials - self.originals, self.eps)
        return (self.originals + delta).clamp_(0.0, 1.0)

    @property
    def originals(self) -> Tensor:
        """The clean images (n,C,H,W)."""
        return self.clean[self.rows]

    @property
    def targets(self) -> Tensor:
        """The labels (n,)."""
        return self.labels[self.rows]

    def uniform(self, name: str, shape: Sequence[int] = (), *place: int) -> Tensor:
        """Return numbers in [0,1) (n,*shape), others in every step, call and `place`."""
        seeds = self.seeds[self.rows]
        return draws.uniform(seeds, shape, name, self.step, self.calls, *place).to(self.clean)

    @property
    def scale(self) -> float:
        """How large the pixels of a step of length 1 are, for one that moves all alike."""
        power = {"linf": 0.0, "l2": -0.5, "l1": -1.0}[self.geometry.name]
        size: float = self.clean[0].numel()
        return float(size**power)

    def noise(self, name: str, radius: float, *place: int) -> Tensor:
        """Return noise (n,C,H,W), uniform in a cube about as large as a ball of this radius."""
        numbers = self.uniform(name, self.clean.shape[1:], *place)
        # Of a uniform number in [-1,1] the mean square is 1/3, the mean magnitude 1/2.
        width = {"linf": 1.0, "l2": 3**0.5, "l1": 2.0}[self.geometry.name]
        return (2 * numbers - 1).mul_(width * radius * self.scale)

    def forget_all_but(self, *names: str) -> None:
        """Keep nothing but what is kept under `names`."""
        self.kept = {name: kept for name, kept in self.kept.items() if name in names}

    def recall(self, name: str) -> Tensor | None:
        """Return what was kept under `name`, (n,…); None before anything was."""
        kept = self.kept.get(name)
        return None if kept is None else kept[self.rows]

    def keep(self, name: str, values: Tensor) -> Tensor:
        """Keep `values` (n,…) for later steps, and return them."""
        if name not in self.kept:
            self.kept[name] = values.new_zeros(len(self.clean), *values.shape[1:])
        self.kept[name][self.rows] = values
        return values
