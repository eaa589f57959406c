"""The table of the benchmark: what is written is read again, and what was edited is one line."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evolution.benchmark.collect import NETWORKS, wave
from evolution.benchmark.measure import CLASSES, INPUT_SHAPE, RUNGS, SPACE, Measurement, Rung
from evolution.benchmark.table import Table, load_table, record_of, save_table, setting_of
from robustkit.errors import RunError


def measured(rng: random.Random) -> Measurement:
    share = rng.random()
    rungs = [
        Rung(
            epochs=epochs,
            accuracy=share,
            loss=1.25,
            transfer=[0.5, share, 0.125],
            transfer_n=[700, 650, 600],
            unseen=[] if epochs < RUNGS[-1] else [0.25, 0.5, share],
            cosine=[-0.25, 0.5, 0.125],
            cosine_abs=[0.25, 0.5, 0.125],
            norm=0.5,
            seconds=1.5 * epochs,
        )
        for epochs in RUNGS
    ]
    return Measurement(params=1000, macs=100_000, rungs=rungs)


@pytest.fixture(scope="module")
def table() -> Table:
    rng = random.Random(0)
    networks = list(wave(0, []))[:12]
    records = [
        record_of(each.number, each.origin, (), each.genotype, [measured(rng), None])
        for each in networks
    ]
    return Table(setting_of(10.0), tuple(records))


def test_what_is_written_is_read_again(table: Table, tmp_path: Path) -> None:
    save_table(table, tmp_path / "first.jsonl")
    again = load_table(tmp_path / "first.jsonl")
    assert again.setting == table.setting
    for record, written in zip(again.records, table.records, strict=True):
        assert record.genotype == written.genotype
        assert record.trainings[1] is None
        assert record.trainings[0] is not None
        assert written.trainings[0] is not None
        for rung, exact in zip(record.trainings[0], written.trainings[0], strict=True):
            assert rung.accuracy == pytest.approx(exact.accuracy, rel=1e-3)
            assert rung.transfer_n == exact.transfer_n
    save_table(again, tmp_path / "second.jsonl")
    assert (tmp_path / "first.jsonl").read_bytes() == (tmp_path / "second.jsonl").read_bytes()


def _changed(**entries: object) -> Callable[[dict[str, Any]], object]:
    return lambda line: {**line, **entries}


@pytest.mark.parametrize(
    ("number", "edit", "said"),
    [
        (0, _changed(format=2), "a benchmark of format 2; this robustkit reads 1"),
        (0, lambda line: [], "a benchmark of format None"),
        (0, _changed(epochs=[1, 2]), "measured after other epochs than"),
        (1, _changed(macs=-1), "macs"),
        (1, _changed(trainings=[[[1, 2.0, 1, [], [], [], [], [], 1, 1]]]), "line 2: .*<= 1.0"),
        (1, _changed(blocks=[{"kind": "x"}]), "unknown kind 'x'"),
        (1, _changed(blocks=[{"channels": 4096}]), "outside the benchmark's space"),
        (1, _changed(blocks=[]), "at least one block is needed"),
        (1, lambda line: "x", "line 2"),
    ],
)
def test_an_edited_table_is_one_line(
    number: int, edit: Callable[[Any], object], said: str, table: Table, tmp_path: Path
) -> None:
    path = tmp_path / "table.jsonl"
    save_table(table, path)
    lines = path.read_text().splitlines()
    lines[number] = json.dumps(edit(json.loads(lines[number])))
    path.write_text("\n".join(lines))
    with pytest.raises(RunError, match=said) as caught:
        load_table(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_one_network_is_there_once(table: Table, tmp_path: Path) -> None:
    path = tmp_path / "table.jsonl"
    save_table(table, path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[3]]))
    with pytest.raises(RunError, match=r"line 14: the same network as line 4"):
        load_table(path)


def test_a_file_that_is_cut_is_one_line(table: Table, tmp_path: Path) -> None:
    path = tmp_path / "table.jsonl"
    save_table(table, path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(RunError, match="line 13: not JSON"):
        load_table(path)


def test_waves_are_new_networks_of_the_space_and_depend_on_results_alone() -> None:
    rng = random.Random(1)
    first = list(wave(0, []))
    known = [(network, measured(rng) if network.number else None) for network in first]
    second, again = list(wave(len(first), known)), list(wave(len(first), known))
    assert second == again
    everything = [*first, *second]
    assert [each.number for each in everything] == list(range(len(everything)))
    assert len({each.genotype.key() for each in everything}) == len(everything)
    assert all(SPACE.fits(each.genotype, INPUT_SHAPE, CLASSES) for each in everything)
    assert {each.origin for each in second} == {"bred", "sample", "walk"}
    assert {len(each.parents) for each in second if each.origin == "bred"} == {1, 2}
    assert not any(each.parents for each in everything if each.origin != "bred")
    assert not any(0 in each.parents for each in second)  # its training failed
    assert list(wave(NETWORKS, known)) == []
