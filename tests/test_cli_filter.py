"""Filters and pools as they are typed. What comes out is compared with plain loops and with the contract's numbers."""

import io
import json
import math

import numpy as np
import pytest
from PIL import Image, ImageCms

import oracle
from convcli.engine.methods import METHODS
from convcli.kernels.named import NAMED
from pictures import load, save

RNG = np.random.default_rng(2)
GREY = RNG.integers(0, 256, (11, 13), np.uint8)
COLOR = RNG.integers(0, 256, (11, 13, 3), np.uint8)
CLEAR = np.dstack([COLOR, RNG.choice(np.array([0, 60, 128, 255], np.uint8), (11, 13))])
LA = np.dstack([GREY, CLEAR[..., 3]])
NUMBERS = RNG.integers(-9, 10, (7, 9)).astype(float)

EDGE = [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]]
SOBEL = [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
SCHARR = [[-3, 0, 3], [-10, 0, 10], [-3, 0, 3]]
PREWITT = [[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]]
FIXED = {
    "identity": [[1]],
    "sharpen": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
    "emboss": [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]],
    "edge": EDGE,
    "outline": EDGE,
    "laplacian": [[0, 1, 0], [1, -4, 1], [0, 1, 0]],
    "ridge": [[0, -1, 0], [-1, 4, -1], [0, -1, 0]],
    "sobel-x": SOBEL,
    "sobel-y": np.transpose(SOBEL),
    "scharr-x": SCHARR,
    "scharr-y": np.transpose(SCHARR),
    "prewitt-x": PREWITT,
    "prewitt-y": np.transpose(PREWITT),
}
BOX = np.ones((2, 2)) / 4


def gaussian(sigma, size):
    x = np.arange(size) - (size - 1) / 2
    weights = np.exp(-(x[:, None] ** 2 + x**2) / (2 * sigma**2))
    return weights / weights.sum()


