"""``convcli learn`` as it is typed: pictures in, kernel files and words out. The judges are the kernels that made the
pictures, of this program and, blind, of OpenCV, Pillow and SciPy."""

import json
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from threadpoolctl import threadpool_limits

import convcli
import oracle
from convcli.kernels.named import NAMED
from pictures import load, save


@pytest.fixture(scope="module", autouse=True)
def _one_thread_of_blas():
    """As in a process of its own."""
    with threadpool_limits(1):
        yield


LINEAR = [name for name, one in NAMED.items() if one.combine is None]
EMBOSS = [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]
RNG = np.random.default_rng(6)
STRIPE = np.ones((6, 8))
STRIPE[:, 2:6] = 0
EDGES = STRIPE[:, 1:] - STRIPE[:, :-1]
GD = ["--method", "gd", "--steps", "10", "--lr", "0.03", "--init", "0.618 -0.4092"]


def inline(array):
    return json.dumps(np.asarray(array).tolist())


def clip8(values):
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


@pytest.fixture
def refused(refused):
    """``refused(status, *args)``: the one line of ``convcli learn``."""
    return lambda status, *args: refused(status, "learn", *args)


@pytest.fixture
def photo(samples, tmp_path):
    """A part of the cat, in colour."""
    save(tmp_path / "photo.png", load(samples / "chelsea.png")[60:180, 90:230])
    return Path("photo.png")


@pytest.fixture
def grey(samples, tmp_path):
    with Image.open(samples / "chelsea.png") as image:
        save(tmp_path / "grey.png", np.asarray(image.convert("L"))[60:180, 90:230])
    return Path("grey.png")


@pytest.fixture
def learn(invoke):
    """``learn(before, after, *args)``: the JSON object, and what was said."""

    def call(before, after, *args):
        done = invoke("learn", before, after, "--json", *args)
        assert done.status == 0, done.stderr.decode()
        assert done.stdout.count(b"\n") == 1
        return json.loads(done.stdout), done.stderr.decode()

    return call


# The text


def test_emboss_there_and_back(invoke, photo, samples, tmp_path):
    other = save(tmp_path / "other.png", load(samples / "coffee.png")[:150, :160])
    assert invoke("emboss", photo, "-o", "photo-emboss.png").status == 0
    learned = invoke("learn", photo, "photo-emboss.png", "-k", "3x3", "-o", "emboss.json")
    assert (learned.status, learned.stdout) == (0, b"emboss.json\n")
    said = learned.stderr.decode()
    assert "1.0000 like emboss, scale 1\n" in said
    assert "R2 1.000000 on rows held out, exact" in said
    assert invoke("filter", other, "-k", "emboss.json", "-o", "learned.png").status == 0
    assert invoke("emboss", other, "-o", "true.png").status == 0
    assert np.array_equal(load(tmp_path / "learned.png"), load(tmp_path / "true.png"))
    shown = invoke("kernels", "emboss.json").stdout.decode()
    assert [line.split() for line in shown.splitlines()[:3]] == [[str(one) for one in row] for row in EMBOSS]
    assert "photo.png" in shown
    assert "photo-emboss.png" in shown
    assert "lstsq" in shown
    assert "# sum 1\n" in shown
    assert "R2 1.0" in shown


def test_text_6x8(invoke, samples, tmp_path):
    for after in (inline(EDGES), "edges.csv"):
        np.savetxt(tmp_path / "edges.csv", EDGES, delimiter=",")
        done = invoke("learn", inline(STRIPE), after, "-k", "1x2", *GD)
        assert done.status == 0
        said = done.stderr.decode()
        assert re.search(r"11\.679\s+2\.061\s+0\.387\s+0\.082\s+0\.021\b", said)
        assert re.search(r"loss [▁▂▃▄▅▆▇█]{10} ", said)
        assert "--lr 0.03" in said
        np.testing.assert_allclose([float(one) for one in done.stdout.split()], [-1, 1], atol=0.03)


def test_text_6x8_json(learn):
    record, _ = learn(inline(STRIPE), inline(EDGES), "-k", "1x2", *GD)
    assert " ".join(f"{one:.3f}" for one in record["loss"][1::2]) == "11.679 2.061 0.387 0.082 0.021"
    assert len(record["loss"]) == 10
    np.testing.assert_allclose(record["kernel"], [[-1, 1]], atol=0.03)
    assert record["bias"] == 0
    assert isinstance(record["bias"], float)
    assert (record["method"], record["lr"]) == ("gd", 0.03)
    assert record["closest"] is None or set(record["closest"]) == {"name", "scale", "correlation"}
    exact, said = learn(inline(STRIPE), inline(EDGES), "-k", "1x2")
    np.testing.assert_allclose(exact["kernel"], [[-1, 1]], atol=1e-9)
    assert exact["loss"] == [pytest.approx(0, abs=1e-9)]
    assert "loss" not in said
    assert learn(inline(STRIPE), inline(EDGES), "-k", "auto")[0]["kernel"] == exact["kernel"]


def test_limit_of_the_step(refused, invoke):
    for rate in ("0.0334", "0.5"):
        line = refused(1, inline(STRIPE), inline(EDGES), "-k", "1x2", "--method", "gd", "--lr", rate)
        assert re.search(rf"{rate} would diverge.*0\.0333", line)
    args = ("--method", "gd", "--lr", "0.0333", "-q")
    assert invoke("learn", inline(STRIPE), inline(EDGES), "-k", "1x2", *args).status == 0


