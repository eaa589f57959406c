"""Quality of the surrogate: computed as defined, and the card says what its table says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evolution.benchmark.quality import (
    ELIGIBLE,
    END,
    START,
    Comparison,
    chosen_regressor,
    computed,
    fidelity,
    held_out_quality,
    main,
    write_card,
)
from evolution.benchmark.regression import REGRESSORS
from evolution.benchmark.surrogate import Column, Surrogate, columns_of, measured
from evolution.benchmark.table import Table, load_table, save_table, table_path
from evolution.genotype import Genotype
from robustkit.errors import RunError
from tests.evolution.benchmark.synthetic import synthetic_table

ACCURACY = Column("accuracy", None, 4)


def slow_tau(first: list[float], second: list[float]) -> float:
    """Kendall's τ-b by its definition."""
    pairs = [(i, j) for i in range(len(first)) for j in range(i)]
    signs = [(np.sign(first[i] - first[j]), np.sign(second[i] - second[j])) for i, j in pairs]
    agreed = sum(a * b for a, b in signs)
    return float(agreed / np.sqrt(sum(a != 0 for a, _ in signs) * sum(b != 0 for _, b in signs)))


def test_intervals_cover_held_out_trainings_about_as_often_as_they_say() -> None:
    [quality] = held_out_quality(synthetic_table(), [ACCURACY])
    assert quality.n == 150
    assert 0.4 < quality.covered[0] < 0.68
    assert quality.covered[1] > 0.85
    assert 0.3 < quality.tau < 1
    assert quality.r2 < 1
    [good] = held_out_quality(synthetic_table(), [ACCURACY], good=True)
    assert good.n == 75


def test_parents_and_offspring_of_what_is_held_out_are_not_fitted_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = synthetic_table(60)
    bred = {number: (number // 2, number // 3) for number in range(40, 60)}
    records = [replace(each, parents=bred.get(each.number, ())) for each in table.records]
    fitted: list[set[int]] = []
    held_out: list[set[int]] = []

    class Spy(Surrogate):
        def __init__(self, table: Table, **options: Any) -> None:
            fitted.append({each.number for each in table.records})
            super().__init__(table, **options)

        def means(self, genotypes: Sequence[Genotype]) -> Any:
            numbers = {each.genotype.key(): each.number for each in records}
            held_out.append({numbers[each.key()] for each in genotypes})
            return super().means(genotypes)

    monkeypatch.setattr("evolution.benchmark.quality.Surrogate", Spy)
    held_out_quality(Table(table.setting, tuple(records)), [ACCURACY])
    assert set().union(*held_out) == set(range(60))
    for rest, out in zip(fitted, held_out, strict=True):
        kin = {n for n in bred if set(bred[n]) & out} | {p for n in out for p in bred.get(n, ())}
        assert rest == set(range(60)) - out - kin


def test_fidelity_is_kendalls_tau_by_its_definition() -> None:
    table = synthetic_table(60)
    columns = columns_of(table.setting)
    rows = np.stack([measured(record, table.setting)[0] for record in table.records])
    found = dict(fidelity(table))
    assert set(found) == {
        Column(name, reference, epochs)
        for name, references in (("accuracy", (None,)), ("transfer", (0, 1, 2)))
        for reference in references
        for epochs in (1, 2)
    }
    for early in (Column("transfer", 1, 1), Column("accuracy", None, 2)):
        late = early._replace(epochs=4)
        pair = [list(rows[:, columns.index(each)]) for each in (early, late)]
        assert found[early] == pytest.approx(slow_tau(*pair))


def test_the_rule_prefers_the_simplest_that_is_not_behind() -> None:
    def taus(**ahead: float) -> list[Comparison]:
        noise = (0.5, 0.52, 0.48, 0.51)
        return [
            Comparison(name, tuple(tau + ahead.get(name.split()[0], 0.0) for tau in noise))
            for name in REGRESSORS
        ]

    assert chosen_regressor(taus()) == ELIGIBLE[0]
    assert chosen_regressor(taus(extra=0.01)) == "extra trees"
    assert chosen_regressor(taus(extra=0.01, boosted=0.2)) == "extra trees"
    assert chosen_regressor(taus(extra=0.01, random=0.01)) == "random forest"
    even = taus(extra=0.01)
    even[0] = Comparison("ridge", (0.55, 0.47, 0.53, 0.50))
    assert chosen_regressor(even) == "ridge"


def test_a_card_keeps_what_is_around_the_figures(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text(f"before\n{START}\nold\n{END}\nafter\n")
    write_card(card, "new")
    assert card.read_text() == f"before\n{START}\n\nnew\n\n{END}\nafter\n"
    card.write_text("nothing")
    with pytest.raises(RunError, match="no place for the figures"):
        write_card(card, "new")


@pytest.mark.slow
def test_the_command_writes_the_card_of_a_table(tmp_path: Path) -> None:
    save_table(synthetic_table(60), tmp_path / "table.jsonl")
    card = tmp_path / "README.md"
    card.write_text(f"{START}{END}")
    assert main([str(tmp_path / "table.jsonl"), "--card", str(card)]) == 0
    text = card.read_text()
    assert "60 networks, 6 of them trained several times: 72 trainings" in text
    shown: list[str] = []
    assert main([str(tmp_path / "table.jsonl")], shown.append) == 0
    assert shown[0] in text


CARD = Path(str(table_path())).parent / "README.md"


@pytest.mark.slow
def test_the_card_says_what_follows_from_the_table_of_the_package() -> None:
    computed_part = CARD.read_text().partition(START)[2].partition(END)[0].strip()
    if not table_path().exists():
        assert "not yet part of the package" in computed_part
        return
    table = load_table()
    assert len(table.records) >= 200
    assert table_path().stat().st_size <= 3e6
    assert computed_part == computed(table)
