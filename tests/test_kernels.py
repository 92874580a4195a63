"""The named kernels against their published numbers, and every way to write a kernel down."""

import json

import cv2
import numpy as np
import pytest
from scipy import ndimage

import convcli
from convcli.errors import ConvcliError
from convcli.kernels.named import NAMED
from convcli.kernels.reading import read_kernel

GOLDEN = {  # the public contract's table, which says what each is
    "identity": [[1]],
    "box": [[1 / 9] * 3] * 3,
    "blur": [[1 / 9] * 3] * 3,
    "binomial": [[1 / 16, 2 / 16, 1 / 16], [2 / 16, 4 / 16, 2 / 16], [1 / 16, 2 / 16, 1 / 16]],
    "sharpen": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
    "emboss": [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]],
    "edge": [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]],
    "outline": [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]],
    "laplacian": [[0, 1, 0], [1, -4, 1], [0, 1, 0]],
    "ridge": [[0, -1, 0], [-1, 4, -1], [0, -1, 0]],
    "sobel-x": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
    "sobel-y": [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
    "scharr-x": [[-3, 0, 3], [-10, 0, 10], [-3, 0, 3]],
    "scharr-y": [[-3, -10, -3], [0, 0, 0], [3, 10, 3]],
    "prewitt-x": [[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]],
    "prewitt-y": [[-1, -1, -1], [0, 0, 0], [1, 1, 1]],
    "motion:3": [[0, 0, 0], [1 / 3, 1 / 3, 1 / 3], [0, 0, 0]],
    "motion:3,90": [[0, 1 / 3, 0], [0, 1 / 3, 0], [0, 1 / 3, 0]],
    "disk:1": [[0, 1 / 5, 0], [1 / 5, 1 / 5, 1 / 5], [0, 1 / 5, 0]],
    "disk:0": [[1]],
    "binomial:size=1": [[1]],
}
SUMS = {"Smooth": 1, "Sharpen": 1, "Edges": 0, "Gradients": 0}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_numbers(name):
    np.testing.assert_allclose(convcli.kernel(name), GOLDEN[name], atol=1e-15)


@pytest.mark.parametrize("name", NAMED)
def test_sums(name):
    sums = read_kernel(name).weights.sum(axis=(-2, -1))
    np.testing.assert_allclose(sums, np.full_like(sums, SUMS[NAMED[name].panel]), atol=1e-12)


@pytest.mark.parametrize("sigma", [0.5, 1, 2, 3.3])
def test_gaussian_is_opencvs(sigma):
    size = 2 * int(np.ceil(3 * sigma)) + 1
    column = cv2.getGaussianKernel(size, sigma)
    np.testing.assert_allclose(convcli.kernel(f"gaussian:{sigma}"), column @ column.T, atol=1e-12)
    assert convcli.kernel(f"gaussian:sigma={sigma},size=5").shape == (5, 5)


def test_unsharp_and_dog_are_made_of_gaussians():
    gaussian = convcli.kernel("gaussian:2")
    spot = np.zeros_like(gaussian)
    spot[6, 6] = 1
    np.testing.assert_allclose(convcli.kernel("unsharp:sigma=2,amount=1.5"), spot + 1.5 * (spot - gaussian), atol=1e-15)
    dog = convcli.kernel("gaussian:1,11") - convcli.kernel("gaussian:1.6,11")
    np.testing.assert_allclose(convcli.kernel("dog"), dog, atol=1e-15)


def test_log_is_scipys():
    spot = np.zeros((41, 41))
    spot[20, 20] = 1
    want = ndimage.gaussian_laplace(spot, 2, truncate=4)[12:29, 12:29]
    np.testing.assert_allclose(convcli.kernel("log:2"), want, atol=5e-4)


def test_motion_turns_counter_clockwise():
    weights = convcli.kernel("motion:size=9,angle=45")
    assert weights[0, 8] == weights[8, 0] == 0
    assert weights[1, 7] > 0
    assert weights[1, 1] == 0
    np.testing.assert_allclose(weights, weights.T[::-1, ::-1], atol=1e-9)
    np.testing.assert_allclose(convcli.kernel("motion:5,180"), convcli.kernel("motion:5"), atol=1e-9)


@pytest.mark.parametrize(
    ("name", "count", "total"), [("sobel", 2, 16), ("roberts", 2, 4), ("kirsch", 8, 240), ("compass", 8, 64)]
)
def test_filters_of_several_kernels(name, count, total):
    weights = read_kernel(name).weights
    assert len(weights) == count
    assert np.abs(weights).sum() == total
    assert len({kernel.tobytes() for kernel in weights}) == count


