"""Options on the command line: a file of them, budgets by resource, and what they are worth."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import hasa_opt as hasa

CLIENTS = """name,samples,device,count:cat,count:dog
phone,100,small,90,10
camera,100,small,10,90
laptop,100,large,50,50
"""
OPTIONS = """device,option,width,epochs,per_sample:kflops,per_client:kilobytes
small,skip,0,0,0,0
small,half,0.5,1,25,300
large,skip,0,0,0,0
large,half,0.5,1,25,300
large,wide,1,1,100,1200
"""
WORTH = """name,wide,half,skip
laptop,3,2.5,0
phone,,3,0
camera,,2.6,0
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in (("c.csv", CLIENTS), ("o.csv", OPTIONS), ("u.csv", WORTH)):
        Path(name).write_text(text, encoding="utf-8")
    return tmp_path


def allocate(run, *more: object) -> dict:
    ran = run("allocate", "c.csv", "--options", "o.csv", *more, "--json")
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


def test_a_file_of_options_gives_what_the_api_gives(run, files: Path) -> None:
    shown = allocate(
        run, "--utilities", "u.csv", "--full", "half", "--budget", "kflops=0.75",
        "--limit", "kilobytes=600",
    )  # fmt: skip
    clients = hasa.Clients.read_csv("c.csv")
    problem = hasa.AllocationProblem.build(
        clients,
        menu=hasa.Menu.read_csv("o.csv", clients, full="half"),
        budget={"kflops": 0.75},
        utility=hasa.utility.measured([[0, 3, np.nan], [0, 2.6, np.nan], [0, 2.5, 3]]),
        constraints=[hasa.Budget("kilobytes", 600)],
    )
    expected = hasa.solve(problem)
    assert expected.options.tolist() == ["half", "half", "skip"]
    assert list(shown["options"].values()) == expected.options.tolist()
    assert shown["widths"] == {"phone": 0.5, "camera": 0.5, "laptop": 0}
    assert shown["spending"] == expected.spending == {"kflops": 5000, "kilobytes": 600}
    assert shown["limits"] == {"kflops": 5625, "kilobytes": 600}
    assert (shown["resource"], shown["spent"], shown["limit"]) == ("kflops", 5000, 5625)
    assert shown["spent_share"] == pytest.approx(5000 / 7500)


