"""Where R, R2, R' and E of a finished evolution look: the publication's Figure 1, in figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from experiments.studies.base import Json, StudyJob
from experiments.studies.misalignment.result import Attention
from robustkit import data, explain, models
from robustkit.attacks import correct
from robustkit.data import ImageSet
from robustkit.evaluation.gradient_similarity import input_gradients
from robustkit.models import Classifier
from robustkit.stats import mean_over_images

# Players of the evolution; of each the first training. R2 is the control: R's architecture, plainly
# trained from another seed.
NETS = {"R": "R", "R2": "R2-0", "Rp": "Rp-0", "E": "E-0"}
KINDS = ("gradient", "gradcam")  # of maps


@dataclass(frozen=True)
class CompareAttention(StudyJob):
    """The nets of the evolution in `path` on its first `count` test images that all get right."""

    path: str
    data: str
    count: int

    kind = Attention

    def run(self) -> Json:
        """Return, by map and net, Spearman's correlation with R's map, and the same minus R2's."""
        folder = Path(self.path) / "nets"
        nets = {name: models.load(folder / f"{file}.safetensors") for name, file in NETS.items()}
        test = data.load(self.data).test
        shared = _shared([net.eval() for net in nets.values()], test)[: self.count]
        if not len(shared):
            return _nothing([name for name in nets if name != "R"])
        images = test.subset(shared)
        maps = {name: _maps(net, images) for name, net in nets.items()}
        found: Json = {"n": len(images)}
        for kind, of_reference in maps["R"].items():
            alike = {name: _ranks(of_reference, maps[name][kind]) for name in nets if name != "R"}
            found[kind] = {
                name: {
                    "like_R": _summed(values),
                    "beyond_R2": _summed(values - alike["R2"]),
                }
                for name, values in alike.items()
            }
        return found


def _nothing(names: list[str]) -> Json:
    """Return the result without any image."""
    none = _summed(torch.empty(0))
    return {
        "n": 0,
        **{kind: {name: {"like_R": none, "beyond_R2": none} for name in names} for kind in KINDS},
    }


def _shared(nets: list[Classifier], images: ImageSet) -> Tensor:
    """Return the indices, int64 (n,), of the images that all nets get right."""
    right = torch.ones(len(images), dtype=torch.bool)
    for net in nets:
        right &= correct(net, images)
    return torch.nonzero(right).squeeze(1)


def _maps(net: Classifier, images: ImageSet) -> dict[str, Tensor]:
    """Return magnitudes (N,H,W) of the input gradient, and the last stage's Grad-CAM at
    that size.
    """
    gradients = input_gradients(net, images).abs().sum(dim=1)
    cams = []
    for rows in data.batches(len(images), 250):
        x = images.floats(rows)
        with explain.trace(net, x, images.labels[rows]) as trace:
            last = list(explain.gradcam(trace).values())[-1]
        cams.append(explain.enlarged(last, (x.shape[2], x.shape[3])))
    return dict(zip(KINDS, (gradients, torch.cat(cams)), strict=True))


def _ranks(first: Tensor, second: Tensor) -> Tensor:
    """Return Spearman's correlation (N,) of maps (N,H,W), image by image; NaN for constant maps."""
    found = [explain.spearman(a[None], b[None]) for a, b in zip(first, second, strict=True)]
    return torch.tensor([each.mean if each.values else torch.nan for each in found])


def _summed(values: Tensor) -> Json:
    known = values[~values.isnan()]
    return {**mean_over_images(known.tolist()).to_json(), "without": len(values) - len(known)}
