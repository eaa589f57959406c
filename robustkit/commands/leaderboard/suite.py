"""Which attacks a leaderboard is of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robustkit.errors import ConfigError, did_you_mean
from robustkit.reading import read_yaml

_MOMENTUM = ("pgd", "mifgsm", "mifgsm+ni", "mifgsm+pi", "mifgsm+emi")
_SHOWN = tuple(
    f"mifgsm+{name}"
    for name in ("di", "ti", "si", "admix+si", "ssm", "sia", "bsr", "odi", "patchout", "di+ti+si")
)
_NEAR = tuple(f"mifgsm+{name}" for name in ("vmi", "vni", "pgn", "gra", "rap"))
_FEATURES = tuple(f"mifgsm+{name}" for name in ("ila", "fia", "naa", "cfm"))
_INSIDE = tuple(f"mifgsm+{name}" for name in ("sgm", "linbp", "bpa", "ghost", "pna", "tgr"))
SUITES: dict[str, tuple[str, ...]] = {
    "standard": ("fgsm", *_MOMENTUM, *_SHOWN, *_NEAR, *_FEATURES, *_INSIDE),
    "quick": ("fgsm", "pgd", "mifgsm", "mifgsm+di", "mifgsm+ti", "mifgsm+di+ti+si", "mifgsm+sgm"),
    "ensembles": ("mifgsm", "mifgsm+svre", "mifgsm+cwa", "mifgsm+adaea"),
}


def attacks_of(suite: str, further: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the attacks of a suite, by its name or as a YAML file with a list of them.

    `further` ones follow. Raises `ConfigError` for an unknown suite, a file that is no list of
    texts, and an attack named twice.
    """
    if suite.endswith((".yaml", ".yml")):
        attacks = _read(Path(suite))
    elif suite in SUITES:
        attacks = SUITES[suite]
    else:
        raise ConfigError(
            f"--suite: unknown suite '{suite}'{did_you_mean(suite, SUITES)}; a list of your own is "
            "a YAML file, NAME.yaml"
        )
    every = (*attacks, *further)
    for number, attack in enumerate(every):
        if attack in every[:number]:
            raise ConfigError(f"--suite: the attack '{attack}' is there twice")
    return every


def _read(path: Path) -> tuple[str, ...]:
    found: Any = read_yaml(path, error=ConfigError)
    if (
        not isinstance(found, list)
        or not found
        or not all(isinstance(each, str) and each.strip() for each in found)
    ):
        raise ConfigError(f"--suite {path}: expected a list of attacks, such as '- mifgsm+di'")
    return tuple(found)
