"""The app that ``hasa-opt flower new`` writes: its Makefile, and what the command prints."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import TIMES
from typer.testing import CliRunner

from hasa_opt.cli import app

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")

# As Flower does: the server is found on the path, detached, and has Flower's home among its words.
FLWR = """#!/bin/sh
nohup flower-superlink --simulation --database "$FLWR_HOME/state.db" > /dev/null 2>&1 &
sleep 0.2
"""
SERVER = """#!/bin/sh
echo $$ > "$FLWR_HOME/real.pid"
while true; do sleep 0.1; done
"""


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def is_alive(process_id: int) -> bool:
    found = subprocess.run(["ps", "-p", str(process_id), "-o", "stat="], capture_output=True)
    return bool(found.stdout.strip()) and not found.stdout.strip().startswith(b"Z")


def ended(process_id: int) -> bool:
    """Whether a process ends within five seconds."""
    end = time.monotonic() + 5
    while is_alive(process_id) and time.monotonic() < end:
        time.sleep(0.05)
    return not is_alive(process_id)


@pytest.fixture(params=["app", "my app"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    directory: Path = tmp_path / request.param
    done = CliRunner().invoke(app, ["flower", "new", str(directory), "--task", "digits"])
    assert done.exit_code == 0, done.output
    executable(tmp_path / "bin" / "flwr", FLWR)
    executable(tmp_path / "bin" / "flower-superlink", SERVER)
    return directory


def make(place: Path, target: str) -> None:
    path = f"{place.parent / 'bin'}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path}
    subprocess.run(["make", target], cwd=place, env=environment, check=True, capture_output=True)


@pytest.fixture
def bystander(place: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program of somebody else that names the server and the folder, as an editor does."""
    log = place / ".flower" / "superlink.log"
    words = ["sh", "-c", "while true; do sleep 0.1; done", "flower-superlink", str(log)]
    with subprocess.Popen(words) as process:
        yield process
        process.kill()


def test_stop_ends_the_server_that_it_started_and_nothing_else(
    place: Path, bystander: subprocess.Popen[bytes]
) -> None:
    make(place, "simulate")
    server = int((place / ".flower" / "real.pid").read_text())
    assert is_alive(server)
    make(place, "stop")
    assert ended(server)
    assert is_alive(bystander.pid)
    make(place, "stop")  # Once more is no error.


def test_stop_leaves_a_process_alone_that_has_the_id_of_a_server_long_gone(place: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        (place / ".flower" / "superlink.pid").write_text(f"{stranger.pid}\n")
        make(place, "stop")
        time.sleep(0.2)
        assert stranger.poll() is None
        stranger.kill()


NAMES = st.text(st.sampled_from("ab ü'\"$`;&()*[]!#~\\"), min_size=1, max_size=12).filter(
    lambda name: name.strip() == name
)


@pytest.mark.fuzz
@settings(
    max_examples=2 * TIMES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(name=NAMES)
def test_the_printed_command_leads_into_the_app_whatever_its_name(
    tmp_path: Path, name: str
) -> None:
    directory = tmp_path / name
    shutil.rmtree(directory, ignore_errors=True)
    done = CliRunner().invoke(app, ["flower", "new", str(directory), "--task", "digits"])
    assert done.exit_code == 0, done.output
    found = re.search(r"simulate it: (cd .*) && make simulate", done.output)
    assert found is not None
    shell = subprocess.run(["sh", "-c", f"{found[1]} && pwd -P"], capture_output=True, text=True)
    assert Path(shell.stdout.rstrip("\n")) == directory.resolve()
