"""The settings of an explanation, checked where they are made."""

from __future__ import annotations

from dataclasses import dataclass

from robustkit.compute.seeds import check_seed
from robustkit.errors import ConfigError
from robustkit.explain.methods import METHODS

HELPS = {
    "method": f"maps, between commas: {', '.join(METHODS)}",
    "layers": "for cav and gradcam: names of modules or their types, or auto (the last "
    "place of every stage)",
    "target": "whose score: predicted (with --run by the last checkpoint chosen), true, or a "
    "class by its name or number",
    "check": "measure deletion, insertion, sanity and stability of every map",
    "steps": "points of a deletion or insertion curve, and of integrated gradients",
    "samples": "noisy copies of smoothgrad",
    "region": "side of an occluded square in pixels",
    "fill": "value of what is covered, deleted or masked, in [0,1]",
    "noise": "half-width of the uniform noise under which stability is measured",
    "paper": "cav: sigmoid and softplus pass on all of f(z), as the source's Equation 7 does",
    "mask": "masking check: positive, negative (of cav), or a box x0,y0,x1,y1 in pixels",
    "at": "where to mask: pixels, or a module",
    "quantile": "mask beyond this quantile of the positive (negative) part alone",
    "seed": "of everything random",
}


@dataclass(frozen=True, kw_only=True)
class ExplainOptions:
    """Which maps of which score; see `HELPS` for each field."""

    method: tuple[str, ...] = ("cav", "gradcam", "saliency")
    layers: tuple[str, ...] = ("auto",)
    target: str = "predicted"
    check: bool = True
    steps: int = 20
    samples: int = 25
    region: int = 2
    fill: float = 0.0
    noise: float = 4 / 255
    paper: bool = False
    mask: tuple[str, ...] | None = None
    at: str = "pixels"
    quantile: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        for name in self.method:
            METHODS.find(name)
        if len(set(self.method)) < len(self.method):
            raise ConfigError("--method: the same map twice")
        for name in ("steps", "samples", "region"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name} must be at least 1, not {getattr(self, name)}")
        for name in ("fill", "noise"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"--{name} must be in [0,1], in units of images, not {getattr(self, name):g}"
                )
        if not 0 <= self.quantile < 1:
            raise ConfigError(f"--quantile must be in [0,1), not {self.quantile:g}")
        self.box()
        if self.mask is None and (self.at != "pixels" or self.quantile):
            raise ConfigError("--at and --quantile are of --mask, which is missing")
        if self.quantile and self.box() is not None:
            raise ConfigError("--quantile is of --mask positive or negative, not of a box")

    def box(self) -> tuple[int, int, int, int] | None:
        """The box of the mask, None where it is a sign or nothing."""
        if self.mask is None or self.mask in (("positive",), ("negative",)):
            return None
        if len(self.mask) != 4 or not all(each.lstrip("-").isdecimal() for each in self.mask):
            raise ConfigError(
                f"--mask: positive, negative or a box x0,y0,x1,y1, not '{','.join(self.mask)}'"
            )
        left, top, right, bottom = map(int, self.mask)
        if not (0 <= left < right and 0 <= top < bottom):
            raise ConfigError(
                f"--mask: a box needs 0 <= x0 < x1 and 0 <= y0 < y1, not {','.join(self.mask)}"
            )
        return left, top, right, bottom
