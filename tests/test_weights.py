"""Arrays of files that hold several: the one FILE:NAME means, the one a bare FILE means, and files that lie."""

import io
import json
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save_file

import convcli
from convcli.errors import ConvcliError
from convcli.kernels import files
from convcli.kernels.reading import read_kernel, read_tensor

WANT = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
LAYER = np.arange(2 * 3 * 3 * 3, dtype=np.float32).reshape(2, 3, 3, 3)
MODEL = {
    "conv1.weight": LAYER,
    "conv1.bias": np.array([0.5, -1], np.float32),
    "conv2.weight": LAYER[:1] + 1,
    "fc.weight": WANT,
    "façade/größe 核:0": WANT + 1,
}
SAVERS = {
    ".npz": lambda path, arrays: np.savez(path, **arrays),
    ".safetensors": lambda path, arrays: save_file(arrays, path),
}
both = pytest.mark.parametrize("suffix", SAVERS)
readers = pytest.mark.parametrize("read", [read_kernel, read_tensor])


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """``saved("w.npz", a=..)``: an archive in the folder the test runs in."""
    monkeypatch.chdir(tmp_path)

    def save(name, /, **arrays):
        path = tmp_path / name
        SAVERS[path.suffix.lower()](path, {key: np.asarray(array) for key, array in arrays.items()})
        return path

    return save


def complaint(read, text):
    """The one line that refuses a text."""
    with pytest.raises(ConvcliError) as caught:
        read(str(text))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    return str(caught.value)


@both
def test_every_array_comes_back_by_its_name(suffix, saved):
    saved(f"w{suffix}", **MODEL)
    for name, array in MODEL.items():
        got = read_tensor(f"w{suffix}:{name}")
        assert got.dtype == np.float64
        np.testing.assert_array_equal(got, array)
        if array.ndim > 1:
            kernel = read_kernel(f"w{suffix}:{name}")
            np.testing.assert_array_equal(kernel.weights, array)
            assert kernel.name == f"w{suffix}:{name}"
            assert str(kernel.path) == f"w{suffix}"


@both
@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "u2", "i2", "f2", "u4", "i4", "f4", "u8", "i8", "f8"])
def test_every_real_dtype(suffix, dtype, saved):
    array = np.array([[0, 1], [1, 1]]).astype(dtype)
    saved(f"w{suffix}", one=array)
    kernel = read_kernel(f"w{suffix}")
    assert kernel.weights.dtype == array.dtype
    np.testing.assert_array_equal(kernel.weights, array)
    np.testing.assert_array_equal(read_tensor(f"w{suffix}:one"), array.astype(float))


@both
@pytest.mark.parametrize(
    ("arrays", "bias"),
    [
        ({"anything": WANT}, 0),
        ({"anything": WANT, "bias": 0.25}, 0.25),
        ({"kernel": WANT, "other": LAYER}, 0),
        ({"weight": WANT, "other": LAYER, "more": LAYER, "bias": 2}, 2),
        ({"kernel": WANT, "weight": LAYER}, 0),
        ({"conv.weight": WANT}, 0),
    ],
)
def test_the_array_that_is_meant_without_a_name(suffix, arrays, bias, saved):
    saved(f"w{suffix}", **arrays)
    kernel = read_kernel(f"w{suffix}")
    np.testing.assert_array_equal(kernel.weights, WANT)
    assert (kernel.bias, kernel.name) == (bias, f"w{suffix}")
    np.testing.assert_array_equal(read_tensor(f"w{suffix}"), WANT)


@both
def test_a_bias_comes_along_with_no_name_only(suffix, saved):
    saved(f"w{suffix}", weight=LAYER, bias=[0.5, -1])
    np.testing.assert_array_equal(read_kernel(f"w{suffix}").bias, [0.5, -1])
    assert read_kernel(f"w{suffix}:weight").bias == 0
    saved(f"m{suffix}", **MODEL)
    assert read_kernel(f"m{suffix}:conv1.weight").bias == 0


@both
def test_a_bias_alone_is_a_tensor_but_no_kernel(suffix, saved):
    saved(f"b{suffix}", bias=[1.0, 2.0])
    assert read_tensor(f"b{suffix}").tolist() == [1, 2]
    assert complaint(read_kernel, f"b{suffix}").endswith("or one named 'kernel' or 'weight'; it holds bias")


