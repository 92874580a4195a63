"""What the README shows is what happens."""

import contextlib
import re
import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image

from convcli.cli.app import main

SAMPLES = Path(__file__).parents[1] / "sample_images"
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
    if line.startswith("convcli ") and not any(word in line for word in ("*", ">", "--watch", "--cluster"))
]


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """The files that the README speaks of, parts of sample pictures."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "photos" / "trip").mkdir(parents=True)
    with Image.open(SAMPLES / "coffee.jpg") as coffee, Image.open(SAMPLES / "chelsea.png") as cat:
        for name in ("photo.jpg", "other.jpg", "photos/trip/one.jpg"):
            coffee.crop((200, 100, 440, 260)).save(folder / name)
        for name in ("photo.png", "before.png", "sky.png", "cutout.png"):
            cat.crop((90, 60, 290, 220)).save(folder / name)
    (folder / "kernel.csv").write_text("1,2,1\n2,4,2\n1,2,1\n")
    first, second = (Image.new("RGB", (9, 9), color) for color in ("red", "blue"))
    first.save(folder / "dance.gif", save_all=True, append_images=[second])
    (folder / "learned.json").write_text('{"kernel": [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]}')
    for command in (["emboss", "before.png", "-o", "after.png", "-q"], ["edge", "photo.png", "-q"]):
        with contextlib.chdir(folder):
            assert main(command) == 0
    return folder


@pytest.fixture
def files(stock, tmp_path, invoke):
    shutil.copytree(stock, tmp_path, dirs_exist_ok=True)


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
