from html.parser import HTMLParser

import pytest
from markupsafe import Markup

from robustkit.report import Section, render_report

VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """Collects ids and links, and checks that every element is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name == "href":
                self.links.append(value or "")
            if name == "src":
                self.sources.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def render(*sections: Section, title: str = "T") -> str:
    env = {"cpu": "A & B", "versions": {"torch": "2.14"}, "commit": None, "command": ["old"]}
    return render_report(
        title, sections, subtitle="<sub>", env=env, command=["robustkit", "evolve", "--out", "a b"]
    )


def test_contents_link_to_every_section() -> None:
    page = Page(render(Section("one", "One", Markup("<p>1</p>")), Section("two", "Two", Markup())))
    assert page.links == ["#one", "#two", "#again"]
    assert len(set(page.ids)) == len(page.ids)
    assert {"one", "two", "again"} <= set(page.ids)


def test_everything_but_the_sections_html_is_escaped() -> None:
    html = render(Section("a", "<i>", Markup("<b>bold</b>"), note="<u>"), title="<script>x")
    assert "<b>bold</b>" in html
    for raw in ("<i>", "<u>", "<sub>", "<script>x"):
        assert raw not in html
        assert raw in Page(html).text


def test_the_command_and_the_environment_are_there() -> None:
    text = Page(render()).text
    for expected in ("robustkit evolve --out 'a b'", "A & B", "torch", "2.14"):
        assert expected in text
    assert "commit" not in text
    assert "None" not in text


def test_the_page_needs_no_network() -> None:
    html = render(Section("a", "A", Markup('<img src="data:image/png;base64,x" alt="">')))
    page = Page(html)
    assert all(link.startswith("#") for link in page.links)
    assert all(source.startswith("data:") for source in page.sources)
    assert "http://" not in html
    assert "https://" not in html
    assert "default-src 'none'" in html


@pytest.mark.parametrize("ids", [["a", "a"], ["again"]])
def test_a_repeated_id_is_a_bug(ids: list[str]) -> None:
    with pytest.raises(ValueError, match="sections need ids of their own"):
        render(*(Section(name, "T", Markup()) for name in ids))