@both
@readers
def test_the_names_are_listed_when_none_is_meant(suffix, read, saved):
    saved(f"w{suffix}", **{f"layer{place}": WANT for place in range(9)})
    line = complaint(read, f"w{suffix}")
    assert f"'w{suffix}': it must hold one array, or one named 'kernel' or 'weight'; it holds layer0, " in line
    assert f"layer5 and 3 more; name one, as in 'w{suffix}:layer0'" in line
    assert "layer6" not in line
    saved(f"six{suffix}", **{f"layer{place}": WANT for place in range(6)})
    assert "layer4, layer5; name" in complaint(read, f"six{suffix}")
    saved(f"none{suffix}")
    assert "it holds none" in complaint(read, f"none{suffix}")
    saved(f"odd{suffix}", **{"a\nb\x1b[31m": WANT, "x" * 1000: WANT})
    assert "a\\nb\\x1b[31m" in complaint(read, f"odd{suffix}")


@both
@readers
def test_a_name_that_is_not_there(suffix, read, saved):
    saved(f"w{suffix}", **MODEL)
    line = complaint(read, f"w{suffix}:conv1.wieght")
    assert f"file 'w{suffix}:conv1.wieght': no array in it is named 'conv1.wieght'; did you mean 'conv1.weight'" in line
    line = complaint(read, f"w{suffix}:xyz")
    assert all(name in line for name in MODEL)
    assert "named ''; it holds" in complaint(read, f"w{suffix}:")
    assert complaint(read, f"nowhere{suffix}:a").endswith(f"file: 'nowhere{suffix}'")


def test_where_a_name_begins():
    assert files.split_name(r"C:\x\w.npz") is None
    assert files.split_name(r"C:\x\w.npz:conv1") == (r"C:\x\w.npz", "conv1")
    assert files.split_name("a:b.SafeTensors:c/d:0") == ("a:b.SafeTensors", "c/d:0")
    assert files.split_name("w.npz:") == ("w.npz", "")
    for text in ("w.csv:a", "gaussian:2", "3x2: 1,2", "w.npz", "npz:a", "w.npzx:a", '{"made": "w.npz:a"}', "[w.npz:a]"):
        assert files.split_name(text) is None, text
    assert read_kernel('{"made": "w.npz:a", "kernel": [[1]]}').weights.tolist() == [[1]]


@both
def test_a_file_of_the_whole_name_wins(suffix, saved):
    saved(f"w{suffix}", a=WANT, b=WANT)
    saved(f"w{suffix}:a{suffix}", only=WANT * 2)
    for text in (f"w{suffix}:a{suffix}", f"w{suffix}:a{suffix}:only"):
        np.testing.assert_array_equal(read_kernel(text).weights, WANT * 2)
        np.testing.assert_array_equal(read_tensor(text), WANT * 2)
    np.testing.assert_array_equal(read_kernel(f"w{suffix}:a").weights, WANT)


@both
def test_suffixes_in_capitals(suffix, saved, tmp_path):
    saved(f"w{suffix}", **MODEL).rename(tmp_path / f"w{suffix.upper()}")
    np.testing.assert_array_equal(read_tensor(f"w{suffix.upper()}:fc.weight"), WANT)


@both
def test_shapes_that_are_no_kernel(suffix, saved):
    saved(f"w{suffix}", vector=[1.0, 2.0], number=3.0, five=np.ones((1, 1, 1, 1, 1)), cube=LAYER[0], bad=[[1, np.nan]])
    assert "its shape is" not in complaint(read_kernel, f"w{suffix}")
    for name, words in {"vector": "(2,)", "number": "()", "five": "(1, 1, 1, 1, 1)", "bad": "NaN or infinity"}.items():
        line = complaint(read_kernel, f"w{suffix}:{name}")
        assert line.startswith(f"kernel file 'w{suffix}:{name}': ")
        assert words in line
    assert read_kernel(f"w{suffix}:cube").weights.shape == (1, 3, 3, 3)
    assert read_tensor(f"w{suffix}:vector").tolist() == [1, 2]
    for name, words in {"number": "()", "five": "1 to 4 axes", "bad": "NaN or infinity"}.items():
        line = complaint(read_tensor, f"w{suffix}:{name}")
        assert line.startswith(f"file 'w{suffix}:{name}': ")
        assert words in line