def test_json_is_all_there_is_on_stdout(invoke, photo):
    invoke("box", photo, "-o", "box.png")
    done = invoke("learn", photo, "box.png", "-k", "3", "--json", "-q", "-o", "k.json")
    assert done.stderr == b""
    record = json.loads(done.stdout)
    assert {"kernel", "bias", "loss", "r2", "closest"} <= set(record)
    assert np.shape(record["kernel"]) == (3, 3)
    assert len(record["loss"]) == 1
    assert record["closest"]["name"] == "box"
    assert record["closest"]["scale"] == pytest.approx(1, abs=1e-3)
    assert record["closest"]["correlation"] == pytest.approx(1, abs=1e-4)
    assert record["r2"] > 0.999
    assert (record["shift"], record["clipped"]) == ([0, 0], 0)
    plain = invoke("learn", photo, "box.png", "-k", "3", "-q")
    printed = np.array([[float(one) for one in row.split(" ")] for row in plain.stdout.decode().splitlines()])
    np.testing.assert_allclose(printed, record["kernel"], rtol=1e-8)
    assert plain.stderr == b""


# Kernels recovered


@pytest.mark.parametrize("name", LINEAR)
def test_named_from_png(invoke, learn, photo, name):
    """From 8 bits, where clipped pixels are left out."""
    kernel = convcli.kernel(name)
    assert invoke(name, photo, "-o", "after.png", "-q").status == 0
    record, said = learn(photo, "after.png", "-k", "x".join(map(str, kernel.shape)))
    np.testing.assert_allclose(record["kernel"], kernel, atol=2e-2)
    assert record["shift"] == [0, 0]
    after = load(photo.parent / "after.png")
    assert record["clipped"] == pytest.approx(np.mean((after == 0) | (after == 255)))
    assert ("left out" in said) == (record["clipped"] > 0)
    if record["explains"]:
        np.testing.assert_allclose(convcli.kernel(record["closest"]["name"]), kernel, atol=1e-12)
        assert record["closest"]["name"] in said


@pytest.mark.parametrize("name", ["emboss", "gaussian:1.5", "log", "scharr-y", "motion"])
def test_named_from_npy(invoke, learn, photo, name):
    assert invoke(name, photo, "-o", "after.npy", "-q").status == 0
    kernel = convcli.kernel(name)
    record, said = learn(photo, "after.npy", "-k", "x".join(map(str, kernel.shape)))
    np.testing.assert_allclose(record["kernel"], kernel, atol=1e-4)
    assert record["clipped"] == 0
    assert "left out" not in said


def test_clipped_pixels_mislead(invoke, learn, photo):
    invoke("edge", photo, "-o", "after.png", "-q")
    heeded, said = learn(photo, "after.png", "-k", "3", "--keep-clipped")
    assert np.abs(np.array(heeded["kernel"]) - convcli.kernel("edge")).max() > 0.5
    assert heeded["clipped"] == 0
    assert "left out" not in said


@pytest.mark.parametrize("bias", ["0.1", "50%"])
def test_bias_in_fractions_of_white(invoke, learn, photo, bias):
    invoke("filter", photo, "-k", "0 0.1 0; 0.2 0.1 -0.3; 0 0.2 0", "--bias", bias, "-o", "after.png", "-q")
    record, _ = learn(photo, "after.png", "-k", "3", "--bias", "-o", "k.json")
    assert record["bias"] == pytest.approx(0.1 if bias == "0.1" else 0.5, abs=2e-3)
    np.testing.assert_allclose(record["kernel"], [[0, 0.1, 0], [0.2, 0.1, -0.3], [0, 0.2, 0]], atol=2e-3)
    shown = invoke("kernels", "k.json").stdout.decode()
    assert re.search(rf"# bias {record['bias']:.4f}", shown)
    assert invoke("filter", photo, "-k", "k.json", "-o", "again.png", "-q").status == 0
    again, after = (load(photo.parent / name).astype(int) for name in ("again.png", "after.png"))
    assert np.abs(again - after).max() <= 1


def test_depths(learn, grey, tmp_path):
    """16-bit with 8-bit, and the other way about."""
    kernel = convcli.kernel("gaussian:1")
    fine = convcli.filter2d(load(grey) / 255, kernel)
    save(tmp_path / "fine.png", np.rint(fine * 65535).astype(np.uint16))
    record, _ = learn(grey, "fine.png", "-k", "7")
    np.testing.assert_allclose(record["kernel"], kernel, atol=2e-5)
    deep = np.rint(fine * 65535).astype(np.uint16)
    save(tmp_path / "sharp.png", clip8(convcli.filter2d(deep / 65535, np.array(EMBOSS))))
    record, _ = learn("fine.png", "sharp.png", "-k", "3")
    np.testing.assert_allclose(record["kernel"], EMBOSS, atol=2e-2)


def test_jpeg_damage_shows(learn, grey, tmp_path):
    kernel = convcli.kernel("gaussian:1,5")
    soft = clip8(convcli.filter2d(load(grey) / 255, kernel))
    found = []
    for quality in (98, 75, 30):
        save(tmp_path / f"{quality}.jpg", soft, quality=quality)
        record, said = learn(grey, f"{quality}.jpg", "-k", "5")
        np.testing.assert_allclose(record["kernel"], kernel, atol={98: 0.01, 75: 0.06, 30: 0.09}[quality])
        found.append((record["r2"], record["psnr"]))
        assert f"R2 {record['r2']:.6f}" in said
        assert f"PSNR {record['psnr']:.1f} dB" in said
    assert found == sorted(found, reverse=True)
    assert found[0][0] > 0.9995 > found[1][0] > found[2][0] > 0.9


@pytest.mark.parametrize("size", ["2", "4x3", "1x2"])
def test_even_sizes(invoke, learn, photo, size):
    kh, kw = [int(one) for one in (size.split("x") * 2)[:2]]
    kernel = np.random.default_rng(0).random((kh, kw))
    kernel /= kernel.sum()
    assert invoke("filter", photo, "-k", inline(kernel), "-o", "after.png", "-q").status == 0
    np.testing.assert_allclose(learn(photo, "after.png", "-k", size)[0]["kernel"], kernel, atol=5e-3)
    assert invoke("filter", photo, "-k", inline(kernel), "-p", "valid", "-o", "valid.png", "-q").status == 0
    np.testing.assert_allclose(learn(photo, "valid.png", "-k", size)[0]["kernel"], kernel, atol=5e-3)
    np.testing.assert_allclose(learn(photo, "valid.png", "-k", "auto")[0]["kernel"], kernel, atol=5e-3)


def test_stride_and_padding(invoke, learn, photo):
    for stride, padding in (("2", "same"), ("2x3", "valid"), ("1", "2,0,1,3"), ("3", "full")):
        options = ("-s", stride, "-p", padding)
        invoke("filter", photo, "-k", inline(EMBOSS), *options, "-b", "zero", "-o", "after.npy", "-f", "-q")
        record, _ = learn(photo, "after.npy", "-k", "3x3", *options)
        np.testing.assert_allclose(record["kernel"], EMBOSS, atol=1e-4)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_is_left_out(learn, photo, mode, tmp_path):
    with Image.open(photo) as image:
        image.convert(mode).save("clear.png")
        (image.convert("L") if mode == "LA" else image).save("plain.png")
    record, _ = learn("clear.png", "plain.png", "-k", "3")
    np.testing.assert_allclose(record["kernel"], [[0, 0, 0], [0, 1, 0], [0, 0, 0]], atol=1e-9)


def test_gray(invoke, learn, photo):
    invoke("emboss", photo, "--gray", "-o", "after.npy", "-q")
    record, _ = learn(photo, "after.npy", "-k", "3", "--gray")
    np.testing.assert_allclose(record["kernel"], EMBOSS, atol=0.1)


# Blind


def outside():
    """Filters of other programs: what they do, and the correlation kernel and bias that it comes to."""
    cv2, ndimage = pytest.importorskip("cv2"), pytest.importorskip("scipy.ndimage")
    skew = np.array([[1, 2, 0], [0, 4, 3], [-2, 1, 1]]) / 10
    column = cv2.getGaussianKernel(5, 1.1)
    tall = np.array([[1, 2], [3, 1], [0, 2], [1, 1]]) / 11
    return {
        "cv2 blur": (lambda x: cv2.blur(x, (3, 5)), np.ones((5, 3)) / 15),
        "cv2 GaussianBlur": (lambda x: cv2.GaussianBlur(x, (5, 5), 1.1), column @ column.T),
        "cv2 filter2D": (lambda x: cv2.filter2D(x, -1, skew), skew),
        "cv2 Sobel": (lambda x: cv2.Sobel(x, cv2.CV_8U, 1, 0), convcli.kernel("sobel-x")),
        "cv2 Laplacian": (lambda x: cv2.Laplacian(x, cv2.CV_8U), convcli.kernel("laplacian")),
        "scipy uniform": (lambda x: ndimage.uniform_filter(x, (3, 3)), np.ones((3, 3)) / 9),
        "scipy correlate": (lambda x: ndimage.correlate(x.astype(float), skew).clip(0, 255).astype(np.uint8), skew),
        "scipy convolve": (
            lambda x: ndimage.convolve(x.astype(float), skew).clip(0, 255).astype(np.uint8),
            skew[::-1, ::-1],
        ),
        "scipy even": (lambda x: np.rint(ndimage.correlate(x.astype(float), tall)).clip(0, 255).astype(np.uint8), tall),
    }


BLIND = [
    "cv2 blur",
    "cv2 GaussianBlur",
    "cv2 filter2D",
    "cv2 Sobel",
    "cv2 Laplacian",
    "scipy uniform",
    "scipy correlate",
    "scipy convolve",
    "scipy even",
]


@pytest.mark.parametrize("name", BLIND)
def test_blind(learn, grey, tmp_path, name):
    act, kernel = outside()[name]
    save(tmp_path / "after.png", act(load(grey)))
    size = "x".join(map(str, kernel.shape))
    padding = ["-p", "same-lower"] if kernel.shape[0] % 2 == 0 else []
    record, _ = learn(grey, "after.png", "-k", size, "--bias", *padding)
    np.testing.assert_allclose(record["kernel"], kernel, atol=1e-2)
    assert abs(record["bias"]) < 3 / 255  # SciPy cuts off, and does not round
    assert record["explains"]


PRESETS = "BLUR CONTOUR DETAIL EDGE_ENHANCE EDGE_ENHANCE_MORE EMBOSS FIND_EDGES SHARPEN SMOOTH SMOOTH_MORE"


@pytest.mark.parametrize("name", PRESETS.split(" "))
def test_blind_pillow(learn, grey, tmp_path, name):
    """Pillow's kernels are upside down."""
    preset = getattr(ImageFilter, name)
    size, scale, offset, weights = preset.filterargs
    with Image.open(grey) as image:
        image.filter(preset).save("after.png")
    record, _ = learn(grey, "after.png", "-k", str(size[0]), "--bias")
    np.testing.assert_allclose(record["kernel"], np.reshape(weights, size)[::-1] / scale, atol=2e-2)
    assert record["bias"] == pytest.approx(offset / 255, abs=2e-2)


# Several pairs and channels


def test_pairs(learn, tmp_path):
    """As one long list of patches: the judge has them all in one matrix."""
    rng = np.random.default_rng(0)
    pairs = [
        (rng.random((9, 9)), rng.random((8, 8))),
        (rng.random((7, 12)), rng.random((6, 11))),
        *[(rng.random((8, 8)), rng.random((7, 7)))],
    ]
    rows = [np.lib.stride_tricks.sliding_window_view(x, (2, 2)).reshape(-1, 4) for x, _ in pairs]
    judge = np.linalg.lstsq(np.vstack(rows), np.concatenate([y.ravel() for _, y in pairs]), rcond=None)[0]
    words = [f"{number}.npy" for number in range(6)]
    for name, one in zip(words, (one for pair in pairs for one in pair), strict=True):
        np.save(tmp_path / name, one)
    for args in (
        [*words[:2], "--pair", *words[2:4], "--pair", *words[4:], "-k", "2"],
        [*words[4:], "--pair", *words[2:4], "-k", "2", "--pair", *words[:2]],
    ):
        record, said = learn(*args)
        np.testing.assert_allclose(np.ravel(record["kernel"]), judge, atol=1e-9)
        assert record["patches"] == 64 + 66 + 49
        assert "2 more" in said


