from __future__ import annotations

from io import StringIO

import pytest

from txsse.cli.terminal import WIDTH, Terminal, printable


class Tty(StringIO):
    def isatty(self) -> bool:
        return True


def everything(terminal: Terminal) -> None:
    terminal.dim("quiet", 1.5)
    terminal.spin("waiting")
    terminal.flow("Good", 2.0)
    terminal.flow(" morning", 2.25)
    terminal.error("bad")


def test_a_pipe_gets_plain_lines() -> None:
    out = StringIO()
    everything(Terminal(out, {}))
    assert out.getvalue() == "   1.500  quiet\n   2.000  Good morning\nbad\n"


def test_a_tty_gets_colour_and_a_spinner_that_gives_way() -> None:
    out = Tty()
    everything(Terminal(out, {}))
    spinner = "\r\x1b[K\x1b[2m| waiting\x1b[0m\r\x1b[K"
    assert out.getvalue() == f"   1.500  \x1b[2mquiet\x1b[0m\n{spinner}   2.000  Good morning\n\x1b[31mbad\x1b[0m\n"


def test_no_color_leaves_the_colour_out_and_a_dumb_terminal_the_spinner_too() -> None:
    for environment, spins in (({"NO_COLOR": "1"}, True), ({"TERM": "dumb"}, False)):
        out = Tty()
        everything(Terminal(out, environment))
        assert "\x1b[2m" not in out.getvalue()
        assert ("waiting" in out.getvalue()) is spins


def test_a_flow_goes_on_in_a_new_line_with_its_time_where_the_line_is_full() -> None:
    out = StringIO()
    terminal = Terminal(out, {})
    for index in range(30):
        terminal.flow(" word" if index else "word", float(index))
    terminal.close()
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("   0.000  word word")
    assert lines[1].startswith("  18.000  word word")
    assert max(map(len, lines)) <= WIDTH
    assert out.getvalue().endswith("word\n")


@pytest.mark.parametrize(("text", "shown"), [("plain é\t", "plain é\t"), ("\x1b[2Jgone\r", "\ufffd[2Jgone\ufffd")])
def test_control_characters_do_not_reach_the_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown
