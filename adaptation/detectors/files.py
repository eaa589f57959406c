"""One file per detector, of the very form that classifiers have."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from adaptation.detectors.build import FAMILY, code_of, outline, rebuild
from adaptation.detectors.detector import Detector
from robustkit.errors import ModelError
from robustkit.models import files
from robustkit.models.weights import check_weights, fit_weights

save, digest = files.save, files.digest


def load(path: Path | str, *, trust: Collection[str] = ()) -> Detector:
    """The detector in the file `path`, in evaluation mode and on the CPU.

    One whose backbone a user's function makes is refused unless `trust` names that function,
    "package.module:factory", because it is run. Raises `ModelError`, naming the file, when it
    is missing, damaged or holds a classifier.
    """
    card, tensors = files.read(path)
    if card.architecture["family"] != FAMILY:
        raise ModelError(
            f"{path}: holds a classifier where a detector is needed; as a backbone it can be given "
            "to --backbone"
        )
    try:
        if card.architecture.get("backbone") is None:
            # Described first, without memory: a card may ask for a net of any number of classes.
            check_weights(outline(card), tensors, path)
        model = rebuild(card, seed=0, trust=trust)
    except ModelError as error:
        raise ModelError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise ModelError(f"{path}: its card describes no detector ({error})") from error
    fit_weights(model.net, tensors, path)
    return model.eval()


def runs_code(path: Path | str) -> tuple[str, ...]:
    """The functions of a user's that loading the detector in the file `path` runs.

    Raises `ModelError` as `load`, without running anything.
    """
    return code_of(files.read_card(path).architecture)
