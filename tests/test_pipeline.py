"""Pipelines run: against PyTorch, the source text's numbers, published networks and brute force."""

import contextlib
import itertools
import tracemalloc
import warnings
from math import prod

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import convcli
import oracle
from convcli.errors import ConvcliError, ShapeError
from convcli.filtering import filter_picture
from convcli.frameworks import same_sizes
from convcli.images.picture import Picture
from convcli.kernels.reading import read_kernel
from convcli.layers import Conv
from convcli.pipeline import Pipeline
from convcli.recipe import Recipe
from convcli.unrolled import unrolled

try:
    import torch
except ImportError:
    torch = None
else:
    functional = torch.nn.functional

needs_torch = pytest.mark.skipif(torch is None, reason="PyTorch is not installed; `make torch` installs it")
TORCH_MODES = {"zero": "constant", "edge": "replicate", "reflect": "reflect", "wrap": "circular"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """``files(array)``: the name of a new file of it, in one of the formats."""
    folder, numbers = tmp_path_factory.mktemp("weights"), itertools.count()

    def save(array):
        number = next(numbers)
        if number % 2:
            np.save(folder / f"{number}.npy", array)
            return folder / f"{number}.npy"
        np.savez(folder / f"{number}.npz", other=np.zeros(3), **{"net/w:0": array})
        return f"{folder / str(number)}.npz:net/w:0"

    return save


# --- the same as PyTorch


def pair(value):
    return f"{value[0]}x{value[1]}"


@st.composite
def convs(draw, shape, files, linear=False):
    """A conv stage that fits ``(C, H, W)``, and PyTorch's way to the same, given the layer that was parsed."""
    channels, size = shape[0], shape[1:]
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    dilation = draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (2, 3)]))
    stride = draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (2, 1), (1, 3)]))
    boundary = draw(st.sampled_from(list(TORCH_MODES)))
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    kind = draw(st.sampled_from(["valid", "same", "same-lower", "full", "number", "pair", "four"]))
    limit = {"reflect": [n - 1 for n in size], "wrap": list(size)}.get(boundary, [3, 3])
    most = [min(3, one) for one in limit]
    if kind in ("number", "pair", "four"):
        if kind == "number":
            pads = ((draw(st.integers(0, min(most))),) * 2,) * 2
        elif kind == "pair":
            pads = tuple((one, one) for one in (draw(st.integers(0, most[axis])) for axis in (0, 1)))
        else:
            pads = tuple(tuple(draw(st.integers(0, most[axis])) for _ in range(2)) for axis in (0, 1))
        written = {"number": str(pads[0][0]), "pair": f"{pads[0][0]}x{pads[1][0]}"}.get(
            kind, ",".join(str(one) for both in pads for one in both)
        )
    else:
        pads = tuple(oracle.pads_of(n, k, s, kind) for n, k, s in zip(size, reach, stride, strict=True))
        assume(all(max(both) <= one for both, one in zip(pads, limit, strict=True)) or boundary in ("zero", "edge"))
        written = kind
    assume(all(n + sum(both) >= k for n, both, k in zip(size, pads, reach, strict=True)))
    groups = draw(st.sampled_from([one for one in (1, 2, 3) if channels % one == 0] + ["in"]))
    count = channels if groups == "in" else groups
    outputs = count * draw(st.integers(1, 2))
    weight_shape = (outputs, channels // count, *kernel)
    seed = draw(st.integers(0, 99))
    rng = np.random.default_rng(seed)
    words = [f"conv {pair(kernel)} out={outputs} groups={groups} stride={pair(stride)} dilation={pair(dilation)}"]
    words += [f"padding={written} boundary={boundary}"]
    random = draw(st.booleans())
    if random:
        words.append(f"init=random seed={seed}")
    else:
        weight = rng.standard_normal(weight_shape) / np.sqrt(prod(weight_shape[1:]))
        words.append(f"weights='{files(weight)}'")
    bias = draw(st.sampled_from(["none", "number", "file"]))
    offset = None
    if bias == "number":
        offset = np.full(outputs, 0.25)
        words.append("bias=0.25")
    elif bias == "file":
        offset = rng.standard_normal(outputs)
        words.append(f"bias='{files(offset)}'")

    def theirs(x, layer):
        known = torch.from_numpy(layer.weight(channels).copy() if random else weight).to(x)
        add = None if offset is None else torch.from_numpy(offset).to(x)
        (top, bottom), (left, right) = pads
        if any(map(any, pads)):
            x = functional.pad(x, (left, right, top, bottom), mode=TORCH_MODES[boundary])
        return functional.conv2d(x, known, add, stride, 0, dilation, count)

    return " ".join(words), theirs


@st.composite
def pools(draw, shape):
    size = shape[1:]
    reduce = draw(st.sampled_from(["max", "avg", "min"]))
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    stride = draw(st.sampled_from([None, (1, 1), (2, 2), (3, 1)]))
    pads = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    ceil, exclude = draw(st.booleans()), reduce == "avg" and draw(st.booleans())
    assume(all(n + 2 * p >= k for n, p, k in zip(size, pads, kernel, strict=True)))
    text = f"{reduce}pool {pair(kernel)} padding={pair(pads)}"
    text += (f" stride={pair(stride)}" if stride else "") + " ceil" * ceil + " exclude-pad" * exclude
    more = {"kernel_size": kernel, "stride": stride or kernel, "padding": pads, "ceil_mode": ceil}

    def theirs(x, layer):
        if reduce == "avg":
            return functional.avg_pool2d(x, **more, count_include_pad=not exclude)
        return functional.max_pool2d(x, **more) if reduce == "max" else -functional.max_pool2d(-x, **more)

    return text, theirs


@st.composite
def denses(draw, shape, files):
    outputs, seed = draw(st.integers(1, 5)), draw(st.integers(0, 9))
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((outputs, prod(shape))) / np.sqrt(prod(shape))
    random, biased = draw(st.booleans()), draw(st.booleans())
    bias = rng.standard_normal(outputs) if biased else None
    text = f"dense {outputs} " + (f"init=random seed={seed}" if random else f"weights='{files(matrix)}'")
    text += f" bias='{files(bias)}'" if biased else ""

    def theirs(x, layer):
        known = torch.from_numpy(layer.weight(shape) if random else matrix).to(x)
        add = None if bias is None else torch.from_numpy(bias).to(x)
        return functional.linear(x.flatten(1), known, add)[..., None, None]

    return text, theirs


PLAIN = {
    "relu": lambda x, _: functional.relu(x),
    "abs": lambda x, _: x.abs(),
    "sigmoid": lambda x, _: torch.sigmoid(x),
    "tanh": lambda x, _: torch.tanh(x),
    "globalavg": lambda x, _: functional.adaptive_avg_pool2d(x, 1),
    "globalmax": lambda x, _: functional.adaptive_max_pool2d(x, 1),
    "threshold 0.25": lambda x, _: (x >= 0.25).to(x),
    "normalize": lambda x, _: (x - x.min()) / (x.max() - x.min()),
}
KINDS = ["conv"] * 5 + ["pool"] * 3 + ["relu", "abs", "sigmoid", "tanh"] * 2 + ["globalavg", "globalmax", "dense"]


@needs_torch
@settings(max_examples=120)
@given(st.data(), st.sampled_from([np.float64, np.float64, np.float32]))
def test_generated_pipelines_are_pytorchs(files, data, dtype):
    shape = tuple(data.draw(st.tuples(st.integers(1, 4), st.integers(3, 14), st.integers(3, 14)), label="shape"))
    batch = data.draw(st.sampled_from([None, 1, 3]), label="batch")
    x = np.random.default_rng(prod(shape)).standard_normal((*([batch] if batch else []), *shape)).astype(dtype)
    want = torch.from_numpy(x if batch else x[None])
    texts, wanted = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(data.draw(st.integers(1, 8), label="layers")):
            kind = data.draw(st.sampled_from(KINDS))
            now = tuple(want.shape[1:])
            if kind == "conv":
                text, theirs = data.draw(convs(now, files))
            elif kind == "pool":
                text, theirs = data.draw(pools(now))
            elif kind == "dense":
                text, theirs = data.draw(denses(now, files))
            else:
                text, theirs = kind, PLAIN[kind]
            (layer,) = Pipeline.parse(text).layers
            want = theirs(want, layer)
            texts.append(text)
            wanted.append(want)
    pipeline = Pipeline.parse(" | ".join(texts))
    rows = pipeline.shapes(shape, itemsize=x.itemsize)
    assert len(rows) == len(texts)
    tolerance = 1e-9 if dtype is np.float64 else 2e-4
    for number, (row, theirs) in enumerate(zip(rows, wanted, strict=True), 1):  # every prefix
        assert row.output == tuple(theirs.shape[1:])
        assert row.input == (rows[number - 2].output if number > 1 else shape)
        assert row.memory == theirs[0].numel() * x.itemsize
        got = Pipeline.parse(" | ".join(texts[:number])).run(x)
        assert got.dtype == dtype
        assert got.shape == tuple(theirs.shape if batch else theirs.shape[1:])
        scale = max(1.0, float(theirs.abs().max()))
        np.testing.assert_allclose(got, theirs.numpy().reshape(got.shape), rtol=0, atol=tolerance * scale)


@needs_torch
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("stage", PLAIN)
@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5), (2, 3, 4, 5)])
def test_pointwise_and_global_stages(stage, shape, dtype):
    x = np.random.default_rng(4).standard_normal(shape).astype(dtype) * 3
    before = x.copy()
    got = Pipeline.parse(stage).run(x)
    want = PLAIN[stage](torch.from_numpy(x).reshape((1,) * (4 - x.ndim) + shape), None).numpy()
    np.testing.assert_allclose(got, want.reshape(got.shape), rtol=1e-6, atol=1e-6 if dtype == np.float32 else 1e-14)
    assert got.shape == (shape if "global" not in stage else (*shape[:-2], 1, 1))
    assert got.dtype == dtype
    np.testing.assert_array_equal(x, before)  # the caller's array stays


