"""What goes wrong: one line on standard error, the right exit status, nothing written, no traceback."""

import gzip
import io
import json
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convcli.kernels.named import NAMED
from pictures import chunk


def picture(path, shape=(5, 6)):
    Image.fromarray(np.arange(shape[0] * shape[1], dtype=np.uint8).reshape(shape)).save(path)
    return path


def png_that_claims(width, height):
    """A PNG file of 69 bytes, whatever its header says."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 2).ljust(12, b"\0"))
    return data + chunk(b"IEND", b"")


@pytest.fixture
def a(tmp_path):
    return picture(tmp_path / "a.png")


# Commands and options

TYPED = {
    "sobl a.png": "there is no command 'sobl'; did you mean 'sobel'",
    "gausian:2 a.png": "there is no command 'gausian:2'; did you mean 'gaussian'",
    "fliter a.png": "there is no command 'fliter'; did you mean 'filter'",
    "nonsense a.png": "there is no command 'nonsense'",
    "a.png": "a command comes first, as in convcli edge a.png",
    "a.png edge": "a command comes first, as in convcli edge a.png",
    "edge a.png --paddding same": "--paddding",
    "edge a.png -x": "-x",
    "edge --boundary": "--boundary",
    "edge a.png -s 0": "--stride: ",
    "edge a.png -s -1": "--stride: ",
    "edge a.png -s 2x": "--stride: ",
    "edge a.png -s 2x0": "--stride: ",
    "edge a.png -s 1.5": "--stride: ",
    "edge a.png -s two": "--stride: ",
    "edge a.png -s 2x3x4": "--stride: ",
    "edge a.png -s 99999999999": "--stride: ",
    "edge a.png --dilation 0": "--dilation: ",
    "edge a.png --dilation -2": "--dilation: ",
    "edge a.png -p around": "--padding: ",
    "edge a.png -p -1": "--padding: ",
    "edge a.png -p 1,2,3": "--padding: ",
    "edge a.png -p 1,2,3,-4": "--padding: ",
    "edge a.png -p 1.5": "--padding: ",
    "edge a.png -b around": "--boundary: must be zero, edge, reflect, symmetric, wrap, mirror or a number",
    "edge a.png -b nan": "--boundary: ",
    "edge a.png -b 128": "--boundary: pictures are fractions of white, from 0 to 1, not 128; is 0.502 meant?",
    "edge a.png -b 150%": "--boundary: ",
    "edge a.png --bias 128": "is 0.502 meant?",
    "edge a.png --bias -128": "is -0.502 meant?",
    "edge a.png --bias 32768": "is 0.500 meant?",
    "edge a.png --bias much": "--bias: must be a number or a percentage",
    "edge a.png --bias inf": "--bias: ",
    "edge a.png --bias %": "--bias: ",
    "edge a.png --keep-size -p valid": "--keep-size: ",
    "edge a.png --pool max": "--pool: ",
    "edge a.png --pool max:0": "--pool: ",
    "edge a.png --pool median:2": "--pool: ",
    "edge a.png --pool max:2,steps=2": "--pool: ",
    "edge a.png --pool max:2,stride=0": "--pool: ",
    "edge a.png --pool max:2,padding=2": "padding of a pool must be smaller than its window",
    "edge a.png --normalize": "--normalize: 'edge' sums to 0",
    "log a.png --normalize": "--normalize: 'log' sums to 0",
    "sobel a.png --normalize": "--normalize: 'sobel' is a filter, not a kernel",
    "kirsch a.png --normalize": "--normalize: 'kirsch' is a filter, not a kernel",
    "edge a.png --range all": "--range: ",
    "edge a.png --range none": "--range: none keeps floats, which PNG can't",
    "edge a.png --range none -o b.jpg": "--range: none keeps floats, which JPEG can't",
    "edge a.png --alpha none": "--alpha: ",
    "edge a.png --mix 130%": "--mix: must be from 0% to 100%",
    "edge a.png --mix -1%": "--mix: ",
    "edge a.png --mix some": "--mix: ",
    "edge a.png --existing ask": "--existing: ",
    "edge a.png --format docx": "format must be one of",
    "edge a.png -o b.docx": "b.docx: the suffix must be one of",
    "edge a.png -o b": "b: the suffix must be one of",
    "edge a.png --report r.pdf": "--report: must end in .json .csv .md .txt .html",
    "edge a.png --report r": "--report: must end in .json .csv .md .txt .html",
    "edge a.png --max-pixels 0": "--max-pixels: ",
    "edge a.png --max-pixels many": "--max-pixels: ",
    "edge a.png --threads 0": "--threads: ",
    "edge a.png --threads -1": "--threads: ",
    "edge a.png --method magic": "method must be one of auto, ",
    "edge a.png --method rowgemm": "did you mean 'row-gemm'",
    "gaussian:0 a.png": "gaussian: sigma must be a number from ",
    "gaussian:-1 a.png": "gaussian: sigma must be",
    "gaussian:nan a.png": "gaussian: sigma must be",
    "gaussian:x a.png": "gaussian: sigma must be",
    "gaussian:1,2,3 a.png": "gaussian: '3' is one value too many",
    "gaussian:sigam=2 a.png": "did you mean 'sigma'",
    "gaussian:sigma=2,sigma=3 a.png": "gaussian: sigma is given twice",
    "box:2.5 a.png": "box: size must be a whole number",
    "box:0 a.png": "box: size must be",
    "box:99999999 a.png": "box: size must be",
    "motion:angle=up a.png": "motion: angle must be a number",
    "edge:2 a.png": "edge: '2' is one value too many; it takes none",
    "pool a.png": "pool: give one of --max, --avg and --min",
    "pool a.png --max 2 --min 2": "pool: give one of --max, --avg and --min",
    "pool a.png --max 0": "--max: ",
    "pool a.png --max 2x": "--max: ",
    "pool a.png --max 2 -s 0": "--stride: ",
    "pool a.png --max 2 -p 2": "padding of a pool must be smaller than its window",
    "pool a.png --max 2x3 -p 1x3": "padding of a pool must be smaller than its window",
    "pool a.png --max 2 --exclude-pad": "--exclude-pad: goes with --avg",
    "pool a.png --avg 2 --dilation 2": "--dilation: goes with --max and --min",
    "pool a.png --max 2 -b zero": "-b",
    "filter a.png -k 3x3": "'3x3' is a size, not a kernel",
    "filter a.png -k 5x7": "'5x7' is a size, not a kernel",
    "filter a.png -k sobl": "did you mean 'sobel'",
    "filter a.png -k nonsense": "no kernel is named 'nonsense'",
    "filter a.png -k nothing.json": "no such kernel file: 'nothing.json'",
    "filter a.png -k ./nothing": "no such kernel file: './nothing'",
    "filter a.png -k box:x": "box: size must be",
    "filter a.png -k edge --normalize": "--normalize: 'edge' sums to 0",
    "filter a.png -k filter": "no kernel is named 'filter'",
    "kernels sobl": "did you mean 'sobel'",
    "kernels 3x3": "'3x3' is a size",
    "kernels a b": "b",
}


@pytest.mark.parametrize("typed", TYPED)
def test_wrong_from_the_start(typed, refused, a):
    assert TYPED[typed] in refused(2, *typed.split(" "))


@pytest.mark.parametrize(
    "typed", ["filter a.png", "filter a.png --kernel", "filter -k edge", "pool --max 2", "edge -q"]
)
def test_what_is_missing_is_named(typed, refused, a):
    line = refused(2, *typed.split(" "))
    assert ("-k" if "filter a.png" in typed else "INPUT") in line
    assert not line.endswith(":")


@pytest.mark.parametrize("name", ["edge", "filter", "pool", "gaussian:2"])
def test_a_command_alone_is_no_empty_error(name, invoke):
    done = invoke(name)
    assert done.status == 2
    if done.stdout:
        assert b"Usage: convcli" in done.stdout
        assert done.stderr == b""
    else:
        assert re.fullmatch(rb"convcli: [^\n]*(INPUT|--kernel|--max)[^\n]*\n", done.stderr)


@pytest.mark.parametrize("option", ["--padding", "-b", "--existing", "--alpha", "--range"])
def test_words_that_are_allowed_are_listed(option, refused, a):
    line = refused(2, "edge", "a.png", option, "nonsense")
    known = {
        "--padding": "same",
        "-b": "reflect",
        "--existing": "rename",
        "--alpha": "premultiply",
        "--range": "minmax",
    }
    assert "nonsense" in line
    assert known[option] in line


def test_no_work_before_an_error_that_can_be_known(refused, a, tmp_path):
    """One bad option, several good inputs and a missing one: nothing is read."""
    picture(tmp_path / "b.png")
    assert "--stride" in refused(2, "edge", "a.png", "b.png", "nothing.png", "-s", "0", "-o", "out/")


# Kernels

KERNELS = {
    "": "empty",
    "  ": "empty",
    ";": "empty",
    "[]": "empty",
    "[[]]": "empty",
    "1 2; 3": "row 2 has length 1, but row 1 has 2",
    "1 2 3; 4 5 6; 7 8": "row 3 has length 2, but row 1 has 3",
    "[[1, 2], [3]]": "ragged",
    "[[1, 2], 3]": "",
    "1 x; 2 3": "row 1, column 2: 'x' is not a finite number",
    "1 2; 3 1e": "row 2, column 2: '1e' is not a finite number",
    "1 nan; 2 3": "'nan' is not a finite number",
    "1 inf; 2 3": "'inf' is not a finite number",
    "1 -Infinity; 2 3": "'-Infinity' is not a finite number",
    "1 1e999; 2 3": "'1e999' is not a finite number",
    "1/0 1": "'1/0' is not a finite number",
    "1/2/3 1": "'1/2/3' is not a finite number",
    "[[1, NaN], [2, 3]]": "not a finite number",
    "[[1, Infinity], [2, 3]]": "not a finite number",
    "[[1, 1e999], [2, 3]]": "not a finite number",
    "[[1, null], [2, 3]]": "not a finite number",
    "[[1, true], [2, 3]]": "not a finite number",
    '[["1", 2], [2, 3]]': "not a finite number",
    "[[1, 2], [3, 4]": "",
    "[1 2; 3 4": "",
    "[[[[[1]]]]]": "2 to 4",
    "3x2: 1,2,3": "3x2 (width x height) needs 6 numbers, not 3",
    "3x2: 1,2,3,4,5,x": "'x' is not a finite number",
    "0x3:": "",
    "3x3:": "",
    '{"bias": 1}': '"kernel"',
    '{"kernel": [[1]], "bias": "x"}': "bias must be a finite number",
    '{"kernel": [[1]], "bias": NaN}': "bias must be a finite number",
    '{"kernel": [[1]]': "JSON",
    "1 2 3 4 5 6 7 8 9 10 eleven 12": "'eleven' is not a finite number",
}


@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_that_are_none(kernel, refused, a):
    line = refused(2, "filter", "a.png", "-k", kernel)
    assert line.startswith("-k: ")
    assert KERNELS[kernel] in line


def saved(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def npy_that_claims(shape, dtype="<f8"):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


KERNEL_FILES = {
    "empty.txt": (b"", "empty"),
    "empty.json": (b"", "JSON"),
    "empty.toml": (b"", '"kernel"'),
    "empty.npy": (b"", "npy"),
    "empty.npz": (b"", "npz"),
    "empty.mat": (b"", ".mat"),
    "ragged.csv": (b"1,2\n3\n", "row 2 has length 1"),
    "holes.csv": (b"1,2,3\n4,,6\n", ""),
    "nan.txt": (b"1 nan\n", "'nan'"),
    "ragged.json": (b"[[1,2],[3]]", "ragged"),
    "deep.json": (b"[" * 100_000, "JSON"),
    "words.toml": (b"kernel = 'edge'\n", ""),
    "broken.toml": (b"kernel = [[1, 2]\n", "TOML"),
    "nan.npy": (npy(np.array([[np.nan]])), "NaN or infinity"),
    "complex.npy": (npy(np.array([[1j]])), "complex"),
    "text.npy": (npy(np.array([["a"]])), ""),
    "object.npy": (npy(np.array([[{}]], object), allow_pickle=True), "pickle"),
    "one-axis.npy": (npy(np.array([1.0, 2])), "axes"),
    "five-axes.npy": (npy(np.ones((1, 1, 1, 1, 1))), "axes"),
    "no-rows.npy": (npy(np.ones((0, 3))), ""),
    "short.npy": (npy(np.ones((9, 9)))[:-8], "damaged"),
    "bomb.npy": (npy_that_claims((10**6, 10**6)), "1,000,000,000,000 values"),
    "negative.npy": (npy_that_claims((-1, -3)), ""),
    "two.npz": (saved(a=np.ones((2, 2)), b=np.ones((2, 2))), "one array"),
    "words.npz": (saved(kernel=np.array([["a"]])), ""),
    "bad-bias.npz": (saved(kernel=np.ones((2, 2)), bias=np.array([1.0, 2, 3])), "bias"),
    "nan-bias.npz": (saved(kernel=np.ones((2, 2)), bias=np.nan), "bias"),
    "not.npz": (b"PK\3\4 nothing", "npz"),
    "short.mat": (b"3 3 9\n1 1 1\n", "3x3"),
    "header.mat": (b"a b\n1\n", ".mat"),
    "zero.mat": (b"1 1 0\n1\n", "scale"),
    "latin.txt": ("1 2 é".encode("latin-1"), "UTF-8"),
    "picture.png": (b"no picture", "not a picture"),
    "cut.png": (png_that_claims(5, 5)[:40], ""),
    "gzip.json": (gzip.compress(b"[[1]]"), ""),
}


@pytest.mark.parametrize("name", KERNEL_FILES)
def test_kernel_files_that_are_none(name, refused, a, tmp_path):
    data, reason = KERNEL_FILES[name]
    (tmp_path / name).write_bytes(data)
    line = refused(2, "filter", "a.png", "-k", name)
    assert line.startswith("-k: ")
    assert name in line
    assert reason in line


def test_a_folder_as_kernel(refused, a, tmp_path):
    (tmp_path / "k").mkdir()
    refused(2, "filter", "a.png", "-k", "./k")
    (tmp_path / "k.json").mkdir()
    refused(2, "filter", "a.png", "-k", "k.json")


@pytest.mark.parametrize(
    ("data", "word"), [(b"", b"empty"), (b"1 2; 3", b"row 2"), (b"\xff\xfe", b"UTF-8"), (b"hello", b"hello")]
)
def test_a_bad_kernel_from_standard_input(data, word, invoke, a):
    done = invoke("filter", "a.png", "-k", "-", input=data)
    assert (done.status, done.stdout) == (2, b"")
    assert re.fullmatch(rb"convcli: -k: [^\n]*" + word + rb"[^\n]*\n", done.stderr)


def test_a_kernel_sum_of_zero_by_cancellation(refused, invoke, a):
    assert "sums to 0" in refused(2, "filter", "a.png", "-k", "0.1 0.2 -0.3", "--normalize")
    assert invoke("filter", "a.png", "-k", "1e-9 1e-9", "--normalize", "-q").status == 0


def test_filters_that_are_no_kernels_are_refused_in_one_sentence(invoke):
    import convcli

    for name in ("sobel", "scharr", "prewitt", "roberts", "kirsch", "compass"):
        with pytest.raises(convcli.ConvcliError, match=f"'{name}' is a filter, not a kernel"):
            convcli.kernel(name)


# Inputs


@pytest.fixture
def bad(tmp_path, samples):
    """Files that are no pictures, by name."""
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("This is no picture.\n")
    (tmp_path / "page.jpg").write_text("<!doctype html>")
    (tmp_path / "head.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "array.png").write_bytes(npy(np.ones((3, 3))))
    (tmp_path / "vector.svg.png").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    for name in ("coffee.jpg", "coffee.png"):
        data = (samples / name).read_bytes()
        for share in (3, 50, 97):
            (tmp_path / f"cut{share}-{name}").write_bytes(data[: len(data) * share // 100])
    image = Image.open(samples / "text-6x8.png")
    for kind in ("tiff", "webp", "bmp", "gif"):
        buffer = io.BytesIO()
        image.resize((99, 99)).save(buffer, kind)
        (tmp_path / f"cut.{kind}").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    image.close()
    data = bytearray((samples / "camera.png").read_bytes())
    data[5000:5100] = bytes(100)
    (tmp_path / "damaged.png").write_bytes(data)
    return tmp_path


BAD = {
    "empty.png": "",
    "text.png": "not a picture",
    "page.jpg": "not a picture",
    "head.png": "",
    "array.png": "not a picture",
    "vector.svg.png": "not a picture",
    "cut3-coffee.jpg": "truncated",
    "cut50-coffee.jpg": "truncated",
    "cut97-coffee.jpg": "truncated",
    "cut3-coffee.png": "truncated",
    "cut50-coffee.png": "truncated",
    "cut97-coffee.png": "truncated",
    "cut.tiff": "",
    "cut.webp": "",
    "cut.bmp": "truncated",
    "cut.gif": "truncated",
    "damaged.png": "",
}


@pytest.mark.parametrize("name", BAD)
def test_files_that_are_no_pictures(name, refused, bad):
    line = refused(1, "edge", name)
    assert line.startswith(f"{name}: ")
    assert BAD[name] in line


def test_an_empty_file_is_called_empty(refused, bad):
    assert "empty" in refused(1, "edge", "empty.png")


def test_all_of_them_in_one_call(invoke, bad):
    picture(bad / "good.png")
    done = invoke("edge", *BAD, "good.png", "-q")
    assert (done.status, done.stdout) == (1, b"good.edge.png\n")
    assert [line.split(": ")[1] for line in done.stderr.decode().splitlines()] == list(BAD)


@pytest.mark.parametrize(
    "name", ["nothing.png", "no/such/folder.png", "a.png/b.png", "nothing.npy", "nothing", "nothing/"]
)
def test_no_such_file(name, refused, a):
    assert "no such file" in refused(1, "edge", name, "-o", "out.png")


@pytest.mark.parametrize("args", [("-f",), ("--in-place",), ("-o", "out/"), ("-o", "out.png"), ("-r", "--in-place")])
def test_an_empty_name_is_not_the_folder_one_stands_in(args, refused, a):
    """As when a script's ``convcli edge "$f" --in-place`` finds ``f`` unset."""
    assert "no such file" in refused(1, "edge", "", *args)