@both
def test_arrays_not_asked_for_are_not_read(suffix, saved, monkeypatch):
    saved(f"w{suffix}", small=[[1.0]], large=np.ones((10, 10)))
    monkeypatch.setattr("convcli.kernels.files.MAX_VALUES", 10)
    monkeypatch.setattr("convcli.matrices.read_npy.__defaults__", (10,))
    assert read_tensor(f"w{suffix}:small").tolist() == [[1]]
    assert read_kernel(f"w{suffix}:small").weights.tolist() == [[1]]
    for read in (read_tensor, read_kernel):
        assert "its header claims 100 values, more than 10" in complaint(read, f"w{suffix}:large")


def test_a_zip_that_unpacks_to_more_than_an_array_is_not_unpacked(saved, monkeypatch):
    saved("w.npz", small=[[1.0]], large=np.ones((1, 10_000)))
    monkeypatch.setattr("convcli.kernels.files.MAX_VALUES", 0)
    assert read_tensor("w.npz:small").tolist() == [[1]]
    assert complaint(read_tensor, "w.npz:large").endswith("the array in it is too large")


def raw(header, data=b"", length=None):
    """A .safetensors file by hand."""
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(dtype, shape, start, stop):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


ONE = {"a": entry("F32", [1, 1], 0, 4)}
DAMAGED = {
    "nothing": b"",
    "less than a length": b"abc",
    "a zip": b"PK\3\4" * 20,
    "text": b"1 2 3\n4 5 6\n" * 9,
    "a length of gigabytes": raw(ONE, bytes(4), 10**9),
    "a length beyond the file": raw(ONE, bytes(4), 10**6),
    "the greatest length": raw(ONE, bytes(4), 2**64 - 1),
    "a length too short": raw(ONE, bytes(4), 20),
    "no JSON": raw(b'{"a": ['),
    "no UTF-8": raw(b'{"\xff": 1}'),
    "a list": raw([]),
    "deep JSON": raw(b'{"a":' * 50_000),
    "overlapping": raw({"a": entry("F32", [1, 2], 0, 8), "b": entry("F32", [1, 2], 4, 12)}, bytes(12)),
    "a hole": raw({"a": entry("F32", [1, 2], 4, 12)}, bytes(12)),
    "offsets that turn": raw({"a": entry("F32", [1, 2], 8, 0)}, bytes(8)),
    "cut": raw({"a": entry("F32", [1, 2], 0, 8)}, bytes(4)),
    "left over": raw({"a": entry("F32", [1, 2], 0, 8)}, bytes(14)),
    "another shape": raw({"a": entry("F32", [1, 3], 0, 8)}, bytes(8)),
    "a negative shape": raw({"a": entry("F32", [-1, -2], 0, 8)}, bytes(8)),
    "a shape that overflows": raw({"a": entry("F32", [2**62, 2**62], 0, 8)}, bytes(8)),
    "terabytes": raw({"a": entry("F32", [10**6, 10**6], 0, 4 * 10**12)}, bytes(8)),
    "an unknown dtype": raw({"a": entry("F33", [1, 2], 0, 8)}, bytes(8)),
    "a name with newlines": raw({"\n" * 9 + "x" * 10**5: entry("F32", [1, 2], 4, 12)}, bytes(12)),
}