@needs_torch
def test_a_whole_network(files):
    """A small LeNet: everything at once, as torch.nn has it."""
    torch.manual_seed(1)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, 5, padding=2),
        torch.nn.Sigmoid(),
        torch.nn.AvgPool2d(2),
        torch.nn.Conv2d(6, 16, 5),
        torch.nn.Sigmoid(),
        torch.nn.AvgPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(400, 120),
        torch.nn.Sigmoid(),
        torch.nn.Linear(120, 84),
        torch.nn.Sigmoid(),
        torch.nn.Linear(84, 10),
    ).double()
    name = {key: files(value.detach().numpy()) for key, value in net.named_parameters()}
    pipeline = Pipeline.parse(
        f"conv 5x5 padding=2 weights='{name['0.weight']}' bias='{name['0.bias']}' | sigmoid | avgpool 2"
        f"| conv weights='{name['3.weight']}' bias='{name['3.bias']}' | sigmoid | avgpool 2"
        f"| dense 120 weights='{name['7.weight']}' bias='{name['7.bias']}' | sigmoid"
        f"| dense 84 weights='{name['9.weight']}' bias='{name['9.bias']}' | sigmoid"
        f"| dense 10 weights='{name['11.weight']}' bias='{name['11.bias']}'"
    )
    x = torch.randn(3, 1, 28, 28, dtype=torch.float64)
    np.testing.assert_allclose(pipeline.run(x.numpy())[..., 0, 0], net(x).detach().numpy(), atol=1e-12)
    assert sum(row.params for row in pipeline.shapes((1, 28, 28))) == sum(one.numel() for one in net.parameters())