def test_an_empty_output_is_not_the_folder_one_stands_in(refused, a, tmp_path):
    (tmp_path / "sub").mkdir()
    picture(tmp_path / "sub/b.png")
    assert "-o" in refused(2, "edge", "sub/b.png", "-o", "")


@pytest.mark.parametrize(
    "args", [("empty", "-o", "out/"), ("empty", "-r", "-o", "out/"), ("texts", "-o", "out/"), ("empty", "--in-place")]
)
def test_a_folder_without_pictures(args, refused, tmp_path):
    (tmp_path / "empty/deeper").mkdir(parents=True)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").write_text("1 2\n")
    (tmp_path / "texts/m.npy").write_bytes(npy(np.ones((2, 2))))
    (tmp_path / "texts/.b.png").write_bytes(b"")
    assert refused(1, "edge", *args).startswith(f"{args[0]}: a folder without pictures")


@pytest.mark.parametrize(
    "args", [("album",), ("album", "a.png"), ("album", "-n"), ("album", "-o", "-"), ("album", "-o", "b.png")]
)
def test_a_folder_needs_a_place_for_its_results(args, refused, a, tmp_path):
    (tmp_path / "album").mkdir()
    picture(tmp_path / "album/c.png")
    picture(tmp_path / "album/d.png")
    refused(2, "edge", *args)