def unsharp(sigma, amount, size):
    one = np.zeros((size, size))
    one[size // 2, size // 2] = 1
    return one + amount * (one - gaussian(sigma, size))


SMOOTH = {
    "box": np.ones((3, 3)) / 9,
    "blur": np.ones((3, 3)) / 9,
    "blur:5": np.ones((5, 5)) / 25,
    "box:size=4": np.ones((4, 4)) / 16,
    "binomial": np.outer([1, 2, 1], [1, 2, 1]) / 16,
    "binomial:5": np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256,
    "gaussian": gaussian(1, 7),
    "gaussian:2": gaussian(2, 13),
    "gaussian:2,9": gaussian(2, 9),
    "gaussian:sigma=2,size=9": gaussian(2, 9),
    "gaussian:size=5": gaussian(1, 5),
    "motion": np.full((1, 9), 1 / 9),
    "motion:size=5,angle=90": np.full((5, 1), 1 / 5),
    "unsharp": unsharp(1, 1, 7),
    "unsharp:sigma=2,amount=1": unsharp(2, 1, 13),
}
MAGNITUDES = {
    "sobel": [SOBEL, np.transpose(SOBEL)],
    "scharr": [SCHARR, np.transpose(SCHARR)],
    "prewitt": [PREWITT, np.transpose(PREWITT)],
    "roberts": [[[1, 0], [0, -1]], [[0, 1], [-1, 0]]],
}


def text(array):
    """An inline matrix."""
    return json.dumps(np.asarray(array).tolist())


def numbers(stdout):
    """What a matrix printed: one array, its channels first if there are several."""
    planes = []
    for plane in stdout.decode().removesuffix("\n").split("\n\n"):
        planes.append(np.array([[float(one) for one in row.split(" ")] for row in plane.split("\n")]))
    return planes[0] if len(planes) == 1 else np.array(planes)


def correlate(pixels, kernel, **options):
    """The judge on every channel of ``(H, W[, C])``, in float64."""
    options = {"padding": "same", "boundary": "reflect"} | options
    planes = np.atleast_3d(np.asarray(pixels, float))
    done = [oracle.correlate(planes[..., c], np.asarray(kernel, float), **options) for c in range(planes.shape[2])]
    return np.dstack(done) if np.ndim(pixels) == 3 else done[0]


def codes(values):
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def centred(small, shape):
    """A kernel in the middle of zeros: the same filter with a wider window."""
    pads = [((m - n) // 2, (m - n) // 2) for n, m in zip(np.shape(small), shape, strict=True)]
    return np.pad(np.asarray(small, float), pads)


@pytest.fixture
def grey(tmp_path):
    return save(tmp_path / "grey.png", GREY)


@pytest.fixture
def color(tmp_path):
    return save(tmp_path / "color.png", COLOR)


@pytest.fixture
def matrix(invoke):
    """``matrix(array, *args)``: the numbers printed for an inline matrix; by default through ``filter``."""

    def call(array, *args, verb=("filter",)):
        done = invoke(*verb, text(array), *args)
        assert (done.status, done.stderr) == (0, done.stderr if "-q" not in args else b"")
        return numbers(done.stdout)

    return call


@pytest.fixture
def filtered(invoke, tmp_path):
    """``filtered(path, *args)``: the pixels of the result of a command, ``filter`` unless ``verb`` says otherwise."""
    count = iter(range(1000))

    def call(path, *args, verb="filter", suffix=".png"):
        target = tmp_path / f"out{next(count)}{suffix}"
        done = invoke(verb, path, *args, "-q", "-o", target)
        assert done == (0, f"{target}\n".encode(), b"")
        return np.load(target) if suffix == ".npy" else load(target)

    return call


# Named filters


@pytest.mark.parametrize("name", NAMED)
def test_every_named_filter_is_a_command(name, invoke, samples, tmp_path):
    done = invoke(name, samples / "camera.png", "-o", "out.png")
    assert (done.status, done.stdout) == (0, b"out.png\n")
    assert f"{samples / 'camera.png'} -> out.png" in done.stderr.decode()
    with Image.open(tmp_path / "out.png") as image:
        assert (image.format, image.mode, image.size) == ("PNG", "L", (512, 512))


def test_every_name_of_the_contract_is_there():
    names = (
        "identity box blur binomial gaussian motion disk sharpen unsharp emboss edge outline laplacian ridge log dog"
        " sobel-x sobel-y scharr-x scharr-y prewitt-x prewitt-y sobel scharr prewitt roberts kirsch compass"
    )
    assert set(names.split()) <= set(NAMED)


@pytest.mark.parametrize("name", FIXED)
def test_whole_number_kernels_are_exact(name, filtered, color, matrix):
    want = codes(correlate(COLOR, FIXED[name]))
    np.testing.assert_array_equal(filtered(color, verb=name), want)
    np.testing.assert_array_equal(matrix(NUMBERS, verb=(name,)), correlate(NUMBERS, FIXED[name]))


@pytest.mark.parametrize("name", SMOOTH)
def test_kernels_with_arguments(name, filtered, color, matrix):
    near = np.abs(filtered(color, verb=name).astype(int) - codes(correlate(COLOR, SMOOTH[name])))
    assert near.max() <= 1
    assert np.count_nonzero(near) <= 2  # a sum in float32 may round the other way, rarely
    got = matrix(NUMBERS, verb=(name,))
    np.testing.assert_allclose(got, correlate(NUMBERS, SMOOTH[name]), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", MAGNITUDES)
def test_magnitudes(name, filtered, grey, matrix):
    def norm(array):
        return np.sqrt(sum(correlate(array, kernel) ** 2 for kernel in MAGNITUDES[name]))

    np.testing.assert_array_equal(filtered(grey, verb=name), codes(norm(GREY)))
    np.testing.assert_allclose(matrix(NUMBERS, verb=(name,)), norm(NUMBERS), rtol=1e-8, atol=1e-8)
    np.testing.assert_array_equal(filtered(grey, "-k", name), codes(norm(GREY)))


@pytest.mark.parametrize(
    ("name", "rim", "centre"),
    [
        ("kirsch", [5, 5, 5, -3, -3, -3, -3, -3], 0),
        ("compass", [-1, 0, 1, 2, 1, 0, -1, -2], 0),
    ],
)
def test_the_greatest_of_eight_directions(name, rim, centre, filtered, grey):
    ring = [(0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0)]
    responses = []
    for turn in range(8):
        kernel = np.full((3, 3), centre)
        for place, value in zip(ring, np.roll(rim, turn), strict=True):
            kernel[place] = value
        responses.append(correlate(GREY, kernel))
    np.testing.assert_array_equal(filtered(grey, verb=name), codes(np.max(responses, axis=0)))


@pytest.mark.parametrize(("name", "total"), [("disk", 1), ("disk:1.5", 1), ("motion:9,30", 1), ("log", 0), ("dog", 0)])
def test_sums(name, total, invoke):
    flat = text(np.full((3, 3), 7.0))
    done = invoke(name, flat)
    np.testing.assert_allclose(numbers(done.stdout), np.full((3, 3), 7.0 * total), atol=1e-8)


def test_arguments_reach_the_name_of_the_output(invoke, grey, tmp_path):
    done = invoke("gaussian:sigma=2,size=9", "grey.png")
    assert done.stdout == b"grey.gaussian-sigma-2-size-9.png\n"
    assert (tmp_path / "grey.gaussian-sigma-2-size-9.png").is_file()


# KERNEL

K = [[1, 0, -1], [2, 0, -2], [1, 0, -1]]
WIDE = [[1, 2, 3], [4, 5, 6]]
FORMS = {
    "rows": ("1 0 -1; 2 0 -2; 1 0 -1", K),
    "leading minus": ("-1 0 1; -2 0 2; -1 0 1", SOBEL),
    "commas": ("1,0,-1;2,0,-2;1,0,-1", K),
    "both": ("1, 0, -1 ; 2, 0, -2 ; 1, 0, -1", K),
    "newlines": ("1 0 -1\n2 0 -2\n1 0 -1\n", K),
    "one row": ("-1 1", [[-1, 1]]),
    "one number": ("3", [[3]]),
    "fractions": ("1/9 -2/4; 0.5 1/3", [[1 / 9, -0.5], [0.5, 1 / 3]]),
    "decimals": ("1e-1 -.5; +2 3.", [[0.1, -0.5], [2, 3]]),
    "ImageMagick, width first": ("3x2: 1,2,3,4,5,6", WIDE),
    "ImageMagick, in lines": ("3x2: 1,2,3\n     4,5,6", WIDE),
    "ImageMagick, upright": ("2x3:1,2,3,4,5,6", [[1, 2], [3, 4], [5, 6]]),
    "JSON": ("[[1, 2, 3], [4, 5, 6]]", WIDE),
    "JSON with a key": ('{"kernel": [[1, 2, 3], [4, 5, 6]]}', WIDE),
    "a name": ("edge", EDGE),
    "a name with arguments": ("binomial:size=5", SMOOTH["binomial:5"]),
}


@pytest.mark.parametrize("form", FORMS)
def test_kernel_text(form, matrix):
    written, kernel = FORMS[form]
    got = matrix(NUMBERS, "-k", written, "-p", "valid")
    np.testing.assert_allclose(got, correlate(NUMBERS, kernel, padding="valid"), rtol=1e-8, atol=1e-12)


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


FILES = {
    "k.json": (b"[[1, 2, 3], [4, 5, 6]]", WIDE, 0),
    "biased.json": (b'{"kernel": [[1, 2, 3], [4, 5, 6]], "bias": -2.5}', WIDE, -2.5),
    "k.toml": (b"kernel = [[1, 2, 3], [4, 5, 6]]\nbias = 0.5\n", WIDE, 0.5),
    "k.csv": (b"1,2,3\r\n4,5,6\r\n", WIDE, 0),
    "k.txt": (b"1 2 3\n4 5 6\n", WIDE, 0),
    "fractions.txt": (b"1/2 1/4\n-1/8 0\n", [[0.5, 0.25], [-0.125, 0]], 0),
    "UPPER.CSV": (b"1,2,3\n4,5,6\n", WIDE, 0),
    "k.npy": (npy(np.array(WIDE)), WIDE, 0),
    "float32.npy": (npy(np.array(WIDE, np.float32)), WIDE, 0),
    "k.npz": (npz(kernel=WIDE), WIDE, 0),
    "any-name.npz": (npz(k=WIDE), WIDE, 0),
    "biased.npz": (npz(kernel=WIDE, bias=3.0), WIDE, 3),
    "plain.mat": (b"3 2\n1 2 3\n4 5 6\n", WIDE, 0),
    "scaled.mat": (b"3 2 8 51\n1 2 3\n4 5 6\n", np.array(WIDE) / 8, 0.2),
    "no-suffix": (b"1 2 3\n4 5 6\n", WIDE, 0),
    "with space.txt": (b"1 2 3\n4 5 6\n", WIDE, 0),
}


@pytest.mark.parametrize("name", FILES)
def test_kernel_files(name, matrix, tmp_path):
    data, kernel, bias = FILES[name]
    (tmp_path / name).write_bytes(data)
    got = matrix(NUMBERS, "-k", name, "-p", "valid")
    np.testing.assert_allclose(got, correlate(NUMBERS, kernel, padding="valid") + bias, rtol=1e-8, atol=1e-12)


def test_a_bias_of_a_kernel_file_is_in_fractions_of_white_for_pictures(filtered, grey, tmp_path):
    (tmp_path / "k.json").write_text('{"kernel": [[-1]], "bias": 1}')
    np.testing.assert_array_equal(filtered(grey, "-k", "k.json"), 255 - GREY)
    (tmp_path / "k.mat").write_text("1 1 -1 255\n1\n")
    np.testing.assert_array_equal(filtered(grey, "-k", "k.mat"), 255 - GREY)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff"])
def test_a_picture_as_kernel_is_its_grey_fractions(suffix, matrix, tmp_path):
    save(tmp_path / f"k{suffix}", np.array([[0, 255, 51], [102, 0, 153]], np.uint8))
    want = correlate(NUMBERS, [[0, 1, 0.2], [0.4, 0, 0.6]], padding="valid")
    np.testing.assert_allclose(matrix(NUMBERS, "-k", f"./k{suffix}", "-p", "valid"), want, rtol=1e-6, atol=1e-6)


def test_a_colour_picture_as_kernel(matrix, tmp_path):
    save(tmp_path / "k.png", np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8))
    want = correlate(NUMBERS, [[0.299, 0.587, 0.114]], padding="valid")
    np.testing.assert_allclose(matrix(NUMBERS, "-k", "k.png", "-p", "valid"), want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("data", [b"1 2 3; 4 5 6", b"1 2 3\n4 5 6\n", b"[[1,2,3],[4,5,6]]", b"3x2: 1,2,3,4,5,6\n"])
def test_a_kernel_from_standard_input(data, invoke):
    done = invoke("filter", text(NUMBERS), "-k", "-", "-p", "valid", "-q", input=data)
    assert (done.status, done.stderr) == (0, b"")
    np.testing.assert_array_equal(numbers(done.stdout), correlate(NUMBERS, WIDE, padding="valid"))


def test_what_kernels_prints_is_a_kernel_again(run):
    printed = run("kernels", "gaussian:2").stdout
    done = run("filter", text(NUMBERS), "-k", "-", input=printed)
    assert done.returncode == 0
    np.testing.assert_allclose(numbers(done.stdout), correlate(NUMBERS, gaussian(2, 13)), rtol=1e-7, atol=1e-7)


def test_a_name_beats_a_file_and_a_path_is_the_file(matrix, tmp_path):
    (tmp_path / "blur").write_text("1 2 3; 4 5 6")
    near = {"rtol": 1e-8, "atol": 1e-12}
    np.testing.assert_allclose(matrix(NUMBERS, "-k", "blur"), correlate(NUMBERS, SMOOTH["blur"]), **near)
    np.testing.assert_allclose(matrix(NUMBERS, "-k", "./blur"), correlate(NUMBERS, WIDE), **near)
    np.testing.assert_allclose(matrix(NUMBERS, "-k", tmp_path / "blur"), correlate(NUMBERS, WIDE), **near)


# Weights: layers


def test_a_weight_of_four_axes_is_a_layer(invoke, color, tmp_path):
    weight = RNG.integers(-4, 5, (2, 3, 2, 3)) / 8
    np.save(tmp_path / "w.npy", weight)
    assert invoke("filter", "color.png", "-k", "w.npy", "-o", "maps.npy").status == 0
    want = oracle.layer(COLOR.transpose(2, 0, 1) / 255, weight)
    got = np.load(tmp_path / "maps.npy")
    assert got.shape == (2, 10, 11)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_a_weight_of_three_axes_has_one_output(filtered, color, tmp_path):
    weight = RNG.integers(-4, 5, (3, 3, 3)) / 16
    np.save(tmp_path / "w.npy", weight)
    want = codes(oracle.layer(COLOR.transpose(2, 0, 1).astype(float), weight[None])[0])
    got = filtered(color, "-k", "w.npy")
    assert got.shape == (9, 11)
    np.testing.assert_array_equal(got, want)


def test_a_layer_takes_padding_and_its_boundary_is_zero(filtered, color, tmp_path):
    weight = RNG.integers(0, 4, (3, 3, 3, 3)) / 64
    np.save(tmp_path / "w.npy", weight)
    want = codes(oracle.layer(COLOR.transpose(2, 0, 1).astype(float), weight, padding="same", boundary="zero"))
    np.testing.assert_array_equal(filtered(color, "-k", "w.npy", "-p", "same"), want.transpose(1, 2, 0))


def test_the_layers_of_the_text(invoke):
    two_in = "[[[0,1,2],[3,4,5],[6,7,8]],[[1,2,3],[4,5,6],[7,8,9]]]"
    done = invoke("filter", two_in, "-k", "[[[[0,1],[2,3]],[[1,2],[3,4]]]]", "-q")
    assert done == (0, b"56 72\n104 120\n", b"")
    three_out = "[[[[0,1],[2,3]],[[1,2],[3,4]]],[[[1,2],[3,4]],[[2,3],[4,5]]],[[[2,3],[4,5]],[[3,4],[5,6]]]]"
    done = invoke("filter", two_in, "-k", three_out, "-q")
    assert done == (0, b"56 72\n104 120\n\n76 100\n148 172\n\n96 128\n192 224\n", b"")


def test_a_weight_that_does_not_fit_fails_for_that_input_alone(invoke, grey, color, tmp_path):
    np.save(tmp_path / "w.npy", np.ones((1, 3, 2, 2)) / 12)
    done = invoke("filter", "grey.png", "color.png", "-k", "w.npy", "-q")
    assert (done.status, done.stdout) == (1, b"color.filter.png\n")
    assert done.stderr == b"convcli: grey.png: the weight w.npy takes 3 input channels, but 1 came in\n"


# Inline matrices and arrays


@pytest.mark.parametrize(
    ("args", "printed"),
    [
        (("filter", "[0 1 2; 3 4 5; 6 7 8]", "-k", "0 1; 2 3", "-p", "valid"), "19 25\n37 43\n"),
        (("pool", "[0 1 2; 3 4 5; 6 7 8]", "--max", "3", "-p", "1", "-s", "2"), "4 5\n7 8\n"),
        (("pool", "[0 1 2; 3 4 5; 6 7 8]", "--max", "2", "-s", "1"), "4 5\n7 8\n"),
        (("pool", "[0 1 2; 3 4 5; 6 7 8]", "--avg", "2", "-s", "1"), "2 3\n5 6\n"),
        (("identity", "[1,2;3,4]"), "1 2\n3 4\n"),
        (("identity", "[1 2]"), "1 2\n"),
        (("identity", "[[1, 2], [3, 4]]"), "1 2\n3 4\n"),
        (("identity", "[[[1, 2]], [[3, 4]]]"), "1 2\n\n3 4\n"),
        (("identity", "[[[[1, 2]], [[3, 4]]]]"), "1 2\n\n3 4\n"),
        (("identity", "[-1 1/3; 1e20 0.1]"), "-1 0.333333333\n1e+20 0.1\n"),
        (("filter", "[1 -1]", "-k", "0"), "0 0\n"),
        (("filter", "[123456789 0.000012345678912]", "-k", "1"), "123456789 1.23456789e-05\n"),
        (("edge", "[1 1 1; 1 9 1; 1 1 1]", "-p", "valid"), "64\n"),
        (("filter", "[1 2; 3 4]", "-k", "1", "--bias", "-3"), "-2 -1\n0 1\n"),
        (("filter", "[1 2; 3 4]", "-k", "1 1 1", "-b", "300"), "303 303\n307 307\n"),
        (("filter", "[1 2; 3 4]", "-k", "300"), "300 600\n900 1200\n"),
    ],
)
def test_printed_numbers(args, printed, invoke):
    assert invoke(*args, "-q") == (0, printed.encode(), b"")
    done = invoke(*args)
    assert (done.status, done.stdout) == (0, printed.encode())


def test_float64_all_the_way(matrix):
    big = 2.0**40
    np.testing.assert_array_equal(matrix([[big, big + 1]], "-k", "1 -1", "-p", "valid"), [[-1]])


def test_several_matrices_are_printed_in_order(invoke):
    done = invoke("identity", "[1 2]", "[3]", "-q")
    assert (done.status, done.stderr) == (0, b"")
    assert done.stdout.split() == [b"1", b"2", b"3"]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("m.csv", b"1,2\n3,4\n"),
        ("m.txt", b"1 2\n3 4\n"),
        ("m.npy", npy(np.array([[1, 2], [3, 4]]))),
    ],
)
def test_matrix_files(name, data, invoke, tmp_path):
    (tmp_path / name).write_bytes(data)
    assert invoke("filter", name, "-k", "2", "-q") == (0, b"2 4\n6 8\n", b"")


@pytest.mark.parametrize("shape", [(4, 5), (2, 4, 5), (3, 4, 5), (2, 3, 4, 5)])
def test_npy_is_channels_first_whatever_its_size(shape, invoke, tmp_path):
    array = RNG.integers(0, 9, shape).astype(float)
    np.save(tmp_path / "a.npy", array)
    assert invoke("laplacian", "a.npy", "-o", "b.npy", "-q") == (0, b"b.npy\n", b"")
    got = np.load(tmp_path / "b.npy")
    planes = array.reshape(-1, 4, 5)
    want = np.array([correlate(plane, FIXED["laplacian"]) for plane in planes]).reshape(shape)
    assert (got.dtype, got.shape) == (np.float64, shape)
    np.testing.assert_array_equal(got, want)
    printed = numbers(invoke("laplacian", "a.npy", "-q").stdout)
    np.testing.assert_array_equal(printed, want.reshape(-1, 4, 5) if len(shape) > 2 else want)


@pytest.mark.parametrize("name", ["m.npy", "m.csv", "m.txt"])
def test_a_matrix_written_to_a_file_is_read_again(name, invoke):
    assert invoke("filter", "[1 2; 3 4]", "-k", "1/4", "-o", name, "-q") == (0, f"{name}\n".encode(), b"")
    assert invoke("filter", name, "-k", "4", "-q").stdout == b"1 2\n3 4\n"


def test_a_csv_file_has_commas(invoke, tmp_path):
    assert invoke("identity", "[1 2; 3 4]", "-o", "m.csv").status == 0
    assert (tmp_path / "m.csv").read_text() == "1,2\n3,4\n"


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535)])
def test_array_codes_stay_codes_in_a_picture(dtype, white, invoke, tmp_path):
    array = np.array([[0, 1, 7], [white, white - 1, 100]], dtype)
    np.save(tmp_path / "a.npy", array)
    assert invoke("identity", "a.npy", "-o", "a.png").status == 0
    np.testing.assert_array_equal(load(tmp_path / "a.png"), array)


