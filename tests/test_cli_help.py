"""Help, the version, the list of kernels, and completion: what a newcomer sees first."""

import json
import re

import numpy as np
import pytest

import convcli
from convcli.kernels.named import NAMED

COMMANDS = ["filter", "pool", "kernels", *NAMED]
VALUES = ["--range", "--gray", "--linear", "--alpha", "--mix"]
FILES = [
    "--output",
    "-o",
    "--format",
    "--existing",
    "--force",
    "-f",
    "--in-place",
    "--recursive",
    "-r",
    "--dry-run",
    "-n",
]
REPORT = ["--fail-fast", "--report", "--json", "--quiet", "-q", "--verbose", "-v", "--no-color", "--max-pixels"]
SHARED = [
    *VALUES,
    *FILES,
    *REPORT,
    "--method",
    "--threads",
    "--padding",
    "-p",
    "--stride",
    "-s",
    "--dilation",
    "--help",
    "-h",
]
FILTERS = ["--boundary", "-b", "--keep-size", "--flip", "--bias", "--normalize", "--pool"]
POOLS = ["--max", "--avg", "--min", "--ceil", "--exclude-pad"]


def lines_of(page):
    """The lines of a help page, checked to fit 80 columns."""
    lines = page.decode("utf-8").splitlines()
    assert max(map(len, lines)) <= 80
    return lines


def test_the_help_of_the_program(run):
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(lines_of(done.stdout)) <= 70
    page = done.stdout.decode()
    for word in (
        "Usage: convcli",
        "--version",
        "--install-completion",
        "--help",
        "-h",
        "Example",
        "convcli edge photo.jpg",
    ):
        assert word in page
    for name in COMMANDS:
        assert re.search(rf"^\W*{name}\s\s+\S", page, re.MULTILINE), name
    assert "\x1b" not in page


def test_help_is_grouped(run):
    page = run("--help").stdout.decode()
    panels = re.findall(r"^╭─ (.+?) ─", page, re.MULTILINE)
    assert len(panels) >= 4
    assert {one.panel for one in NAMED.values()} <= set(panels)


@pytest.mark.parametrize("args", [(), ("-h",)])
def test_bare_and_short_help_are_the_same(args, invoke):
    done, full = invoke(*args), invoke("--help")
    assert done == (0, full.stdout, b"")


PAGES = {}  # those with -h, by command


@pytest.fixture
def brief(invoke):
    """``brief("edge")``: what ``convcli edge -h`` gives, asked for once."""
    return lambda name: PAGES.get(name) or PAGES.setdefault(name, invoke(name, "-h"))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name, invoke, brief):
    done = invoke(name, "--help")
    assert (done.status, done.stderr) == (0, b"")
    lines = lines_of(done.stdout)
    page = "\n".join(lines)
    assert f"Usage: convcli {name}" in page
    example = re.search(r"Example: (convcli .*)", page)
    assert example
    assert example[1].startswith(f"convcli {name}")
    assert brief(name) == done


@pytest.mark.parametrize("name", NAMED)
def test_filters_show_their_arguments_and_options(name, brief):
    page = " ".join(brief(name).stdout.decode().replace("│", " ").split())
    if NAMED[name].parameters:
        assert f"Arguments and defaults: {NAMED[name].usage}" in page
    missing = [option for option in SHARED + FILTERS if not re.search(rf"(^|\s){option}(\s|,|$)", page)]
    assert missing == []


@pytest.mark.parametrize(("name", "more"), [("filter", FILTERS), ("pool", POOLS)])
def test_filter_and_pool_show_their_options(name, more, brief):
    page = " ".join(brief(name).stdout.decode().replace("│", " ").split())
    missing = [option for option in SHARED + more if not re.search(rf"(^|\s){option}(\s|,|$)", page)]
    assert missing == []
    assert ("--boundary" in page) == (name == "filter")


@pytest.mark.parametrize(
    ("option", "default"),
    [
        ("--padding", "same"),
        ("--boundary", "reflect"),
        ("--range", "clip"),
        ("--alpha", "auto"),
        ("--existing", "error"),
        ("--max-pixels", r"200[_,]?000[_,]?000"),
    ],
)
def test_defaults_that_matter_are_in_the_help(option, default, invoke):
    page = " ".join(invoke("edge", "-h").stdout.decode().replace("│", " ").split())
    described = re.search(rf" {option} (.*?)( --|$)", page)[1]
    assert re.search(rf"\[default: \(?{default}\b", described)


def test_the_help_of_a_name_with_arguments(invoke):
    done = invoke("gaussian:2", "--help")
    assert done.status == 0
    assert b"gaussian:sigma=1,size=2*ceil(3*sigma)+1" in done.stdout


@pytest.mark.parametrize("columns", ["40", "200"])
def test_help_at_other_widths(columns, run):
    env = {"COLUMNS": columns, "TERMINAL_WIDTH": columns}
    for args in (("--help",), ("edge", "--help")):
        done = run(*args, env=env)
        assert done.returncode == 0
        assert max(map(len, done.stdout.decode().splitlines())) <= int(columns)


