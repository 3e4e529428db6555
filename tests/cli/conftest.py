"""The command line, called as a user calls it."""

from __future__ import annotations

import sys

import pytest

from hasa_opt import cli


class Ran:
    """Outcome of one call of the command."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def call(*arguments: object, columns: int = 140) -> Ran:
        monkeypatch.setattr(sys, "argv", ["hasa-opt", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", str(columns))
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        else:
            code = 0
        shown = capsys.readouterr()
        return Ran(code, shown.out, shown.err)

    return call
