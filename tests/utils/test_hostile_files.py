"""Mutated files: whatever stands in a file, it is read or refused, and no half file is left."""

from __future__ import annotations

import gzip
import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import many

from hasa_opt import AllocationProblem, Clients, Menu, tasks, utility
from hasa_opt.cli.problems import read_values
from hasa_opt.errors import InputError
from hasa_opt.federated import History
from hasa_opt.federated.history_files import CONTENT, INDEX, to_json
from hasa_opt.federated.measurements import COLUMNS, Measured, blank
from hasa_opt.study.results import read_results

WIDE = """name,samples,max_width,site,count:cat,count:d\u00f6g
phone,120,0.5,Oslo,100,20
"lap, top",80,1.0,K\u00f6ln,10,70
tablet,500,0.7,Oslo,60,440
"""
LONG = """name,label,count,samples,site
phone,cat,100,120,Oslo
phone,dog,20,120,Oslo
laptop,dog,70,70,Rome
"""
SAMPLES = "name;label\nphone;cat\nphone;cat\nlaptop;\u00fcber dog\n"
TEXTS = "who,text\n" + "".join(
    f'{client},"text {client}{word} with ""quotes"", and {word}"\n'
    for client in "ab"
    for word in ("one", "two", "three", "caf\u00e9")
)
OPTIONS = """client,option,width,epochs,per_sample:kflops,per_client:bytes
a,skip,0,0,0,0
a,"narrow, cheap",0.5,1,25,300
b,skip,0,0,0,0
b,w\u00efde,1,2,100,1200
"""
DEVICES = """device;option;per_client:seconds
old;slow;90
new;slow;20
new;fast;70
"""
UTILITIES = """name,0.25,0.5
a,-0.5,1e3
"b",0,9
"""
FLEET = Clients([10, 20], names=["a", "b"], device=["old", "new"])
RESULTS = (
    "policy,seed,client,samples,own,supernet,deployed,peak,trained,flops,bytes,realised,rounds,"
    "memory\n"
    + "".join(
        f"{policy},{seed},{client},9,0.5,0.25,0.5,0.5,0.5,40,8,0.5,2,nan\n"
        for policy in ("uniform", "hasa")
        for seed in (0, 1)
        for client in ("a", "b")
    )
)
HOSTILE = (
    *("", " ", "\u00a0", '"', '""', '"x', "'", ",", ";", "\t", "|", "\n", "\r", "\r\n", "\x00"),
    *("nan", "inf", "-1", "0", "1e999", "-0.0", "1e-400", "120.0", "1_000", "0x10", "1,5"),
    *(str(2**62), str(2**63), "9" * 400, "1e999999999", "\u0661\u0662", "\u00bd", "sep=;\n"),
    *("name", "samples", "count:", "count:cat", "label", "=1+1", "x" * 2000, "\x1a"),
    *("\u202e", "\u2028", "e\u0301", "\ufeff"),
)
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252", "latin-1", "utf-16-le", "cp037")


def mutated(text: str, rng: np.random.Generator) -> bytes:
    """A file with a few faults of characters, cells, rows, encoding, bytes or compression."""
    for _ in range(rng.integers(1, 5)):
        text = TEXT_FAULTS[rng.integers(len(TEXT_FAULTS))](text, rng)
    encoding = "utf-8" if rng.random() < 0.7 else str(rng.choice(ENCODINGS))
    data = text.encode(encoding, "replace")
    if rng.random() < 0.3:
        data = BYTE_FAULTS[rng.integers(len(BYTE_FAULTS))](data, rng)
    if rng.random() < 0.1:
        data = gzip.compress(data)
        if rng.random() < 0.5:
            data = BYTE_FAULTS[rng.integers(len(BYTE_FAULTS))](data, rng)
    return data


def at(content: Any, rng: np.random.Generator) -> int:
    return int(rng.integers(len(content) + 1))


def inserted(text: str, rng: np.random.Generator) -> str:
    place = at(text, rng)
    return text[:place] + str(rng.choice(HOSTILE)) + text[place:]


def cell_replaced(text: str, rng: np.random.Generator) -> str:
    rows = text.split("\n")
    row = int(rng.integers(len(rows)))
    cells = rows[row].split(",")
    cells[rng.integers(len(cells))] = str(rng.choice(HOSTILE))
    return "\n".join([*rows[:row], ",".join(cells), *rows[row + 1 :]])


def row_moved(text: str, rng: np.random.Generator) -> str:
    rows = text.split("\n")
    row = rows[rng.integers(len(rows))]
    if rng.random() < 0.5:
        rows.remove(row)
    rows.insert(at(rows, rng), row)
    return "\n".join(rows)


def cut(content: Any, rng: np.random.Generator) -> Any:
    start = at(content, rng)
    return content[:start] + content[start + int(rng.integers(1, 9)) :]


def truncated(content: Any, rng: np.random.Generator) -> Any:
    return content[: at(content, rng)]


def other_delimiter(text: str, rng: np.random.Generator) -> str:
    return text.replace(",", str(rng.choice([";", "\t", "|", ":"])))


def flipped(data: bytes, rng: np.random.Generator) -> bytes:
    place = at(data, rng)
    return data[:place] + bytes([rng.integers(256)]) + data[place + 1 :]


def shuffled(data: bytes, rng: np.random.Generator) -> bytes:
    start, end = sorted((at(data, rng), at(data, rng)))
    return data[:start] + data[start:end][::-1] + data[end:]


TEXT_FAULTS: tuple[Callable[[str, np.random.Generator], str], ...] = (
    *(inserted, cell_replaced, cell_replaced, row_moved, cut, truncated, other_delimiter),
)
BYTE_FAULTS: tuple[Callable[[bytes, np.random.Generator], bytes], ...] = (
    *(flipped, shuffled, cut, truncated),
)


def clients_survive(path: Path) -> None:
    """What is read is whole, and so is what is written of it."""
    clients = Clients.read_csv(path)
    assert len(clients) == len(set(clients.names)) > 0
    assert clients.samples.min() > 0
    back = path.with_name("back.csv")
    clients.to_csv(back)
    again = Clients.read_csv(back)
    assert (again.names, again.site, again.labels) == (clients.names, clients.site, clients.labels)
    assert again.samples.tolist() == clients.samples.tolist()


def texts_survive(path: Path) -> None:
    task = tasks.text_csv(path, text="text", client="who", min_count=1)
    assert task.samples.min() > 0


def results_survive(path: Path) -> None:
    back = path.with_name("back.csv")
    read_results(path).write(back)
    read_results(back)


def options_survive(path: Path) -> None:
    """A menu fits its clients, so that a problem can be built, or is refused."""
    menu = Menu.read_csv(path, FLEET)
    worth = utility.measured(np.zeros((len(FLEET), len(menu))))
    problem = AllocationProblem.build(FLEET, menu=menu, utility=worth)
    assert problem.admissible.any(axis=1).all()
    assert all(table.min() >= 0 for table in problem.resources.values())


def values_survive(path: Path) -> None:
    columns, values = read_values(path, FLEET, {})
    assert values.shape == (len(FLEET), len(columns))
    assert np.isfinite(values).all()


READERS = (
    (WIDE, clients_survive),
    (LONG, clients_survive),
    (SAMPLES, clients_survive),
    (TEXTS, texts_survive),
    (RESULTS, results_survive),
    (OPTIONS, options_survive),
    (DEVICES, options_survive),
    (UTILITIES, values_survive),
)


def attempt(survive: Callable[[Path], None], path: Path) -> str | None:
    """None if a file is read, or the message that refuses it; anything else is a fault of ours."""
    try:
        survive(path)
    except InputError as error:
        return str(error)
    except Exception as error:
        raise AssertionError(f"{survive.__name__}: {path.read_bytes()!r}") from error
    return None


@pytest.mark.fuzz
@pytest.mark.filterwarnings("ignore")
def test_mutated_tables_are_read_or_refused(tmp_path: Path) -> None:
    refusals = []
    for seed in many(560):
        text, survive = READERS[seed % len(READERS)]
        path = tmp_path / "hostile.csv"
        path.write_bytes(mutated(text, np.random.default_rng(seed)))
        refusals.append(attempt(survive, path))
        left = {file.name for file in tmp_path.iterdir()}
        assert left <= {"hostile.csv", "back.csv"}, seed
    assert not any("\n" in message for message in refusals if message)
    assert len(refusals) / 20 < refusals.count(None) < len(refusals) * 0.9


def test_files_that_are_not_mutated_are_read(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # semicolons are said
        for text, survive in READERS:
            path = tmp_path / "whole.csv"
            path.write_text(text, encoding="utf-8")
            survive(path)


def a_history() -> History:
    measured = [Measured(np.arange(3), {name: blank(name, 3) for name in COLUMNS})] * 2
    metadata = {"seed": 0, "settings": {"rounds": 2, "names": ["a", "b", "c"]}}
    return History(
        widths=np.array([0.5, 0.5, 1.0]), measured=measured, metadata=metadata,
        weights={"w": torch.ones(2)},
    )  # fmt: skip


VALUES = (None, True, -1, 2**70, 1e308, "", "x", [], [1], {}, {"round": 1}, [[]], "\ud800")


def json_mutated(text: str, rng: np.random.Generator) -> bytes:
    """Faults of characters and bytes, or of one value; half of the latter with a true digest."""
    if rng.random() < 0.5:
        faults = (inserted, cut, truncated)
        broken = faults[rng.integers(len(faults))](text, rng).encode("utf-8", "replace")
        return flipped(broken, rng) if rng.random() < 0.3 else broken
    index = json.loads(text)
    place, key = index, str(rng.choice(list(index)))
    while isinstance(place[key], dict) and place[key] and rng.random() < 0.7:
        place = place[key]
        key = str(rng.choice(list(place)))
    if rng.random() < 0.2:
        del place[key]
    else:
        place[key] = VALUES[rng.integers(len(VALUES))]
    if rng.random() < 0.5 and isinstance(index.get("sha256"), dict):
        content = {name: index.get(name) for name in CONTENT}
        index["sha256"][INDEX] = hashlib.sha256(to_json(content).encode()).hexdigest()
    return json.dumps(index).encode()


def history_survives(index: Path) -> None:
    History.load(index.parent).save(index.parents[1] / "back")


@pytest.mark.fuzz
def test_a_mutated_index_of_a_history_is_read_or_refused(tmp_path: Path) -> None:
    whole = tmp_path / "history"
    a_history().save(whole)
    text = (whole / INDEX).read_text(encoding="utf-8")
    files = {path.name for path in whole.iterdir()}
    refusals = []
    for seed in many(100):
        (whole / INDEX).write_bytes(json_mutated(text, np.random.default_rng(seed)))
        refusals.append(attempt(history_survives, whole / INDEX))
        assert {path.name for path in tmp_path.iterdir()} <= {"history", "back"}, seed
    assert {path.name for path in (tmp_path / "back").iterdir()} == files
    assert 0 < refusals.count(None) < len(refusals) / 2