MATRICES = {
    "[]": "empty",
    "[ ]": "empty",
    "[1 2; 3]": "row 2 has length 1, but row 1 has 2",
    "[1 x]": "'x' is not a finite number",
    "[nan]": "'nan' is not a finite number",
    "[[1, 2], [3]]": "ragged",
    "[[1, 2], [3, null]]": "not a finite number",
    "[[[[[1]]]]]": "2 to 4",
}


@pytest.mark.parametrize("matrix", MATRICES)
def test_matrices_that_are_none(matrix, refused):
    line = refused(1, "edge", matrix)
    assert line.startswith(f"{matrix}: ")
    assert MATRICES[matrix] in line


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("m.csv", b"", "empty"),
        ("m.csv", b"a,b\n1,2\n", "'a' is not a finite number"),
        ("m.csv", b"1,2\n3\n", "row 2 has length 1"),
        ("m.txt", b"\xff\xfe1", "UTF-8"),
        ("m.npy", b"", "npy"),
        ("m.npy", npy(np.array([[{}]], object), allow_pickle=True), "pickle"),
        ("m.npy", npy(np.ones(3)), "must be (H, W), (C, H, W) or (N, C, H, W)"),
        ("m.npy", npy(np.ones((0, 3))), "empty"),
        ("m.npy", npy_that_claims((10**6, 10**6)), "1,000,000,000,000 values"),
        ("m.npy", npy(np.ones((9, 9)))[:-8], "damaged"),
        ("m.npy", npy(np.array([[1j]])), "complex"),
    ],
)
def test_matrix_files_that_are_none(name, data, reason, refused, tmp_path):
    (tmp_path / name).write_bytes(data)
    line = refused(1, "edge", name)
    assert line.startswith(f"{name}: ")
    assert reason in line


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (("--bias", "50%"), "--bias: % is for pictures"),
        (("-b", "50%"), "--boundary: % is for pictures"),
        (("--gray",), "--gray: is for pictures"),
        (("--linear",), "--linear: is for pictures"),
    ],
)
def test_what_is_for_pictures_only(args, word, refused, tmp_path):
    np.save(tmp_path / "m.npy", np.ones((2, 2)))
    for matrix in ("[1 2; 3 4]", "m.npy"):
        assert refused(2, "edge", matrix, *args).startswith(word)


