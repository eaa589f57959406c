from __future__ import annotations

import pytest

from robustkit import extensions
from robustkit.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("./my_attacks.py", "not the name of a module"),
        ("..my_attacks", "not the name of a module"),
        ("", "Empty module name"),
    ],
)
def test_a_name_that_no_module_can_have_is_a_mistake_of_the_person(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        extensions.load(name)
    assert name not in extensions.loaded()