# --- what comes in and goes out


@pytest.mark.parametrize(
    ("text", "shape", "output"),
    [
        ("relu", (4, 5), (4, 5)),
        ("relu", (1, 4, 5), (1, 4, 5)),
        ("relu", (1, 1, 4, 5), (1, 1, 4, 5)),
        ("conv 3x3 init=random", (4, 5), (2, 3)),
        ("conv 3x3 init=random out=2", (4, 5), (2, 2, 3)),
        ("conv 3x3 init=random", (3, 4, 5), (1, 2, 3)),
        ("conv 3x3 init=random out=2", (7, 3, 4, 5), (7, 2, 2, 3)),
        ("conv 3x3 init=random out=2", (0, 3, 4, 5), (0, 2, 2, 3)),
        ("dense 6 init=random", (4, 5), (6, 1, 1)),
        ("dense 1 init=random", (4, 5), (1, 1)),
        ("dense 6 init=random", (2, 3, 4, 5), (2, 6, 1, 1)),
        ("gray", (3, 4, 5), (1, 4, 5)),
        ("gray", (2, 3, 4, 5), (2, 1, 4, 5)),
        ("globalmax", (4, 5), (1, 1)),
    ],
)
def test_ranks(text, shape, output):
    assert Pipeline.parse(text).run(np.ones(shape)).shape == output


@pytest.mark.parametrize(
    "stage", ["relu", "normalize", "sobel", "maxpool 2", "globalavg", "gray", "dense 3 init=random"]
)
def test_an_empty_batch_stays_one(stage):
    pipeline = Pipeline.parse(stage)
    got = pipeline.run(np.zeros((0, 3, 4, 5)))
    assert got.shape == (0, *pipeline.shapes((3, 4, 5))[0].output)


@pytest.mark.parametrize(
    "stage", ["edge", "conv 3x3 init=random", "conv 3x3 groups=in init=random", "dense 2 init=random", "conv edge"]
)
def test_no_channels_are_refused(stage):
    with pytest.raises(ConvcliError):
        Pipeline.parse(stage).run(np.zeros((0, 4, 5)))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.int64, np.float16, np.float32])
@pytest.mark.parametrize("stage", ["abs", "relu", "gray", "edge", "maxpool 2", "avgpool 2", "normalize", "globalavg"])
def test_all_but_float64_becomes_float32(stage, dtype):
    x = np.array([[0, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 1], [0, 1, 0, 1]]).astype(dtype)
    x = -128 * x if dtype is np.int8 else x
    got = Pipeline.parse(stage).run(x)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, Pipeline.parse(stage).run(x.astype(float)), rtol=1e-6)


def test_gray_is_the_luma_of_three_channels():
    x = np.random.default_rng(1).random((2, 3, 4, 5))
    np.testing.assert_allclose(Pipeline.parse("gray").run(x)[:, 0], np.tensordot([0.299, 0.587, 0.114], x, (0, 1)))
    with pytest.raises(ShapeError, match="gray takes 1 or 3 channels, but 2 came in"):
        Pipeline.parse("gray").run(x[:, :2])


def test_a_named_filter_takes_each_channel_by_itself():
    x = np.random.default_rng(1).random((2, 3, 6, 7))
    got = Pipeline.parse("gaussian:1 | sobel-x bias=0.5").run(x)
    for image, channel in np.ndindex(2, 3):
        blurred = convcli.filter2d(x[image, channel], "gaussian:1")
        want = convcli.filter2d(blurred, "sobel-x", bias=0.5)
        np.testing.assert_allclose(got[image, channel], want, atol=1e-12)


def test_a_number_as_the_border_is_taken_as_it_is():
    x = np.random.default_rng(1).random((2, 5, 6))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)), constant_values=40)
    for stage in ("edge", "conv edge groups=in padding=same", "conv edge padding=1"):
        got = Pipeline.parse(f"{stage} boundary=40").run(x)
        want = Pipeline.parse(stage.partition(" padding")[0] + " padding=valid").run(padded)
        np.testing.assert_allclose(got, want, atol=1e-12)
        assert abs(got[..., 0, 0]).min() > 100  # it was seen


def test_a_threshold_counts_what_it_meets():
    x = [[0.25, np.nextafter(0.25, 0), -1, 0.3]]
    np.testing.assert_array_equal(Pipeline.parse("threshold 0.25").run(x), [[1, 0, 0, 1]])
    for dtype in (np.float32, np.float64):  # 0.1 is another number in each
        assert Pipeline.parse("threshold 0.1").run(np.array([[0.1]], dtype)) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_far_numbers_saturate_without_a_warning(dtype):
    x = np.array([[-1e4, -100, 0, 100, 1e4, -np.inf, np.inf]], dtype)
    np.testing.assert_allclose(Pipeline.parse("sigmoid").run(x), [[0, 0, 0.5, 1, 1, 0, 1]], atol=1e-40)
    np.testing.assert_allclose(Pipeline.parse("tanh").run(x), [[-1, -1, 0, 1, 1, -1, 1]])


