import io

from robustkit.runs.progress import LiveProgress, PlainProgress, open_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_plain_lines_and_a_terminal_a_live_one() -> None:
    assert isinstance(open_progress(io.StringIO()), PlainProgress)
    assert isinstance(open_progress(Terminal()), LiveProgress)


def test_a_log_gets_a_line_now_and_then_and_at_the_end() -> None:
    stream, now = io.StringIO(), [0.0]
    with PlainProgress(stream, clock=lambda: now[0]) as progress:
        progress.phase("search", 40)
        for done in range(1, 41):
            now[0] = done
            progress.update(done, f"best {done}")
        progress.note("done")
    assert stream.getvalue().splitlines() == [
        "search: 40 to do",
        "search: 10/40, best 10, 10 s, about 30 s left",
        "search: 20/40, best 20, 20 s, about 20 s left",
        "search: 30/40, best 30, 30 s, about 10 s left",
        "search: 40/40, best 40, 40 s",
        "done",
    ]


def test_a_phase_that_has_not_moved_promises_nothing() -> None:
    stream, now = io.StringIO(), [0.0]
    progress = PlainProgress(stream, clock=lambda: now[0])
    progress.phase("search", 3)
    now[0] = 60.0
    progress.update(0)
    assert stream.getvalue().splitlines()[-1] == "search: 0/3, 60 s"


def test_a_terminal_shows_phases_facts_and_notes() -> None:
    stream = Terminal()
    with LiveProgress(stream) as progress:
        progress.phase("search", 2)
        progress.update(2, "[best]")
        progress.note("kept [as it is]")
        progress.phase("compare", 3)
    shown = stream.getvalue()
    for text in ("search", "2/2", "[best]", "kept [as it is]", "compare", "0/3"):
        assert text in shown