def test_the_table_and_the_file_name_options(run, files: Path) -> None:
    ran = run(
        "allocate", "c.csv", "--options", "o.csv", "--utilities", "u.csv", "--limit",
        "kflops=13000", "-o", "out.csv",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert "spends 7,500 of 13,000 kflops, 900 kilobytes" in ran.out
    assert "option" in ran.out
    with Path("out.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["option"] for row in rows] == ["half", "half", "half"]
    assert rows[0] == {
        "name": "phone", "samples": "100", "option": "half", "width": "0.5", "epochs": "1.0",
        "kflops": "2500", "kilobytes": "300", "utility": "3.0",
    }  # fmt: skip


def test_utilities_by_name(run, files: Path) -> None:
    Path("o.csv").write_text("option,width,per_sample:s\nnarrow,0.5,1\nwide,1,4\n", "utf-8")
    read = hasa.Clients.read_csv("c.csv")
    scores = hasa.scores.jensen_shannon(read.counts)
    for name, worth in (
        ("hasa", hasa.utility.hasa(scores)),
        ("saturating", hasa.utility.saturating(scores)),
        ("alpha_fair", hasa.utility.alpha_fair()),
    ):
        menu = hasa.Menu.read_csv("o.csv", read, full="wide")
        built = hasa.AllocationProblem.build(read, menu=menu, budget=0.7, utility=worth)
        shown = allocate(run, "--full", "wide", "--budget", "0.7", "--utility", name)
        assert shown["objective"] == pytest.approx(hasa.solve(built).objective)


def test_a_table_of_utilities_serves_widths_too(run, files: Path) -> None:
    Path("u.csv").write_text("name,1,0.5\nlaptop,9,1\nphone,2,1\ncamera,2,1.5\n", encoding="utf-8")
    arguments = ("c.csv", "--widths", "0.5,1", "--budget", "0.7", "--utilities", "u.csv")
    shown = json.loads(run("allocate", *arguments, "--json").out)
    assert shown["widths"] == {"phone": 0.5, "camera": 0.5, "laptop": 1.0}
    assert shown["objective"] == 11.5
    assert "HASA rule" not in run("allocate", *arguments).out


def test_options_may_be_widths_and_skip(run, files: Path) -> None:
    Path("o.csv").write_text("option,width,per_sample:s\nskip,0,0\n0.5,0.5,1\n1,1,4\n", "utf-8")
    Path("u.csv").write_text("name,skip,0.50,1\nlaptop,0,1,9\nphone,0,1,2\ncamera,0,1,2\n", "utf-8")
    shown = allocate(run, "--utilities", "u.csv", "--limit", "s=500", "-o", "out.csv")
    assert shown["options"] == {"phone": "0.5", "camera": "skip", "laptop": "1"} or (
        shown["options"] == {"phone": "skip", "camera": "0.5", "laptop": "1"}
    )
    header = Path("out.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header == "name,samples,option,width,s,utility"


def test_a_table_of_widths_has_no_blank_cells(run, files: Path) -> None:
    Path("u.csv").write_text("name,0.5,1\nlaptop,1,9\nphone,1,\ncamera,1,2\n", "utf-8")
    ran = run("headroom", "c.csv", "--utilities", "u.csv", "--noise", "0.1")
    assert ran.code == 2
    assert "u.csv, line 3, column '1': '' is not a number" in ran.err


def test_compare_takes_options(run, files: Path) -> None:
    ran = run(
        "compare", "c.csv", "--options", "o.csv", "--utilities", "u.csv", "--limit", "kflops=6000",
        "--limit", "kilobytes=900", "--solver", "highs", "--solver", "exact",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert "highs, exact agree on the optimum 5.6" in ran.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--budget", "0.5"), "resources kflops, kilobytes: say which, --budget kflops=0.5"),
        (("--budget", "kflops=5000"), "say --limit kflops=5000"),
        (("--budget", "kflops=much", "--full", "half"), "give RESOURCE=SHARE, such as kflops=0.5"),
        (("--budget", "kilobytes"), "kilobytes: give RESOURCE=SHARE, such as kilobytes=0.5"),
        (("--limit", "kilobytes"), "kilobytes: give RESOURCE=UNITS, such as kilobytes=5000"),
        (("--limit", "watts"), "watts: give RESOURCE=UNITS, such as kflops=5000"),
        (("--limit", "kilobytes="), "give RESOURCE=UNITS, such as kilobytes=5000"),
        (("--budget", "kflops=0.5"), "at which option? Name it by --full, or say --limit kflops="),
        (("--budget", "kflops=0.5", "--full", "huge"), "--full 'huge' is not an option"),
        (("--budget", "watts=0.5"), "'watts', which no option costs"),
        (
            ("--full", "half", "--budget", "kflops=0.5", "--budget", "kflops=0.6"),
            "'kflops' twice",
        ),
        (("--limit", "kflops=0.5"), "a share of what everybody costs at --full is --budget"),
        (("--limit", "kflops=-5"), "a limit is a whole number"),
        (("--limit", "kflops=5", "--limit", "kflops=6"), "'kflops' twice"),
        (("--limit", "kflops=5", "--budget", "kflops=0.5", "--full", "half"), "leave one out"),
        (("--full", "wide", "--budget", "kflops=0.5"), "--full 'wide' is no option of 'phone'"),
        (("--widths", "0.5"), "--widths does not go with --options"),
        (("--cost", "width"), "--cost does not go with --options"),
        (("--utility", "magic"), "choose from hasa, saturating, alpha_fair"),
        (("--utility", "alpha_fair"), "option 'skip' does not have: choose --utility saturating"),
        (("--utility", "saturating", "--utilities", "u.csv"), "the same twice"),
        (("--utilities", "no.csv"), "cannot read no.csv"),
        (("--utilities", "c.csv"), "c.csv, line 2, column 'device': 'small' is not a number"),
        (("--utilities", "w.csv"), "w.csv has no column for option 'wide'"),
        (("--utilities", "x.csv"), "option 'tall', which is not in the menu"),
        (("--utilities", "y.csv"), "must name the same clients, once each: see 'laptop'"),
        (("-o", "o.csv"), "o.csv is the input"),
        (("--coverage", "epochs"), "epochs: give WIDTH=SHARE, such as 0.8=0.1, or ATTRIBUTE:VALUE"),
        (("--coverage", "epochs=0.5"), "epochs=0.5: give WIDTH=SHARE"),
        (("--coverage", ":1=0.5"), ":1=0.5: give WIDTH=SHARE"),
        (("--coverage", "depth:1=0.5"), "'depth', which the options do not have (width, epochs)"),
        (("--coverage", "epochs:3=0.5"), "Coverage names epochs 3, which is not in the menu"),
        (
            ("--coverage", "epochs:1=0.5", "--coverage", "epochs:1.0=0.6"),
            "names epochs 1 twice: leave one out",
        ),
    ],
)
def test_what_is_wrong_with_options_is_said_in_one_line(
    run, files: Path, arguments: tuple[str, ...], words: str
) -> None:
    Path("w.csv").write_text("name,half,skip\nlaptop,3,0\nphone,3,0\ncamera,2,0\n")
    Path("x.csv").write_text("name,half,tall\nlaptop,3,0\nphone,3,0\ncamera,2,0\n")
    Path("y.csv").write_text("name,half,skip,wide\nphone,3,0,0\ncamera,2,0,0\n")
    if "--utilit" not in " ".join(arguments):
        arguments = (*arguments, "--utilities", "u.csv")
    ran = run("allocate", "c.csv", "--options", "o.csv", *arguments)
    assert ran.code == 2
    assert words in ran.err
    assert ran.err.count("\n") == 1
    assert Path("o.csv").read_text(encoding="utf-8") == OPTIONS


def test_coverage_of_any_attribute(run, files: Path) -> None:
    asked = ("--utilities", "u.csv", "--limit", "kflops=5000")
    assert allocate(run, *asked)["options"]["laptop"] == "skip"
    shares = ("--coverage", "width:0.5=0.5", "--coverage", "1=0", "--coverage", "epochs:1=0.6")
    shown = allocate(run, *asked, *shares)
    assert shown["options"]["laptop"] == "skip"  # two thirds of the samples train already
    clients = hasa.Clients.read_csv("c.csv")
    problem = hasa.AllocationProblem.build(
        clients,
        menu=hasa.Menu.read_csv("o.csv", clients),
        utility=hasa.utility.measured([[0, 3, np.nan], [0, 2.6, np.nan], [0, 2.5, 3]]),
        constraints=[hasa.Budget("kflops", 7500), hasa.Coverage({1: 1.0}, "epochs")],
    )
    more = ("--utilities", "u.csv", "--limit", "kflops=7500", "--coverage", "epochs:1=1")
    assert allocate(run, *more)["objective"] == hasa.solve(problem).objective == 8.1
    ran = run("allocate", "c.csv", "--options", "o.csv", *asked, "--coverage", "epochs:1=0.7")
    assert ran.code == 1
    assert "0.7 of the samples at epochs 1 or more" in ran.err


@pytest.mark.filterwarnings("always")
def test_messages_speak_of_the_options_of_the_command(run, files: Path) -> None:
    Path("c.csv").write_bytes("name;samples\nK\u00f6ln;120\n".encode("latin-1"))
    ran = run("allocate", "c.csv", "--utility", "alpha_fair")
    assert "say --encoding to be sure" in ran.err
    assert "say --delimiter ';' to be sure" in ran.err
    assert "encoding=" not in ran.err
    told = run("allocate", "c.csv", "--utility", "alpha_fair", "--encoding", "ascii")
    assert told.code == 2
    assert "give another --encoding" in told.err


def test_a_mistake_in_the_file_of_options_has_its_line(run, files: Path) -> None:
    Path("o.csv").write_text(OPTIONS.replace("large,half,0.5,1,25", "large,half,0.5,1,2.5"))
    ran = run("allocate", "c.csv", "--options", "o.csv", "--utilities", "u.csv")
    assert ran.code == 2
    assert "o.csv, line 5, column 'per_sample:kflops': '2.5' is not a whole number" in ran.err


def test_options_that_widths_do_not_have(run, files: Path) -> None:
    for arguments in (("--limit", "cost=5"), ("--full", "wide")):
        ran = run("allocate", "c.csv", *arguments)
        assert ran.code == 2
        assert f"{arguments[0]} needs --options FILE.csv" in ran.err


def test_how_files_are_written_may_be_told(run, files: Path) -> None:
    told = ("--encoding", "utf-16-le", "--delimiter", "tab")
    for name in ("c.csv", "o.csv", "u.csv"):
        text = (
            Path(name).read_text(encoding="utf-8").replace(",", "\t").replace("phone", "t\u00e9l")
        )
        Path(name).write_bytes(text.encode("utf-16-le"))
    shown = allocate(run, "--utilities", "u.csv", "--limit", "kflops=2500", *told)
    assert shown["options"] == {"t\u00e9l": "half", "camera": "skip", "laptop": "skip"}
    ran = run("score", "c.csv", *told)
    assert ran.code == 0, ran.err
    assert "warning" not in ran.err
    wrong = run("score", "c.csv", "--encoding", "utf-16-le", "--delimiter", ";;")
    assert (wrong.code, "must be one character" in wrong.err) == (2, True)


@pytest.mark.slow
def test_every_command_that_reads_a_file_is_told_how_it_is_written(run, files: Path) -> None:
    lines = [f"{who}|die Wörter, die {who} schreibt, {word}" for who in "ab" for word in "xyzw"]
    Path("t.csv").write_bytes("\n".join(["who|words", *lines]).encode("cp1252"))
    columns = ("--data", "t.csv", "--text-column", "words", "--client-column", "who")
    told = ("--encoding", "cp1252", "--delimiter", "|")
    ran = run("flower", "new", "app", *columns, *told)
    assert ran.code == 0, ran.err
    assert "warning" not in ran.err
    task = Path("app/supernet_app/task.py").read_text(encoding="utf-8")
    assert 'encoding="cp1252",\n        delimiter="|",' in task
    for command in ("study", "headroom"):
        ran = run(command, *columns, "--encoding", "ascii")
        assert ran.code == 2
        assert "t.csv, line 2: not ascii text" in ran.err
    Path("u.csv").write_text("name;0,5;1\nphone;1;2\ncamera;1;2\nlaptop;1;2\n", encoding="utf-8")
    ran = run("headroom", "c.csv", "--utilities", "u.csv", "--delimiter", ";")
    assert ran.code == 2  # The clients have commas.
    assert "read with semicolons" in ran.err