def test_normalize_of_what_is_flat_is_0_and_of_infinity_no_warning():
    np.testing.assert_array_equal(Pipeline.parse("normalize").run(np.full((3, 3), 7.0)), np.zeros((3, 3)))
    got = Pipeline.parse("normalize").run(np.array([[np.nan, -1.0, 3.0]]))
    np.testing.assert_array_equal(got, [[np.nan, 0, 1]])
    Pipeline.parse("normalize").run(np.array([[0, np.inf]]))


def test_nan_goes_on_where_it_came_in():
    x = np.array([[np.nan, 1.0], [2.0, -3.0]])
    for stage in ("relu", "abs", "sigmoid", "tanh"):
        np.testing.assert_array_equal(np.isnan(Pipeline.parse(stage).run(x)), np.isnan(x))
    assert np.isnan(Pipeline.parse("globalmax").run(x)).all()


@pytest.mark.parametrize(
    "text", ["threshold 50%", "edge bias=50%", "edge boundary=50%", "conv edge bias=10%", "relu | abs | edge bias=5%"]
)
def test_arrays_are_plain_numbers_and_know_no_percent(text):
    """Contract, Units: arrays are plain numbers, never scaled; % with them is an error."""
    pipeline = Pipeline.parse(text)  # for pictures it is right
    with pytest.raises(ConvcliError, match="%"):
        pipeline.run(np.ones((4, 4)))


def test_what_does_not_fit_names_its_layer():
    with pytest.raises(ShapeError, match="layer 3, conv: "):
        Pipeline.parse("relu | maxpool 2 | conv 3x3 init=random").run(np.ones((4, 4)))
    with pytest.raises(ShapeError, match="layer 3, conv: "):
        Pipeline.parse("relu | maxpool 2 | conv 3x3").shapes((1, 4, 4))
    with pytest.raises(ShapeError, match="2 groups"):
        Pipeline.parse("conv 3x3 groups=2 init=random out=2").run(np.ones((3, 4, 4)))


@pytest.mark.parametrize("text", ["conv 3x3", "relu | conv 3x3", "dense 3"])
def test_weights_may_be_left_out_of_shapes_only(text):
    assert len(Pipeline.parse(text).shapes((1, 5, 5))) == len(text.split("|"))
    with pytest.raises(ConvcliError, match=r"no weights; give weights=FILE or init=random"):
        Pipeline.parse(text).run(np.ones((5, 5)))


def test_weights_that_take_other_channels(files):
    conv = Pipeline.parse(f"conv weights='{files(np.ones((2, 3, 1, 1)))}'")
    with pytest.raises(ShapeError, match="takes 3 input channels, but 2 came in"):
        conv.run(np.ones((2, 4, 4)))
    dense = Pipeline.parse(f"relu | dense 2 weights='{files(np.ones((2, 12)))}'")
    assert dense.run(np.ones((3, 2, 2))).shape == (2, 1, 1)
    with pytest.raises(ShapeError, match="layer 2, dense: its weights take 12 numbers"):
        dense.run(np.ones((3, 2, 3)))
    with pytest.raises(ShapeError, match="3 biases"):
        Pipeline.parse(f"conv 1x1 out=2 init=random bias='{files(np.ones(3))}'").run(np.ones((4, 4)))


@pytest.mark.parametrize(
    "array", [np.ones(3), np.ones((1, 1, 1, 2, 2)), np.ones((0, 4)), [[1j]], [["a"]], [[1], [2, 3]]]
)
def test_what_is_no_array_of_pictures(array):
    with pytest.raises(ConvcliError):
        Pipeline.parse("relu").run(array)


# --- the numbers of the source text

X2 = np.stack([np.arange(9.0).reshape(3, 3), np.arange(1.0, 10).reshape(3, 3)])
K2 = np.array([[[0, 1], [2, 3]], [[1, 2], [3, 4]]], float)


def test_one_channel_in(files):
    want = [[19, 25], [37, 43]]
    np.testing.assert_array_equal(Pipeline.parse("conv [0 1; 2 3]").run(X2[0]), want)
    np.testing.assert_array_equal(Pipeline.parse("filter [0 1; 2 3] padding=valid").run(X2[0]), want)


def test_two_channels_in(files):
    got = Pipeline.parse(f"conv weights='{files(K2)}'").run(X2)
    np.testing.assert_array_equal(got, [[[56, 72], [104, 120]]])


