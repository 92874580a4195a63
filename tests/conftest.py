"""Fixtures: the program as a process and in this one, and the sample pictures."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

os.environ |= {"COLUMNS": "80", "NO_COLOR": "1", "TERMINAL_WIDTH": "80", "_TYPER_FORCE_DISABLE_TERMINAL": "1"}
# As the program asks for itself before NumPy is there; PyTorch and ImageMagick, the peers, heed the last.
os.environ |= {f"{name}_THREADS": "1" for name in ("OPENBLAS_NUM", "MKL_NUM", "BLIS_NUM", "VECLIB_MAXIMUM", "OMP_NUM")}

import pytest
from hypothesis import settings

from convcli.cli import app, apply
from pictures import tree

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


BUILD, BUILT = app._build, {}  # type: ignore[var-annotated]


def build_once(name: str, *more: Any) -> Any:
    """A command of the program, which a process builds once; so does this one."""
    if name not in BUILT:
        BUILT[name] = BUILD(name, *more)
    return BUILT[name]


@contextmanager
def piped_in(data: bytes) -> Iterator[None]:
    """Standard input with something in it."""
    with tempfile.TemporaryFile() as file, pytest.MonkeyPatch.context() as patch:
        file.write(data)
        file.seek(0)
        before = os.dup(0)
        os.dup2(file.fileno(), 0)
        try:
            with open(0, closefd=False) as stdin:
                patch.setattr(sys, "stdin", stdin)
                yield
        finally:
            os.dup2(before, 0)
            os.close(before)


@pytest.fixture
def invoke(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Callable[..., Outcome]:
    """``invoke("edge", "a.png", input=b"")``: the program in this process, in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(app, "_build", build_once)

    def call(*args: Any, input: bytes | None = None) -> Outcome:
        capfdbinary.readouterr()
        with piped_in(input) if input is not None else nullcontext():
            status = app.main(list(map(os.fspath, args)))
        return Outcome(status, *capfdbinary.readouterr())

    return call


@pytest.fixture
def refused(invoke: Callable[..., Outcome], tmp_path: Path) -> Callable[..., str]:
    """``refused(status, *args)``: the one line, after checking that it is one and that nothing was written.

    Nor is anything printed, unless there is a ``table`` to be.
    """

    def call(status: int, *args: Any, table: bool = False) -> str:
        before = tree(tmp_path)
        done = invoke(*args)
        line = done.stderr.decode()
        assert done.status == status, line
        assert table or done.stdout == b""
        assert re.fullmatch(r"convcli: \S[^\n]*\S\n", line), line
        assert "Traceback" not in line
        assert "CONVCLI_DEBUG" not in line  # as is said of what nobody thought of
        assert tree(tmp_path) == before
        return line.removeprefix("convcli: ").removesuffix("\n")

    return call


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several pictures are worked on in this process, for tests that ask nothing of the processes they usually have."""
    monkeypatch.setattr(apply, "_apart", lambda *_: False)