@pytest.mark.parametrize(
    ("args", "status", "words"),
    [
        (("edge", "a.png", "-p", "valid"), 0, ()),
        (("box:6", "a.png", "-p", "valid"), 1, ("a.png", "height 5", "(5 + 0 + 0 - 6) / 1 + 1")),
        (("box:7", "a.png", "-p", "1x0"), 1, ("a.png", "width 6", "(6 + 0 + 0 - 7) / 1 + 1")),
        (("edge", "a.png", "-p", "valid", "--dilation", "3", "-s", "2"), 1, ("height 5", "(5 + 0 + 0 - 7) / 2 + 1")),
        (("edge", "a.png", "-p", "valid", "--pool", "max:4"), 1, ("height 3", "(3 + 0 + 0 - 4) / 4 + 1")),
        (("pool", "a.png", "--max", "6"), 1, ("height 5", "(5 + 0 + 0 - 6) / 6 + 1")),
        (("filter", "[1 2; 3 4]", "-k", "1 1 1", "-p", "valid"), 1, ("[1 2; 3 4]", "(2 + 0 + 0 - 3) / 1 + 1")),
    ],
)
def test_too_small_for_the_window_says_the_formula(args, status, words, invoke, refused, a):
    if status == 0:
        assert invoke(*args).status == 0
        return
    line = refused(status, *args)
    assert all(word in line for word in words)


