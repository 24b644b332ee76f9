"""One file, many writers: no line is torn, none is lost, and nothing that happens to the file hurts who writes."""

import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from shared.log_file import LogFile, backup

PLENTY = 2**30


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """In a folder that is not there yet."""
    return tmp_path / "logs" / "calculator.add.log"


def everything(path: Path) -> list[str]:
    """All lines, of the old files too."""
    return [line for file in path.parent.glob(f"{path.name}*") for line in file.read_text().splitlines()]


def test_nothing_is_there_before_the_first_line(path: Path) -> None:
    file = LogFile(path, PLENTY, 1)
    assert not path.parent.exists()
    file.append("one\n")
    assert path.read_text() == "one\n"


@pytest.mark.parametrize("how", ["removed", "moved", "folder removed"])
def test_a_file_that_somebody_took_away_is_made_anew(path: Path, how: str) -> None:
    # Given a file that is open
    file = LogFile(path, PLENTY, 1)
    file.append("one\n")
    # When somebody takes it away
    match how:
        case "removed":
            path.unlink()
        case "moved":
            path.rename(path.with_suffix(".old"))
        case _:
            path.unlink()
            path.parent.rmdir()
    # Then the next line begins a new one
    assert file.append("two\n") is None
    assert path.read_text() == "two\n"


def test_it_turns_over_by_size_and_keeps_so_many_old_ones(path: Path) -> None:
    # Given room for two lines a file, and two old files
    file = LogFile(path, 20, 2)
    for number in range(9):
        file.append(f"line {number:04}\n")
    # Then the last lines are there, the newest in the file itself
    assert [backup(path, number).read_text().split() for number in range(3)] == [
        ["line", "0008"],
        ["line", "0006", "line", "0007"],
        ["line", "0004", "line", "0005"],
    ]
    assert not backup(path, 3).exists()


def test_a_line_that_is_larger_than_a_file_is_written_whole(path: Path) -> None:
    file = LogFile(path, 10, 2)
    file.append("x" * 50 + "\n")
    assert path.read_text() == "x" * 50 + "\n" and not backup(path, 1).exists()


def test_without_old_files_it_begins_anew(path: Path) -> None:
    file = LogFile(path, 10, 0)
    file.append("12345678\n")
    file.append("abcdefgh\n")
    assert everything(path) == ["abcdefgh"]


_WRITER = """
import sys
from pathlib import Path
from shared.log_file import LogFile
file = LogFile(Path(sys.argv[1]), 50_000, 1000)
for number in range(2000):
    file.append(f"<{sys.argv[2]}:{number}:{'x' * (number % 200)}>\\n")
"""


def test_eight_processes_write_whole_lines_while_the_file_turns_over(path: Path) -> None:
    # Given eight processes, and a file that turns over every few hundred lines
    command = [sys.executable, "-c", _WRITER, str(path)]
    writers = [subprocess.Popen([*command, str(writer)]) for writer in range(8)]
    # When they write at once
    assert [process.wait(60) for process in writers] == [0] * 8
    # Then it did turn over, and every line is there, whole, once
    assert backup(path, 1).exists()
    expected = {f"<{writer}:{number}:{'x' * (number % 200)}>" for writer in range(8) for number in range(2000)}
    assert Counter(everything(path)) == Counter(expected)


def test_a_fork_while_another_thread_writes_does_not_stop_the_child(path: Path) -> None:
    # Given a thread that is in the middle of a write
    file = LogFile(path, PLENTY, 1)
    inside, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with file._guard:
            inside.set()
            go_on.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(10)
    # When the process forks, and the child writes
    child = os.fork()
    if child == 0:
        file.append("from the child\n")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    go_on.set()
    thread.join()
    # Then it did not wait for a thread that it does not have
    assert status == 0 and path.read_text() == "from the child\n"


def test_a_place_where_nothing_can_be_written_is_told_once(tmp_path: Path) -> None:
    # Given a folder that cannot be
    (tmp_path / "file").write_text("")
    file = LogFile(tmp_path / "file" / "logs" / "add.log", PLENTY, 1)
    # When lines are written
    said = [file.append("one\n") for _ in range(3)]
    # Then none raises, and the reason is given once
    assert said[0] is not None and "Not a directory" in said[0]
    assert said[1:] == [None, None]


_FULL = """
import resource, sys
from pathlib import Path
from shared.log_file import LogFile
path = Path(sys.argv[1])
file = LogFile(path, 2**30, 1)
# The kernel takes 25 bytes and no more: as a full disk does, in the middle of a line.
resource.setrlimit(resource.RLIMIT_FSIZE, (25, resource.RLIM_INFINITY))
said = [file.append("123456789\\n") for _ in range(5)]
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
said.append(file.append("after\\n"))
print([bool(one) for one in said])
"""


def test_a_full_disk_loses_lines_and_spoils_none_that_comes_after(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FULL, str(path)], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "[False, False, True, False, False, False]"
    assert path.read_text().splitlines() == ["123456789", "123456789", "12345", "after"]


def test_a_link_that_somebody_put_there_is_not_followed(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    path.parent.mkdir()
    path.symlink_to(target)
    assert LogFile(path, PLENTY, 1).append("one\n") is not None
    assert not target.exists()