def test_folders(invoke, learn, photo, tmp_path):
    """Matched by name; what has no partner and what is no picture is left alone."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "notes.md").write_text("notes")
    for number in range(3):
        save(tmp_path / "in" / f"{number}.png", load(photo)[number * 40 : 40 + number * 40, :70])
        if number != 1:
            invoke("emboss", f"in/{number}.png", "-o", f"out/{number}.png", "-q")
    save(tmp_path / "out" / "other.png", load(photo))
    record, said = learn("in", "out", "-k", "3", "-o", "k.json")
    np.testing.assert_allclose(record["kernel"], EMBOSS, atol=1e-6)
    assert "1 more" in said
    both = sum((load(tmp_path / "out" / f"{n}.png")[1:-1, 1:-1] % 255 != 0).sum() for n in (0, 2))
    assert record["patches"] == both


def test_folder_without_partners(refused, photo, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty" in refused(2, tmp_path, "empty", "-k", "3")


def test_folder_and_picture(invoke, photo, tmp_path):
    """A folder on one side only is told so."""
    (tmp_path / "in").mkdir()
    for number in range(2):
        save(tmp_path / "in" / f"{number}.png", load(photo))
    for args in (("in", photo), (photo, "in"), ("in", "nowhere")):
        done = invoke("learn", *args, "-k", "3")
        assert done.status in (1, 2)
        assert b"unexpected" not in done.stderr
        assert done.stderr.count(b"\n") == 1


def test_error_names_its_own_pair(refused, photo, tmp_path):
    save(tmp_path / "small.png", load(photo)[:50, :50])
    line = refused(1, photo, photo, "-k", "3", "--pair", "small.png", photo)
    assert "small.png" in line
    assert "nope.png: no such file" in refused(1, photo, photo, "-k", "3", "--pair", photo, "nope.png")


def test_per_channel(invoke, learn, photo, tmp_path):
    names = ["emboss", "box", "sharpen"]
    planes = [convcli.filter2d(load(photo)[..., c] / 255, name) for c, name in enumerate(names)]
    save(tmp_path / "after.png", np.dstack([clip8(one) for one in planes]))
    record, said = learn(photo, "after.png", "-k", "3", "--per-channel", "-o", "k.json")
    np.testing.assert_allclose(record["kernel"], [[convcli.kernel(one)] for one in names], atol=2e-2)
    assert len(record["bias"]) == 3
    assert not learn(photo, "after.png", "-k", "3")[0]["explains"]
    assert "3x1x3x3" in said


def test_per_channel_kernel_can_be_applied(invoke, photo):
    """What was learned from a colour picture filters a colour picture."""
    invoke("emboss", photo, "-o", "after.png", "-q")
    assert invoke("learn", photo, "after.png", "-k", "3", "--per-channel", "-o", "k.json", "-q").status == 0
    done = invoke("filter", photo, "-k", "k.json", "-o", "again.png", "-q")
    assert (done.status, done.stderr) == (0, b"")


def test_layer(invoke, learn, photo, tmp_path):
    weight = np.random.default_rng(0).standard_normal((2, 3, 2, 3)) / 6
    x = load(photo).transpose(2, 0, 1) / 255
    np.save(tmp_path / "after.npy", oracle.layer(x[:, :40, :50], weight, [0.1, 0.3]))
    save(tmp_path / "part.png", load(photo)[:40, :50])
    record, said = learn("part.png", "after.npy", "-k", "2x3", "--layer", "--bias", "-o", "k.json")
    assert "2x3x2x3" in said
    np.testing.assert_allclose(record["kernel"], weight, atol=1e-6)
    np.testing.assert_allclose(record["bias"], [0.1, 0.3], atol=1e-6)
    assert invoke("filter", "part.png", "-k", "k.json", "-o", "again.npy", "-q").status == 0
    np.testing.assert_allclose(np.load(tmp_path / "again.npy"), np.load(tmp_path / "after.npy"), atol=1e-5)


# Kernel files


@pytest.mark.parametrize("suffix", ["json", "toml", "npz", "npy", "csv", "txt"])
def test_kernel_files(invoke, photo, suffix):
    invoke("emboss", photo, "-o", "after.png", "-q")
    rich = suffix in ("json", "toml", "npz")
    args = ["--bias"] if rich else []
    done = invoke("learn", photo, "after.png", "-k", "3", *args, "-o", f"k.{suffix}", "-q")
    assert (done.status, done.stdout, done.stderr) == (0, f"k.{suffix}\n".encode(), b"")
    shown = invoke("kernels", f"k.{suffix}", "--json")
    np.testing.assert_allclose(json.loads(shown.stdout)["kernel"], EMBOSS, atol=1e-9)
    assert invoke("filter", photo, "-k", f"k.{suffix}", "-o", "again.png", "-q").status == 0
    assert np.array_equal(load(photo.parent / "again.png"), load(photo.parent / "after.png"))
    if suffix in ("json", "toml"):
        made = json.loads(shown.stdout)["made"]
        assert "photo.png" in made
        assert "after.png" in made
        assert "lstsq" in made


def test_kernel_file_names_pictures_far_away(invoke, photo, tmp_path):
    """Of a long path the end tells more than the beginning."""
    folder = tmp_path / "a-folder-with-a-long-name" / "and-another-one-in-it"
    folder.mkdir(parents=True)
    save(folder / "before.png", load(photo))
    done = invoke("learn", folder / "before.png", photo, "-k", "1", "-o", "k.json")
    assert "before.png and photo.png" in done.stderr.decode()
    assert "before.png and photo.png" in invoke("kernels", "k.json").stdout.decode()


def test_kernel_file_tells_of_descent(invoke, photo):
    invoke("box", photo, "-o", "after.png", "-q")
    invoke("learn", photo, "after.png", "-k", "3", "--method", "gd", "--steps", "5", "-o", "k.json", "-q")
    assert ", gd" in invoke("kernels", "k.json").stdout.decode()


def test_files_stay(invoke, refused, photo, tmp_path):
    (tmp_path / "k.json").write_text("[[1]]")
    assert refused(2, photo, photo, "-k", "3", "-o", "k.json") == "-o: k.json exists; add -f to overwrite it"
    assert invoke("learn", photo, photo, "-k", "3", "-o", "k.json", "-f", "-q").status == 0
    assert "made" in json.loads((tmp_path / "k.json").read_text())


def test_input_is_not_overwritten(invoke, tmp_path):
    """As everywhere: -f is not for inputs."""
    np.savetxt(tmp_path / "before.csv", STRIPE, delimiter=",")
    before = (tmp_path / "before.csv").read_bytes()
    done = invoke("learn", "before.csv", inline(EDGES), "-k", "1x2", "-o", "before.csv", "-f")
    assert (tmp_path / "before.csv").read_bytes() == before
    assert done.status == 2


# What is said


def test_held_out_and_patches(learn, grey, invoke):
    invoke("box", grey, "-o", "after.npy", "-q")
    record, said = learn(grey, "after.npy", "-k", "3")
    assert re.search(r"R2 1\.000000 on rows held out, exact, condition \d(\.\d)?e\+0[34]$", said, re.MULTILINE)
    assert record["condition"] > 1e3
    assert "1.0000 like box, scale 1" in said
    assert record["patches"] == 118 * 138
    assert "16,284 patches" in said
    assert not np.any(record["unsure"])


@pytest.mark.parametrize("how", ["mirrored", "magnitude", "noise"])
def test_no_kernel_explains(invoke, grey, learn, tmp_path, how):
    after = {
        "mirrored": load(grey)[:, ::-1],
        "magnitude": clip8(np.hypot(*(convcli.filter2d(load(grey) / 255, f"sobel-{one}") for one in "xy"))),
        "noise": RNG.integers(1, 255, load(grey).shape, np.uint8),
    }[how]
    save(tmp_path / "after.png", after)
    record, said = learn(grey, "after.png", "-k", "3")
    assert re.search(r"^no 3x3 kernel explains this pair", said, re.M)
    assert " like " not in said
    assert record["explains"] is False
    assert record["r2"] < 0.9


def test_identical(invoke, photo):
    for size in ("3", "auto", "1x1"):
        done = invoke("learn", photo, photo, "-k", size)
        assert done.status == 0
        assert "the pictures are identical" in done.stderr.decode()
        assert "like identity, scale 1" in done.stderr.decode()
        kernel = np.array([row.split() for row in done.stdout.decode().splitlines()], float)
        expected = np.zeros(kernel.shape)
        expected[kernel.shape[0] // 2, kernel.shape[1] // 2] = 1
        np.testing.assert_allclose(kernel, expected, atol=1e-9)


@pytest.mark.parametrize("args", [["-k", "2"], ["-k", "3", "--per-channel"], ["-k", "3", "--layer"]])
def test_identical_is_said_of_every_form(invoke, photo, args):
    done = invoke("learn", photo, photo, *args)
    assert done.status == 0
    assert "identical" in done.stderr.decode()


def test_shift_is_said(invoke, learn, photo, tmp_path):
    invoke("emboss", photo, "-o", "after.png", "-q")
    save(tmp_path / "a.png", load(photo)[20:110, 20:130])
    save(tmp_path / "b.png", load(tmp_path / "after.png")[17:107, 24:134])
    record, said = learn("a.png", "b.png", "-k", "3")
    assert record["shift"] == [3, -4]
    np.testing.assert_allclose(record["kernel"], EMBOSS, atol=1e-6)
    line = next(one for one in said.splitlines() if "rows" in one and "columns" in one)
    assert "3" in line
    assert "4" in line
    assert "-4 columns to the right" not in line  # 4 to the left


def test_shift_of_identical_pictures(invoke, photo, tmp_path):
    """They are not identical as they lie there."""
    save(tmp_path / "a.png", load(photo)[20:110, 20:130])
    save(tmp_path / "b.png", load(photo)[17:107, 24:134])
    said = invoke("learn", "a.png", "b.png", "-k", "1").stderr.decode()
    assert re.search(r"3 rows", said)
    assert not re.search(r"^the pictures are identical$", said, re.M)


def test_unsure_weights_are_said(learn, tmp_path):
    ramp = np.tile(np.linspace(10, 240, 120).astype(np.uint8), (60, 1))
    save(tmp_path / "ramp.png", ramp)
    record, said = learn("ramp.png", "ramp.png", "-k", "3x1")
    np.testing.assert_allclose(record["kernel"], [[1 / 3]] * 3, atol=1e-9)
    assert record["unsure"] == [[True]] * 3
    assert record["condition"] is None or record["condition"] > 1e10
    assert "3 of 3 weights (0,0 1,0 2,0) are not told by these pictures" in said


def test_sparkline_of_many_steps(learn, grey, invoke):
    invoke("box", grey, "-o", "after.png", "-q")
    record, said = learn(grey, "after.png", "-k", "3", "--method", "gd", "--steps", "300")
    (bars,) = re.findall(r"loss ([▁▂▃▄▅▆▇█]+) ", said)
    assert len(bars) == 40
    assert bars[0] == "█"
    assert bars[-1] == "▁"
    assert list(bars) == sorted(bars, reverse=True)
    assert len(record["loss"]) == 300
    assert record["lr"] > 0


# The curve as a picture


@pytest.mark.parametrize("steps", [1, 2, 10, 500])
def test_plot(invoke, tmp_path, steps):
    args = ["--method", "gd", "--steps", str(steps), "--init", "0.618 -0.4092", "--plot", "loss.png", "-q"]
    assert invoke("learn", inline(STRIPE), inline(EDGES), "-k", "1x2", *args).status == 0
    picture = load(tmp_path / "loss.png")
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    assert picture.shape[0] >= 200
    curve = np.abs(picture.astype(int) - [200, 60, 30]).sum(axis=2) < 30
    rows, columns = np.nonzero(curve)
    assert len(rows) > 5
    assert (picture == 255).all(axis=2).mean() > 0.8
    if steps >= 10:
        heights = [rows[columns == x].mean() for x in sorted(set(columns))]
        assert columns.max() - columns.min() > 0.7 * picture.shape[1]
        assert np.all(np.diff(heights) >= -1.01)  # the loss falls: further down, to the right
        assert heights[-1] - heights[0] > 0.4 * picture.shape[0]


def test_plot_is_logarithmic(invoke, tmp_path):
    """A loss that falls by the same factor in each step is a straight line."""
    x = inline([[1.0, 0.0, 2.0, 0.0, 1.0]])
    args = ["--method", "gd", "--steps", "40", "--lr", "0.02", "--init", "0", "--plot", "loss.png", "-q"]
    assert invoke("learn", x, x, "-k", "1", *args).status == 0
    picture = load(tmp_path / "loss.png")
    rows, columns = np.nonzero(np.abs(picture.astype(int) - [200, 60, 30]).sum(axis=2) < 30)
    slope, start = np.polyfit(columns, rows, 1)
    assert slope > 0
    assert np.abs(rows - slope * columns - start).max() < 4


def test_plot_formats(invoke, refused, tmp_path):
    gd = (inline(STRIPE), inline(EDGES), "-k", "1x2", "--method", "gd", "--steps", "5", "-q")
    for name in ("a.jpg", "a.webp", "a.tif"):
        assert invoke("learn", *gd, "--plot", name).status == 0
        assert load(tmp_path / name).shape[2] == 3
    assert "a.jpg exists" in refused(2, *gd, "--plot", "a.jpg")
    assert "docx" in refused(2, *gd, "--plot", "a.docx")
    assert "--plot" in refused(2, *gd, "--plot", "nowhere/a.png")
    assert "gd" in refused(2, inline(STRIPE), inline(EDGES), "-k", "1x2", "--plot", "b.png")


@pytest.mark.parametrize("suffix", ["npy", "csv"])
def test_plot_is_a_picture(refused, suffix):
    gd = (inline(STRIPE), inline(EDGES), "-k", "1x2", "--method", "gd", "--steps", "5", "-q")
    assert "--plot" in refused(2, *gd, "--plot", f"a.{suffix}")


# Ctrl-C


@pytest.mark.parametrize("args", [[], ["--per-channel"], ["--layer"]])
def test_interrupted(invoke, monkeypatch, tmp_path, args):
    from convcli.learning.moments import Moments

    plain, asked = Moments.loss, []

    def loss(self, weights):
        asked.append(1)
        if len(asked) == 7:
            signal.raise_signal(signal.SIGINT)
        return plain(self, weights)

    monkeypatch.setattr(Moments, "loss", loss)
    x = np.random.default_rng(0).random((2, 9, 9))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", 0.5 * x)
    done = invoke("learn", "x.npy", "y.npy", "-k", "1", "--method", "gd", "--steps", "500", *args, "-o", "k.json")
    assert done.status == 130
    assert done.stdout == b"k.json\n"
    assert re.search(r"stopped after [1-7] steps", done.stderr.decode())
    assert len(asked) < 60
    kernel = np.array(json.loads((tmp_path / "k.json").read_text())["kernel"])
    assert kernel.shape == ((1, 1) if not args else (2, 1, 1, 1) if args == ["--per-channel"] else (2, 2, 1, 1))
    assert np.isfinite(kernel).all()
    if not args:
        np.testing.assert_allclose(kernel, 0.5, atol=0.05)


# What goes wrong


def test_sizes_that_do_not_fit(refused, photo, tmp_path):
    save(tmp_path / "small.png", load(photo)[:100, :110])
    line = refused(1, photo, "small.png", "-k", "3x3")
    for word in ("small.png", "120x140 (same)", "118x138 (valid)", "100x110"):
        assert word in line
    line = refused(1, photo, photo, "-k", "3", "-p", "valid")
    assert "118x138 (valid)" in line
    assert "same" not in line
    assert "60x70" in refused(1, photo, photo, "-k", "3", "-s", "2")


def test_kernel_larger_than_the_picture(refused, tmp_path):
    save(tmp_path / "a.png", RNG.integers(0, 256, (20, 30), np.uint8))
    for size in ("21x3", "3x31", "40"):
        line = refused(1, "a.png", "a.png", "-k", size)
        assert "20x30" in line


@pytest.mark.parametrize("color", [77, (200, 128, 30)])
def test_constant_picture(refused, tmp_path, color):
    shape = (40, 50) if isinstance(color, int) else (40, 50, 3)
    save(tmp_path / "flat.png", np.broadcast_to(np.uint8(color), shape))
    save(tmp_path / "after.png", RNG.integers(0, 256, shape, np.uint8))
    for after in ("flat.png", "after.png"):
        assert "nothing to learn from" in refused(1, "flat.png", after, "-k", "3")


@pytest.mark.parametrize("code", [0, 255])
@pytest.mark.parametrize("size", [20, 120])
def test_picture_that_is_all_clipped(refused, tmp_path, code, size):
    save(tmp_path / "before.png", RNG.integers(0, 256, (size, size), np.uint8))
    save(tmp_path / "after.png", np.full((size, size), code, np.uint8))
    assert "nothing to learn from" in refused(1, "before.png", "after.png", "-k", "3")


def test_picture_that_is_clipped_in_the_middle(learn, tmp_path):
    """Where a shift is looked for."""
    before = RNG.integers(50, 200, (260, 260), np.uint8)
    after = before.copy()
    after[25:235, 25:235] = 255
    save(tmp_path / "before.png", before)
    save(tmp_path / "after.png", after)
    record, _ = learn("before.png", "after.png", "-k", "3")
    np.testing.assert_allclose(record["kernel"], [[0, 0, 0], [0, 1, 0], [0, 0, 0]], atol=1e-9)


DEPENDS = {  # on the pictures: 1
    "nope.png photo.png -k 3": ["nope.png", "no such file"],
    "photo.png nope.png -k 3": ["nope.png", "no such file"],
    "photo.png grey.png -k 3": ["3 channels", "1", "layer"],
    "grey.png photo.png -k 3": ["1 channel", "3", "layer"],
    "text.png photo.png -k 3": ["text.png"],
    "photo.png text.png -k 3": ["text.png"],
    "- photo.png -k 3": ["standard input"],
    "photo.png photo.png -k 3 --max-pixels 100": ["100"],
}
KNOWN = {  # without them: 2
    "photo.png photo.png": ["--kernel"],
    "photo.png -k 3": ["missing"],
    "photo.png photo.png -k sobel-x": ["--kernel", "'sobel-x'"],
    "photo.png photo.png -k 0": ["--kernel", "'0'"],
    "photo.png photo.png -k 3x0": ["--kernel", "'3x0'"],
    "photo.png photo.png -k 3x3x3": ["--kernel"],
    "photo.png photo.png -k -3": ["--kernel"],
    "photo.png photo.png -k 3 --pair photo.png": ["--pair", "two"],
    "photo.png photo.png -k 3 --method adam": ["--method", "'adam'"],
    "photo.png photo.png -k 3 --steps 0": ["--steps"],
    "photo.png photo.png -k 3 --seed -1": ["--seed"],
    "photo.png photo.png -k 3 --method gd --symmetric": ["lstsq"],
    "photo.png photo.png -k 3 --method gd --non-negative": ["lstsq"],
    "photo.png photo.png -k 3 --method gd --sum-to-one": ["lstsq"],
    "photo.png photo.png -k 3 --init sobel-x": ["gd"],
    "photo.png photo.png -k 3 --method gd --init sobel": ["--init", "'sobel'"],
    "photo.png photo.png -k 3 --method gd --init nonsense": ["--init"],
    "photo.png photo.png -k 3 --method gd --init box:5": ["25", "9"],
    "photo.png photo.png -k auto --method gd --init box:5": ["auto"],
    "photo.png photo.png -k 3 --method gd --lr 0": ["--lr"],
    "photo.png photo.png -k 3 --method gd --lr -0.1": ["--lr"],
    "photo.png photo.png -k 3 --method gd --lr nan": ["--lr"],
    "photo.png photo.png -k 3 --per-channel --layer": ["channel", "layer"],
    "photo.png photo.png -k auto -s 2": ["stride"],
    "photo.png photo.png -k 3 -s 0": ["--stride"],
    "photo.png photo.png -k 3 -p around": ["--padding"],
    "photo.png photo.png -k 3 -o k.png": ["-o", "k.png"],
    "photo.png photo.png -k 3 -o k": ["-o"],
    "photo.png photo.png -k 3 -o nowhere/k.json": ["-o", "nowhere"],
    "photo.png photo.png -k 3 --bias -o k.csv": ["bias", ".json"],
    "photo.png photo.png -k 3 --layer -o k.txt": ["weight", ".npy"],
    "photo.png photo.png -k 3 --threads 0": ["--threads"],
}


@pytest.mark.parametrize(("typed", "status"), [*((one, 1) for one in DEPENDS), *((one, 2) for one in KNOWN)])
def test_refused(refused, photo, grey, tmp_path, typed, status):
    (tmp_path / "text.png").write_text("no picture")
    line = refused(status, *typed.split())
    assert [word for word in (DEPENDS | KNOWN)[typed] if word not in line] == []


def test_init_of_the_wrong_size_needs_no_picture(refused):
    line = refused(2, "nope.png", "nope.png", "-k", "1x2", "--method", "gd", "--init", "1 2 3")
    assert "3" in line
    assert "no such file" not in line


def test_matrices_are_plain_numbers(learn):
    """Never scaled, never clipped."""
    x = RNG.integers(0, 256, (20, 20)).astype(float)
    y = oracle.correlate(x, np.array(EMBOSS, float)) + 12
    record, _ = learn(inline(x), inline(y), "-k", "3", "--bias")
    np.testing.assert_allclose(record["kernel"], EMBOSS, atol=1e-9)
    assert record["bias"] == pytest.approx(12)
    assert record["clipped"] == 0


def test_wishes(learn, grey, tmp_path):
    noisy = load(grey) / 255 + 0.05 * np.random.default_rng(0).standard_normal(load(grey).shape)
    np.save(tmp_path / "after.npy", convcli.filter2d(noisy, "binomial:3"))
    record, _ = learn(grey, "after.npy", "-k", "5", "--symmetric", "--sum-to-one")
    kernel = np.array(record["kernel"])
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-12)
    assert kernel.sum() == pytest.approx(1)
    record, _ = learn(grey, "after.npy", "-k", "5", "--non-negative")
    assert np.min(record["kernel"]) >= 0
    assert np.min(learn(grey, "after.npy", "-k", "5")[0]["kernel"]) < 0


def test_auto(invoke, learn, grey):
    for name, shape in (("emboss", (3, 3)), ("binomial:5", (5, 5)), ("motion:5", (1, 5))):
        invoke(name, grey, "-o", "after.png", "-f", "-q")
        record, _ = learn(grey, "after.png", "-k", "auto")
        assert np.shape(record["kernel"]) == shape
        assert record["closest"]["name"] == name or name == "motion:5"


def test_seed(invoke):
    def kernel(seed):
        args = ("-k", "1x2", "--method", "gd", "--steps", "1", "--seed", seed, "-q")
        return invoke("learn", inline(STRIPE), inline(EDGES), *args).stdout

    assert kernel("1") == kernel("1") != kernel("2")


def test_help_has_an_example(invoke):
    done = invoke("learn", "-h")
    assert done.status == 0
    text = done.stdout.decode()
    words = "convcli learn photo.png|--method|--pair|--init|--plot|--non-negative|--symmetric|--sum-to-one|--layer"
    for word in words.split("|"):
        assert word in text