def test_float_arrays_are_fractions_in_a_picture(invoke, tmp_path):
    assert invoke("identity", "[0 0.2; 1 1.5]", "-o", "a.png").status == 0
    np.testing.assert_array_equal(load(tmp_path / "a.png"), np.array([[0, 51], [255, 255]], np.uint8))
    np.save(tmp_path / "c.npy", np.array([[[1.0]], [[0.2]], [[0.0]]]))
    assert invoke("identity", "c.npy", "-o", "c.png").status == 0
    assert load(tmp_path / "c.png").tolist() == [[[255, 51, 0]]]


def test_a_picture_written_as_array_is_fractions_unclipped(filtered, color, grey):
    got = filtered(color, verb="sobel-x", suffix=".npy")
    assert got.shape == (3, 11, 13)
    np.testing.assert_allclose(got, correlate(COLOR / 255, SOBEL).transpose(2, 0, 1), rtol=1e-6, atol=1e-6)
    assert filtered(grey, verb="blur", suffix=".npy").shape == (11, 13)


def test_fractions_of_white_are_as_exact_as_floats_are(invoke, samples):
    done = invoke("edge", samples / "text-6x8.png", "--format", "csv", "-o", "-", "-q")
    assert done.status == 0
    row = [0, 3, -3, 0, 0, -3, 3, 0]
    assert [[float(one) for one in line.replace(b",", b" ").split()] for line in done.stdout.splitlines()] == [row] * 6


