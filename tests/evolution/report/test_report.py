from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from evolution.report import write_report
from robustkit.errors import RunError
from robustkit.runs import Ledger, RunFolder
from tests.evolution.report.simulated_run import RATES, make_run, net, without_control

SECTIONS = ["result", "comparison", "checks", "gallery", "history", "front", "graph", "family"]
SECTIONS += ["genes", "selection", "training", "outcomes", "reading", "settings", "again"]
VOID = {"meta", "img", "br", "link", "path", "rect", "polygon", "use", "circle", "stop"}


class Page(HTMLParser):
    """What a page consists of; fails on tags that do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.sections: list[str] = []
        self.tips: list[str] = []
        self.sources: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        if tag == "section":
            self.sections.append(named["id"])
        if "id" in named:
            self.ids.append(named["id"])
        if "data-tip" in named:
            assert named["tabindex"] == "0"
            self.tips.append(named["data-tip"])
        self.sources += [named[each] for each in ("src", "href", "xlink:href") if each in named]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data.replace("\N{NO-BREAK SPACE}", " ")


def drawn(folder: RunFolder) -> Page:
    return Page(write_report(folder).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def page(folder: RunFolder) -> Page:
    return drawn(folder)


def test_all_sections_are_there_and_ids_are_unique(page: Page) -> None:
    assert page.sections == SECTIONS
    assert len(set(page.ids)) == len(page.ids)


def test_nothing_is_fetched_from_anywhere(page: Page) -> None:
    assert all(source.startswith(("#", "data:image/png;base64,")) for source in page.sources)


def test_every_network_tells_its_architecture_and_numbers_when_pointed_at(
    folder: RunFolder, page: Page
) -> None:
    with Ledger.open(folder.file("ledger.sqlite")) as ledger:
        trials = [t for t in ledger.trials() if t.stage in ("evolve", "random") and t.result]
    names = {"evolve": "evolution", "random": "random search"}
    for trial in trials:
        result = trial.result or {}
        number = trial.payload["number"]
        told = [
            tip
            for tip in page.tips
            if re.match(rf"({names[trial.stage]}) {number}\b", tip) and "head: " in tip
        ]
        assert len(told) == 1
        assert f"{result['params']:,} parameters" in told[0]
        assert f"{100 * result['accuracy']:.1f}" in told[0]
        assert f"n = {result['transfer_n']}" in told[0]


def test_every_interval_of_the_chart_is_told_with_its_n(page: Page) -> None:
    told = "\n".join(page.tips).replace("\N{NO-BREAK SPACE}", " ")
    for name in ("R2", "R′", "E", "E0", "RS"):
        for kind, n in (("headline", 300), ("fooling", 290), ("all", 400)):
            assert re.search(rf"{name}, from R\n{kind}: \S+ % \[\S+ \S+\], n = {n}", told)


def test_the_family_names_parents_and_operators(folder: RunFolder, page: Page) -> None:
    with Ledger.open(folder.file("ledger.sqlite")) as ledger:
        winner = ledger.get("evolve/0011")
    assert winner is not None
    parents = " and ".join(map(str, winner.payload["parents"]))
    operator = winner.payload["operator"]
    assert any(
        tip.startswith(f"candidate 11 = E, by {operator} from {parents}") for tip in page.tips
    )


def test_failures_are_told_with_their_reasons_and_escaped(folder: RunFolder, page: Page) -> None:
    assert page.text.count("the loss is <NaN> in epoch 2") == 2
    assert "<NaN>" not in folder.file("report.html").read_text(encoding="utf-8")


def test_the_command_is_told_as_a_shell_takes_it(page: Page) -> None:
    assert "robustkit evolve --data cifar10 --out 'a folder'" in page.text


def test_the_same_folder_gives_the_same_page(folder: RunFolder, page: Page) -> None:
    before = folder.file("report.html").read_bytes()
    assert write_report(folder).read_bytes() == before


def nothing_common() -> dict[str, Any]:
    gap = {"points": None, "low": None, "high": None, "p_value": None, "n": 0}
    nets = {"R": net("R", 1, None)} | {name: net(name, 1, None) for name in RATES}
    return {"gap": gap, "search_gap": gap, "nets": nets, "common_images": 0}


def test_a_run_without_common_images_or_gallery_is_reported(tmp_path: Path) -> None:
    folder = make_run(
        tmp_path / "run",
        population=2,
        generations=1,
        channels=1,
        seeds=1,
        failures=0,
        shown=0,
        winner=0,
        summary=nothing_common(),
    )
    page = drawn(folder)
    assert page.sections == SECTIONS
    assert "there is no gap." in page.text
    assert "None: every trial succeeded." in page.text
    assert "it has no parents" in page.text
    assert "Too few different networks" in page.text
    assert not re.search(r"\b(nan|None|inf) ?%", page.text)


def test_a_run_without_its_control_says_so_first_and_nowhere_speaks_of_it(tmp_path: Path) -> None:
    page = drawn(make_run(tmp_path / "run", summary=without_control()))
    assert page.sections == SECTIONS
    told = page.text.index("R2 and R′ are left out: nets.py:make gives the same weights")
    assert told < page.text.index("gap to E0, points")
    assert "cannot be tested; what remains is E against E0 and RS" in page.text
    assert "68.0 % [63.8, 71.9], n = 500; published: 70.0% on CIFAR. Taken as trained." in page.text
    assert "(67.0 % here, R's own accuracy minus the tolerance)" in page.text
    assert "R2 at trial budget" not in page.text
    assert not any(tip.startswith(("R2", "R′")) for tip in page.tips)
    assert "gradient of E0" in page.text
    assert not re.search(r"\b(nan|None|inf) ?%", page.text)


def test_what_speaks_against_the_run_stands_first(tmp_path: Path) -> None:
    page = drawn(make_run(tmp_path / "run", summary={"warnings": ["R is at chance"]}))
    assert page.text.index("Warning: R is at chance.") < page.text.index("gap, points")


def test_many_failures_are_folded_and_wide_families_drawn(tmp_path: Path) -> None:
    page = drawn(make_run(tmp_path / "run", population=14, failures=14, seeds=1))
    assert "14 failures" in page.text
    assert page.sections == SECTIONS


def test_grey_images_make_grey_pictures(tmp_path: Path) -> None:
    page = drawn(make_run(tmp_path / "run", population=2, failures=0, channels=1, shown=1))
    assert sum(source.startswith("data:") for source in page.sources) == 6


def test_an_unfinished_run_has_no_report(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    folder.file("summary.json").unlink()
    with pytest.raises(RunError, match=r"not finished, .* --resume"):
        write_report(folder)
    assert not folder.file("report.html").exists()


def test_a_missing_gallery_is_named(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    folder.file("gallery.safetensors").unlink()
    with pytest.raises(RunError, match=r"gallery\.safetensors: No such file"):
        write_report(folder)