def test_three_kernels_out(files):
    got = Pipeline.parse(f"conv weights='{files(np.stack([K2, K2 + 1, K2 + 2]))}'").run(X2)
    np.testing.assert_array_equal(got, [[[56, 72], [104, 120]], [[76, 100], [148, 172]], [[96, 128], [192, 224]]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_1x1_is_a_matrix_product(files, dtype):
    rng = np.random.default_rng(6)
    x, weight = rng.standard_normal((3, 4, 5)).astype(dtype), rng.standard_normal((2, 3, 1, 1))
    got = Pipeline.parse(f"conv weights='{files(weight)}'").run(x)
    product = (weight[:, :, 0, 0].astype(dtype) @ x.reshape(3, -1)).reshape(2, 4, 5)
    np.testing.assert_allclose(got, product, rtol=1e-5 if dtype == np.float32 else 1e-12, atol=1e-6)


def test_the_edge_of_6x8():
    x = np.ones((6, 8))
    x[:, 2:6] = 0
    np.testing.assert_array_equal(Pipeline.parse("conv [-1 1]").run(x), [[0, -1, 0, 0, 0, 1, 0]] * 6)


def test_ten_layers_of_5x5_take_40_pixels():
    rows = Pipeline.parse("conv 5x5 * 10").shapes((1, 240, 240))
    assert [row.output for row in rows] == [(1, 240 - 4 * n, 240 - 4 * n) for n in range(1, 11)]
    assert rows[-1].receptive_field == (41, 41)
    assert Pipeline.parse("conv 5x5 init=random * 10").run(np.ones((240, 240), np.float32)).shape == (200, 200)


@pytest.mark.parametrize(("padding", "size"), [("valid", 11), ("same", 13), ("full", 15)])
def test_13x13_through_3x3(padding, size):
    assert Pipeline.parse(f"conv 3x3 padding={padding}").shapes((1, 13, 13))[0].output == (1, size, size)


def test_a_thousand_neurons_over_a_thousand_squared():
    (row,) = Pipeline.parse("dense 1000").shapes((1, 1000, 1000))
    assert (row.params, row.macs, row.output) == (10**9, 10**9, (1000, 1, 1))
    assert Pipeline.parse("dense 1000 bias=0").shapes((1, 1000, 1000))[0].params == 10**9 + 1000


def test_a_fully_connected_layer(files):
    """y = sigmoid(W x + b)"""
    rng = np.random.default_rng(2)
    x, weight, bias = rng.standard_normal((2, 3, 4)), rng.standard_normal((5, 24)), rng.standard_normal(5)
    got = Pipeline.parse(f"dense 5 weights='{files(weight)}' bias='{files(bias)}' | sigmoid").run(x)
    np.testing.assert_allclose(got[:, 0, 0], 1 / (1 + np.exp(-(weight @ x.ravel() + bias))), rtol=1e-12)


# --- published networks


def vgg16(bias="bias=0"):
    widths = [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]
    conv = "conv 3x3 out={} padding=1 " + bias
    return " | ".join(" | ".join([f"{conv.format(width)} | relu"] * times + ["maxpool 2"]) for width, times in widths)


ALEXNET = """conv 11x11 out=64 stride=4 padding=2 bias=0 | relu | maxpool 3 stride=2
    | conv 5x5 out=192 padding=2 bias=0 | relu | maxpool 3 stride=2
    | conv 3x3 out=384 padding=1 bias=0 | relu
    | conv 3x3 out=256 padding=1 bias=0 | relu | conv 3x3 out=256 padding=1 bias=0 | relu | maxpool 3 stride=2"""
RESNET = "conv 7x7 out=64 stride=2 padding=3 | relu | maxpool 3 stride=2 padding=1"


def totals(text, shape=(3, 224, 224)):
    rows = Pipeline.parse(text).shapes(shape)
    return sum(row.params for row in rows), sum(row.macs for row in rows), rows[-1]


def test_vgg16():
    params, macs, last = totals(vgg16())
    assert (params, macs) == (14_714_688, 15_346_630_656)
    assert (last.output, last.receptive_field, last.jump) == ((512, 7, 7), (212, 212), (32, 32))
    assert totals(vgg16(bias=""))[0] == 14_714_688 - 4224
    head = " | dense 4096 bias=0 | relu | dense 4096 bias=0 | relu | dense 1000 bias=0"
    assert totals(vgg16() + head)[0] == 138_357_544  # the whole of it


def test_alexnet():
    params, macs, last = totals(ALEXNET)
    assert (params, macs) == (2_469_696, 655_566_528)
    assert (last.output, last.receptive_field, last.jump) == ((256, 6, 6), (195, 195), (32, 32))


def test_resnets_stem():
    rows = Pipeline.parse(RESNET + " | conv 3x3 out=64 padding=1 * 4").shapes((3, 224, 224))
    assert [row.output for row in rows[:3]] == [(64, 112, 112), (64, 112, 112), (64, 56, 56)]
    assert [row.receptive_field[0] for row in rows] == [7, 7, 11, 19, 27, 35, 43]
    assert [row.jump[0] for row in rows] == [2, 2, 4, 4, 4, 4, 4]
    assert [row.start[0] for row in rows] == [0, 0, 0, 0, 0, 0, 0]
    assert [row.effective_padding[0] for row in rows] == [3, 3, 5, 9, 13, 17, 21]
    assert rows[0].params == 9408
    assert [row.unused for row in rows[:3]] == [(0, 0)] * 3


@needs_torch
@given(
    channels=st.integers(1, 6),
    groups=st.sampled_from([1, 2, 3]),
    outputs=st.integers(1, 3),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    bias=st.booleans(),
)
def test_counts_are_those_of_pytorchs_modules(channels, groups, outputs, kernel, stride, bias):
    taken, given_ = channels * groups, outputs * groups
    module = torch.nn.Conv2d(taken, given_, kernel, stride, padding=1, groups=groups, bias=bias)
    text = f"conv {kernel}x{kernel} out={given_} groups={groups} stride={stride} padding=1" + " bias=0" * bias
    (row,) = Pipeline.parse(text).shapes((taken, 9, 8))
    assert row.params == sum(one.numel() for one in module.parameters())
    output = module(torch.zeros(1, taken, 9, 8))[0]
    assert row.output == tuple(output.shape)
    assert row.macs == output.numel() * module.weight[0].numel()


def test_only_weighted_rows_count():
    rows = Pipeline.parse("gray | edge | relu | maxpool 2 | globalavg | threshold 1 | normalize").shapes((3, 9, 8))
    assert [(row.params, row.macs) for row in rows] == [(0, 0), (9, 9 * 72), *[(0, 0)] * 5]
    for row in (rows[0], rows[2], rows[5], rows[6]):
        assert (row.kernel, row.stride, row.dilation) == ((1, 1),) * 3
        assert (row.padding, row.boundary) == ((0, 0, 0, 0), "none")


# --- receptive fields against what really changes


@st.composite
def chains(draw):
    stages = []
    for _ in range(draw(st.integers(1, 4))):
        kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
        stride = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
        rows, columns = kernel
        if draw(st.booleans()):
            dilation = draw(st.sampled_from(["1", "2", "1x2"]))
            padding = draw(st.sampled_from(["valid", "same", "same-lower", "full", "1", "2x1", "1,0,2,1"]))
            ones = "; ".join([" ".join(["1"] * columns)] * rows)
            stages.append(f"conv [{ones}] stride={pair(stride)} padding={padding} dilation={dilation}")
        else:
            name, padding = draw(st.sampled_from(["max", "avg"])), (draw(st.integers(0, rows // 2)), 0)
            stages.append(f"{name}pool {pair(kernel)} stride={pair(stride)} padding={pair(padding)}")
        stages.append(draw(st.sampled_from(["relu", "abs", "relu"])))
    return " | ".join(stages)


@given(chains(), st.tuples(st.integers(9, 17), st.integers(9, 17)))
def test_receptive_fields_are_what_really_matters(text, size):
    """Each input pixel is lit alone: where an output changes, the pixel lies in its field, and its ends are reached."""
    pipeline = Pipeline.parse(text)
    try:
        row = pipeline.shapes((1, *size))[-1]
    except ShapeError:
        assume(False)
    lit = pipeline.run(np.eye(prod(size)).reshape(-1, 1, *size))[:, 0]
    seen = (lit != 0).reshape(*size, *row.output[1:])
    for axis in (0, 1):
        field, jump, start = row.receptive_field[axis], row.jump[axis], row.start[axis]
        assert start == (field - 1) / 2 - row.effective_padding[axis]
        per_axis = seen.any(axis=(1 - axis, 3 - axis))  # of the inputs of an axis, and the outputs of the same
        for place in range(row.output[1 + axis]):
            first, last = start + place * jump - (field - 1) / 2, start + place * jump + (field - 1) / 2
            touched = np.flatnonzero(per_axis[:, place])
            assert all(first <= one <= last for one in touched)
            if first >= 0 and last < size[axis] and len(touched):
                assert (touched[0], touched[-1]) == (first, last)


@pytest.mark.parametrize(
    "text",
    [
        "conv 3x3 * 3",
        "conv 3x3 stride=2 padding=same * 2 | conv 2x2",
        "conv 4x2 dilation=2 padding=1 | maxpool 2",
        "maxpool 3 stride=2 padding=1 * 2",
    ],
)
def test_that_oracle_sees_whole_fields(text):
    """Inner outputs are there to be judged: all of a field of these chains lies on the picture at least once."""
    row = Pipeline.parse(text).shapes((1, 17, 17))[-1]
    for axis in (0, 1):
        firsts = [-row.effective_padding[axis] + place * row.jump[axis] for place in range(row.output[1 + axis])]
        assert any(first >= 0 and first + row.receptive_field[axis] <= 17 for first in firsts)


# --- one layer as one matrix


@st.composite
def unrollable(draw, files):
    shape = draw(st.tuples(st.integers(1, 3), st.integers(2, 6), st.integers(2, 6)))
    boundary = draw(st.sampled_from(["zero", "edge", "reflect", "mirror", "symmetric", "wrap"]))
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = draw(st.sampled_from(["valid", "same", "same-lower", "full", "1", "3", "2x0", "0,2,1,0"]))
    stride, dilation = draw(st.sampled_from(["1", "2", "1x3"])), draw(st.sampled_from(["1", "2", "2x1"]))
    window = f"padding={padding} boundary={boundary} stride={stride} dilation={dilation}"
    seed = draw(st.integers(0, 99))
    groups = draw(st.sampled_from(["1", "in", str(shape[0])]))
    outputs = shape[0] * draw(st.integers(1, 2))
    matrix = np.random.default_rng(seed).standard_normal(kernel)
    return shape, draw(
        st.sampled_from(
            [
                f"conv {pair(kernel)} out={outputs} groups={groups} init=random seed={seed} {window}",
                f"conv '{files(matrix)}' out={outputs} groups={groups} {window}",
                f"filter '{files(matrix)}' {window}",
                f"sobel-y {window}",
                f"dense {outputs} init=random seed={seed}",
            ]
        )
    )


@given(st.data())
def test_a_layer_is_one_matrix(files, data):
    shape, text = data.draw(unrollable(files))
    pipeline = Pipeline.parse(text)
    x = np.random.default_rng(5).standard_normal(shape)
    try:
        want = pipeline.run(x)
    except ShapeError:
        with pytest.raises(ShapeError):
            unrolled(pipeline.layers[0], shape)
        return
    matrix = np.array(unrolled(pipeline.layers[0], shape))
    assert matrix.shape == (want.size, x.size)
    assert matrix.dtype == float
    np.testing.assert_allclose(matrix @ x.ravel(), want.ravel(), atol=1e-12)


def test_a_number_at_the_border_is_no_input():
    (layer,) = Pipeline.parse("filter [1 2 3] boundary=5").layers
    matrix = np.array(unrolled(layer, (1, 1, 4)))
    np.testing.assert_array_equal(matrix, [[2, 3, 0, 0], [1, 2, 3, 0], [0, 1, 2, 3], [0, 0, 1, 2]])


def test_shared_weights_have_the_same_name():
    (layer,) = Pipeline.parse("conv 2x2").layers
    rows = unrolled(layer, (1, 4, 4))
    assert (len(rows), len(rows[0])) == (9, 16)
    for number, row in enumerate(rows):
        corner = number // 3 * 4 + number % 3
        want = dict(zip((corner, corner + 1, corner + 4, corner + 5), "abcd", strict=True))
        assert row == [want.get(place, 0.0) for place in range(16)]


def test_names_of_many_weights_and_of_sums():
    (layer,) = Pipeline.parse("conv 2x2 out=2").layers
    first, second = unrolled(layer, (2, 2, 2))
    assert (first, second) == (list("abcdefgh"), list("ijklmnop"))
    (layer,) = Pipeline.parse("conv 1x2 padding=0,0,1,0 boundary=edge").layers
    assert unrolled(layer, (1, 1, 2)) == [["a+b", 0.0], ["a", "b"]]
    (layer,) = Pipeline.parse("conv 3x3 groups=in").layers
    depthwise = unrolled(layer, (3, 3, 3))
    assert depthwise[0] == [f"w{n}" for n in range(1, 10)] + [0.0] * 18
    assert depthwise[2] == [0.0] * 18 + [f"w{n}" for n in range(19, 28)]
    (layer,) = Pipeline.parse("dense 2").layers
    assert unrolled(layer, (1, 2, 2)) == [list("abcd"), list("efgh")]  # nothing is shared


@pytest.mark.parametrize(
    ("text", "shape"), [("relu", (1, 3, 3)), ("maxpool 2", (1, 4, 4)), ("sobel", (1, 3, 3)), ("gray", (3, 3, 3))]
)
def test_what_no_matrix_gives(text, shape):
    (layer,) = Pipeline.parse(text).layers
    with pytest.raises(ConvcliError):
        unrolled(layer, shape)


@pytest.mark.parametrize("text", ["conv 3x3 padding=same", "dense 2000", "edge"])
def test_a_matrix_too_large_to_look_at(text):
    (layer,) = Pipeline.parse(text).layers
    with pytest.raises(ConvcliError, match="smaller SIZE"):
        unrolled(layer, (1, 40, 40))


# --- what the frameworks say


def claim(text, shape):
    """Whether PyTorch is said to give the same."""
    return "PyTorch" in same_sizes(Pipeline.parse(text).layers, shape).split("; not ")[0].split("none of")[0]


CONVS = [
    (size, kernel, stride, dilation, padding, boundary)
    for size in (4, 7)
    for kernel in (2, 3)
    for stride in (1, 2)
    for dilation in (1, 2)
    for padding in ("valid", "same", "same-lower", "full", 0, 1, 3, 4, 5)
    for boundary in ("zero", "reflect", "edge", "wrap", "symmetric", "0.5")
]


def torch_conv(x, size, kernel, stride, dilation, padding, boundary):
    """PyTorch told the same word, or the same numbers where there is no such word; raises where it refuses."""
    mode = {"zero": "zeros", "edge": "replicate", "wrap": "circular"}.get(boundary, boundary)
    numbers = padding
    if padding in ("full", "same-lower"):
        before, after = oracle.pads_of(size, dilation * (kernel - 1) + 1, stride, padding)
        if before != after:
            raise ValueError("pads both sides alike")
        numbers = before
    if padding == "valid" or numbers == 0:
        mode = "zeros" if mode in ("symmetric", "0.5") else mode  # nothing is added
    module = torch.nn.Conv2d(1, 1, kernel, stride, numbers, dilation, padding_mode=mode, bias=False).double()
    return module, module(x)


@needs_torch
@pytest.mark.filterwarnings("ignore:Using padding='same' with even")
@pytest.mark.parametrize("boundary", ["zero", "reflect", "edge", "wrap", "symmetric", "0.5"])
def test_pytorch_is_said_to_do_what_it_does(boundary, tmp_path):
    x = np.random.default_rng(8).standard_normal((1, 1, 7, 7))
    claims = set()
    wrong = []
    for case in CONVS:
        size, kernel, stride, dilation, padding, border = case
        pads = oracle.pads_of(size, dilation * (kernel - 1) + 1, stride, padding) if padding == "same-lower" else (0, 1)
        if border != boundary or (stride > 1 and pads[0] == pads[1]):
            continue  # a word that PyTorch lacks, in a case where numbers would do: either answer is right
        words = f"stride={stride} dilation={dilation} padding={padding} boundary={boundary}"
        try:
            says = claim(f"conv {kernel}x{kernel} {words}", (1, size, size))
        except ShapeError:
            continue
        cut = x[..., :size, :size]
        does = False
        with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):
            module, theirs = torch_conv(torch.from_numpy(cut.copy()), *case)
            np.save(tmp_path / "w.npy", module.weight.detach().numpy())
            ours = Pipeline.parse(f"conv weights='{tmp_path / 'w.npy'}' {words}").run(cut)
            theirs = theirs.detach().numpy()
            does = ours.shape == theirs.shape and np.allclose(ours, theirs, atol=1e-12)
        claims.add(says)
        if says != does:
            wrong.append((case, f"said {says}, is {does}"))
    assert claims == {True, False}
    assert not wrong


@needs_torch
@pytest.mark.parametrize("reduce", ["max", "avg"])
def test_pytorchs_pools_are_said_to_do_what_they_do(reduce):
    pool2d = {"max": functional.max_pool2d, "avg": functional.avg_pool2d}[reduce]
    x = np.random.default_rng(9).standard_normal((1, 1, 8, 8))
    claims, wrong = set(), []
    for size, kernel, stride, padding, ceil in itertools.product(
        (5, 8), (2, 3, 4), (1, 2, 3), ("valid", "same", 0, 1, 2, "1,0,1,0", "1,1,1,1"), (False, True)
    ):
        text = f"{reduce}pool {kernel} stride={stride} padding={padding}" + " ceil" * ceil
        try:
            (row,) = Pipeline.parse(text).shapes((1, size, size))
        except ConvcliError:
            continue
        says, does = claim(text, (1, size, size)), False
        top, bottom, left, right = row.padding
        if padding != "same" and (top, left) == (bottom, right):
            with contextlib.suppress(RuntimeError):
                cut = x[..., :size, :size]
                theirs = pool2d(torch.from_numpy(cut.copy()), kernel, stride, (top, left), ceil_mode=ceil).numpy()
                ours = Pipeline.parse(text).run(cut)
                does = ours.shape == theirs.shape and np.allclose(ours, theirs)
        claims.add(says)
        if says != does:
            wrong.append((text, size, f"said {says}, is {does}"))
    assert claims == {True, False}
    assert not wrong


def test_the_first_layer_where_they_part_is_named():
    said = same_sizes(Pipeline.parse("conv 3x3 | relu | conv 3x3 padding=same stride=2 | maxpool 2").layers, (1, 9, 9))
    assert said.startswith("the same sizes and pads: TensorFlow, ONNX; not PyTorch (layer 3, conv: ")
    said = same_sizes(Pipeline.parse("sharpen boundary=symmetric").layers, (1, 9, 9))
    assert said.startswith("the same sizes and pads: none; not ")
    assert same_sizes(Pipeline.parse("relu | gray").layers, (1, 9, 9)).endswith(": PyTorch, TensorFlow, ONNX")


# --- pictures


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("text", ["edge", "edge boundary=0.5", "sobel-x bias=0.25", "[1 2 1; 2 4 2]"])
def test_pictures_keep_their_codes(text, dtype):
    """A filter's codes are exact: integer sums, rounded and clipped once."""
    white = np.iinfo(dtype).max
    text = f"filter {text}" if text.startswith("[") else text
    pixels = np.random.default_rng(12).integers(0, white, (9, 11, 3), dtype, endpoint=True)
    (layer,) = Pipeline.parse(text).layers
    recipe = Recipe(layers=Pipeline.parse(text).layers)
    result, _ = filter_picture(Picture(pixels, float(white), False), recipe)
    boundary = layer.boundary * white if isinstance(layer.boundary, float) else str(layer.boundary)
    exact = np.dstack(
        [oracle.correlate(pixels[..., one].astype(float), layer.kernel.weights, "same", boundary) for one in range(3)]
    )
    exact = np.clip(np.rint(exact + layer.bias * white), 0, white)
    assert result.pixels.dtype == dtype
    np.testing.assert_array_equal(result.pixels, exact)


def test_a_recipe_of_edge_is_plain_edge():
    pixels = np.random.default_rng(13).integers(0, 256, (20, 21, 3), np.uint8)
    result, outcome = filter_picture(Picture(pixels, 255.0, False), Recipe(layers=Pipeline.parse("edge").layers))
    np.testing.assert_array_equal(result.pixels, convcli.filter2d(pixels, "edge", dtype=np.uint8))
    assert [row.layer for row in outcome.rows] == ["edge"]


def test_functions_of_pictures_count_white_as_1():
    pixels = np.array([[[0], [51], [127], [128], [255]]], np.uint8)

    def stored(text):
        picture = Picture(pixels, 255.0, False)
        return filter_picture(picture, Recipe(layers=Pipeline.parse(text).layers))[0].pixels.ravel().tolist()

    assert stored("threshold 0.5") == [0, 0, 0, 255, 255]
    assert stored("threshold 50%") == [0, 0, 0, 255, 255]
    assert stored("normalize") == [0, 51, 127, 128, 255]
    fractions = pixels.ravel() / 255
    assert stored("sigmoid") == np.rint(255 / (1 + np.exp(-fractions))).tolist()
    assert stored("tanh") == np.rint(255 * np.tanh(fractions)).tolist()
    assert stored("relu | abs") == pixels.ravel().tolist()


# --- memory


def test_a_run_holds_two_stages_at_most():
    pipeline = Pipeline.parse("conv 3x3 out=16 padding=same init=random | relu | maxpool 2")
    x = np.zeros((3, 1024, 1280), np.float32)
    pipeline.run(x[:, :64, :64])  # what is imported and kept for good comes first
    rows = pipeline.shapes(x.shape)
    both = max(prod(row.input) + prod(row.output) for row in rows) * x.itemsize
    tracemalloc.start()
    try:
        pipeline.run(x)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows[0].memory < peak <= both + (64 << 20)  # a third copy of the first stage would be 80 MiB more


def test_the_longer_the_chain_the_same_the_memory():
    x = np.zeros((1, 1, 1024, 1024))
    peaks = []
    for times in (2, 12):
        pipeline = Pipeline.parse(f"relu * {times} | conv [1] * {times} | maxpool 1 * {times}")
        tracemalloc.start()
        try:
            pipeline.run(x)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2 * x.nbytes  # working memory of one thread or two; thirty stages more


def test_layers_can_be_built_by_hand():
    kernel = read_kernel("[0 1; 2 3]")
    assert Conv(kernel=kernel).weight(2).shape == (1, 2, 2, 2)
    np.testing.assert_array_equal(Pipeline.parse("conv [0 1; 2 3]").layers[0].weight(2), Conv(kernel=kernel).weight(2))
