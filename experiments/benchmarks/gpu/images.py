"""Images attacked and explained in a second."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from experiments.benchmarks.gpu.setting import Setting
from experiments.benchmarks.record import Record, per_second
from experiments.benchmarks.timing import CLASSES, timings
from robustkit import attacks, explain, models
from robustkit.data import ImageSet

EPS = 8 / 255
MAPS = 100  # images of a trace: it keeps every layer's maps


def records(setting: Setting, device: torch.device) -> Iterator[Record]:
    """PGD and MI-FGSM as for a transfer matrix, never stopped early, and CAV of automatic layers.

    Images and what becomes of them lie with the host, as they do for the verbs: the way there and
    back is in the time.
    """
    images = _noise(setting)
    count = min(MAPS, len(images))
    shown = images.floats(torch.arange(count))
    for name in setting.nets:
        net = models.build(
            name, num_classes=CLASSES, in_channels=3, image_size=setting.side, seed=0
        )
        net.to(device).eval()
        crafted = [
            attacks.PGD(eps=EPS, steps=setting.attack_steps),
            attacks.PGD(eps=EPS, steps=setting.attack_steps, bf16=True),
            attacks.MIFGSM(eps=EPS, steps=setting.attack_steps),
        ]

        def maps(net: models.Classifier = net) -> None:
            with explain.trace(net, shown, 0, layers=["auto"]) as trace:
                for each in explain.cav(trace).values():
                    each.raw.cpu()

        works = [lambda a=a, net=net: attacks.craft(net, images, a) for a in crafted]
        seconds = timings(*works, maps, rounds=setting.rounds // 3, device=device)
        kinds = ("PGD", "PGD, bf16", "MI-FGSM")
        for kind, values in zip(kinds, seconds, strict=False):
            made = per_second("attacked", "images", len(images), values)
            what = f"{name}: {kind}, {setting.attack_steps} steps"
            yield Record(what=what, ours=made, higher=True)
        made = per_second("explained", "images", count, seconds[-1])
        yield Record(what=f"{name}: CAV maps of every stage", ours=made, higher=True)


def _noise(setting: Setting) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    shape = (setting.images, 3, setting.side, setting.side)
    pixels = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    labels = torch.arange(setting.images) % CLASSES
    return ImageSet(pixels, labels, tuple(str(label) for label in range(CLASSES)))
