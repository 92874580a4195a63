"""What the README shows is what happens."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image

README = (Path(__file__).parents[1] / "README.md").read_text()
CONSOLE = [
    (command, output)
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    for command, output in re.findall(r"^\$ (convcli .*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
]
SHELL = [
    line.partition(" #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("convcli ") and "*" not in line and ">" not in line
]


@pytest.fixture
def files(tmp_path, samples, invoke):
    shutil.copy(samples / "coffee.jpg", tmp_path / "photo.jpg")
    shutil.copy(samples / "chelsea.png", tmp_path / "photo.png")
    (tmp_path / "photos" / "trip").mkdir(parents=True)
    shutil.copy(samples / "coffee.jpg", tmp_path / "photos" / "trip" / "one.jpg")
    (tmp_path / "kernel.csv").write_text("1,2,1\n2,4,2\n1,2,1\n")
    shutil.copy(samples / "chelsea.png", tmp_path / "before.png")
    assert invoke("emboss", "before.png", "-o", "after.png").status == 0
    for name in ("sky.png", "cutout.png"):
        shutil.copy(samples / "chelsea.png", tmp_path / name)
    shutil.copy(samples / "coffee.jpg", tmp_path / "other.jpg")
    first, second = (Image.new("RGB", (9, 9), color) for color in ("red", "blue"))
    first.save(tmp_path / "dance.gif", save_all=True, append_images=[second])
    assert invoke("edge", "photo.png").status == 0
    (tmp_path / "learned.json").write_text('{"kernel": [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]}')


@pytest.mark.parametrize(("command", "output"), CONSOLE, ids=[command for command, _ in CONSOLE])
@pytest.mark.usefixtures("files")
def test_console_blocks(invoke, command, output):
    got = invoke(*shlex.split(command)[1:])
    assert (got.status, got.stdout.decode()) == (0, output)


@pytest.mark.parametrize("command", SHELL)
@pytest.mark.usefixtures("files")
def test_shell_lines(invoke, command):
    got = invoke(*shlex.split(command)[1:])
    assert (got.status, b"convcli:" in got.stderr) == (0, False), got.stderr


def test_blocks_were_found():
    assert len(CONSOLE) >= 4
    assert len(SHELL) >= 8


def test_the_report_shown_is_the_report(invoke, samples):
    shown = re.search(r"```text\n(.*?)```", README, re.DOTALL)[1]
    got = invoke("edge", samples / "coffee.jpg", "-o", "coffee.edge.jpg").stderr.decode()
    assert got.splitlines()[1:] == shown.splitlines()[1:]