@pytest.mark.parametrize("locale", ["C", "POSIX", "C.UTF-8"])
def test_help_in_any_locale(locale, run):
    done = run("--help", env={"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"gaussian" in done.stdout
    assert b"\\u" not in done.stdout


@pytest.mark.parametrize("args", [("--version",), ("--version", "edge"), ("--version", "--help")])
def test_version(args, run):
    done = run(*args)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"convcli {convcli.__version__}\n".encode(), b"")
    assert re.fullmatch(r"\d+\.\d+\.\d+", convcli.__version__)


def test_the_version_of_the_package_that_is_installed():
    from importlib.metadata import entry_points, version

    assert version("convcli") == convcli.__version__
    (script,) = entry_points(group="console_scripts", name="convcli")
    assert script.value == "convcli.__main__:main"


# convcli kernels


def test_the_list_of_kernels(invoke):
    done = invoke("kernels")
    assert (done.status, done.stderr) == (0, b"")
    page = done.stdout.decode()
    for name, one in NAMED.items():
        assert re.search(rf"^\s+{re.escape(one.usage)}\s\s+\S", page, re.MULTILINE), name
    for words in ("gaussian:sigma=1,size=2*ceil(3*sigma)+1", "motion:size=9,angle=0", "disk:radius=3", "box:size=3"):
        assert words in page
    for words in ("unsharp:sigma=1,amount=1", "log:sigma=1", "binomial:size=3", "dog:sigma1=1,sigma2=1.6"):
        assert words in page


def test_the_list_of_kernels_in_json(invoke):
    listing = {one["name"]: one for one in json.loads(invoke("kernels", "--json").stdout)}
    assert set(listing) == set(NAMED)
    assert listing["motion"]["arguments"] == {"size": "9", "angle": "0"}


@pytest.mark.parametrize(
    ("asked", "rows", "total"),
    [
        ("edge", [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]], "0"),
        ("sharpen", [[0, -1, 0], [-1, 5, -1], [0, -1, 0]], "1"),
        ("sobel-y", [[-1, -2, -1], [0, 0, 0], [1, 2, 1]], "0"),
        ("box:2", [[0.25, 0.25], [0.25, 0.25]], "1"),
        ("1 2; 3 4.5", [[1, 2], [3, 4.5]], "10.5"),
        ("./k.txt", [[1, 2], [3, 4]], "10"),
        ("3x2: 1,2,3,4,5,6", [[1, 2, 3], [4, 5, 6]], "21"),
    ],
)
def test_one_kernel_and_its_sum(asked, rows, total, invoke, tmp_path):
    (tmp_path / "k.txt").write_text("1 2\n3 4\n")
    done = invoke("kernels", asked)
    assert (done.status, done.stderr) == (0, b"")
    *matrix, last = done.stdout.decode().splitlines()
    assert [[float(one) for one in line.split()] for line in matrix] == rows
    assert re.fullmatch(rf"\W*sum {re.escape(total)}", last)
    data = json.loads(invoke("kernels", asked, "--json").stdout)
    assert (data["kernel"], data["sum"]) == (rows, float(total))


def test_the_sums_of_the_contract(invoke):
    zero = "edge outline laplacian ridge log dog sobel-x sobel-y scharr-x scharr-y prewitt-x prewitt-y".split()  # noqa: SIM905
    one = "identity box blur binomial gaussian motion disk sharpen unsharp emboss".split()  # noqa: SIM905
    for names, total in ((zero, 0), (one, 1)):
        for name in names:
            assert json.loads(invoke("kernels", name, "--json").stdout)["sum"] == pytest.approx(total, abs=1e-12), name


@pytest.mark.parametrize(("name", "count"), [("sobel", 2), ("roberts", 2), ("kirsch", 8), ("compass", 8)])
def test_a_filter_of_several_kernels_shows_them_all(name, count, invoke):
    done = invoke("kernels", name)
    assert (done.status, done.stderr) == (0, b"")
    assert done.stdout.decode().count("sum 0") == count
    assert np.array(json.loads(invoke("kernels", name, "--json").stdout)["kernel"]).shape[0] == count


def test_a_kernel_file_with_a_bias_shows_it(invoke, tmp_path):
    (tmp_path / "k.json").write_text('{"kernel": [[1, -1]], "bias": 0.5}')
    assert "bias 0.5" in invoke("kernels", "k.json").stdout.decode()


# Completion


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("convcli ga", "gaussian"),
        ("convcli sob", "sobel-x"),
        ("convcli fil", "filter"),
        ("convcli edge --pad", "--padding"),
    ],
)
def test_completion_in_bash(typed, offered, run):
    words = len(typed.split()) - 1
    env = {"_CONVCLI_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(words)}
    done = run(env=env)
    assert (done.returncode, done.stderr) == (0, b"")
    assert offered in done.stdout.decode().split()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell, run):
    done = run(env={"_CONVCLI_COMPLETE": f"source_{shell}"})
    assert done.returncode == 0
    assert b"_CONVCLI_COMPLETE" in done.stdout
