"""The peak of a process's own memory while it evaluates transfer: nets, pictures, folder.

Run as `python -m tests.robustkit.evaluation.peak_memory NETS PICTURES FOLDER`; prints bytes.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import nn

from robustkit import evaluation
from robustkit.attacks import MIFGSM, Store
from robustkit.data import ImageSet
from robustkit.evaluation.gradient_similarity import gradient_pairs

SHAPE, BATCH = (3, 64, 64), 20
WEIGHTS = 5 * 2**20  # of a net, 4 bytes each


def anonymous() -> int:
    """Bytes of this process's memory that are no map of a file."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return 1024 * int(line.split()[1])
    raise OSError("/proc/self/status has no RssAnon")


class Shelf(Mapping[str, nn.Module]):
    """Nets that are made when they are asked for; one is kept."""

    def __init__(self, count: int) -> None:
        self.names = [f"net{index}" for index in range(count)]
        self.kept: tuple[str, nn.Module] | None = None

    def __getitem__(self, name: str) -> nn.Module:
        if self.kept is None or self.kept[0] != name:
            self.kept = None
            torch.manual_seed(self.names.index(name))
            net = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(192, 4))
            net.register_parameter("ballast", nn.Parameter(torch.ones(WEIGHTS)))
            self.kept = (name, net)
        return self.kept[1]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def pictures(count: int) -> ImageSet:
    """Random pictures of four classes."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, *SHAPE), generator=generator, dtype=torch.uint8)
    return ImageSet(images, torch.arange(count) % 4, ("a", "b", "c", "d"))


def work(nets: int, images: ImageSet, folder: Path) -> None:
    """Craft on every net, score all, and compare their gradients."""
    attack = MIFGSM(eps=8 / 255, steps=2)
    shelf, store = Shelf(nets), Store(folder)
    evaluation.transfer(shelf, shelf, images, attack, store=store, batch_size=BATCH)
    gradient_pairs(Shelf(nets), images, batch_size=BATCH)


def peak(nets: int, count: int, folder: Path) -> int:
    """The most memory taken beyond what there was before, the pictures themselves included."""
    work(1, pictures(BATCH), folder / "warm")
    images = pictures(count)
    gc.collect()
    before, most, done = anonymous(), [0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            most[0] = max(most[0], anonymous())
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    work(nets, images, folder / "cold")
    done.set()
    watcher.join()
    return most[0] - before


if __name__ == "__main__":
    print(peak(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
