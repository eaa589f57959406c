"""A report's drawings as files of their own."""

from __future__ import annotations

from xml.etree import ElementTree

from matplotlib.figure import Figure

from robustkit.report import drawings, svg


def drawing(alt: str) -> str:
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot([0, 1], [0, 1], color="#000000")
    return str(svg(figure, alt=alt))


def test_every_drawing_is_found_under_its_sections_name_and_stands_alone() -> None:
    page = (
        f'<section id="front"><p>text</p>{drawing("one")}</section>'
        f'<section id="none"><img src="data:image/png;base64,AA=="></section>'
        f'<section id="genes">{drawing("two")}{drawing("three")}</section>'
    )
    found = drawings(page)
    assert list(found) == ["front", "genes", "genes-2"]
    for text, alt in zip(found.values(), ("one", "two", "three"), strict=True):
        root = ElementTree.fromstring(text)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert root.attrib["aria-label"] == alt
        assert "var(" not in text
