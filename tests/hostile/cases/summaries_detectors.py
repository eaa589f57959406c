"""Runs of `adapt`, `detect` and `shift`, and files of `bench`, that were edited."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tests.hostile.case import EITHER, REFUSED, Case, Ending, Place
from tests.hostile.edited_runs import BROKEN, REPORT, Prepare, copied, settings, with_edit
from tests.hostile.edits import DROP, EDITS, EXTRA, NAN, OVERFLOW, Edit, edits, spelt
from tests.hostile.warm import warm

BENCH = Path(__file__).parents[3] / "experiments" / "results" / "benchmarks" / "bench.json"

# Summaries of the runs that are edited, for their paths alone: values are those of the run.
_MEAN: Any = {"mean": 0.1, "low": None, "high": None, "n": 1}
_OF_A_CLASS: Any = dict.fromkeys(("ap50_11pt", "ap50_area", "coco_ap"), 0.1)
_FIGURES: Any = {**_OF_A_CLASS, "coco_ap50": 0.1, "coco_ap75": 0.1}
_CLASSES = ("disc", "square", "triangle", "star", "cross", "ring")
_ON_DOMAIN: Any = {
    **_FIGURES,
    "intervals": dict.fromkeys(_FIGURES, _MEAN),
    "classes": {name: {"ap50_area": _MEAN, "objects": 3} for name in ("cross", "disc")},
    "images": 16,
    "objects": 30,
}
_RECIPE: Any = {
    "source": _ON_DOMAIN,
    "target": _ON_DOMAIN,
    "robust_source_ap50": 0.1,
    "robust_source_interval": _MEAN,
    "robust_target_interval": _MEAN,
    "by_seed": [{"source": _FIGURES, "target": _FIGURES}],
    "seeds": 1,
    "steps": 6,
    "seconds": 1.5,
    "curves": [[[1, 2.5], [2, 2.4]]],
}
_SHIFT: Any = {
    "frechet": 0.1,
    "within_source": 0.1,
    "ratio": 1.2,
    "low": 0.8,
    "high": 1.5,
    "cloud": 4,
    "images": [16, 16],
    "threshold": 4.0,
    "advice": "x",
}
ADAPT: Any = {
    "format": 1,
    "verb": "adapt",
    "recipes": {
        "source": _RECIPE,
        "adversarial": {**_RECIPE, "gain": {"over": "source", "source": _MEAN, "target": _MEAN}},
    },
    "shift": _SHIFT,
    "notes": ["x"],
}
_EVALUATED: Any = {
    **_FIGURES,
    "with_difficult": 0.1,
    "images": 8,
    "objects": 20,
    "attacked_images": 4,
    "classes": {name: {**_OF_A_CLASS, "objects": 3} for name in ("disc", "ring")},
    "sizes": {"edges": [10.0, 20.0], "ap50_area": {"small": 0.1, "medium": 0.1, "large": 0.1}},
    "robust_ap50": {"0.0078431372549": 0.0},
    "notes": ["x"],
}
DETECT: Any = {
    "format": 1,
    "images": 8,
    "classes": ["disc", "ring"],
    "detector": _EVALUATED,
    "contrast": _EVALUATED,
    "left_out": ["x"],
}
SUMMARIES: dict[str, Any] = {
    "adapt": ADAPT,
    "detect": DETECT,
    "shift": {"format": 1, "shift": _SHIFT},
}
VERBS = {"adapt": REFUSED, "detect": REFUSED}


@cache
def _bench() -> Any:
    return json.loads(BENCH.read_text())


def _laid(run: str) -> Callable[[Place], Path]:
    def lay(place: Place) -> Path:
        warm("report", "adapt", "detect", "shift")
        return copied(run)(place)

    return lay


def _summary(run: str, edit: Edit) -> Prepare:
    return with_edit(_laid(run), "summary.json", lambda told: edit(_whole(run, told)))


def _whole(run: str, told: Any) -> Any:
    """The run's own summary, with what is optional: so that every path above is in it."""
    if run == "detect":
        told = {**told, "contrast": told["detector"], "left_out": ["cat"]}
        told["detector"] = {**told["detector"], "notes": ["a note"]}
        told["contrast"] = {**told["contrast"], "notes": ["a note"]}
    if run == "adapt":
        told["notes"] = ["a note"]
    return told