# Window options

PADDINGS = ["valid", "same", "same-lower", "full", "0", "2", "1x2", "2,0,1,3"]
SIDES = {"0": ((0, 0), (0, 0)), "2": ((2, 2), (2, 2)), "1x2": ((1, 1), (2, 2)), "2,0,1,3": ((2, 0), (1, 3))}


@pytest.mark.parametrize("boundary", ["zero", "edge", "reflect", "symmetric", "wrap", "mirror", "2.5", "-3"])
@pytest.mark.parametrize("padding", PADDINGS)
def test_padding_and_boundary(padding, boundary, matrix):
    kernel = [[1, 2, 3, 4], [5, 6, 7, 9]]
    given = boundary if boundary.isalpha() else float(boundary)
    want = correlate(NUMBERS, kernel, padding=SIDES.get(padding, padding), boundary=given)
    got = matrix(NUMBERS, "-k", "1 2 3 4; 5 6 7 9", "-p", padding, "-b", boundary, "-q")
    np.testing.assert_array_equal(got, want)


def test_padding_wider_than_the_picture(matrix):
    for boundary in ("reflect", "symmetric", "wrap", "edge"):
        got = matrix([[1, 2, 4], [8, 16, 32]], "-k", "1", "-p", "9", "-b", boundary)
        np.testing.assert_array_equal(got, np.pad([[1, 2, 4], [8, 16, 32]], 9, mode=boundary), err_msg=boundary)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(("stride", "steps"), [("2", (2, 2)), ("2x3", (2, 3)), ("3X1", (3, 1)), ("7", (7, 7))])