@readers
@pytest.mark.parametrize("key", ["", ":a"])
@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_safetensors(name, key, read, tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(DAMAGED[name])
    line = complaint(read, f"{path}{key}")
    assert f"{str(path) + key!r}: not a .safetensors file, or a damaged one: " in line
    assert "Error while" not in line


def test_what_a_file_by_hand_holds(tmp_path):
    """What the damaged files above differ from."""
    (tmp_path / "w.safetensors").write_bytes(raw({"__metadata__": {"by": "hand"}} | ONE, struct.pack("<f", 2.5)))
    assert read_kernel(str(tmp_path / "w.safetensors")).weights.tolist() == [[2.5]]


@readers
@pytest.mark.parametrize(("dtype", "size"), [("BF16", 2), ("F8_E4M3", 1), ("F8_E5M2", 1)])
def test_numbers_that_numpy_lacks(dtype, size, read, tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(raw({"a": entry(dtype, [2, 2], 0, 4 * size)}, bytes(4 * size)))
    for text in (path, f"{path}:a"):
        assert f"'a' is stored as {dtype}, which is not read; save it as float32" in complaint(read, text)


@readers
def test_complex_numbers(read, tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(raw({"a": entry("C64", [1, 1], 0, 8)}, bytes(8)))
    line = complaint(read, path)
    assert "stored as C64" in line or "damaged" in line  # as the library came to know them


@readers
def test_a_size_is_refused_before_it_is_read(read, tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    count = 200_000_001
    with path.open("wb") as file:  # sparse: as large as its header says, and yet nothing
        file.truncate(file.write(raw({"a": entry("U8", [1, count], 0, count)})) + count)
    monkeypatch.setattr(np, "asarray", None)
    assert "its header claims 200,000,001 values, more than 200,000,000" in complaint(read, path)


@readers
def test_empty_safetensors(read, tmp_path):
    path = tmp_path / "w.safetensors"
    header = {"a": entry("F32", [0, 3], 0, 0), "b": entry("F32", [0, 2**40, 2**40], 0, 0)}
    path.write_bytes(raw(header))
    assert "'a' is empty: its shape is (0, 3)" in complaint(read, f"{path}:a")
    assert "'b' is empty: its shape is (0, 1099511627776, 1099511627776)" in complaint(read, f"{path}:b")


@readers
def test_npz_files_that_lie(read, tmp_path):
    path = tmp_path / "w.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)})
        archive.writestr("claims.npy", head.getvalue())
        archive.writestr("short.npy", head.getvalue().replace(b"1000000, 1000000", b"1000,    1000000"))
        archive.writestr("text.npy", b"hello")
        pickled = io.BytesIO()
        np.save(pickled, np.array([[{}]], object), allow_pickle=True)
        archive.writestr("pickled.npy", pickled.getvalue())
        archive.writestr("good.npy", head.getvalue().replace(b"1000000, 1000000", b"1      , 1      ") + bytes(8))
    assert read(f"{path}:good") is not None
    words = {"claims": "claims 1,000,000,000,000 values", "short": "claims 1,000,000,000 values", "text": "not an .npy"}
    for name, word in (words | {"pickled": "pickles are refused"}).items():
        line = complaint(read, f"{path}:{name}")
        assert f"'{path}:{name}': " in line
        assert word in line
    for data in (b"", b"PK", path.read_bytes()[:-30]):
        path.write_bytes(data)
        assert "not an .npz file" in complaint(read, f"{path}:good")


@readers
@both
def test_what_is_no_file(read, suffix, tmp_path):
    (tmp_path / f"folder{suffix}").mkdir()
    assert "no such" in complaint(read, tmp_path / f"folder{suffix}:a")
    assert "no such" in complaint(read, tmp_path / f"missing{suffix}")


TENSORS = {
    "v.json": (b"[1, 2.5]", [1, 2.5]),
    "m.json": (b"[[1, 2]]", [[1, 2]]),
    "four.json": (b"[[[[1], [2]]]]", [[[[1], [2]]]]),
    "bias.json": (b'{"bias": [1, 2], "made": "by hand"}', [1, 2]),
    "kernel.json": (b'{"bias": [1, 2], "weight": [[4]], "kernel": [[3]]}', [[3]]),
    "weight.json": (b'{"bias": [1, 2], "weight": [[4]]}', [[4]]),
    "row.csv": (b"1,2,3\n", [1, 2, 3]),
    "rows.csv": (b"\xef\xbb\xbf1,2\r\n3,4\r\n", [[1, 2], [3, 4]]),
    "column.txt": (b"1\n2\n", [[1], [2]]),
    "fractions.txt": (b"1/2 1/4 # two\n", [0.5, 0.25]),
    "planes.txt": (b"1 2\n\n3 4\n", [[[1, 2]], [[3, 4]]]),
    "json.txt": (b"[[[1, 2]]]", [[[1, 2]]]),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_as_text(name, tmp_path):
    data, want = TENSORS[name]
    (tmp_path / name).write_bytes(data)
    got = read_tensor(str(tmp_path / name))
    assert got.dtype == np.float64
    assert got.tolist() == want


@pytest.mark.parametrize("dtype", ["<f4", ">f8", ">i2", "u1", "?", "f2"])
def test_tensors_of_npy(dtype, tmp_path):
    for array in (np.arange(4), np.arange(24).reshape(1, 2, 3, 4)):
        np.save(tmp_path / "v.npy", array.astype(dtype))
        got = read_tensor(str(tmp_path / "v.npy"))
        assert got.dtype == np.float64
        assert got.dtype.isnative
        np.testing.assert_array_equal(got, array.astype(dtype).astype(float))


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


BAD_TENSORS = {
    "v.pth": (b"1 2", "is a pickle"),
    "bare": (b"1 2", ".safetensors"),
    "k.toml": (b"kernel = [[1]]", ".safetensors"),
    "number.json": (b"3", "list of numbers, 1 to 4 levels"),
    "empty.json": (b"[]", "list of numbers, 1 to 4 levels"),
    "hollow.json": (b"[[]]", "not empty"),
    "deep.json": (b"[[[[[1]]]]]", "levels deep"),
    "deepest.json": (b"[" * 100_000, "JSON"),
    "deeper.json": (b"[" * 900 + b"]" * 900, ""),
    "ragged.json": (b"[1, [2]]", "ragged"),
    "words.json": (b'[1, "2"]', "'2' is not a finite number"),
    "truth.json": (b"[1, true]", "'True' is not a finite number"),
    "nan.json": (b"[1, NaN]", "finite"),
    "keys.json": (b'{"weights": [1]}', '"kernel", "weight" or "bias"'),
    "null.json": (b'{"bias": null}', "list of numbers"),
    "cut.json": (b"[1, 2", "not JSON"),
    "empty.csv": (b"", "empty"),
    "ragged.csv": (b"1,2\n3\n", "row 2"),
    "latin.txt": (b"\xff", "UTF-8"),
    "zero.npy": (npy(np.float64(3)), "shape is ()"),
    "five.npy": (npy(np.ones((1, 1, 1, 1, 1))), "(1, 1, 1, 1, 1)"),
    "none.npy": (npy(np.ones(0)), "(0,)"),
    "nan.npy": (npy(np.array([np.inf])), "NaN or infinity"),
    "long.npy": (npy(np.array([np.longdouble("1e4000")])), "NaN or infinity"),
    "complex.npy": (npy(np.array([1j])), "real numbers"),
    "object.npy": (npy(np.array([{}], object)), "pickles are refused"),
    "cut.npy": (npy(np.ones(9))[:-8], "damaged"),
    "not.npy": (b"PK", "not an .npy"),
}


@pytest.mark.parametrize("name", BAD_TENSORS)
def test_bad_tensors_name_their_file(name, tmp_path):
    data, word = BAD_TENSORS[name]
    (tmp_path / name).write_bytes(data)
    line = complaint(read_tensor, tmp_path / name)
    assert line.startswith(f"file {str(tmp_path / name)!r}: ")
    assert word in line


@pytest.mark.parametrize("text", ["", "nowhere.npy", "1 2 3", "gaussian", "a\0b.npy", "w.csv:a", "."])
def test_tensors_are_files_only(text):
    assert complaint(read_tensor, text) == f"no such file: {text!r}"


@both
def test_filter_takes_one_array_of_a_file(suffix, saved, invoke):
    saved(f"w{suffix}", **{"conv1.weight": WANT, "conv2.weight": WANT + 1})
    for name, kernel in (("conv1.weight", "1 2 3; 4 5 6"), ("conv2.weight", "2 3 4; 5 6 7")):
        named = invoke("kernels", f"w{suffix}:{name}")
        assert (named.status, convcli.kernel(named.stdout.decode()).tolist()) == (0, convcli.kernel(kernel).tolist())
        picture = "[1 2 3 4; 5 6 7 8; 9 8 7 6]"
        got = invoke("filter", picture, "-k", f"w{suffix}:{name}", "-p", "valid")
        assert (got.status, got.stdout) == (0, invoke("filter", picture, "-k", kernel, "-p", "valid").stdout)
    failed = invoke("filter", "[1 2; 3 4]", "-k", f"w{suffix}:conv3.weight")
    assert failed.status == 2
    assert b"did you mean 'conv" in failed.stderr
    assert failed.stderr.count(b"\n") == 1


def test_the_library_is_imported_for_its_files_only(tmp_path):
    np.savez(tmp_path / "w.npz", a=WANT)
    code = "import sys, convcli; convcli.kernel('w.npz:a'); print('safetensors' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60, cwd=tmp_path)
    assert done.stdout.split() == [b"False"]