def test_more_pixels_than_allowed_in_the_header(refused, tmp_path):
    (tmp_path / "huge.png").write_bytes(png_that_claims(30000, 30000))
    assert (tmp_path / "huge.png").stat().st_size == 69
    line = refused(1, "edge", "huge.png")
    assert line.startswith("huge.png: ")
    assert "30000x30000, 900,000,000 pixels" in line
    assert "200,000,000" in line
    assert "--max-pixels" in line


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_a_huge_claim_is_refused_before_memory_is_taken(tmp_path):
    (tmp_path / "huge.png").write_bytes(png_that_claims(30000, 30000))
    # the high-water mark of /proc starts anew with a program; getrusage's would begin at pytest's own
    code = "import sys; from pathlib import Path; from convcli.cli.app import main; status = main(sys.argv[1:]);"
    code += (
        "print(status, next(x for x in Path('/proc/self/status').read_text().split('\\n') if 'VmHWM' in x).split()[1])"
    )
    command = [sys.executable, "-c", code, "edge", "huge.png"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=True)
    status, kilobytes = map(int, done.stdout.split())
    assert status == 1
    assert kilobytes < 200_000


def test_max_pixels_replaces_pillows_own_limit(refused, tmp_path):
    (tmp_path / "huge.png").write_bytes(png_that_claims(15000, 13000))  # Pillow refuses from 178,956,971 pixels
    line = refused(1, "edge", "huge.png")
    assert "max-pixels" not in line
    assert "truncated" in line or "damaged" in line


