"""Names that tell things apart: class names of data and models, which do not know each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache

CIFAR_10 = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
_FINE = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CIFAR_100 = tuple(_FINE.split())  # the fine labels in their order, which is the alphabet's


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Return `names` in their order, each that stands more than once followed by its position.

    >>> distinct(("crane", "dog", "crane"))
    ('crane (0)', 'dog', 'crane (2)')
    """
    distinct_names = tuple(names)
    while len(set(distinct_names)) < len(distinct_names):
        counts = Counter(distinct_names)
        distinct_names = tuple(
            f"{name} ({index})" if counts[name] > 1 else name
            for index, name in enumerate(distinct_names)
        )
    return distinct_names


@cache
def imagenet_classes() -> tuple[str, ...]:
    """Return the names of ImageNet's 1,000 classes in their order, as torchvision has them.

    A name that stands twice there (crane, maillot, in some versions) is followed by its index.
    """
    from torchvision.models import ResNet50_Weights

    return distinct(ResNet50_Weights.DEFAULT.meta["categories"])


def numbered(count: int) -> tuple[str, ...]:
    """Return the names of classes that have none: their numbers."""
    return tuple(map(str, range(count)))
