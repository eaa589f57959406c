"""Options of the zoo written into the name, as the command line gives them."""

from __future__ import annotations

import pytest

from robustkit import models
from robustkit.errors import ModelError


def test_options_may_stand_in_the_name() -> None:
    written = models.build("vgg11?width=8", num_classes=10, in_channels=3, image_size=32, seed=0)
    given = models.build("vgg11", width=8, num_classes=10, in_channels=3, image_size=32, seed=0)
    assert written.card.architecture == given.card.architecture
    assert models.digest(written) == models.digest(given)


@pytest.mark.parametrize("spec", ["vgg11?width", "vgg11?width=wide", "vgg11?depth=3"])
def test_a_misspelt_option_in_the_name(spec: str) -> None:
    with pytest.raises(ModelError, match="vgg11"):
        models.build(spec, num_classes=2, in_channels=1, image_size=32, seed=0)