@pytest.mark.parametrize(
    ("args", "refusal"),
    [
        (("edge", "a.png", "--max-pixels", "30"), None),
        (("edge", "a.png", "--max-pixels", "29"), "5x6, 30 pixels"),
        (("edge", "a.png", "-p", "full", "--max-pixels", "56"), None),
        (("edge", "a.png", "-p", "full", "--max-pixels", "55"), "7x8, 56 pixels"),
        (("edge", "a.png", "-p", "60000"), "pixels"),
        (("edge", "a.png", "-p", "full", "--pool", "max:7", "--max-pixels", "55"), "7x8, 56 pixels"),
    ],
)
def test_max_pixels(args, refusal, invoke, refused, a):
    if refusal is None:
        assert invoke(*args).status == 0
    else:
        line = refused(1, *args)
        assert line.startswith("a.png: ")
        assert refusal in line
        assert "--max-pixels" in line


def test_max_pixels_of_matrices(refused):
    assert "--max-pixels" in refused(1, "edge", "[1 2 3; 4 5 6]", "--max-pixels", "5")
    assert "--max-pixels" in refused(1, "edge", "[1 2]", "-p", "60000")


def test_an_array_of_many_items_is_no_picture(refused, tmp_path):
    np.save(tmp_path / "m.npy", np.ones((2, 3, 4, 4)))
    line = refused(1, "edge", "m.npy", "-o", "m.png")
    assert line.startswith("m.npy: ")
    assert ".npy" in line


