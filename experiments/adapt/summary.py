"""From the results of all trainings to one summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from adaptation.evaluation import over_seeds
from adaptation.recipes import recipe
from robustkit.runs import Trial

FIGURES = ("ap50_11pt", "ap50_area", "coco_ap", "coco_ap50", "coco_ap75")
DOMAINS = ("source", "target")


def summarise(trials: Sequence[Trial], config: Mapping[str, Any]) -> dict[str, Any]:
    """`recipes.NAME` with means over trainings, their intervals and every training; `shift`."""
    results: dict[str, list[tuple[int, Trial]]] = {}
    shift: dict[str, Any] = {}
    for trial in trials:
        if trial.id == "shift":
            shift = trial.result or {}
            continue
        name, _, number = trial.id.rpartition("/")
        results.setdefault(name, []).append((int(number), trial))
    asked = dict.fromkeys(("source", *config["recipe"]))
    recipes = {
        name: _recipe([trial for _, trial in sorted(results[name], key=lambda each: each[0])])
        for name in asked
    }
    for name, found in recipes.items():
        if name == "source":
            continue
        # What starts from the source's weights is trained longer: as long a plain training is fair.
        fair = recipe(name).start == "source" and recipe(name).steps > 0 and name != "longer"
        over = "longer" if fair and "longer" in recipes else "source"
        found["gain"] = {"over": over, **_gain(found, recipes[over])}
    return {"recipes": recipes, "shift": shift, "data": _data(config)}


def _recipe(trials: Sequence[Trial]) -> dict[str, Any]:
    runs = [trial.result or {} for trial in trials]
    found: dict[str, Any] = {
        domain: {
            **{figure: _mean(runs, domain, figure) for figure in FIGURES},
            "intervals": {
                figure: over_seeds([run[domain][figure] for run in runs]) for figure in FIGURES
            },
            "classes": _classes([run[domain]["classes"] for run in runs]),
            "sizes": runs[0][domain]["sizes"],
            "images": runs[0][domain]["images"],
            "objects": runs[0][domain]["objects"],
        }
        for domain in DOMAINS
    }
    for domain in DOMAINS:
        values = [run[f"robust_{domain}_ap50"] for run in runs]
        found[f"robust_{domain}_ap50"] = over_seeds(values)["mean"]
        found[f"robust_{domain}_interval"] = over_seeds(values)
    by_seed = [{domain: {f: run[domain][f] for f in FIGURES} for domain in DOMAINS} for run in runs]
    return {
        **found,
        "by_seed": by_seed,
        "seeds": len(runs),
        "steps": runs[0]["steps"],
        "seconds": sum(trial.seconds for trial in trials) / len(trials),
        "curves": [run["curve"] for run in runs],
    }


def _mean(runs: Sequence[Mapping[str, Any]], domain: str, figure: str) -> float | None:
    mean: float | None = over_seeds([run[domain][figure] for run in runs])["mean"]
    return mean


def _classes(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        name: {
            "ap50_area": over_seeds([run[name]["ap50_area"] for run in runs]),
            "objects": runs[0][name]["objects"],
        }
        for name in runs[0]
    }


def _gain(found: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """The difference to the source's training of the same seed, on both domains."""
    return {
        domain: over_seeds(
            [
                _difference(own[domain]["ap50_area"], plain[domain]["ap50_area"])
                for own, plain in zip(found["by_seed"], base["by_seed"], strict=True)
            ]
        )
        for domain in DOMAINS
    }


def _difference(own: float | None, plain: float | None) -> float | None:
    return None if own is None or plain is None else own - plain


def _data(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: config[name] for name in ("source", "target", "source_test", "target_test")}