def test_stride(stride, steps, padding, matrix):
    kernel = [[1, 2, 3], [4, 5, 7]]
    want = correlate(NUMBERS, kernel, padding=SIDES.get(padding, padding), boundary="zero", stride=steps)
    got = matrix(NUMBERS, "-k", "1 2 3; 4 5 7", "-p", padding, "-b", "zero", "-s", stride)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("padding", ["valid", "same", "same-lower", "full"])
@pytest.mark.parametrize(("dilation", "spread"), [("2", (2, 2)), ("1x3", (1, 3)), ("3x2", (3, 2))])
def test_dilation(dilation, spread, padding, matrix):
    want = correlate(NUMBERS, WIDE, padding=padding, dilation=spread)
    got = matrix(NUMBERS, "-k", "1 2 3;4 5 6", "-p", padding, "--dilation", dilation)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("padding", ["same", "same-lower", "full"])
@pytest.mark.parametrize("side", ["13", "12", "7"])
@pytest.mark.parametrize("size", [3, 4])
def test_keep_size(size, side, padding, matrix):
    array = RNG.integers(0, 9, (int(side), 9)).astype(float)
    kernel = RNG.integers(-3, 4, (size, 2))
    want = correlate(array, kernel, padding=padding, boundary="zero", stride=(2, 3), keep=True)
    got = matrix(array, "-k", text(kernel), "-p", padding, "-b", "zero", "-s", "2x3", "--keep-size")
    assert got.shape == correlate(array, kernel, padding=padding).shape
    np.testing.assert_array_equal(got, want)