def test_errors_in_json(invoke, tmp_path):
    (tmp_path / "huge.png").write_bytes(png_that_claims(30000, 30000))
    done = invoke("edge", "huge.png", "--json")
    assert done.status == 1
    record = json.loads(done.stdout)
    assert (record["status"], record["output"], record["layers"], record["range"]) == ("failed", None, [], None)
    assert done.stderr == f"convcli: huge.png: {record['error']}\n".encode()


# The traceback is for those who ask


def test_no_traceback_unless_asked(run, tmp_path):
    done = run("edge", "nothing.png", "-s", "0")
    assert done.stderr.count(b"\n") == 1
    done = run("edge", "nothing.png", "-s", "0", env={"CONVCLI_DEBUG": "1"})
    assert done.returncode != 0
    assert b"Traceback" in done.stderr


def test_a_traceback_of_a_failed_input_when_asked(run, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    done = run("edge", "text.png", env={"CONVCLI_DEBUG": "1"})
    assert done.returncode != 0
    assert b"Traceback" in done.stderr


def test_an_unexpected_error_is_one_line_too(invoke, a, monkeypatch):
    """A bug of ours is no excuse for fifty lines."""
    import convcli.produce

    def broken(*args, **more):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(convcli.produce, "filter_picture", broken)
    done = invoke("edge", "a.png")
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert done.stderr.startswith(b"convcli: ")
    assert b"oops" in done.stderr


@pytest.mark.parametrize("name", [one for one in NAMED if ":" not in NAMED[one].usage])
def test_names_without_arguments_take_none(name, refused, a):
    assert refused(2, f"{name}:1", "a.png").startswith(f"{name}: '1' is one value too many; it takes none")


@pytest.mark.parametrize("name", ["-", "a.png"])
def test_a_command_word_is_no_kernel(name, refused, a):
    for word in ("filter", "pool", "kernels"):
        assert word in refused(2, "filter", name, "-k", word)
