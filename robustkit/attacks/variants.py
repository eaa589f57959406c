"""MI-FGSM with one component or two, by the names that the papers gave it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from robustkit.attacks.iterative import MIFGSM


@dataclass(frozen=True, kw_only=True)
class NIFGSM(MIFGSM):
    """Nesterov iterative FGSM: the gradient where momentum leads (Lin et al. 2020, equation 6)."""

    built_in: ClassVar[tuple[str, ...]] = ("ni",)


@dataclass(frozen=True, kw_only=True)
class DIFGSM(MIFGSM):
    """Diverse inputs: the gradient through a random resize and pad of each step (Xie et al. 2019).

    With `diversity` probability an image is shrunk to a side of `resize` to 1 of its own. `decay`
    0 is the paper's DI²-FGSM, above it M-DI²-FGSM.
    """

    diversity: float = 0.5
    resize: float = 0.9
    built_in: ClassVar[tuple[str, ...]] = ("di",)


@dataclass(frozen=True, kw_only=True)
class TIFGSM(DIFGSM):
    """Translation invariance: gradients smoothed by a Gaussian kernel (Dong et al. 2019, eq. 7).

    `kernel` is its side in pixels, odd: 15 in the paper, on images of 299; it reaches to three
    standard deviations, as there. `diversity` 0 is TI-MI-FGSM, above it TI-DIM.
    """

    diversity: float = 0.0
    kernel: int = 5
    built_in: ClassVar[tuple[str, ...]] = ("di", "ti")