def test_keep_size_with_numbers(matrix):
    got = matrix(NUMBERS, "-k", "1 2 3;4 5 6;7 8 9", "-p", "2", "-b", "zero", "-s", "2", "--keep-size")
    assert got.shape == (9, 11)  # what -p 2 gives at stride 1
    pads = tuple(((m - 1) * 2 + 3 - n) for n, m in zip(NUMBERS.shape, got.shape, strict=True))
    sides = tuple((total // 2, total - total // 2) for total in pads)
    want = correlate(NUMBERS, [[1, 2, 3], [4, 5, 6], [7, 8, 9]], padding=sides, boundary="zero", stride=(2, 2))
    np.testing.assert_array_equal(got, want)


def test_flip_turns_the_kernel_and_nothing_else(matrix):
    for padding in ("valid", "same", "same-lower", "full"):
        got = matrix(NUMBERS, "-k", "1 2 3 4; 5 6 7 8", "--flip", "-p", padding)
        np.testing.assert_array_equal(got, correlate(NUMBERS, [[8, 7, 6, 5], [4, 3, 2, 1]], padding=padding))


def test_normalize(filtered, grey, matrix):
    binomial = SMOOTH["binomial"]
    np.testing.assert_array_equal(
        filtered(grey, "-k", "1 2 1;2 4 2;1 2 1", "--normalize"), codes(correlate(GREY, binomial))
    )
    got = matrix(NUMBERS, "-k", "-1 -2; -1 0", "--normalize")
    np.testing.assert_array_equal(got, correlate(NUMBERS, np.array([[1, 2], [1, 0]]) / 4))


@pytest.mark.parametrize(("bias", "fraction"), [("50%", 0.5), ("0.5", 0.5), ("-25%", -0.25), ("1", 1), ("-0.2", -0.2)])
def test_bias_is_a_fraction_of_white(bias, fraction, filtered, color):
    want = codes(correlate(COLOR, SOBEL) + np.float32(255 * fraction))
    np.testing.assert_array_equal(filtered(color, "--bias", bias, verb="sobel-x"), want)


@pytest.mark.parametrize(("boundary", "code"), [("0.4", 102), ("40%", 102), ("1", 255), ("zero", 0), ("0", 0)])
def test_a_constant_boundary_is_a_fraction_of_white(boundary, code, filtered, color):
    want = codes(correlate(COLOR, SOBEL, boundary=code))
    np.testing.assert_array_equal(filtered(color, "-b", boundary, verb="sobel-x"), want)


# Pools


def pooled(array, size, how, stride=None, pads=(0, 0), **options):
    sides = tuple((p, p) for p in pads)
    return oracle.pool(array, size, stride or size, sides, how, **options)


@pytest.mark.parametrize("how", ["max", "avg", "min"])
@pytest.mark.parametrize(
    ("args", "options"),
    [
        (("2",), {"size": (2, 2)}),
        (("3x2",), {"size": (3, 2)}),
        (("3", "-s", "1"), {"size": (3, 3), "stride": (1, 1)}),
        (("3", "-s", "2x1", "-p", "1"), {"size": (3, 3), "stride": (2, 1), "pads": (1, 1)}),
        (("3x4", "-p", "1x2"), {"size": (3, 4), "pads": (1, 2)}),
        (("2", "--ceil"), {"size": (2, 2), "ceil": True}),
        (("3", "-s", "2", "-p", "1", "--ceil"), {"size": (3, 3), "stride": (2, 2), "pads": (1, 1), "ceil": True}),
        (("2", "-s", "3", "--ceil"), {"size": (2, 2), "stride": (3, 3), "ceil": True}),
    ],
)
def test_pools(how, args, options, matrix):
    want = pooled(NUMBERS, how=how, **options)
    got = matrix(NUMBERS, f"--{how}", *args, verb=("pool",))
    np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-12)


def test_pool_leaves_out_pads_when_asked(matrix):
    args = ("--avg", "3", "-s", "2", "-p", "1", "--ceil", "--exclude-pad")
    want = pooled(NUMBERS, (3, 3), "avg", (2, 2), (1, 1), ceil=True, count_pads=False)
    np.testing.assert_allclose(matrix(NUMBERS, *args, verb=("pool",)), want, rtol=1e-8)


@pytest.mark.parametrize("how", ["max", "min"])
def test_pool_dilation(how, matrix):
    want = pooled(NUMBERS, (2, 3), how, (1, 1), dilation=(3, 2))
    got = matrix(NUMBERS, f"--{how}", "2x3", "-s", "1", "--dilation", "3x2", verb=("pool",))
    np.testing.assert_array_equal(got, want)


def test_pads_of_a_max_pool_never_win(matrix):
    np.testing.assert_array_equal(matrix(-np.ones((2, 2)), "--max", "3", "-p", "1", verb=("pool",)), [[-1]])
    np.testing.assert_array_equal(matrix(np.ones((2, 2)), "--min", "3", "-p", "1", verb=("pool",)), [[1]])


@pytest.mark.parametrize(("how", "size"), [("max", "2"), ("min", "2"), ("avg", "2")])
def test_pools_on_pictures(how, size, filtered, color):
    blocks = COLOR[:10, :12].reshape(5, 2, 6, 2, 3).astype(float)
    want = {"max": blocks.max((1, 3)), "min": blocks.min((1, 3)), "avg": blocks.mean((1, 3))}[how]
    np.testing.assert_array_equal(filtered(color, f"--{how}", size, verb="pool"), codes(want))


@pytest.mark.parametrize(
    ("pool", "options"),
    [
        ("max:2", {"size": (2, 2), "how": "max"}),
        ("min:2x3", {"size": (2, 3), "how": "min"}),
        ("avg:3x3,stride=2", {"size": (3, 3), "how": "avg", "stride": (2, 2)}),
        ("max:3,stride=2,padding=1", {"size": (3, 3), "how": "max", "stride": (2, 2), "pads": (1, 1)}),
    ],
)
def test_pool_after_the_filter(pool, options, filtered, grey, matrix):
    want = pooled(correlate(NUMBERS, SOBEL), **options)
    np.testing.assert_allclose(matrix(NUMBERS, "-k", "sobel-x", "--pool", pool), want, rtol=1e-8)
    want = codes(pooled(correlate(GREY, SOBEL), **options))  # of floats, before clipping
    assert np.abs(filtered(grey, "--pool", pool, verb="sobel-x").astype(int) - want).max() <= (options["how"] == "avg")


# Values


def test_range_clip_is_the_default(filtered, grey):
    want = codes(correlate(GREY, SOBEL))
    np.testing.assert_array_equal(filtered(grey, verb="sobel-x"), want)
    np.testing.assert_array_equal(filtered(grey, "--range", "clip", verb="sobel-x"), want)


def test_range_abs(filtered, grey):
    np.testing.assert_array_equal(filtered(grey, "--range", "abs", verb="sobel-x"), codes(abs(correlate(GREY, SOBEL))))


def test_range_signed(filtered, grey):
    want = codes(127.5 + correlate(GREY, SOBEL) / 2)
    np.testing.assert_array_equal(filtered(grey, "--range", "signed", verb="sobel-x"), want)


def test_range_minmax_is_over_all_colours_together(filtered, color):
    values = correlate(COLOR, SOBEL)
    want = 255 * (values - values.min()) / (values.max() - values.min())
    got = filtered(color, "--range", "minmax", verb="sobel-x")
    assert np.abs(got - want).max() < 0.5 + 1e-3
    assert (got.min(), got.max()) == (0, 255)


def test_range_minmax_of_a_flat_result(filtered, tmp_path):
    flat = save(tmp_path / "flat.png", np.full((4, 4), 9, np.uint8))
    assert len(np.unique(filtered(flat, "--range", "minmax", verb="edge"))) == 1


@pytest.mark.parametrize("suffix", [".tiff", ".npy"])
def test_range_none_keeps_floats(suffix, filtered, grey):
    got = filtered(grey, "--range", "none", verb="sobel-x", suffix=suffix)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, correlate(GREY / 255, SOBEL), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("choice", "want"),
    [
        ("abs", [[2, 0], [1, 3]]),
        ("clip", [[0, 0], [0, 1]]),
        ("none", [[-2, 0], [-1, 3]]),
        ("signed", [[0, 0.5], [0, 1]]),
        ("minmax", [[0, 0.4], [0.2, 1]]),
    ],
)
def test_range_of_a_matrix(choice, want, matrix):
    got = matrix([[-2, 0], [-1, 3]], "-k", "1", "--range", choice)
    np.testing.assert_allclose(got, want, rtol=1e-9)