KIRSCH = {  # Kirsch 1971; the eight compass directions, north first, turning counter-clockwise
    0: [[5, 5, 5], [-3, 0, -3], [-3, -3, -3]],
    1: [[5, 5, -3], [5, 0, -3], [-3, -3, -3]],
    2: [[5, -3, -3], [5, 0, -3], [5, -3, -3]],
    4: [[-3, -3, -3], [-3, 0, -3], [5, 5, 5]],
}


@pytest.mark.parametrize("step", KIRSCH)
def test_kirsch_turns_in_steps_of_45_degrees(step):
    assert read_kernel("kirsch").weights[step].tolist() == KIRSCH[step]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("0 1; 2 3", [[0, 1], [2, 3]]),
        ("0,1\n2,3\n", [[0, 1], [2, 3]]),
        ("[1 0 -1; 2 0 -2]", [[1, 0, -1], [2, 0, -2]]),
        ("1/9 1/3 -1/2", [[1 / 9, 1 / 3, -1 / 2]]),
        ("1e-3 +2. .5", [[1e-3, 2, 0.5]]),
        ("-1 1", [[-1, 1]]),
        ("5", [[5]]),
        ("3x2: 1,2,3 4,5,6", [[1, 2, 3], [4, 5, 6]]),
        ("1x3:1,2,3", [[1], [2], [3]]),
        ("[[1, 2], [3, 4]]", [[1, 2], [3, 4]]),
        (" [ [1,2] ] ", [[1, 2]]),
        ("1 2 # one\n3 4 # two", [[1, 2], [3, 4]]),
    ],
)
def test_kernels_as_text(text, rows):
    assert convcli.kernel(text).tolist() == rows


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["empty"]),
        (" ; ", ["empty"]),
        ("1 2; 3", ["row 2", "1", "row 1 has 2"]),
        ("1 x", ["row 1, column 2", "'x'"]),
        ("1 nan", ["row 1, column 2", "'nan'", "finite"]),
        ("1 1e400", ["'1e400'", "finite"]),
        ("1/0 1", ["'1/0'"]),
        ("[[1, NaN]]", ["nan", "finite"]),
        ("[[1], [2, 3]]", ["ragged"]),
        ('[["1"]]', ["'1'"]),
        ("[[[[[1]]]]]", ["2 to 4 levels"]),
        ("[[1, 2], [3", ["not a JSON list"]),
        ("[1 2; 3 4", ["must end with ']'"]),
        ("3x3", ["is a size", "box:3"]),
        ("3x3: 1,2", ["needs 9 numbers, not 2"]),
        ("sobbel", ["'sobbel'", "did you mean 'sobel'"]),
        ("gaussian:0", ["sigma", "0.05", "'0'"]),
        ("gaussian:1,2,3", ["one value too many", "gaussian:sigma=1,size=2*ceil(3*sigma)+1"]),
        ("gaussian:sigma=1,sigma=2", ["twice"]),
        ("box:2.5", ["size", "whole", "'2.5'"]),
        ("box:sise=3", ["no argument 'sise'", "did you mean 'size'"]),
        ("edge:3", ["edge", "takes none"]),
        ("nowhere.json", ["no such kernel file", "nowhere.json"]),
        ("./nowhere", ["no such kernel file"]),
        ("sobel", ["filter, not a kernel"]),
        ("-", ["standard input"]),
    ],
)
def test_bad_kernels_get_one_sentence(text, words):
    with pytest.raises(ConvcliError) as caught:
        convcli.kernel(text)
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


WANT = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
FILES = {
    "k.json": b"[[1, 2, 3], [4, 5, 6]]",
    "object.json": b'{"kernel": [[1, 2, 3], [4, 5, 6]], "bias": 0.5, "made": "by hand"}',
    "k.toml": b"kernel = [[1, 2, 3], [4, 5, 6]]\nbias = 0.5",
    "k.csv": b"1,2,3\n4,5,6\n",
    "bom.csv": b"\xef\xbb\xbf1,2,3\r\n4,5,6\r\n",
    "k.txt": b"1 2 3\n4 5 6",
    "magick.txt": b"3x2: 1,2,3\n 4,5,6",
    "k.mat": b"3 2 2 51\n2 4 6\n8 10 12\n",
}
BIAS = {"object.json": 0.5, "k.toml": 0.5, "k.mat": 51 / 255}


