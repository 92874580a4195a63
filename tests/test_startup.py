"""What a call imports: the difference between a command that answers at once and one that does not."""

import subprocess
import sys

import pytest

HEAVY = {"numpy", "safetensors", "PIL"}
CALLS = {
    "--version": ("--version",),
    "--help": ("--help",),
    "bare": (),
    "the help of a filter": ("edge", "--help"),
    "the help of filter": ("filter", "-h"),
    "the help of pool": ("pool", "-h"),
    "the list of kernels": ("kernels",),
    "a mistyped name": ("sobl", "a.png"),
}


@pytest.fixture
def imported(run):
    """``imported(*args)``: the status of a call and every module it imported, as Python itself reports them."""

    def call(*args, env=None, **more):
        done = run(*args, env={"PYTHONPROFILEIMPORTTIME": "1"} | (env or {}), **more)
        lines = [line for line in done.stderr.decode().splitlines() if line.startswith("import time:")]
        modules = {line.rpartition("|")[2].strip() for line in lines}
        assert "convcli.cli.app" in modules
        return done.returncode, {name.partition(".")[0] for name in modules}, modules

    return call


@pytest.mark.parametrize("call", CALLS)
def test_help_and_version_import_nothing_heavy(call, imported):
    status, packages, _ = imported(*CALLS[call])
    assert status == (2 if call == "a mistyped name" else 0)
    assert not packages & HEAVY


def test_version_imports_no_rich(imported):
    assert not imported("--version")[1] & (HEAVY | {"rich"})


@pytest.mark.parametrize(
    ("typed", "shell"),
    [
        *((typed, "bash") for typed in ("convcli ga", "convcli edge --pad", "convcli filter a")),
        *(("convcli edge --pad", shell) for shell in ("zsh", "fish", "powershell")),
    ],
)
def test_completion_imports_nothing_heavy(typed, shell, imported):
    env = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1), "_TYPER_COMPLETE_ARGS": typed}
    env |= {"_CONVCLI_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    env |= {"_TYPER_COMPLETE_WORD_TO_COMPLETE": typed.split()[-1]}
    status, packages, _ = imported(env=env)
    assert status == 0
    assert not packages & HEAVY


RUNS = {
    "PNG to PNG": ("edge", "text-6x8.png", "-o", "out.png"),
    "JPEG to stdout": ("blur", "coffee.jpg", "-o", "-"),
    "JSON": ("edge", "text-6x8.png", "-o", "out.png", "--json"),
    "a matrix": ("filter", "[0 1 2; 3 4 5; 6 7 8]", "-k", "0 1; 2 3", "-p", "valid"),
    "a pool": ("pool", "text-6x8.png", "--max", "2", "-o", "out.png", "-v"),
    "a failure": ("edge", "nothing.png"),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_whose_errors_go_to_a_file_imports_no_rich(name, imported, samples, tmp_path):
    for source in ("text-6x8.png", "coffee.jpg"):
        (tmp_path / source).write_bytes((samples / source).read_bytes())
    status, packages, modules = imported(*RUNS[name])
    assert status == (name == "a failure")
    assert "rich" not in packages
    assert not modules & {"scipy", "pydantic", "numpy.testing", "PIL.ImageQt", "asyncio", "unittest", "xml.etree"}


def test_a_matrix_needs_no_pillow(imported):
    status, packages, _ = imported("filter", "[1 2; 3 4]", "-k", "2")
    assert status == 0
    assert "PIL" not in packages


def test_a_png_loads_no_other_plug_in(imported, samples, tmp_path):
    (tmp_path / "a.png").write_bytes((samples / "text-6x8.png").read_bytes())
    _, _, modules = imported("edge", "a.png")
    plugins = {name for name in modules if name.startswith("PIL.") and name.endswith("ImagePlugin")}
    assert plugins == {"PIL.PngImagePlugin"}


def loaded(code):
    """The names of the packages among those we look at that are loaded after some code."""
    script = f"import sys\n{code}\nprint(*sorted({{'numpy', 'PIL', 'rich', 'typer'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, timeout=60)
    return done.stdout.decode().split()


def test_the_package_alone_imports_nothing():
    assert loaded("import convcli") == []
    assert loaded("import convcli; convcli.__version__; convcli.ConvcliError; dir(convcli)") == []


def test_the_first_use_of_a_name_imports_numpy_and_no_more():
    assert loaded("import convcli; convcli.filter2d([[1, 2]], '1')") == ["numpy"]
    assert loaded("import convcli; convcli.kernel('gaussian:2')") == ["numpy"]
    assert loaded("import convcli; convcli.conv2d([[1, 2]], [[1]])") == ["numpy"]
    assert loaded("from convcli import max_pool2d; max_pool2d([[1, 2]], 1)") == ["numpy"]


def test_a_run_imports_only_what_it_needs(imported, samples, tmp_path):
    status, _, modules = imported("edge", samples / "chelsea.png", "-o", tmp_path / "a.png", "-q")
    needless = {
        "urllib.request",
        "ssl",
        "mimetypes",
        "tempfile",
        "fsspec",
        "upath",
        "distributed",
        "watchfiles",
        "rich",
    }
    assert (status, modules & needless) == (0, set())


DECODES = """
import sys
from pathlib import Path

from PIL import ImageFile

from convcli.images import bands, reading

class Refusal:
    def find_spec(self, name, *_):
        if name == "numpy":
            raise SystemExit(f"{rows} rows")

def prepare(image, before=ImageFile.ImageFile.load_prepare):
    global rows
    rows += image.height
    before(image)

rows, bands.LEAST_PIXELS = 0, 1
ImageFile.ImageFile.load_prepare = prepare
sys.meta_path.insert(0, Refusal())
reading.read_frames(Path(sys.argv[1]), threads=2)
"""


@pytest.mark.parametrize("name", ["coffee.jpg", "coffee.png"])
def test_a_picture_is_decoded_while_numpy_is_still_on_its_way(name, samples):
    done = subprocess.run([sys.executable, "-c", DECODES, samples / name], capture_output=True, check=False)
    assert done.stderr.decode() == "400 rows\n"
