"""What a long command says while it works, elsewhere than on a terminal."""

import itertools

import pytest

from ingest_worker.progress import Progress


def test_elsewhere_than_on_a_terminal_there_is_a_plain_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = itertools.count(0, 6)
    monkeypatch.setattr("ingest_worker.progress.time.monotonic", lambda: next(seconds))
    with Progress("recounting", total=5_000) as shown:
        shown.advance(1_000)
        shown.advance(1_000)
        shown.say("waiting")
    assert capsys.readouterr().err == "recounting: 2,000 of about 5,000\nwaiting\n"


def test_on_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Progress("recounting", total=0) as shown:
        shown.advance(3)
        shown.say("[waiting]")
    output = capsys.readouterr()
    assert output.out == ""
    assert "recounting" in output.err
    assert "[waiting]" in output.err