@pytest.mark.parametrize("name", FILES)
def test_kernel_files(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(FILES[name])
    kernel = read_kernel(str(path))
    assert kernel.weights.tolist() == WANT
    assert kernel.bias == pytest.approx(BIAS.get(name, 0))


def test_array_files(tmp_path):
    np.save(tmp_path / "k.npy", np.array(WANT, ">f4"))
    np.savez(tmp_path / "one.npz", anything=WANT)
    np.savez(tmp_path / "two.npz", weight=WANT, bias=0.25)
    assert read_kernel(str(tmp_path / "k.npy")).weights.tolist() == WANT
    assert read_kernel(str(tmp_path / "one.npz")).weights.tolist() == WANT
    two = read_kernel(str(tmp_path / "two.npz"))
    assert (two.weights.tolist(), two.bias) == (WANT, 0.25)
    np.save(tmp_path / "layer.npy", np.ones((4, 3, 2, 2)))
    assert read_kernel(str(tmp_path / "layer.npy")).is_layer
    np.save(tmp_path / "layer.npy", np.ones((3, 2, 2)))
    assert read_kernel(str(tmp_path / "layer.npy")).weights.shape == (1, 3, 2, 2)


def test_an_image_is_its_grey_fractions(tmp_path):
    picture = np.array([[0, 51], [255, 102]], np.uint8)
    cv2.imwrite(str(tmp_path / "k.png"), picture)
    np.testing.assert_allclose(read_kernel(str(tmp_path / "k.png")).weights, picture / 255)
    cv2.imwrite(str(tmp_path / "c.png"), np.dstack([picture * 0, picture * 0, picture]))  # BGR: red alone
    np.testing.assert_allclose(read_kernel(str(tmp_path / "c.png")).weights, 0.299 * picture / 255, rtol=1e-6)


BAD_FILES = {
    "empty.txt": (b"", "empty"),
    "nan.json": (b"[[NaN]]", "finite"),
    "inf.toml": (b"kernel = [[inf]]", "finite"),
    "no.json": (b'{"weights": [[1]]}', '"kernel"'),
    "bad.json": (b"[[1,", "JSON"),
    "bad.toml": (b"kernel = [", "TOML"),
    "bias.json": (b'{"kernel": [[1]], "bias": "x"}', "bias"),
    "binary.csv": (b"\xff\xfe\x00", "UTF-8"),
    "header.mat": (b"hello\n1", "width height"),
    "rows.mat": (b"2 2\n1 2\n", "2x2"),
    "scale.mat": (b"1 1 0\n1\n", "scale"),
    "not.npy": (b"PK", ".npy"),
    "not.npz": (b"PK", ".npz"),
    "not.png": (b"hello", "not a picture"),
    "huge.json": (b"[[1" + b"0" * 400 + b"]]", "finite"),
    "longer.json": (b"[[1" + b"0" * 5000 + b"]]", "JSON"),
    "bias.toml": (b"kernel = [[1]]\nbias = 1" + b"0" * 400, "bias"),
    "scale.mat2.mat": (b"1 1 1e-320\n1\n", "finite"),
    "nested.npy": (b"\x93NUMPY\x01\x00\x88\x13" + b"(" * 5000, ".npy"),
    "keys.npy": (b"\x93NUMPY\x01\x00\x0a\x00{1:2,3:4} ", ".npy"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_name_themselves(tmp_path, name):
    content, word = BAD_FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConvcliError) as caught:
        read_kernel(str(path))
    assert name in str(caught.value)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pickles_and_lying_headers_are_refused(tmp_path):
    np.save(tmp_path / "object.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(ConvcliError, match="pickles are refused"):
        read_kernel(str(tmp_path / "object.npy"))
    header = str({"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)}).encode().ljust(118) + b"\n"
    (tmp_path / "huge.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(ConvcliError, match="claims 1,000,000,000,000 values"):
        read_kernel(str(tmp_path / "huge.npy"))


def test_a_name_beats_a_file_and_a_path_does_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "blur").write_text("7")
    assert convcli.kernel("blur").shape == (3, 3)
    assert convcli.kernel("./blur").tolist() == [[7]]
    (tmp_path / "mine").write_text("1 2")
    assert convcli.kernel("mine").tolist() == [[1, 2]]


def test_normalized():
    np.testing.assert_allclose(read_kernel("1 2; 3 4").normalized().weights.sum(), 1)
    for text in ("edge", "0 0", "0.1 0.2 -0.3"):
        with pytest.raises(ConvcliError, match="sums to 0"):
            read_kernel(text).normalized()


def test_kernels_command_prints_what_k_reads(invoke):
    for name in ("gaussian:1.5", "emboss", "motion:7,33"):
        printed = invoke("kernels", name)
        assert printed.status == 0
        np.testing.assert_allclose(convcli.kernel(printed.stdout.decode()), convcli.kernel(name), rtol=1e-8, atol=1e-12)
    assert b"# sum 1\n" in invoke("kernels", "emboss").stdout
    assert json.loads(invoke("kernels", "edge", "--json").stdout)["kernel"] == GOLDEN["edge"]
    assert len(json.loads(invoke("kernels", "--json").stdout)) == len(NAMED)


def test_kernels_command_lists_names_arguments_and_defaults(invoke):
    listing = invoke("kernels").stdout.decode()
    assert all(f"  {one.usage} " in listing for one in NAMED.values())
    assert "motion:size=9,angle=0" in listing
    assert max(map(len, listing.splitlines())) <= 80
