"""What an attack is: frozen hyper-parameters, called on a model, images and labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from robustkit.attacks.norms import NORMS, Norm, per_image
from robustkit.data import ImageSet
from robustkit.errors import AttackError
from robustkit.models.state import state_preserved
from robustkit.reading import Json

# Adversarials may leave the ball by float32 rounding of x + δ, never by more than this.
TOLERANCE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Attack(ABC):
    """An attack inside an ε-ball. `eps` is in units of images in [0,1]; `norm` is linf, l2, l1 or
    l0, whose radius is the share of a picture's pixels that may change.

    `targeted` descends the loss towards the given labels instead of ascending it.
    """

    paper: ClassVar[str] = ""
    eps: float = 8 / 255
    norm: str = "linf"
    targeted: bool = False

    def __post_init__(self) -> None:
        NORMS.find(self.norm)
        # A ball of l2 or l1 radius 1 is small: the others' are shares of a whole.
        limit = 1.0 if self.norm in ("linf", "l0") else float("inf")
        if not 0.0 <= self.eps <= limit:
            raise AttackError(
                f"eps must be in [0, {limit:g}] for {self.norm}, in units of images in [0,1], "
                f"not {self.eps:g}"
            )

    @property
    def name(self) -> str:
        """The attack's name in lower case, as on the command line."""
        return type(self).__name__.lower()

    @property
    def geometry(self) -> Norm:
        """The functions of this attack's norm."""
        return NORMS[self.norm]

    def to_dict(self) -> Json:
        """Return name and hyper-parameters as plain values: the attack's identity in caches."""
        return {"name": self.name, **asdict(self)}

    def trained_on(self, images: ImageSet) -> Attack:
        """Return this attack with images to train on, if it trains at all; else this attack."""
        return self

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        generator: torch.Generator | None = None,
        stop_when_fooled: bool = False,
        others: Tensor | None = None,
    ) -> Tensor:
        """Adversarials (N,C,H,W) of `images` float32 in [0,1] with `labels` int64 (N,).

        The model and all random states are left as they were. Randomness comes from `generator`
        (CPU; seeded with 0 if absent). `stop_when_fooled` leaves an image as soon as the model
        errs on it: right for robust accuracy, wrong for transfer (methods: 40 % falls to 1 %).
        `others` (P,C,H,W) are images that components such as "admix" mix in, by default the
        batch's: an adversarial then depends on them.

        Raises `AttackError` where images or labels are not what this says.
        """
        check_batch(images, labels)
        source = generator if generator is not None else torch.Generator().manual_seed(0)
        mixing = {"others": others} if self.mixes and others is not None else {}
        if (
            mixing
            and others is not None
            and (not len(others) or others.shape[1:] != images.shape[1:])
        ):
            raise AttackError(
                f"{self.name}: the other images must be of shape {tuple(images.shape[1:])}, one at "
                f"least, not {tuple(others.shape)}"
            )
        if not len(images):
            return images.clone()
        with state_preserved(model):
            return self.perturb(model, images, labels, source, stop_when_fooled, **mixing)

    @property
    def gradient_free(self) -> bool:
        """Whether it only asks for outputs."""
        return False

    @property
    def mixes(self) -> bool:
        """Whether it mixes other images in."""
        return False

    @abstractmethod
    def perturb(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        generator: torch.Generator,
        stop_when_fooled: bool,
        others: Tensor | None = None,
    ) -> Tensor:
        """The attack itself, on one image or more, checked, and a model in evaluation mode."""

    def kept_in_ball(self, adversarials: Tensor, images: Tensor) -> Tensor:
        """Return the adversarials within `eps` of their images, and for the others the clean image.

        Both are (N,C,H,W) in [0,1].
        """
        inside = self.geometry.size(adversarials - images) <= self.eps
        return torch.where(per_image(inside), adversarials, images)


def check_batch(images: Tensor, labels: Tensor) -> None:
    """Raise `AttackError` unless images are float (N,C,H,W) in [0,1] and labels int64 (N,)."""
    if not images.is_floating_point() or images.dim() != 4:
        raise AttackError(
            "attacks take float images (N,C,H,W) in [0,1], "
            f"not {images.dtype} of shape {tuple(images.shape)}"
        )
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise AttackError(
            f"attacks take int64 labels of shape ({images.shape[0]},), "
            f"not {labels.dtype} of shape {tuple(labels.shape)}"
        )
    low, high = (float(bound) for bound in torch.aminmax(images)) if len(images) else (0.0, 0.0)
    if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):
        raise AttackError(f"attacks take images in [0,1], not in [{low:g}, {high:g}]")


def violations(adversarials: Tensor, images: Tensor, attack: Attack) -> Tensor:
    """Return bool (N,): which adversarials leave the ε-ball or [0,1], or are not finite.

    The tolerance grows with the image but for linf, as the rounding of its pixels does.
    """
    power = {"linf": 0.0, "l2": 0.5, "l1": 1.0, "l0": 0.0}[attack.norm]
    slack = TOLERANCE * float(images.shape[1:].numel()) ** power
    inside = attack.geometry.size(adversarials - images) <= attack.eps + slack
    in_range = ((adversarials >= 0) & (adversarials <= 1)).flatten(1).all(dim=1)
    outside: Tensor = ~(inside & in_range)
    return outside


def verify(adversarials: Tensor, images: Tensor, attack: Attack) -> None:
    """Raise `AttackError` where `violations` finds any; called outside the attack.

    Both are float (N,C,H,W) in [0,1]; the message tells the largest distance, in units of `eps`.
    """
    if not bool(violations(adversarials, images, attack).any()):
        return
    low, high = (float(bound) for bound in torch.aminmax(adversarials))
    if low < 0 or high > 1:
        raise AttackError(f"{attack.name}: an adversarial leaves [0,1]")
    size = float(attack.geometry.size(adversarials - images).max())
    raise AttackError(
        f"{attack.name}: an adversarial lies {size:g} ({attack.norm}) from its image, "
        f"outside eps {attack.eps:g}"
    )
