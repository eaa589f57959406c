import re

import pytest
from markupsafe import Markup

from robustkit.report import Cell, cards, duration, number, percent, table


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (93412, "93,412"),
        (0.123456, "0.1235"),
        (True, "yes"),
        (False, "no"),
        ("a", "a"),
    ],
)
def test_numbers_for_readers(value: Cell, shown: str) -> None:
    assert number(value) == shown


def test_a_rate_comes_with_its_interval_and_n() -> None:
    assert percent(0.615, 0.5, 0.75, 1290) == "61.5 % <small>[50.0, 75.0], n = 1,290</small>"
    assert percent(0.0, n=3) == "0.0 % <small>n = 3</small>"
    assert percent(1.0) == "100.0 %"
    assert percent(None) == "–"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (200.4, "3 min 20 s"),
        (3599.6, "1 h 00 min"),
        (3900, "1 h 05 min"),
    ],
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_cells_are_escaped_and_markup_is_not() -> None:
    html = table(["<net>", "x"], [["<R>", Markup("<b>1</b>")]], caption="<c>")
    assert "<b>1</b>" in html
    for raw in ("<net>", "<R>", "<c>"):
        assert raw not in html


def test_columns_of_numbers_are_aligned_as_such() -> None:
    rows: list[list[Cell]] = [
        ["R", 1, None, "1.5 [1, 2]", "3 nets", None],
        ["E", None, 0.5, percent(0.1), "no", None],
    ]
    html = table(["net", "a", "b", "c", "d", "e"], rows)
    head = re.findall(r'<th scope="col" class="(\w+)">', html)
    assert head == ["text", "number", "number", "number", "text", "text"]


def test_rows_that_stand_out_are_marked() -> None:
    html = table(["", ""], [["a", 1], ["b", 2]], strong=[1])
    assert re.findall(r'<tr class="(\w*)">', html) == ["", "strong"]
    assert "<thead>" not in html


def test_a_row_of_another_length_is_a_bug() -> None:
    with pytest.raises(ValueError, match="a row of 1 cells under 2 headers"):
        table(["a", "b"], [["x"]])


def test_cards_show_label_value_and_detail() -> None:
    html = cards([("Trials", 1040, "<40> cached")])
    assert "<dt>Trials</dt><dd>1,040</dd><p>&lt;40&gt; cached</p>" in html