def test_gray(filtered, color):
    want = correlate(COLOR @ np.array([0.299, 0.587, 0.114]), SOBEL)
    got = filtered(color, "--gray", verb="sobel-x")
    assert got.shape == GREY.shape
    assert np.abs(got - np.clip(want, 0, 255)).max() < 0.51


def test_gray_keeps_alpha(filtered, tmp_path):
    got = filtered(save(tmp_path / "clear.png", CLEAR), "--gray", verb="identity")
    np.testing.assert_array_equal(got[..., 1], CLEAR[..., 3])


@pytest.mark.parametrize(("mix", "share"), [("50%", 0.5), ("0.5", 0.5), ("25%", 0.25), ("0%", 0), ("100%", 1)])
def test_mix(mix, share, filtered, color):
    want = codes(share * correlate(COLOR, BOX) + (1 - share) * COLOR)
    np.testing.assert_array_equal(filtered(color, "-k", "1/4 1/4; 1/4 1/4", "--mix", mix), want)


def test_mix_needs_equal_sizes(invoke, grey):
    done = invoke("edge", "grey.png", "-p", "valid", "--mix", "30%")
    assert (done.status, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"convcli: grey.png: --mix needs equal sizes")


def decoded(fractions):
    return np.where(fractions <= 0.04045, fractions / 12.92, ((fractions + 0.055) / 1.055) ** 2.4)


def encoded(light):
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def test_linear(filtered, color):
    want = 255 * encoded(correlate(decoded(COLOR / 255), SMOOTH["blur"]))
    got = filtered(color, "--linear", verb="blur")
    assert np.abs(got - want).max() < 0.51
    assert not np.array_equal(got, filtered(color, verb="blur"))
    np.testing.assert_array_equal(filtered(color, "--linear", verb="identity"), COLOR)


def kept(pixels, kernel):
    """Contract: colour x alpha is filtered and divided by the pixel's own alpha (0 where that is 0), alpha copied."""
    alpha = pixels[..., -1:] / 255
    color = np.divide(correlate(pixels[..., :-1] * alpha, kernel), alpha, where=alpha > 0, out=0.0 * pixels[..., :-1])
    return np.dstack([color, pixels[..., -1]])


def premultiplied(pixels, kernel):
    """Contract: all filtered, divided by the new alpha."""
    alpha = pixels[..., -1:] / 255
    new = correlate(alpha, kernel)
    color = np.divide(correlate(pixels[..., :-1] * alpha, kernel), new, where=new > 0, out=0.0 * pixels[..., :-1])
    return np.dstack([color, 255 * new])


ALPHA = [
    ("edge", "auto", lambda p: kept(p, EDGE)),
    ("edge", "keep", lambda p: kept(p, EDGE)),
    ("sharpen", "auto", lambda p: kept(p, FIXED["sharpen"])),
    ("sharpen", "premultiply", lambda p: premultiplied(p, FIXED["sharpen"])),
    ("blur", "auto", lambda p: premultiplied(p, SMOOTH["blur"])),
    ("blur", "premultiply", lambda p: premultiplied(p, SMOOTH["blur"])),
    ("blur", "keep", lambda p: kept(p, SMOOTH["blur"])),
    ("blur", "filter", lambda p: correlate(p, SMOOTH["blur"])),
    ("edge", "filter", lambda p: correlate(p, EDGE)),
    ("edge", "drop", lambda p: correlate(p[..., :-1], EDGE)),
]


@pytest.mark.parametrize("pixels", [CLEAR, LA], ids=["RGBA", "LA"])
@pytest.mark.parametrize(("name", "choice", "want"), ALPHA, ids=[f"{name} {choice}" for name, choice, _ in ALPHA])
def test_alpha(name, choice, want, pixels, filtered, tmp_path):
    path = save(tmp_path / "clear.png", pixels)
    got = filtered(path, "--alpha", choice, verb=name)
    values = np.clip(want(pixels), 0, 255).squeeze()
    assert got.shape == values.shape
    assert np.abs(got - values).max() < 0.51


def test_auto_alpha_is_the_default_and_edges_keep_it(filtered, tmp_path):
    path = save(tmp_path / "clear.png", CLEAR)
    np.testing.assert_array_equal(filtered(path, verb="edge")[..., 3], CLEAR[..., 3])
    opaque = save(tmp_path / "opaque.png", np.dstack([COLOR, np.full((11, 13), 255, np.uint8)]))
    np.testing.assert_array_equal(
        filtered(opaque, verb="edge"), np.dstack([codes(correlate(COLOR, EDGE)), np.full((11, 13), 255)])
    )


@pytest.mark.parametrize("method", [name for name in METHODS if name != "box-sum"])  # a Sobel kernel is no box
def test_methods_agree_and_are_named(method, invoke, filtered, color):
    want = codes(correlate(COLOR, SOBEL))
    np.testing.assert_array_equal(filtered(color, "--method", method, verb="sobel-x"), want)
    done = invoke("sobel-x", "color.png", "--method", method, "--json", "-q", "-f")
    assert json.loads(done.stdout)["layers"][0]["method"] == method
    assert f"{method}: asked for" in invoke("sobel-x", "color.png", "--method", method, "-v", "-f").stderr.decode()


def test_auto_says_why_with_verbose(invoke, color):
    done = invoke("sobel-x", "color.png", "-v")
    method = json.loads(invoke("sobel-x", "color.png", "--json", "-q", "-f").stdout)["layers"][0]["method"]
    assert f"{method}: least estimated cost" in done.stderr.decode()
    assert "least estimated cost" not in invoke("sobel-x", "color.png", "-f").stderr.decode()


@pytest.mark.parametrize("threads", ["1", "3"])
def test_threads_change_nothing(threads, filtered, samples):
    chelsea = samples / "chelsea.png"
    want = filtered(chelsea, verb="gaussian:2")
    np.testing.assert_array_equal(filtered(chelsea, "--threads", threads, verb="gaussian:2"), want)


# Depths, modes and formats: the table of research/features.md, section 5.12


