"""Fixtures: the program as a process and in this one, and the sample pictures."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ |= {"COLUMNS": "80", "NO_COLOR": "1", "TERMINAL_WIDTH": "80", "_TYPER_FORCE_DISABLE_TERMINAL": "1"}

import pytest
from hypothesis import settings

from convcli.cli.app import main

settings.register_profile("convcli", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("convcli")


class Outcome(NamedTuple):
    """What a call of the program in this process left behind."""

    status: int
    stdout: bytes
    stderr: bytes


@pytest.fixture
def samples() -> Path:
    """The folder of sample pictures."""
    return Path(__file__).parents[1] / "sample_images"


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[bytes]"]:
    """``run("edge", "a.png", input=b"")``: the program as a process of its own, in ``tmp_path``."""

    def call(*args: Any, cwd: Path = tmp_path, env: dict[str, str] | None = None, **more: Any) -> Any:
        command = [sys.executable, "-m", "convcli", *map(os.fspath, args)]
        return subprocess.run(command, capture_output=True, cwd=cwd, env=os.environ | (env or {}), timeout=60, **more)

    return call


@pytest.fixture
def invoke(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Callable[..., Outcome]:
    """``invoke("edge", "a.png")``: the program in this process, in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)

    def call(*args: Any) -> Outcome:
        capfdbinary.readouterr()
        status = main(list(map(os.fspath, args)))
        return Outcome(status, *capfdbinary.readouterr())

    return call
