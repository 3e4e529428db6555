"""Files appear whole or not at all, with one clear error."""

from __future__ import annotations

import io
import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hasa_opt import Clients
from hasa_opt._utils.files import made_directory, write_text, writing
from hasa_opt.errors import InputError, StorageError

FULL = Path("/dev/full")


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_file_appears_when_all_is_written(tmp_path):
    path = tmp_path / "a.txt"
    with writing(path) as file:
        file.write("new\n")
        assert not path.exists()
    assert contents(tmp_path) == {"a.txt": "new\n"}
    with writing(path, "wb") as file:
        file.write(b"\x00")
        assert path.read_text() == "new\n"
    assert path.read_bytes() == b"\x00"


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError, InputError])
def test_whatever_stops_the_writing_what_was_there_is_intact(tmp_path, failure):
    path = tmp_path / "a.txt"
    write_text(path, "before")

    def stopped():
        with writing(path) as file:
            file.write("half")
            raise failure

    with pytest.raises(failure):
        stopped()
    assert contents(tmp_path) == {"a.txt": "before"}


def test_a_disk_that_does_not_take_it_gives_one_error(tmp_path):
    """The process may write 4 kB: the system refuses the rest, as a full disk does."""
    path = tmp_path / "a.csv"
    clients = Clients(np.arange(1, 2001))
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        write_text(path, "before")
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, old[1]))
        with pytest.raises(StorageError, match=r"a\.csv cannot be written .*is intact"):
            clients.to_csv(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert contents(tmp_path) == {"a.csv": "before"}


@pytest.mark.skipif(not FULL.exists(), reason="the system has no /dev/full")
def test_a_full_device_gives_the_same_error():
    with pytest.raises(StorageError, match="No space left on device"):
        write_text(FULL, "text")


def test_a_character_that_no_file_can_hold_leaves_no_file(tmp_path):
    with pytest.raises(InputError, match="cannot be stored as UTF-8"):
        write_text(tmp_path / "a.txt", "header\n" + "phone\ud800\n")
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("absent/a.csv", "absent does not exist: create it first"),
        ("", "is a folder"),
        ("a" * 300, "cannot be a file"),
        ("a\x00b", "cannot be a file"),
    ],
)
def test_a_place_where_no_file_can_be_is_refused(tmp_path, name, words):
    with pytest.raises(InputError, match=words):
        Clients([1]).to_csv(tmp_path / name)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("place", [io.StringIO(), 5, None])
def test_what_is_no_path_is_refused(place):
    with pytest.raises(InputError, match=r"is a .*: give a path"):
        Clients([1]).to_csv(place)
    with pytest.raises(InputError, match=r"is a .*: give a path"):
        made_directory(place)


def test_links_are_followed_and_permissions_kept(tmp_path):
    path, link = tmp_path / "a.txt", tmp_path / "link.txt"
    write_text(path, "before")
    os.chmod(path, 0o640)
    link.symlink_to(path)
    write_text(link, "after")
    assert link.is_symlink()
    assert path.read_text() == "after"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    write_text(tmp_path / "new.txt", "")
    (tmp_path / "plain.txt").touch()
    plain = (tmp_path / "plain.txt").stat().st_mode
    assert (tmp_path / "new.txt").stat().st_mode == plain


def test_standard_output_is_written_to_as_it_is():
    program = "from hasa_opt import Clients; Clients([5]).to_csv('/dev/stdout')"
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ended.stdout.splitlines() == ["name,samples", "client-0,5"]


def test_the_allocation_side_writes_files_without_the_learning_side():
    program = (
        "import sys; sys.modules['safetensors'] = sys.modules['torch'] = None\n"
        "from hasa_opt import Clients; import hasa_opt.cli, os\n"
        "Clients([5]).to_csv(os.devnull)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
