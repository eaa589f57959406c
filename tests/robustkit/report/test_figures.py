import base64
import io
import re
import subprocess
import sys
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from robustkit.report import PALETTE, chart, figure, image, image_uri, svg


def draw(title: str = "a < b") -> Figure:
    drawn = Figure(figsize=(2, 2))
    axes = drawn.subplots()
    axes.scatter([1], [2]).set_gid("trial-1")
    axes.set_title(title)
    return drawn


def test_a_figure_is_well_formed_and_its_text_is_text() -> None:
    drawn = svg(draw(), alt="one & a point")
    root = ElementTree.fromstring(drawn)
    assert root.attrib["aria-label"] == "one & a point"
    assert "a < b" in "".join(root.itertext())


def test_a_figure_is_the_same_every_time_and_has_no_date() -> None:
    assert svg(draw(), alt="") == svg(draw(), alt="")
    assert not re.search(r"20\d\d-\d\d-\d\d", svg(draw(), alt=""))


def test_ids_of_two_figures_differ_and_references_are_kept() -> None:
    one, two = svg(draw("one"), alt=""), svg(draw("two"), alt="")
    ids = [set(re.findall(r'\bid="([^"]+)"', drawn)) for drawn in (one, two)]
    assert ids[0].isdisjoint(ids[1])
    for drawn, own in zip((one, two), ids, strict=True):
        used = set(re.findall(r'(?:url\(|href=")#([^")]+)', drawn))
        assert used
        assert used <= own


def test_colours_follow_the_page() -> None:
    drawn = svg(draw(), alt="")
    assert "#000000" not in drawn
    assert "currentColor" in drawn


def test_tips_are_attached_to_their_artists() -> None:
    root = ElementTree.fromstring(svg(draw(), alt="", tips={"trial-1": 'net "<7>"\nsilu'}))
    (mark,) = [element for element in root.iter() if "data-tip" in element.attrib]
    assert mark.attrib["data-tip"] == 'net "<7>"\nsilu'
    assert mark.attrib["id"].endswith("trial-1")
    assert mark.attrib["tabindex"] == "0"


def test_a_tip_without_an_artist_is_a_bug() -> None:
    with pytest.raises(ValueError, match="no artist of the figure has the gid 'trial-2'"):
        svg(draw(), alt="", tips={"trial-2": "x"})


def test_the_chart_is_left_again() -> None:
    before = dict(mpl.rcParams)
    with chart(3, 2):
        assert mpl.rcParams["axes.prop_cycle"].by_key()["color"] == list(PALETTE)
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 1), (4, 3, 3)])
def test_an_image_keeps_every_pixel(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    uri = image_uri(pixels, scale=5)
    head, data = uri.split(",")
    assert head == "data:image/png;base64"
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert shown.shape[:2] == (20, 15)
    for row in range(20):
        for column in range(15):
            assert np.array_equal(shown[row, column], np.squeeze(pixels[row // 5, column // 5]))


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((4, 4), np.float32), np.zeros((3, 4, 4), np.uint8), np.zeros(4, np.uint8)],
)
def test_what_is_no_image_is_a_bug(
    pixels: np.ndarray[tuple[int, ...], np.dtype[np.generic]],
) -> None:
    with pytest.raises(ValueError, match="an image is uint8"):
        image_uri(pixels)


def test_captions_and_descriptions_are_escaped() -> None:
    html = figure(image(np.zeros((2, 2), np.uint8), alt='"7" < 8'), caption="<c>")
    assert 'alt="&#34;7&#34; &lt; 8"' in html
    assert "&lt;c&gt;" in html
    assert "figcaption" not in figure(Markup())


def test_importing_the_report_imports_neither_torch_nor_matplotlib() -> None:
    code = "import robustkit.report, sys; print({'torch', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
