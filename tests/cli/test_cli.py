"""The command line as a user meets it: output, exit codes, one line for a mistake."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hasa_opt as hasa

CLIENTS = """name,samples,max_width,count:cat,count:dog,count:bird
phone,120,0.5,100,20,0
laptop,80,1.0,10,70,3
[tablet],500,0.7,60,140,400
"""


@pytest.fixture
def clients(tmp_path: Path) -> Path:
    path = tmp_path / "clients.csv"
    path.write_text(CLIENTS, encoding="utf-8")
    return path


@pytest.mark.filterwarnings("always")
def test_what_a_file_was_read_with_is_said_in_one_line(run, clients: Path) -> None:
    text = (
        clients.read_text(encoding="utf-8")
        .replace(",", ";")
        .replace("phone", "t\u00e9l\u00e9phone")
    )
    clients.write_bytes(text.encode("cp1252"))
    ran = run("allocate", clients, "--json")
    assert ran.code == 0
    assert "t\u00e9l\u00e9phone" in json.loads(ran.out)["widths"]
    lines = ran.err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["warning", "warning"]
    assert "read as cp1252" in lines[0]
    assert "semicolons" in lines[1]


def test_solvers_are_listed(run) -> None:
    ran = run("solvers")
    assert ran.code == 0
    for line in hasa.solvers():
        assert line.name in ran.out


def test_solvers_as_json(run) -> None:
    lines = json.loads(run("solvers", "--json").out)
    assert {line["name"] for line in lines} == {line.name for line in hasa.solvers()}
    assert all(line["available"] for line in lines if line["name"] in ("greedy", "highs"))


def test_score_prints_every_client(run, clients: Path) -> None:
    ran = run("score", clients)
    assert ran.code == 0
    for name in ("phone", "laptop", "[tablet]"):
        assert name in ran.out


@pytest.mark.parametrize("name", list(hasa.scores.SCORES))
def test_score_as_json_is_the_function(run, clients: Path, name: str) -> None:
    rows = json.loads(run("score", clients, "--score", name, "--json").out)
    expected = hasa.scores.SCORES[name](hasa.Clients.read_csv(clients).counts)
    assert [row[name] for row in rows] == pytest.approx(expected.tolist())


def test_score_stands_beside_its_excess(run, clients: Path) -> None:
    counts = hasa.Clients.read_csv(clients).counts
    ran = run("score", clients)
    for value in hasa.scores.excess(counts):
        assert f"{value:.2f}" in ran.out
    for name in ("jensen_shannon", "excess"):
        rows = json.loads(run("score", clients, "--score", name, "--json").out)
        assert [row["excess"] for row in rows] == pytest.approx(hasa.scores.excess(counts).tolist())
        share = hasa.scores.explained_by_size(hasa.scores.SCORES[name](counts), counts.sum(axis=1))
        assert [row["explained_by_size"] for row in rows] == pytest.approx([share] * len(rows))


def of_sizes(path: Path, sizes: list[int]) -> Path:
    rows = [f"c{row},{size},{size - size // 3},{size // 3}" for row, size in enumerate(sizes)]
    path.write_text("\n".join(["name,samples,count:a,count:b", *rows]), encoding="utf-8")
    return path


def test_a_ranking_by_sample_size_is_warned_of(run, tmp_path: Path) -> None:
    path = of_sizes(tmp_path / "sizes.csv", [9, 90, 300, 600, 3000])
    for arguments in ((), ("--json",)):
        ran = run("score", path, *arguments)
        assert "sample size explains" in ran.err
        assert "--score excess" in ran.err
        assert ran.code == 0
    rows = json.loads(ran.out)
    assert f"{rows[0]['explained_by_size']:.0%}" in ran.err
    assert "--score excess ranks" not in run("score", path, "--score", "excess").err


def test_no_warning_where_size_explains_little_or_two_clients_prove_nothing(
    run, clients: Path, tmp_path: Path
) -> None:
    rows = json.loads(run("score", clients, "--json").out)
    assert rows[0]["explained_by_size"] <= 0.5
    assert "warning" not in run("score", clients).err
    pair = of_sizes(tmp_path / "two.csv", [10, 300])
    assert "warning" not in run("score", pair).err


def test_allocate_writes_widths_within_budget_and_caps(run, clients: Path) -> None:
    output = clients.parent / "widths.csv"
    ran = run("allocate", clients, "--budget", 0.5, "--widths", "0.2,0.35,0.5,0.65,0.8",
              "--solver", "highs", "-o", output)  # fmt: skip
    assert ran.code == 0
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["phone", "laptop", "[tablet]"]
    spent = sum(int(row["samples"]) * float(row["width"]) for row in rows)
    assert spent <= 0.5 * 700 + 1e-9
    caps = {"phone": 0.5, "laptop": 1.0, "[tablet]": 0.7}
    assert all(float(row["width"]) <= caps[row["name"]] for row in rows)
    assert "the paper's two-pass rule by" in ran.out


def test_allocate_as_json_is_the_library(run, clients: Path) -> None:
    shown = json.loads(run("allocate", clients, "--solver", "pulp", "--json").out)
    read = hasa.Clients.read_csv(clients)
    problem = hasa.AllocationProblem.build(
        read,
        widths=(0.2, 0.35, 0.5, 0.65, 0.8),
        budget=0.5,
        utility=hasa.utility.hasa(hasa.scores.jensen_shannon(read.counts)),
    )
    result = hasa.solve(problem, "highs")
    assert shown["objective"] == pytest.approx(result.objective)
    assert shown["termination"] == "optimal"
    assert shown["spent"] <= shown["limit"] == problem.limit
    assert set(shown["widths"]) == {"phone", "laptop", "[tablet]"}


def test_input_and_folders_are_not_overwritten(run, clients: Path) -> None:
    before = clients.read_text(encoding="utf-8")
    for output, words in ((clients, "is the input"), (clients.parent, "is a folder")):
        ran = run("allocate", clients, "-o", output)
        assert ran.code == 2
        assert words in ran.err
    assert clients.read_text(encoding="utf-8") == before


def test_a_budget_beyond_the_caps_is_said(run, clients: Path) -> None:
    ran = run("allocate", clients, "--budget", 0.9)
    assert "No wider allocation is possible" in ran.out
    assert run("allocate", clients, "--budget", "1000").code == 0
    assert "is a share" in run("allocate", clients, "--budget", "1e308").err


def test_coverage_is_kept(run, clients: Path) -> None:
    shown = json.loads(run("allocate", clients, "--coverage", "0.8=0.1", "--json").out)
    assert shown["widths"]["laptop"] == 0.8


def test_groups_are_a_column_of_the_clients(run, tmp_path: Path) -> None:
    path = tmp_path / "sited.csv"
    path.write_text(
        "name,samples,site,max_width,count:x,count:y\n"
        "a,100,north,1,60,40\nb,100,north,0.5,10,90\nc,50,south,1,25,25\nd,80,south,1,80,0\n",
        encoding="utf-8",
    )
    asked = ("allocate", path, "--widths", "0.25,0.5,0.75,1", "--budget", "0.6", "--json")
    same = json.loads(run(*asked, "--same-option", "site").out)["widths"]
    assert same == {"a": 0.5, "b": 0.5, "c": 0.75, "d": 0.75}
    both = json.loads(run(*asked, "--same-option", "site", "--capacity", "site=1").out)["widths"]
    assert both == {"a": 0.5, "b": 0.5, "c": 0.5, "d": 0.5}
    assert "give COLUMN=WIDTH, such as site=1.0" in run(*asked, "--capacity", "site").err
    refused = run(*asked, "--same-option", "device")
    assert refused.code == 2
    assert "no column 'device'; its columns are 'name', 'samples', 'site'" in refused.err


def test_any_column_of_the_clients_groups_them(run, tmp_path: Path) -> None:
    wide, long = tmp_path / "wide.csv", tmp_path / "long.csv"
    wide.write_text(
        "name,samples,found group,max_width,count:x,count:y\n"
        "a,100,1,1,60,40\nb,100,1,0.5,10,90\nc,50,2,1,25,25\nd,80,2,1,80,0\n"
    )
    long.write_text(
        "name,label,count,found group,max_width\na,x,60,1,1\na,y,40,1,1\nb,x,10,1,0.5\n"
        "b,y,90,1,0.5\nc,x,25,2,1\nc,y,25,2,1\nd,x,80,2,1\n"
    )
    asked = ("--widths", "0.25,0.5,0.75,1", "--budget", "0.6", "--json")
    for path in (wide, long):
        same = run("allocate", path, *asked, "--same-option", " found group ")
        assert json.loads(same.out)["widths"] == {"a": 0.5, "b": 0.5, "c": 0.75, "d": 0.75}
        both = ("--same-option", "found group", "--capacity", "found group=1")
        widths = json.loads(run("allocate", path, *asked, *both).out)["widths"]
        assert widths == {"a": 0.5, "b": 0.5, "c": 0.5, "d": 0.5}
    assert "unknown column 'found group'" in run("allocate", wide, *asked).err
    long.write_text(long.read_text().replace("a,y,40,1", "a,y,40,2"))
    refused = run("allocate", long, *asked, "--same-option", "found group")
    assert "line 3, column 'found group': '2' contradicts '1' of 'a'" in refused.err


def test_the_poorest_client_first(run, clients: Path) -> None:
    for mode in ("maxmin", "leximin"):
        shown = json.loads(run("allocate", clients, "--fairness", mode, "--json").out)
        assert shown["termination"] == "optimal"
    compared = json.loads(run("compare", clients, "--fairness", "maxmin", "--json").out)
    assert "agree on the optimum" in compared["verdict"]


def test_quadratic_cost_allows_wider_subnets(run, clients: Path) -> None:
    plain = json.loads(run("allocate", clients, "--json").out)["widths"]
    cheap = json.loads(run("allocate", clients, "--cost", "quadratic", "--json").out)["widths"]
    assert sum(cheap.values()) > sum(plain.values())


def test_compare_shows_a_verdict(run, clients: Path) -> None:
    ran = run("compare", clients)
    assert ran.code == 0
    assert "agree on the optimum" in ran.out
    chosen = json.loads(run("compare", clients, "--solver", "highs", "--json").out)
    assert [row["solver"] for row in chosen["rows"]] == ["highs"]


def test_explain_says_what_is_in_the_way(run, clients: Path) -> None:
    ran = run("explain", clients, "--client", "laptop", "--budget", "0.5", "--solver", "highs")
    assert ran.code == 0
    chosen = json.loads(run("allocate", clients, "--json").out)["widths"]["laptop"]
    assert ran.out.startswith(f"laptop has width {chosen:g}, worth ")
    shown = json.loads(run("explain", clients, "--client", "[tablet]", "--json").out)
    assert shown["client"] == "[tablet]"
    assert [obstacle["limit"] for obstacle in shown["obstacles"]] == ["budget"]
    assert shown["searched"]
    assert all(flip["verified"] for flip in shown["flips"])
    for name in shown["others_change"]:
        assert name in ("phone", "laptop")


def test_explore_writes_a_page_of_the_allocations(run, clients: Path) -> None:
    page = clients.with_name("explore.html")
    ran = run("explore", clients, "-o", page, "--steps", "12", "--coverage", "0.5=0.9")
    assert ran.code == 0
    assert ran.out.startswith(f"{page}: Frontier(12 budgets from 0.5")
    found = re.search(r'id="data">(.*?)</script>', page.read_text(encoding="utf-8"))
    content = json.loads(found[1])
    assert content["names"] == ["phone", "laptop", "[tablet]"]
    for at in (0, 11):
        budget = f"{content['values'][at]!r}"
        alone = json.loads(
            run("allocate", clients, "--budget", budget, "--coverage", "0.5=0.9", "--json").out
        )
        assert content["utility"][at] == pytest.approx(alone["objective"])


def test_explore_moves_an_absolute_budget_of_options(run, clients: Path) -> None:
    page, options = clients.with_name("explore.html"), clients.with_name("options.csv")
    options.write_text("option,width,per_client:joules\nhalf,0.5,3\nmore,0.6,7\n", encoding="utf-8")
    ran = run(
        "explore", clients, "-o", page, "--options", options, "--limit", "joules=10", "--json"
    )
    assert ran.code == 0
    assert json.loads(ran.out) == {
        "page": str(page),
        "bytes": page.stat().st_size,
        "budgets": list(range(9, 18)),
    }
    content = json.loads(
        re.search(r'id="data">(.*?)</script>', page.read_text(encoding="utf-8"))[1]
    )
    assert content["values"] == list(range(9, 18))
    assert content["options"] == ["half", "more"]
    assert content["resource"] == "joules"


def test_without_an_allocation_the_command_fails(run, clients: Path, monkeypatch) -> None:
    monkeypatch.setattr("hasa_opt._utils.deadline._GRACE_S", -1e-9)
    ran = run("allocate", clients, "--solver", "pulp", "--time-limit-s", "0")
    assert ran.code == 1
    assert "nobody found an allocation" in ran.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("allocate", "CLIENTS", "--budget", "0.1"), 1, "raise the budget to at least 0.2"),
        (("allocate", "CLIENTS", "--solver", "magic"), 2, "solver 'magic' is not known"),
        (("explain", "CLIENTS", "--client", "watch"), 2, "names client 'watch': give a name"),
        (("explore", "CLIENTS", "--steps", "1"), 2, "--steps"),
        (("explore", "CLIENTS", "-o", "CLIENTS"), 2, "is the input"),
        (("explore", "CLIENTS", "--coverage", "0.8=0.99"), 1, "lower the share of"),
        (("allocate", "CLIENTS", "--widths", "a,b"), 2, "--widths 'a,b'"),
        (
            ("allocate", "CLIENTS", "--cost", "cubic"),
            2,
            "cost 'cubic' is not known",
        ),
        (("allocate", "CLIENTS", "--score", "magic"), 2, "--score 'magic'"),
        (("allocate", "CLIENTS", "--coverage", "0.8"), 2, "WIDTH=SHARE"),
        (
            ("allocate", "CLIENTS", "--coverage", "0.8=0.5", "--coverage", "0.80=0.1"),
            2,
            "--coverage names width 0.8 twice",
        ),
        (("allocate", "CLIENTS", "--fairness", "utopian"), 2, "maxmin, leximin"),
        (("allocate", "CLIENTS", "--fairness", "leximin", "--solver", "highs"), 2, "use exact"),
        (("allocate", "CLIENTS", "--coverage", "0.7=0.1"), 2, "not in the menu"),
        (("allocate", "CLIENTS", "--widths", "0.6,0.8"), 2, "row 0 ('phone')"),
        (("allocate", "CLIENTS", "-o", "no/such/folder/w.csv"), 2, "does not exist"),
        (("allocate", "CLIENTS", "--fallback", "magic"), 2, "solver 'magic' is not known"),
        (("score", "missing.csv"), 2, "cannot read"),
        (("compare", "CLIENTS", "--solver", "magic"), 2, "solver 'magic' is not known"),
        (("study", "--data", "missing.csv"), 2, "missing.csv"),
        (("study", "--task", "magic"), 2, "unknown task 'magic'"),
        (("study", "--task", "digits", "--policies", "best"), 2, "policy 'best' is not known"),
        (("study", "--task", "digits", "--model", "lstm"), 2, "token ids"),
        (("study", "--task", "digits", "--model", "magic"), 2, "model 'magic' is not known"),
        (("study", "--task", "digits", "--budget", "0.1"), 1, "budget 0.1 is below"),
        (("study", "--task", "digits", "--learning-rate", "0"), 2, "learning_rate"),
        (("study", "--task", "digits", "--aggregation", "magic"), 2, "magic"),
        (("study", "--task", "digits", "--clients-per-round", "9"), 2, "from 1 to the 7 clients"),
        (("allocate", "CLIENTS", "--magic"), 2, "No such option"),
    ],
)
def test_mistakes_give_one_line_and_a_code(
    run, clients: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int,
    words: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(clients.parent)
    ran = run(*(clients if word == "CLIENTS" else word for word in arguments))
    assert ran.code == code
    assert words in ran.err
    assert "Traceback" not in ran.err
    assert not (clients.parent / "study" / "results.csv").exists()


def test_clients_without_counts_are_explained(run, clients: Path) -> None:
    clients.write_text("name,samples\na,5\nb,6\n", encoding="utf-8")
    ran = run("score", clients)
    assert ran.code == 2
    assert "count:LABEL" in ran.err


@pytest.mark.slow
def test_study_writes_report_numbers_and_picture(run, tmp_path: Path) -> None:
    arguments = ("study", "--task", "digits", "--policies", "uniform,hasa", "--seeds", "1",
                 "--rounds", "1", "--workers", "1", "--output", tmp_path / "out")  # fmt: skip
    ran = run(*arguments)
    assert ran.code == 0, ran.err
    for word in (
        "uniform",
        "hasa",
        "realised budget",
        "Widths and costs",
        "training: 2 of 2",
        "sha256",
    ):
        assert word in ran.out
    report = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "hasa-opt study --task digits" in report
    assert (tmp_path / "out" / "result.png").read_bytes().startswith(b"\x89PNG")
    again = run(*arguments, "--json")
    record = json.loads(again.out)
    assert [row["policy"] for row in record["summary"]] == ["uniform", "hasa"]


def test_command_is_installed_as_a_module_entry() -> None:
    code = "import sys; sys.argv = ['hasa-opt', 'solvers']; from hasa_opt.cli import main; main()"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "highs" in shown.stdout


@pytest.mark.slow
def test_missing_extra_is_explained() -> None:
    code = (
        "import sys, importlib.abc\n"
        "class Absent(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'torch': raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "sys.argv = ['hasa-opt', 'study']\n"
        "from hasa_opt.cli import main; main()\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "needs torch, not installed here: pip install" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys; import hasa_opt.cli; "
        "heavy = {'torch', 'cvxpy', 'pulp', 'highspy', 'matplotlib'} & set(sys.modules); "
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_mistyped_command_is_suggested_once(run) -> None:
    ran = run("alocate")
    assert ran.code == 2
    assert " ".join(ran.err.replace("│", " ").split()).count("Did you mean 'allocate'?") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--budget", "5"), "budget 5 is above the widest possible allocation (0.8)"),
        (("--budget", "0.7", "--widths", "0.2,0.6"), "budget 0.7 is above"),
        (("--budget", "1.5", "--budget-in", "flops"), "above the widest possible allocation (1)"),
        (("--policies", "hasa,foo"), "policy 'foo' is not known: choose from"),
        (("--widths", "a,b"), "--widths 'a,b'"),
    ],
)
def test_a_study_refuses_what_it_can_before_any_work(
    arguments: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    code = (
        "import sys\n"
        f"sys.argv = ['hasa-opt', 'study', '-o', {str(tmp_path / 'out')!r}, *{arguments!r}]\n"
        "from hasa_opt.cli import main\n"
        "try: main()\n"
        "finally: assert 'torch' not in sys.modules\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert words in ran.stderr
    assert "AssertionError" not in ran.stderr
    assert not (tmp_path / "out").exists()
    if "policy" in words:
        assert "recommended" in ran.stderr


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_changes_since_yesterday_have_reasons(run, tmp_path: Path, kind: str) -> None:
    from hasa_opt._utils.column_files import write_columns

    names = [f"device-{at}" for at in range(60)]
    columns = {"name": names, "samples": list(range(10, 70)), "max_width": [0.8] * 60}
    columns["drift"] = [at / 60 for at in range(60)]
    later = {name: values[3:] for name, values in columns.items()}
    later["name"] = [*names[3:59], "new"]
    later["max_width"] = [*later["max_width"][:-2], 0.35, 0.8]
    for day, own in (("old", columns), ("new", later)):
        write_columns(tmp_path / f"{day}.{kind}", own)
    how = ("--score", "drift", "--budget", "0.5")
    files = [tmp_path / f"{name}.{kind}" for name in ("old", "new", "before", "changes")]
    old, new, before, changes = files
    assert run("allocate", old, *how, "-o", before).code == 0
    ran = run("allocate", new, *how, "--previous", before, "--changes", changes)
    assert ran.code == 0, ran.err
    assert "1 joined, 4 left" in ran.out
    result = hasa.changes(_solved(later), before)
    if kind == "csv":
        with changes.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["name"] for row in rows] == list(result.names)
        assert [row["reason"] for row in rows] == list(result.reasons)
    assert "max_width is 0.35" in result.reasons[result.names.index("device-58")]


def _solved(columns: dict[str, list]) -> hasa.Allocation:
    own = dict(columns)
    scores = own.pop("drift")
    return hasa.solve(
        hasa.AllocationProblem.build(
            hasa.Clients.from_frame(own), widths=(0.2, 0.35, 0.5, 0.65, 0.8), budget=0.5,
            utility=hasa.utility.hasa(scores),
        )
    )  # fmt: skip


def test_changes_need_to_know_since_when(run, clients: Path, tmp_path: Path) -> None:
    ran = run("allocate", clients, "--changes", tmp_path / "changes.csv")
    assert ran.code == 2
    assert "--previous" in ran.err
    ran = run("allocate", clients, "--previous", tmp_path / "absent.csv")
    assert ran.code == 2
    assert "cannot read" in ran.err
    output = tmp_path / "widths.csv"
    assert run("allocate", clients, "-o", output).code == 0
    ran = run("allocate", clients, "--previous", output, "-o", output)
    assert ran.code == 2
    assert "is the input" in ran.err


def test_commands_read_parquet(run, clients: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    path = tmp_path / "fleet.parquet"
    pq.write_table(hasa.Clients.read_csv(clients).frame("pyarrow"), path)
    for command in ("score", "allocate"):
        ran = run(command, path, "--json")
        assert ran.code == 0, ran.err
        same = run(command, clients, "--json")
        found, expected = json.loads(ran.out), json.loads(same.out)
        for own in (found, expected):
            if isinstance(own, dict):
                del own["seconds"]
        assert found == expected