def _config(run: str, changes: dict[str, Any], command: Sequence[str] = REPORT) -> Prepare:
    return with_edit(_laid(run), "config.yaml", settings(changes), command)


CONFIGS: dict[str, dict[str, dict[str, Any]]] = {
    "adapt": {
        "no source": {"source": DROP},
        "source is a number": {"source": 3},
        "source is a list": {"source": ["shapes:photo"]},
        "source of nobody": {"source": "shapes:nothing"},
        "source with escapes": {"source": "shapes:\x1b[2J"},
        "source is a huge texture": {"source": "shapes:photo:12?texture=1e999999999&side=64"},
        "source is a huge set": {"source": "shapes:photo:99999999999?side=64"},
        "target is null": {"target": None},
        "detector is null": {"detector": None},
        "detector of nobody": {"detector": "huge_ssd"},
        "seeds are many": {"seeds": -3},
        "seeds are a text": {"seeds": "three"},
        "recipe is a text": {"recipe": "source"},
        "recipe of nobody": {"recipe": ["source", "../../x"]},
        "judge_eps is NaN": {"judge_eps": NAN},
        "judge_eps is negative": {"judge_eps": -1},
        "threshold is infinite": {"threshold": OVERFLOW},
        "steps are huge": {"steps": 10**60},
        "no device": {"device": DROP},
        "device is a list": {"device": []},
        "an unknown key": {EXTRA: {"a": [1]}},
    },
    "detect": {
        "no model": {"model": DROP},
        "model is empty": {"model": ""},
        "model is a list": {"model": []},
        "data is null": {"data": None},
        "attack_steps are a text": {"attack_steps": "ten"},
        "attack_steps are negative": {"attack_steps": -1},
        "attack_loss of nobody": {"attack_loss": "x"},
        "eps is a text": {"eps": "0.1"},
        "eps is NaN": {"eps": [NAN]},
        "sure is infinite": {"sure": OVERFLOW},
        "seed is negative": {"seed": -1},
        "an unknown key": {EXTRA: {"a": [1]}},
    },
}
# What no drawing needs is not looked at.
HARMLESS = {
    *(("adapt", "threshold is infinite"), ("adapt", "steps are huge")),
    *(("adapt", "no source"), ("adapt", "detector of nobody")),
}


def _measured(edit: Edit, *flags: str) -> Prepare:
    def prepare(place: Place) -> Sequence[str]:
        warm("bench")
        place.write("b.json", spelt(edit(_bench())))
        place.write("old.json", BENCH.read_bytes())
        return ["bench", "--measured", "b.json", *flags]

    return prepare