def test_sixteen_bit_grey_stays_sixteen_bit(filtered, tmp_path):
    deep = RNG.integers(0, 65536, (9, 8)).astype(np.uint16)
    for suffix in (".png", ".tiff"):
        path = save(tmp_path / f"deep{suffix}", deep)
        want = np.clip(np.rint(correlate(deep, FIXED["sharpen"])), 0, 65535)
        got = filtered(path, verb="sharpen", suffix=suffix)
        assert got.dtype.itemsize >= 2
        np.testing.assert_array_equal(got, want)


def test_one_bit_becomes_grey(filtered, tmp_path):
    Image.fromarray(GREY > 127).save(tmp_path / "bits.png")
    with Image.open(tmp_path / "bits.png") as image:
        assert image.mode == "1"
    got = filtered(tmp_path / "bits.png", verb="blur")
    np.testing.assert_array_equal(got, codes(correlate((GREY > 127) * 255, SMOOTH["blur"])))


def test_a_palette_becomes_rgb(filtered, tmp_path):
    image = Image.fromarray(COLOR).quantize(16)
    image.save(tmp_path / "palette.png")
    want = correlate(np.asarray(image.convert("RGB")), SMOOTH["blur"])
    got = filtered(tmp_path / "palette.png", verb="blur")
    np.testing.assert_array_equal(got, codes(want))


def test_a_palette_with_transparency_becomes_rgba(filtered, tmp_path):
    image = Image.fromarray(COLOR).quantize(16)
    image.save(tmp_path / "palette.png", transparency=3)
    got = filtered(tmp_path / "palette.png", verb="identity")
    assert got.shape == (11, 13, 4)
    np.testing.assert_array_equal(got[..., 3], np.where(np.asarray(image) == 3, 0, 255))


def test_cmyk_becomes_rgb_and_says_so(invoke, tmp_path):
    Image.fromarray(COLOR).convert("CMYK").save(tmp_path / "inks.tiff")
    done = invoke("identity", "inks.tiff", "-o", "out.png")
    assert done.status == 0
    assert b"convcli: inks.tiff: CMYK is converted to RGB without a profile\n" in done.stderr
    np.testing.assert_array_equal(load(tmp_path / "out.png"), COLOR)
    assert invoke("identity", "inks.tiff", "-o", "quiet.png", "-q").stderr == b""


def test_orientation_is_baked_in(invoke, filtered, tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # turn clockwise to see it upright
    save(tmp_path / "turned.png", GREY, exif=exif)
    upright = np.rot90(GREY, -1)
    np.testing.assert_array_equal(filtered(tmp_path / "turned.png", verb="sobel-x"), codes(correlate(upright, SOBEL)))
    save(tmp_path / "turned.jpg", GREY, exif=exif, quality=95)
    assert invoke("identity", "turned.jpg", "-o", "out.jpg").status == 0
    with Image.open(tmp_path / "out.jpg") as image:
        assert image.size == (11, 13)
        assert image.getexif().get(274, 1) == 1


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tiff"])
def test_the_colour_profile_is_kept(suffix, invoke, tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    save(tmp_path / f"in{suffix}", COLOR, icc_profile=profile)
    assert invoke("edge", f"in{suffix}", "-o", f"out{suffix}").status == 0
    with Image.open(tmp_path / f"out{suffix}") as image:
        assert image.info["icc_profile"] == profile


FORMATS = {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP", ".tiff": "TIFF", ".bmp": "BMP", ".gif": "GIF"}


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("pixels", [GREY, COLOR, CLEAR, LA], ids=["L", "RGB", "RGBA", "LA"])
def test_every_format_out_and_in_again(suffix, pixels, invoke, tmp_path):
    save(tmp_path / "in.png", pixels)
    done = invoke("identity", "in.png", "-o", f"out{suffix}")
    assert (done.status, done.stdout) == (0, f"out{suffix}\n".encode())
    with Image.open(tmp_path / f"out{suffix}") as image:
        assert (image.format, image.size) == (FORMATS[suffix], (13, 11))
    lays = suffix in (".jpg", ".bmp") and pixels.ndim == 3 and pixels.shape[2] in (2, 4)
    assert (b"has no transparency" in done.stderr) == lays
    if suffix in (".png", ".tiff", ".bmp") and not lays:
        seen = pixels * (pixels[..., -1:] > 0) if pixels.shape[-1] in (2, 4) else pixels
        np.testing.assert_array_equal(load(tmp_path / f"out{suffix}").squeeze(), seen)
    assert invoke("blur", f"out{suffix}", "-o", f"again{suffix}").status == 0


def test_transparency_is_laid_over_white_where_there_is_none(filtered, tmp_path):
    path = save(tmp_path / "clear.png", CLEAR)
    got = filtered(path, verb="identity", suffix=".bmp")
    alpha = CLEAR[..., 3:] / 255
    assert np.abs(got - (CLEAR[..., :3] * alpha + 255 * (1 - alpha))).max() < 0.51


def test_only_the_first_frame_of_an_animation_fits_into_a_jpeg(invoke, tmp_path):
    frames = [Image.fromarray(np.full((4, 4), code, np.uint8)) for code in (10, 200)]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    done = invoke("identity", "two.gif", "-o", "one.jpg")
    assert (done.status, done.stdout) == (0, b"one.jpg\n")
    assert b"convcli: two.gif: only the first of its frames fits into JPEG; --frame N takes another\n" in done.stderr
    assert abs(load(tmp_path / "one.jpg").astype(int) - 10).max() <= 2


def test_one_pixel(filtered, tmp_path):
    path = save(tmp_path / "one.png", np.array([[7]], np.uint8))
    for name in ("edge", "blur", "gaussian:2", "sobel"):
        assert filtered(path, verb=name).tolist() == [[7 if name in ("blur", "gaussian:2") else 0]]


def test_the_picture_of_the_text(filtered, samples):
    got = filtered(samples / "text-6x8.png", "-k", "1 -1", "-p", "valid", "--range", "none", suffix=".npy")
    np.testing.assert_allclose(got, [[0, 1, 0, 0, 0, -1, 0]] * 6, atol=1e-6)
    assert math.isclose(got.sum(), 0, abs_tol=1e-6)
