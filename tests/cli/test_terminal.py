"""The command on terminals of any width and in pipes, its version, its sample, its failures."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from hasa_opt.cli import options
from hasa_opt.cli.sample import _FILES as FILES

LONG = "phone in the kitchen of the second floor, left of the door"
CLIENTS = f'name,samples,count:a,count:b\n"{LONG}",100,90,10\ncamera,123456,3456,120000\n'


@pytest.fixture
def clients(tmp_path: Path) -> Path:
    path = tmp_path / "clients.csv"
    path.write_text(CLIENTS, encoding="utf-8")
    return path


def table(out: str) -> str:
    """What is printed before the sentences about the result."""
    return re.split(r"^exact[: ]", out, maxsplit=1, flags=re.MULTILINE)[0]


def words(text: str) -> set[str]:
    """All but lines and seconds."""
    return {word for word in text.split() if not re.fullmatch(r"\u2500+|0\.0\d\d", word)}


@pytest.mark.parametrize("columns", [40, 60])
@pytest.mark.parametrize("command", ["score", "allocate", "compare"])
def test_nothing_is_cut_on_a_narrow_terminal(run, clients, columns, command) -> None:
    call = [command, clients, *["--solver", "exact,greedy"][: 2 * (command == "compare")]]
    wide, narrow = (table(run(*call, columns=room).out) for room in (140, columns))
    assert max(map(len, narrow.splitlines())) <= columns
    assert words(wide) <= words(narrow)


def without_columns() -> dict[str, str]:
    """The environment, without the width of a terminal that may be told in it."""
    return {name: value for name, value in os.environ.items() if name != "COLUMNS"}


@pytest.mark.slow
def test_names_stay_whole_in_a_pipe(clients: Path) -> None:
    call = [sys.executable, "-m", "hasa_opt", "allocate", "-"]
    with clients.open("rb") as file:
        ran = subprocess.run(
            call, stdin=file, capture_output=True, text=True, check=True, env=without_columns()
        )
    assert LONG in ran.stdout


def test_standard_input_is_a_file(run, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(CLIENTS.encode())))
    ran = run("allocate", "-", "--json")
    assert list(json.loads(ran.out)["widths"]) == [LONG, "camera"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    ran = run("allocate", "-")
    assert ran.code == 2
    assert "is empty" in ran.err


def test_it_says_its_version_and_helps_shortly(run) -> None:
    ran = run("--version")
    assert (ran.code, ran.out) == (0, f"hasa-opt {version('hasa_opt')}\n")
    assert run("-h").out == run("--help").out
    assert "Give each client a width" in run("allocate", "-h").out


def test_solvers_are_named_in_any_case_and_by_commas(run, clients: Path) -> None:
    assert json.loads(run("allocate", clients, "--solver", "HiGHS", "--json").out)["solver"] == (
        "highs"
    )
    ran = run("compare", clients, "--solver", "Exact, greedy", "--solver", "HIGHS", "--json")
    names = [row["solver"] for row in json.loads(ran.out)["rows"]]
    assert names == ["exact", "greedy", "highs"]
    ran = run("allocate", clients, "--solver", "hihgs")
    assert ran.code == 2
    assert "'hihgs' is not known" in ran.err
    ran = run("allocate", clients, "--fallback", "GREEDY,highs", "--json")
    assert ran.code == 0
    ran = run("allocate", clients, "--solver", "highs,exact")
    assert ran.code == 2
    assert "give one; hasa-opt compare takes several" in ran.err


def test_what_may_be_repeated_may_stand_behind_commas(run, tmp_path: Path) -> None:
    run("sample", tmp_path)
    files = [tmp_path / "clients.csv", "--options", tmp_path / "options.csv"]
    files += ["--utilities", tmp_path / "worth.csv"]
    apart = ["--limit", "kflops=18000", "--limit", "kilobytes=1800"]
    together = ["--limit", "kflops=18000, kilobytes=1800"]
    assert run("allocate", *files, *apart).out == run("allocate", *files, *together).out
    coverage = ["--coverage", "0.65=0.2,0.5=0.5"]
    ran = run("allocate", tmp_path / "clients.csv", *coverage, "--json")
    assert [own["lower"] for own in json.loads(ran.out)["standings"]] == [None, 64, 160]
    ran = run("allocate", tmp_path / "clients.csv", "--budget", "0,5")
    assert ran.code == 2
    assert "--budget 0,5: give SHARE, such as 0.5" in ran.err


@pytest.mark.parametrize(
    ("arguments", "code", "kind", "words"),
    [
        (["--budget", "0.01"], 1, "InfeasibleError", "below the narrowest possible"),
        (["--budget", "half"], 2, "InputError", "--budget half"),
        (["--nonsense"], 2, "NoSuchOption", "--nonsense"),
        (["--time-limit-s", "soon"], 2, "BadParameter", "soon"),
    ],
)
def test_failures_are_json_too(run, clients, arguments, code, kind, words) -> None:
    ran = run("allocate", clients, *arguments, "--json")
    told = json.loads(ran.out)["error"]
    assert (ran.code, told["kind"]) == (code, kind)
    assert words in told["message"]
    assert words in ran.err
    plain = run("allocate", clients, *arguments)
    assert (plain.code, plain.out) == (code, "")


def test_each_limit_is_told_with_its_value_its_bound_and_whether_it_binds(run, tmp_path) -> None:
    run("sample", tmp_path)
    call = ["allocate", tmp_path / "clients.csv", "--coverage", "0.8=0.3", "--coverage", "0.5=0.5"]
    lines = run(*call).out.splitlines()
    assert "budget: 3,140 of at most 3,200; binds, one unit more is worth 0.0001166" in lines
    told = "Coverage: 0.3 of the samples at width 0.8 or wider: 100, at least 96 wanted; binds, "
    assert any(line.startswith(told) for line in lines)
    free = "Coverage: 0.5 of the samples at width 0.5 or wider: 200, at least 160 wanted; "
    assert f"{free}does not bind" in lines
    listed = json.loads(run(*call, "--json").out)["standings"]
    assert [(own["value"], own["lower"], own["upper"], own["binds"]) for own in listed] == [
        (3140, None, 3200, True),
        (100, 96, None, True),
        (200, 160, None, False),
    ]
    assert "of at most" not in run("allocate", tmp_path / "clients.csv").out, "the summary says it"


def test_of_many_limits_the_first_are_told(run, tmp_path: Path) -> None:
    run("sample", tmp_path)
    wide = [f"--coverage=attribute{number}:1=0.1" for number in range(14)]
    path = tmp_path / "many.csv"
    columns = ",".join(f"attribute{number}" for number in range(14))
    levels = ",".join(["1"] * 14)
    path.write_text(f"option,{columns},per_sample:units,width\nnarrow,{levels},1,0.2\n")
    files = [tmp_path / "clients.csv", "--options", path, "--limit", "units=1000"]
    ran = run("allocate", *files, "--utility", "saturating", *wide)
    assert ran.code == 0, ran.err
    assert "and 3 more limits: --json lists all" in ran.out
    listed = run("allocate", *files, "--utility", "saturating", *wide, "--json").out
    assert len(json.loads(listed)["standings"]) == 15


def test_a_conflict_of_many_limits_says_where_all_of_them_are(run, tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(12)]
    rows = "".join(f"{name},10\n" for name in names)
    (tmp_path / "clients.csv").write_text(f"name,samples\n{rows}")
    costs = [f"per_client:r{number}" for number in range(12)]
    lines = [f"option,client,width,{','.join(costs)}"]
    for name in names:
        for option in range(12):
            taken = ["1" if option == own else "0" for own in range(12)]
            lines.append(f"o{option},{name},0.5,{','.join(taken)}")
    (tmp_path / "options.csv").write_text("\n".join(lines) + "\n")
    limits = [f"--limit=r{number}=0" for number in range(12)]
    call = ["allocate", tmp_path / "clients.csv", "--options", tmp_path / "options.csv"]
    call += ["--utility", "alpha_fair", *limits]
    ran = run(*call)
    assert ran.code == 1
    assert "and 2 more (--json names all 12)" in ran.err
    assert len(json.loads(run(*call, "--json").out)["error"]["limits"]) == 12


def test_a_sample_is_written_and_read(run, tmp_path: Path, monkeypatch) -> None:
    ran = run("sample", tmp_path / "new")
    assert ran.code == 0
    assert {path.name for path in (tmp_path / "new").iterdir()} == set(FILES)
    commands = [line.split()[1:] for line in ran.out.splitlines() if line.startswith("  hasa-opt")]
    monkeypatch.chdir(tmp_path / "new")
    assert len(commands) == 4
    for command in commands:
        if command[0] == "compare":
            command += ["--solver", "exact"]
        assert run(*command).code == 0, command
    again = run("sample", tmp_path / "new")
    assert again.code == 2
    assert "so that nothing is lost" in again.err


def test_the_sample_is_what_the_page_shows() -> None:
    page = (Path(__file__).parents[2] / "docs" / "command_line.rst").read_text(encoding="utf-8")
    plain = re.sub(r"^ {3}", "", page, flags=re.MULTILINE)
    for name in ("clients.csv", "options.csv", "worth.csv"):
        assert FILES[name] in plain


def test_a_line_says_what_takes_long_where_there_is_no_terminal(monkeypatch, capsys) -> None:
    monkeypatch.setattr(options, "_FIRST_LINE_S", 0.0)
    with options.busy("thinking"):
        end = time.monotonic() + 5
        while "thinking" not in (err := capsys.readouterr().err) and time.monotonic() < end:
            time.sleep(0.01)
    assert err == "thinking\n"
    monkeypatch.setattr(options, "_FIRST_LINE_S", 60.0)
    with options.busy("quick"):
        pass
    assert capsys.readouterr().err == ""


def test_the_allocation_of_before_may_come_by_standard_input(run, clients, monkeypatch) -> None:
    before = f'name,width\n"{LONG}",0.2\ncamera,0.2\n'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(before.encode())))
    ran = run("allocate", clients, "--previous", "-", "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["changes"].startswith("0 joined, 0 left")


def test_outputs_are_files_of_their_own(run, clients: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("allocate", clients, "-o", "before.csv")
    files = ("-o", "new.csv", "--changes", "./new.csv")
    ran = run("allocate", clients, "--previous", "before.csv", *files)
    assert ran.code == 2
    assert "give two files" in ran.err
    for command in ("allocate", "explore"):
        ran = run(command, clients, "-o", "-")
        assert ran.code == 2
        assert "give the name of a file" in ran.err
    assert not {"-", "new.csv"} & {path.name for path in tmp_path.iterdir()}


def test_no_solver_is_no_choice(run, clients: Path) -> None:
    for command, option in (("compare", "--solver"), ("allocate", "--fallback")):
        ran = run(command, clients, option, " ,")
        assert ran.code == 2
        assert "names no solver" in ran.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the full device of Linux")
def test_json_for_a_full_disk_ends_in_words(clients: Path) -> None:
    call = [sys.executable, "-m", "hasa_opt", "score", str(clients), "--json"]
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(call, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stderr.splitlines() == ["failed: [Errno 28] No space left on device"]