def _bench_arguments() -> Iterator[Case]:
    """Arguments of `bench` that name nothing, or something that is not theirs."""

    def given(*flags: str) -> Prepare:
        def prepare(place: Place) -> Sequence[str]:
            warm("bench")
            place.write("b.json", spelt(_bench()))
            place.write("taken.md", "mine\n")
            place.write("taken.json", "{}")
            (place.here / "folder").mkdir()
            (place.here / "link.json").symlink_to(place.outside / "precious.txt")
            return ["bench", *flags]

        return prepare

    for name, flags in {
        "no such suite": ("speed",),
        "an empty suite": ("",),
        "a suite of controls": ("\x1b[31m",),
        "a long suite": ("x" * 100_000,),
        "a GPU that is none": ("gpu", "--device", "gpu"),
        "a GPU of nobody": ("gpu", "--device", "cuda:99"),
        "out is a folder": ("penalty", "--out", "folder"),
        "out in no folder": ("penalty", "--out", "missing/b.json"),
        "out is no results": ("penalty", "--out", "taken.json"),
        "out is a link": ("penalty", "--out", "link.json"),
        "out is empty": ("penalty", "--out", ""),
        "out is a null byte": ("penalty", "--out", "\0"),
        "out is a device": ("penalty", "--out", "/dev/null"),
        "measured is a folder": ("--measured", "folder"),
        "measured is missing": ("--measured", "missing.json"),
        "measured is a device": ("--measured", "/dev/zero"),
        "measured is a link to text": ("--measured", "link.json"),
        "measured is no results": ("--measured", "taken.json"),
        "compared is missing": ("--measured", "b.json", "--compare", "missing.json"),
        "compared is no results": ("--measured", "b.json", "--compare", "taken.json"),
        "compared is a device": ("--measured", "b.json", "--compare", "/dev/zero"),
        "page is a folder": ("--measured", "b.json", "--page", "folder"),
        "page in no folder": ("--measured", "b.json", "--page", "missing/p.md"),
        "measured and a suite": ("penalty", "--measured", "b.json"),
        "no such option": ("--mesured", "b.json"),
    }.items():
        ends = (0, 1, 2) if name in ("measured and a suite",) else (2,)
        yield Case(f"bench/arguments/{name}", given(*flags), ends=ends)


def _bench_text(content: str | bytes) -> Prepare:
    def prepare(place: Place) -> Sequence[str]:
        place.write("b.json", content)
        return ["bench", "--measured", "b.json"]

    return prepare


def _bench_pipe(place: Place) -> Sequence[str]:
    os.mkfifo(place.here / "b.json")
    return ["bench", "--measured", "b.json"]


def _report_drawn(place: Place, ending: Ending) -> str | None:
    drawn = place.here / "sent" / "report.html"
    return None if ending.code or drawn.stat().st_size > 1000 else "no report.html was drawn"


def cases() -> Iterator[Case]:
    """Summaries, settings, results of benchmarks."""
    for run, told in SUMMARIES.items():
        for name, edit in edits(told, 120):
            yield Case(f"report/{run}/{name}", _summary(run, edit), EITHER, after=_report_drawn)
        drawn = (0,) if run != "shift" else REFUSED
        yield Case(f"report/{run}/an unknown key", _summary(run, EDITS["extra"]), drawn)
    for run, configs in CONFIGS.items():
        for name, changes in configs.items():
            fine = name == "an unknown key"
            ends = EITHER if (run, name) in HARMLESS else (0,) if fine else REFUSED
            yield Case(f"report/{run}/settings/{name}", _config(run, changes), ends)
            if run == "adapt":
                prepare = _config(run, changes, (run, "--resume", "sent"))
                yield Case(f"resume/{run}/settings/{name}", prepare, EITHER)
    few = {name: _bench()["suites"][name] for name in ("penalty", "robust", "scaling")}
    for number, (name, edit) in enumerate(edits({**_bench(), "suites": few}, 120)):
        flags = ("--compare", "old.json") if number % 2 else ("--page", "page.md")
        yield Case(f"bench/edit/{name}", _measured(edit, *flags), ends=(0, 1, 2))
    yield from _bench_arguments()
    yield Case("bench/an unknown key", _measured(EDITS["extra"]), ends=(0, 1))
    files = {
        **BROKEN,
        "format is a list": '{"format": [], "suites": {}}',
        "format is huge": '{"format": ' + "9" * 4000 + ', "suites": {}}',
        "suites are a list": '{"format": 1, "machine": {}, "versions": {}, "suites": []}',
    }
    for name, content in files.items():
        yield Case(f"bench/file/{name}", _bench_text(content))
    yield Case("bench/file/a pipe", _bench_pipe)
