"""The options of an explanation, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass

from robustkit.compute.seeds import check_seed
from robustkit.errors import ConfigError
from robustkit.explain.methods import METHODS, MapSettings
from robustkit.settings import setting


@dataclass(frozen=True, kw_only=True)
class ExplainOptions:
    """Which maps of which class's score, and how they are checked."""

    method: tuple[str, ...] = setting(
        ("cav", "gradcam", "saliency"), f"maps, between commas: {', '.join(METHODS)}"
    )
    layers: tuple[str, ...] = setting(
        ("auto",),
        "for cav and gradcam: names of modules or their types, or auto (the last "
        "module of every stage)",
    )
    target: str = setting(
        "predicted",
        "class whose score is explained: predicted (with --run by the last checkpoint chosen), "
        "true, or a class by its name or number",
    )
    check: bool = setting(True, "measure deletion, insertion, sanity and stability of every map")
    steps: int = setting(20, "points of a deletion or insertion curve, and of integrated gradients")
    samples: int = setting(25, "noisy copies of smoothgrad")
    region: int = setting(2, "side of an occluded square in pixels")
    fill: float = setting(0.0, "value of what is covered, deleted or masked, in [0,1]")
    noise: float = setting(
        4 / 255, "half-width of the uniform noise under which stability is measured"
    )
    paper: bool = setting(
        False, "cav: sigmoid and softplus pass on all of f(z), as the source's Equation 7 does"
    )
    mask: tuple[str, ...] | None = setting(
        None, "masking check: positive, negative (of cav), or a box x0,y0,x1,y1 in pixels"
    )
    at: str = setting("pixels", "where to mask: pixels, or a module")
    quantile: float = setting(
        0.0, "mask beyond this quantile of the positive (negative) part alone"
    )
    seed: int = setting(0, "seed of everything random")

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

    def map_settings(self) -> MapSettings:
        """Return the settings of the maps among these options."""
        names = MapSettings.__dataclass_fields__
        return MapSettings(**{name: getattr(self, name) for name in names})

    def box(self) -> tuple[int, int, int, int] | None:
        """Return the box of the mask; None for a sign, and without a mask."""
        if self.mask is None or self.mask in (("positive",), ("negative",)):
            return None
        if len(self.mask) != 4 or not all(part.lstrip("-").isdecimal() for part in self.mask):
            raise ConfigError(
                f"--mask: positive, negative or a box x0,y0,x1,y1, not '{','.join(self.mask)}'"
            )
        left, top, right, bottom = map(int, self.mask)
        if not (0 <= left < right and 0 <= top < bottom):
            raise ConfigError(
                f"--mask: a box needs 0 <= x0 < x1 and 0 <= y0 < y1, not {','.join(self.mask)}"
            )
        return left, top, right, bottom
