"""The registry of published experiments, found by their own names or by those of their exhibits."""

from __future__ import annotations

from experiments.reproduce.study import Exhibit, Study
from robustkit.errors import ConfigError
from robustkit.registry import Registry

# The seven systems behind this house, in the order of the sources; a study of ours has none.
SYSTEMS = (
    "misalignment",
    "adversarial adaptation",
    "history repair",
    "filter contribution",
    "occlusion",
    "contribution maps",
    "over-training",
)
OURS = "ours"

EXPERIMENTS: Registry[Study] = Registry("experiment", ConfigError)
_EXHIBITS: Registry[tuple[Study, Exhibit | None]] = Registry("experiment", ConfigError)


def enter(study: Study) -> None:
    """Register a study and its exhibits; a second of any name is a bug.

    A study with one exhibit of its own name is that exhibit.
    """
    EXPERIMENTS.enter(study.name, study)
    for exhibit in study.exhibits:
        if exhibit.name != study.name:
            _EXHIBITS.enter(exhibit.name, (study, exhibit))
    _EXHIBITS.enter(study.name, (study, None))


def find(name: str) -> tuple[Study, Exhibit | None]:
    """The study called `name`, whole, or the study and the exhibit of it; or a `ConfigError`."""
    return _EXHIBITS.find(name)
