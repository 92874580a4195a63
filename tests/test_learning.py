"""Learning kernels in Python. The judge is the explicit patch matrix, made window by window: what NumPy's and SciPy's
solvers and PyTorch's autograd find in it is what has to be found."""

import functools
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image
from threadpoolctl import threadpool_limits

import convcli
import oracle
from convcli import learn_kernel
from convcli.errors import ConvcliError, PictureError, ShapeError
from convcli.kernels.named import NAMED
from convcli.learning.fitting import Wish
from convcli.learning.learn import Task, learn
from convcli.learning.moments import Example
from convcli.words import Learning


@pytest.fixture(scope="module", autouse=True)
def _one_thread_of_blas():
    """For speed: dozens of small systems are solved."""
    with threadpool_limits(1):
        yield


LINEAR = [name for name, one in NAMED.items() if one.combine is None]

# The text's pair: columns 2 to 5 of a 6x8 picture are 0, and the kernel is -1 1.
STRIPE = np.ones((6, 8))
STRIPE[:, 2:6] = 0
EDGES = STRIPE[:, 1:] - STRIPE[:, :-1]
START = [[0.618, -0.4092]]
LOSSES = "11.679 2.061 0.387 0.082 0.021"


@functools.cache
def photo():
    """A part of the cat, with fur and background, in grey fractions of white."""
    with Image.open(Path(__file__).parents[1] / "sample_images" / "chelsea.png") as image:
        return np.asarray(image.convert("L"), float)[60:188, 90:258] / 255


def noise(*shape, seed=0):
    return np.random.default_rng(seed).random(shape)


def patches(x, size, stride=(1, 1)):
    """One row for each window inside ``(H, W)`` or ``(C, H, W)``."""
    planes = x.reshape(-1, *x.shape[-2:])
    windows = sliding_window_view(planes, size, axis=(1, 2))[:, :: stride[0], :: stride[1]]
    return windows.transpose(1, 2, 0, 3, 4).reshape(-1, len(planes) * size[0] * size[1])


def lstsq(matrix, target, bias=False):
    if bias:
        matrix = np.column_stack([matrix, np.ones(len(matrix))])
    return np.linalg.lstsq(matrix, target, rcond=None)[0]


# The text's example


def test_text_losses():
    fit = learn_kernel(STRIPE, EDGES, (1, 2), method="gd", steps=10, lr=0.03, init=START)
    assert " ".join(f"{one:.3f}" for one in fit.loss[1::2]) == LOSSES
    assert len(fit.loss) == 10
    assert fit.loss[0] == pytest.approx(np.sum((0.618 * STRIPE[:, :-1] - 0.4092 * STRIPE[:, 1:] - EDGES) ** 2))
    np.testing.assert_allclose(fit.kernel, [[-1, 1]], atol=0.03)
    assert (fit.bias, fit.shift, fit.method) == (0, (0, 0), "gd")


def test_text_least_squares():
    fit = learn_kernel(STRIPE, EDGES, (1, 2))
    np.testing.assert_allclose(fit.kernel, [[-1, 1]], atol=1e-12)
    assert fit.loss == (pytest.approx(0, abs=1e-12),)
    assert fit.r2 == pytest.approx(1)
    assert fit.patches == 42
    assert fit.condition == pytest.approx(np.linalg.cond(patches(STRIPE, (1, 2))) ** 2)


def test_text_limit_of_the_step():
    greatest = np.linalg.eigvalsh(patches(STRIPE, (1, 2)).T @ patches(STRIPE, (1, 2)))[-1]
    assert 1 / greatest == pytest.approx(0.0333, abs=5e-5)
    with pytest.raises(ConvcliError, match=r"0\.0334 would diverge.*below 0\.0333"):
        learn_kernel(STRIPE, EDGES, (1, 2), method="gd", lr=0.0334)
    fit = learn_kernel(STRIPE, EDGES, (1, 2), method="gd", lr=0.0332, steps=20000)
    np.testing.assert_allclose(fit.kernel, [[-1, 1]], atol=1e-6)


@pytest.mark.parametrize("rate", [0, -0.01, np.nan, np.inf])
def test_step_that_can_not_be(rate):
    with pytest.raises(ConvcliError):
        learn_kernel(STRIPE, EDGES, (1, 2), method="gd", lr=rate)


# Gradient descent


@given(
    seed=st.integers(0, 99),
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    bias=st.booleans(),
    fast=st.booleans(),
)
@settings(max_examples=25)
def test_descent_agrees_with_plain_steps(seed, size, bias, fast):
    rng = np.random.default_rng(seed)
    x, start = rng.random((11, 13)), rng.standard_normal(size)
    y = rng.random((12 - size[0], 14 - size[1]))
    matrix = patches(x, size)
    if bias:
        matrix = np.column_stack([matrix, np.ones(len(matrix))])
    limit = 1 / np.linalg.eigvalsh(matrix.T @ matrix)[-1]
    rate = limit * (0.99 if fast else 0.2)
    weights, losses = np.append(start.ravel(), [0.0] * bias), []
    for _ in range(6):
        error = matrix @ weights - y.ravel()
        losses.append(error @ error)
        weights = weights - rate * 2 * matrix.T @ error
    fit = learn_kernel(x, y, size, method="gd", bias=bias, steps=6, lr=rate, init=start)
    np.testing.assert_allclose(fit.loss, losses, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(fit.kernel.ravel(), weights[: size[0] * size[1]], atol=1e-10)
    assert fit.bias == pytest.approx(weights[-1] if bias else 0)
    assert fit.rate == rate


@given(seed=st.integers(0, 99), size=st.tuples(st.integers(1, 3), st.integers(1, 3)), bias=st.booleans())
@settings(max_examples=20)
def test_descent_ends_where_least_squares_is(seed, size, bias):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((20, 22))
    y = convcli.conv2d(x, rng.standard_normal(size), bias=0.3) + 0.1 * rng.standard_normal((21 - size[0], 23 - size[1]))
    exact = learn_kernel(x, y, size, bias=bias)
    slow = learn_kernel(x, y, size, bias=bias, method="gd", steps=3000)
    np.testing.assert_allclose(slow.kernel, exact.kernel, atol=1e-6)
    assert slow.bias == pytest.approx(exact.bias, abs=1e-6)
    assert slow.loss[-1] == pytest.approx(exact.loss[-1])
    assert not slow.interrupted


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (5, 4)])
def test_default_step_is_safe(size):
    x = photo()
    fit = learn_kernel(x, convcli.filter2d(x, np.ones((3, 3)) / 9), size, method="gd", steps=200)
    assert np.all(np.diff(fit.loss) <= 1e-9)
    assert fit.loss[-1] < 0.1 * fit.loss[0]
    inside = [slice(max(0, k - 1 - (k - 1) // 2), None) for k in size]
    greatest = np.linalg.eigvalsh(patches(x[inside[0], inside[1]], size).T @ patches(x[inside[0], inside[1]], size))[-1]
    assert fit.rate < 1.05 / greatest


@pytest.mark.parametrize("size", [(1, 2), (3, 3), (2, 5)])
def test_default_start(size):
    x, y = noise(12, 14), noise(13 - size[0], 15 - size[1])
    starts = [learn_kernel(x, y, size, method="gd", steps=1, lr=1e-30, seed=seed).kernel.ravel() for seed in range(60)]
    reach = 1 / np.sqrt(size[0] * size[1])
    everything = np.concatenate(starts)
    assert np.abs(everything).max() <= reach
    assert everything.min() < -0.9 * reach
    assert everything.max() > 0.9 * reach
    assert abs(everything.mean()) < 0.25 * reach
    assert everything.std() == pytest.approx(reach / np.sqrt(3), rel=0.2)
    assert len({tuple(one) for one in starts}) == 60


def test_default_start_of_a_layer():
    x, y = noise(3, 12, 14), noise(2, 10, 12)
    starts = [learn_kernel(x, y, 3, method="gd", steps=1, lr=1e-30, seed=seed, layer=True).kernel for seed in range(30)]
    reach = 1 / np.sqrt(27)
    assert 0.9 * reach < np.abs(starts).max() <= reach
    assert not np.allclose(starts[0][0], starts[0][1])


def test_seed_and_init_repeat():
    x, y = noise(12, 14), noise(10, 12)
    one, again, other = (learn_kernel(x, y, 3, method="gd", steps=5, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(one.kernel, again.kernel)
    assert one.loss == again.loss
    assert one.loss != other.loss
    start = np.arange(9.0).reshape(3, 3) / 10
    given_ = learn_kernel(x, y, 3, method="gd", steps=1, lr=1e-30, init=start)
    np.testing.assert_allclose(given_.kernel, start, atol=1e-12)
    error = patches(x, (3, 3)) @ start.ravel() - y.ravel()
    assert given_.loss == (pytest.approx(error @ error),)


@pytest.mark.parametrize("bias", [False, True])
def test_autograd_takes_the_same_steps(bias):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed; `make torch` installs it")
    rng = np.random.default_rng(5)
    x, y, start = rng.random((3, 12, 13)), rng.random((2, 10, 12)), rng.standard_normal((1, 3, 3, 2))
    rate = 1e-4
    weight = torch.tensor(np.repeat(start, 2, axis=0), requires_grad=True)
    shift = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    losses = []
    for _ in range(8):
        out = torch.nn.functional.conv2d(torch.from_numpy(x)[None], weight, shift if bias else None)
        loss = ((out - torch.from_numpy(y)[None]) ** 2).sum()
        weight.grad = shift.grad = None
        loss.backward()
        losses.append(loss.item())
        with torch.no_grad():
            weight -= rate * weight.grad
            if bias:
                shift -= rate * shift.grad
    fit = learn_kernel(x, y, (3, 2), method="gd", steps=8, lr=rate, init=start, bias=bias, layer=True)
    np.testing.assert_allclose(fit.kernel, weight.detach().numpy(), atol=1e-10)
    np.testing.assert_allclose(fit.bias, shift.detach().numpy(), atol=1e-10)
    np.testing.assert_allclose(fit.loss, losses, rtol=1e-10)


def test_autograd_on_the_text():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed; `make torch` installs it")
    weight = torch.tensor(START, dtype=torch.float64)[None, None].requires_grad_()
    x, y = torch.from_numpy(STRIPE)[None, None], torch.from_numpy(EDGES)[None, None]
    losses = []
    for _ in range(10):
        loss = ((torch.nn.functional.conv2d(x, weight) - y) ** 2).sum()
        weight.grad = None
        loss.backward()
        losses.append(loss.item())
        weight.data -= 0.03 * weight.grad
    fit = learn_kernel(STRIPE, EDGES, (1, 2), method="gd", steps=10, lr=0.03, init=START)
    np.testing.assert_allclose(fit.loss, losses, rtol=1e-10)
    np.testing.assert_allclose(fit.kernel, weight.detach().numpy()[0, 0], atol=1e-12)


# Kernels recovered


@pytest.mark.parametrize("name", LINEAR)
def test_named_from_floats(name):
    kernel = convcli.kernel(name)
    fit = learn_kernel(photo()[:100, :120], convcli.filter2d(photo()[:100, :120], kernel), kernel.shape)
    np.testing.assert_allclose(fit.kernel, kernel, atol=1e-4)
    assert fit.r2 > 1 - 1e-9
    assert fit.explains
    assert fit.shift == (0, 0)
    assert not fit.unsure.any()
    assert fit.closest.scale == pytest.approx(1, abs=1e-4)
    assert fit.closest.correlation == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(convcli.kernel(fit.closest.name), kernel * np.sign(fit.closest.scale), atol=1e-12)
    assert fit.identity == (name == "identity")


@pytest.mark.parametrize("sigma", [0.002, 0.1])
@pytest.mark.parametrize("name", ["emboss", "gaussian:1,5", "motion:5"])
def test_noise(name, sigma):
    kernel = convcli.kernel(name)
    matrix = patches(photo(), kernel.shape)
    rng = np.random.default_rng(4)
    clean = convcli.conv2d(photo(), kernel)
    fit = learn_kernel(photo(), clean + sigma * rng.standard_normal(clean.shape), kernel.shape)
    deviations = sigma * np.sqrt(np.diag(np.linalg.inv(matrix.T @ matrix)))
    wrong = (fit.kernel - kernel).ravel() / deviations
    assert np.abs(wrong).max() < 4.5
    assert 0.4 < np.sqrt(np.mean(wrong**2)) < 1.7
    assert fit.psnr == pytest.approx(-20 * np.log10(sigma), abs=0.2)
    held = 1 - sigma**2 / (clean.var() + sigma**2)
    assert fit.r2 == pytest.approx(held, abs=0.15 * (1 - held) + 1e-6)


sizes = st.tuples(st.integers(1, 5), st.integers(1, 5))


@given(
    seed=st.integers(0, 999),
    size=sizes,
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.sampled_from(["same", "same-lower", "valid", "full", ((1, 0), (0, 2)), ((0, 3), (2, 1))]),
    bias=st.sampled_from([None, 0.25, -3.0]),
)
def test_random_kernels(seed, size, stride, padding, bias):
    """Borders have no say: the padding's cells hold what no rule could tell."""
    rng = np.random.default_rng(seed)
    x, kernel = rng.standard_normal((31, 29)), rng.standard_normal(size)
    y = oracle.correlate(x, kernel, padding=padding, boundary=7.0, stride=stride) + (bias or 0)
    fit = learn_kernel(x, y, size, padding=padding, stride=stride, bias=bias is not None)
    np.testing.assert_allclose(fit.kernel, kernel, atol=1e-8)
    assert fit.bias == pytest.approx(bias or 0, abs=1e-8)
    assert fit.r2 > 1 - 1e-9
    assert fit.loss[-1] < 1e-9
    inside = patches(x, size, (1, 1))
    assert fit.patches <= len(inside)
    assert fit.shift == (0, 0)


@given(
    seed=st.integers(0, 999),
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    channels=st.integers(1, 3),
    outputs=st.integers(1, 3),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    bias=st.booleans(),
)
@settings(max_examples=30)
def test_random_layers(seed, size, channels, outputs, stride, bias):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((channels, 24, 25))
    weight = rng.standard_normal((outputs, channels, *size))
    shift = rng.standard_normal(outputs) * bias
    y = oracle.layer(x, weight, shift, stride=stride)
    fit = learn_kernel(x, y, size, stride=stride, padding="valid", bias=bias, layer=True)
    assert fit.kernel.shape == weight.shape
    np.testing.assert_allclose(fit.kernel, weight, atol=1e-8)
    np.testing.assert_allclose(fit.bias, shift, atol=1e-8)
    assert fit.r2 > 1 - 1e-9
    np.testing.assert_allclose(convcli.conv2d(x, fit.kernel, fit.bias, stride=stride), y, atol=1e-6)


@pytest.mark.parametrize("bias", [False, True])
def test_channels(bias):
    """One kernel for all channels is fitted to all of them; with one for each, each is on its own."""
    rng = np.random.default_rng(8)
    x, y = rng.random((3, 16, 18)), rng.random((3, 14, 16))
    one = learn_kernel(x, y, 3, bias=bias)
    judge = lstsq(np.vstack([patches(plane, (3, 3)) for plane in x]), y.ravel(), bias)
    np.testing.assert_allclose(one.kernel.ravel(), judge[:9], atol=1e-9)
    assert one.bias == pytest.approx(judge[9] if bias else 0)
    each = learn_kernel(x, y, 3, bias=bias, per_channel=True)
    assert each.kernel.shape == (3, 1, 3, 3)
    for channel in range(3):
        judge = lstsq(patches(x[channel], (3, 3)), y[channel].ravel(), bias)
        np.testing.assert_allclose(each.kernel[channel].ravel(), judge[:9], atol=1e-9)
        assert each.bias[channel] == pytest.approx(judge[9] if bias else 0)
    whole = learn_kernel(x, y, 3, bias=bias, layer=True)
    for channel in range(3):
        judge = lstsq(patches(x, (3, 3)), y[channel].ravel(), bias)
        np.testing.assert_allclose(whole.kernel[channel].ravel(), judge[:27], atol=1e-8)
    assert whole.loss[-1] < each.loss[-1] < one.loss[-1]


def test_several_examples():
    """As one long list of patches, whatever the sizes of the pictures."""
    rng = np.random.default_rng(9)
    pairs = [(rng.random((1, h, w)), rng.random((1, h - 1, w - 2))) for h, w in ((12, 13), (20, 9), (7, 30))]
    fit = learn([Example(*pair) for pair in pairs], Task(size=(2, 3), wish=Wish(bias=True)))
    matrix = np.vstack([patches(x, (2, 3)) for x, _ in pairs])
    target = np.concatenate([y.ravel() for _, y in pairs])
    judge = lstsq(matrix, target, bias=True)
    np.testing.assert_allclose(fit.kernel.ravel(), judge[:6], atol=1e-10)
    assert fit.bias == pytest.approx(judge[6])
    assert fit.patches == len(target)
    error = matrix @ judge[:6] + judge[6] - target
    assert fit.loss[-1] == pytest.approx(error @ error)
    assert fit.psnr == pytest.approx(-10 * np.log10(np.mean(error**2)))


def test_tiles_and_threads():
    """A picture that is gathered in several tiles and by several threads, under awkward sizes."""
    x, y = noise(61, 1203, seed=1), noise(61, 1203, seed=2)
    matrix = patches(x, (4, 5))
    judge = lstsq(matrix, y[1:59, 2:1201].ravel())
    for threads in (1, 2, 7):
        fit = learn_kernel(x, y, (4, 5), threads=threads)
        assert fit.patches == len(matrix)
        np.testing.assert_allclose(fit.kernel.ravel(), judge, atol=1e-10)


def test_codes_and_limits():
    """Examples in codes of white are fitted in fractions, without the cells that were clipped."""
    x = np.random.default_rng(1).integers(0, 256, (1, 30, 30)).astype(np.uint8)
    true = np.array([[0.5, -1.0], [2.0, 0.25]])
    y = oracle.correlate(x[0] / 255, true) + 0.1
    stored = np.rint(np.clip(y, 0, 1) * 65535).astype(np.uint16)
    heeded = (stored > 0) & (stored < 65535)
    fit = learn(
        [Example(x, stored[None], (255, 65535), (0.0, 65535.0))],
        Task(size=(2, 2), wish=Wish(bias=True), padding="valid"),
    )
    np.testing.assert_allclose(fit.kernel, true, atol=1e-4)
    assert fit.bias == pytest.approx(0.1, abs=1e-4)
    assert fit.patches == heeded.sum()
    assert fit.clipped == pytest.approx(1 - heeded.mean())
    kept = learn([Example(x, stored[None], (255, 65535))], Task(size=(2, 2), wish=Wish(bias=True)))
    judge = lstsq(patches(x[0] / 255, (2, 2)), stored.ravel() / 65535, bias=True)
    np.testing.assert_allclose(kept.kernel.ravel(), judge[:4], atol=1e-9)
    assert kept.clipped == 0


# What is known of the weights


def constrained(matrix, target, size, *, bias, non_negative, symmetric, sum_to_one):
    """Each set of weights held at 0 in turn, solved by the null space: the least of those that are allowed."""
    n = size[0] * size[1]
    if bias:
        matrix = np.column_stack([matrix, np.ones(len(matrix))])
    width = matrix.shape[1]
    unit = np.eye(width)
    rows, values = [], []
    if symmetric:
        rows += [unit[i] - unit[n - 1 - i] for i in range(n // 2)]
        values += [0.0] * (n // 2)
    if sum_to_one:
        rows.append(np.append(np.ones(n), np.zeros(width - n)))
        values.append(1.0)
    best = None
    for count in range(n + 1 if non_negative else 1):
        for held in itertools.combinations(range(n), count):
            system = np.array([*rows, *unit[list(held)]]).reshape(-1, width)
            wanted = np.array([*values, *[0.0] * count])
            weights = np.linalg.lstsq(system, wanted, rcond=None)[0] if len(system) else np.zeros(width)
            if np.abs(system @ weights - wanted).max(initial=0) > 1e-9:
                continue
            free = np.eye(width)
            if len(system):
                _, spread, basis = np.linalg.svd(system)
                free = basis[(spread > 1e-9).sum() :].T
            if free.shape[1]:
                weights = weights + free @ np.linalg.lstsq(matrix @ free, target - matrix @ weights, rcond=None)[0]
            error = float(np.sum((matrix @ weights - target) ** 2))
            if (not non_negative or weights[:n].min() >= -1e-10) and (best is None or error < best[0] - 1e-12):
                best = error, weights
    return best


WISHES = ["bias", "non_negative", "symmetric", "sum_to_one"]


@pytest.mark.parametrize("size", [(1, 3), (2, 2), (3, 1), (2, 3)])
@pytest.mark.parametrize("asked", list(itertools.product([False, True], repeat=4)))
def test_wishes(size, asked):
    """In every combination, for kernels that fulfil them and kernels that don't."""
    wishes = dict(zip(WISHES, asked, strict=True))
    for seed in range(3):
        rng = np.random.default_rng(seed)
        x, kernel = rng.random((16, 17)), rng.standard_normal(size) + 0.4 * (seed % 3)
        y = convcli.conv2d(x, kernel, bias=0.2) + 0.1 * rng.standard_normal((17 - size[0], 18 - size[1]))
        error, weights = constrained(patches(x, size), y.ravel(), size, **wishes)
        fit = learn_kernel(x, y, size, **wishes)
        np.testing.assert_allclose(fit.kernel.ravel(), weights[: kernel.size], atol=1e-7)
        assert fit.bias == pytest.approx(weights[-1] if wishes["bias"] else 0, abs=1e-7)
        assert fit.loss[-1] == pytest.approx(error)


@pytest.mark.parametrize("size", [(3, 3), (4, 3), (5, 5), (7, 7)])
def test_non_negative_is_nnls(size):
    optimize = pytest.importorskip("scipy.optimize")
    x = photo()[40:90, 60:120]
    matrix = patches(x, size)
    for seed in range(6):
        rng = np.random.default_rng(seed)
        kernel = rng.standard_normal(size) + (seed % 3) / 2
        y = convcli.conv2d(x, kernel)
        y = y + 0.05 * rng.standard_normal(y.shape)
        judge, residual = optimize.nnls(matrix, y.ravel())
        fit = learn_kernel(x, y, size, non_negative=True)
        assert fit.kernel.min() >= 0
        np.testing.assert_allclose(fit.kernel.ravel(), judge, atol=1e-7)
        assert fit.loss[-1] == pytest.approx(residual**2)


def test_non_negative_where_nothing_is():
    """All weights would be negative: the best allowed kernel is 0, and explains nothing."""
    x = noise(20, 20)
    fit = learn_kernel(x, -x[1:-1, 1:-1], 3, non_negative=True)
    assert not fit.kernel.any()
    assert fit.closest is None
    assert not fit.explains


@pytest.mark.parametrize("symmetric", [False, True])
def test_wishes_make_a_kernel_surer(symmetric):
    """Out of noise, what is known brings a blur nearer to the truth."""
    kernel = convcli.kernel("gaussian:1,5")
    clean = convcli.conv2d(photo(), kernel)
    y = clean + 0.05 * np.random.default_rng(0).standard_normal(clean.shape)
    wishes = {"non_negative": True, "sum_to_one": True, "symmetric": symmetric}
    plain, sure = learn_kernel(photo(), y, 5), learn_kernel(photo(), y, 5, **wishes)
    assert np.linalg.norm(sure.kernel - kernel) < 0.99 * np.linalg.norm(plain.kernel - kernel)
    assert sure.kernel.sum() == pytest.approx(1)
    assert sure.kernel.min() >= 0
    assert sure.loss[-1] >= plain.loss[-1]
    if symmetric:
        np.testing.assert_allclose(sure.kernel, sure.kernel[::-1, ::-1], atol=1e-12)


def test_wishes_that_leave_nothing_open():
    """One weight that is 1: no equation is left to solve."""
    fit = learn_kernel(noise(20, 20), 3 * noise(20, 20), 1, sum_to_one=True)
    assert fit.kernel.tolist() == [[1]]
    assert fit.loss[-1] == pytest.approx(np.sum(4 * noise(20, 20) ** 2))
    assert learn_kernel(noise(20, 20), -noise(20, 20), 1, non_negative=True).kernel.tolist() == [[0]]


@pytest.mark.parametrize("wish", WISHES[1:])
def test_wishes_of_layers(wish):
    rng = np.random.default_rng(2)
    x, y = rng.random((2, 20, 20)), rng.random((2, 18, 18))
    for fit in (
        learn_kernel(x, y, 3, layer=True, **{wish: True}),
        learn_kernel(x, y, 3, per_channel=True, **{wish: True}),
    ):
        if wish == "non_negative":
            assert fit.kernel.min() >= 0
        elif wish == "symmetric":
            np.testing.assert_allclose(fit.kernel, fit.kernel[..., ::-1, ::-1], atol=1e-12)
            assert np.abs(fit.kernel - fit.kernel[..., ::-1, :]).max() > 1e-3
        else:
            np.testing.assert_allclose(fit.kernel.sum(axis=(1, 2, 3)), 1)


# How far it can be trusted


@pytest.mark.parametrize("shape", [(80, 60), (32, 20), (16, 16)])
def test_held_out_rows_judge(shape):
    """Noise that many weights can imitate on the rows they are fitted to, and on no others."""
    x, y = noise(*shape, seed=1), noise(*shape, seed=2)
    fit = learn_kernel(x, y, 9, bias=True)
    matrix = patches(x, (9, 9))
    target = y[4:-4, 4:-4].ravel()
    judge = lstsq(matrix, target, bias=True)
    error = matrix @ judge[:-1] + judge[-1] - target
    assert fit.loss[-1] == pytest.approx(error @ error, abs=1e-9)
    assert 1 - error.var() / target.var() > 0.015
    assert fit.r2 < 0.01
    assert not fit.explains


def test_held_out_rows_judge_descent():
    """R2 of gd is of rows that it did not learn from, too."""
    x, y = noise(60, 50, seed=1) - 0.5, noise(60, 50, seed=2) - 0.5
    exact = learn_kernel(x, y, 9)
    slow = learn_kernel(x, y, 9, method="gd", steps=3000)
    np.testing.assert_allclose(slow.kernel, exact.kernel, atol=1e-6)
    assert exact.r2 < 0
    assert slow.r2 == pytest.approx(exact.r2, abs=1e-3)


def test_psnr_is_of_the_kernel_that_comes_out():
    """After one step of gd, too: not of the one before it."""
    x, y = noise(14, 15), convcli.conv2d(noise(14, 15), convcli.kernel("box:3"))
    for options in ({}, {"method": "gd", "steps": 1}, {"method": "gd", "steps": 3}):
        fit = learn_kernel(x, y + 0.1 * noise(12, 13, seed=3), 3, **options)
        error = convcli.conv2d(x, fit.kernel) - y - 0.1 * noise(12, 13, seed=3)
        assert fit.psnr == pytest.approx(-10 * np.log10(np.mean(error**2)), abs=1e-3)


def test_too_little_texture_gives_the_least():
    """Stripes tell only what each column of weights sums to."""
    x = np.tile(np.random.default_rng(0).random(30), (20, 1))
    kernel = np.random.default_rng(1).standard_normal((3, 3))
    y = convcli.conv2d(x, kernel)
    fit = learn_kernel(x, y, 3)
    np.testing.assert_allclose(fit.kernel, np.tile(kernel.mean(axis=0), (3, 1)), atol=1e-9)
    np.testing.assert_allclose(fit.kernel.ravel(), np.linalg.pinv(patches(x, (3, 3))) @ y.ravel(), atol=1e-9)
    assert fit.r2 == pytest.approx(1)
    assert fit.unsure.shape == (3, 3)
    assert fit.unsure.all()
    assert fit.condition > 1e10


def test_unsure_weights_are_named():
    """Two columns of the picture that are alike leave two weights undecided, and only these."""
    rng = np.random.default_rng(3)
    x = rng.random((12, 3))
    x[:, 1] = x[:, 2]
    y = x @ [[0.5], [1.0], [3.0]]
    fit = learn_kernel(x, y, (1, 3))
    np.testing.assert_allclose(fit.kernel, [[0.5, 2, 2]], atol=1e-9)
    assert fit.unsure.tolist() == [[False, True, True]]
    sure = learn_kernel(rng.random((12, 9)), rng.random((12, 7)), (1, 3))
    assert not sure.unsure.any()


def test_condition():
    x = photo()
    matrix = patches(x, (3, 3))
    fit = learn_kernel(x, convcli.conv2d(x, np.eye(3)), 3)
    assert fit.condition == pytest.approx(np.linalg.cond(matrix.T @ matrix), rel=1e-3)


@pytest.mark.parametrize(
    ("after", "explained"),
    [
        (lambda x: convcli.filter2d(x, "emboss"), True),
        (lambda x: convcli.filter2d(x, "box:3"), True),
        (lambda x: x[::-1, ::-1], False),
        (lambda x: np.hypot(convcli.filter2d(x, "sobel-x"), convcli.filter2d(x, "sobel-y")), False),
        (lambda x: np.abs(convcli.filter2d(x, "edge")), False),
        (lambda x: noise(*x.shape), False),
    ],
)
def test_explains(after, explained):
    assert learn_kernel(photo(), after(photo()), 3).explains == explained


def test_wide_blur_is_not_explained_by_a_small_kernel():
    """However much of a smooth picture's variance is left: 28 dB, when 31x31 explains it exactly, is no explanation."""
    with Image.open(Path(__file__).parents[1] / "sample_images" / "chelsea.png") as image:
        x = np.asarray(image.convert("L"), float) / 255
    fit = learn_kernel(x, convcli.filter2d(x, "gaussian:5"), 3)
    assert fit.psnr < 30
    assert not fit.explains


@pytest.mark.parametrize("scale", [-1, 2.5])
@pytest.mark.parametrize("name", ["emboss", "sobel-y", "gaussian:1.5,5", "binomial:5", "box:4", "motion:5"])
def test_closest(name, scale):
    kernel = convcli.kernel(name)
    size = (5, 5) if kernel.shape == (1, 5) else kernel.shape
    fit = learn_kernel(photo()[:80, :90], convcli.conv2d(photo()[:80, :90], scale * kernel), kernel.shape)
    assert abs(fit.closest.correlation) == pytest.approx(1, abs=1e-6)
    assert fit.closest.scale * fit.closest.correlation > 0
    near = convcli.kernel(fit.closest.name)
    np.testing.assert_allclose(fit.closest.scale * near, scale * kernel, atol=1e-6 * abs(scale))
    if name.startswith("gaussian"):  # cut off at 5x5, so another one in a wider window
        return
    wide = learn_kernel(photo()[:80, :90], convcli.filter2d(photo()[:80, :90], kernel), 7 if size[0] % 2 else 6)
    assert wide.closest.name.split(":")[0] == name.split(":")[0]
    assert wide.closest.correlation == pytest.approx(1, abs=1e-4)


def test_closest_of_a_row():
    """Named kernels count without their rows and columns of zeros."""
    row = np.full((1, 9), 1 / 9)
    fit = learn_kernel(photo(), convcli.filter2d(photo(), row), (1, 9))
    assert fit.closest.name == "motion"
    assert fit.closest.correlation == pytest.approx(1)


def test_closest_of_what_is_like_nothing():
    kernel = np.array([[1.0, -3, 2], [4, 0.5, -2], [-1, 3, -4]])
    fit = learn_kernel(photo(), convcli.conv2d(photo(), kernel), 3)
    assert abs(fit.closest.correlation) < 0.8
    judge = max(
        abs(float((kernel * other).sum()) / np.linalg.norm(kernel) / np.linalg.norm(other))
        for other in (convcli.kernel(name) for name in LINEAR)
        if other.shape == (3, 3)
    )
    assert abs(fit.closest.correlation) >= judge - 1e-6


@pytest.mark.parametrize("size", [1, 3, 5, 2, 4])
def test_identity_is_known(size):
    fit = learn_kernel(photo(), photo(), size)
    expected = np.zeros((size, size))
    expected[(size - 1) // 2, (size - 1) // 2] = 1
    np.testing.assert_allclose(fit.kernel, expected, atol=1e-9)
    assert fit.identity


# Shifts


@pytest.mark.parametrize("name", ["identity", "emboss", "sobel-x", "edge", "box:3", "gaussian:1,5"])
@pytest.mark.parametrize("shift", [(3, -2), (8, 8), (-8, 5), (0, 4), (-1, 0)])
def test_shift(name, shift):
    """Down and to the right is positive; the kernel is found as if there were none."""
    kernel = convcli.kernel(name)
    y = convcli.filter2d(photo(), kernel)
    before = photo()[20:120, 20:160]
    after = y[20 - shift[0] : 120 - shift[0], 20 - shift[1] : 160 - shift[1]]
    fit = learn_kernel(before, after, kernel.shape)
    assert fit.shift == shift
    np.testing.assert_allclose(fit.kernel, kernel, atol=1e-6)


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("shift", [(-3, 2), (4, 0), (-1, -1)])
def test_shift_of_the_picture_itself(size, shift):
    """8-bit: of the shifts that a kernel can make up for, the one with the kernel in the middle is told."""
    codes = np.rint(photo() * 255).astype(np.uint8)
    before = codes[20:120, 20:160]
    after = codes[20 - shift[0] : 120 - shift[0], 20 - shift[1] : 160 - shift[1]]
    fit = learn([Example(before[None], after[None], (255, 255), (0, 255))], Task(size=(size, size)))
    expected = np.zeros((size, size))
    expected[size // 2, size // 2] = 1
    if fit.shift == (0, 0):  # a small one may be the kernel's instead
        expected = np.roll(expected, (-shift[0], -shift[1]), (0, 1))
        assert max(map(abs, shift)) <= size // 2
    else:
        assert fit.shift == shift
    np.testing.assert_allclose(fit.kernel, expected, atol=1e-6)


def test_shift_of_a_valid_pair():
    kernel = convcli.kernel("emboss")
    y = convcli.conv2d(photo()[18:122, 25:163], kernel)  # 102x136
    before = photo()[20:124, 20:158]
    fit = learn_kernel(before, y, 3)
    assert fit.shift == (2, -5)
    np.testing.assert_allclose(fit.kernel, kernel, atol=1e-6)


@pytest.mark.parametrize("name", ["emboss", "disk:2", "log"])
def test_no_shift_where_there_is_none(name):
    kernel = convcli.kernel(name)
    y = convcli.filter2d(photo(), kernel)
    y = y + 0.05 * np.random.default_rng(0).standard_normal(y.shape)
    assert learn_kernel(photo(), y, kernel.shape).shift == (0, 0)
    assert learn_kernel(photo(), noise(*photo().shape), 3).shift == (0, 0)


# The size that explains


def part():
    return photo()[40:110, 70:160]


@pytest.mark.parametrize(
    ("kernel", "size", "sigma"),
    [
        ("identity", (1, 1), 0.002),
        ("emboss", (3, 3), 0.002),
        ("[1 2 3 2 1]", (1, 5), 0),
        ("[-1; 0; 1]", (3, 1), 0.002),
        ("binomial:5", (5, 5), 0),
        ("motion:7", (1, 7), 0.002),
        ("disk:3", (7, 7), 0),
    ],
)
def test_auto(kernel, size, sigma):
    weights = convcli.kernel(kernel.strip("[]"))
    weights = weights[~np.all(weights == 0, axis=1)] if kernel.startswith("motion") else weights
    y = convcli.filter2d(part(), weights)
    y = y + sigma * np.random.default_rng(0).standard_normal(y.shape)
    fit = learn_kernel(part(), y, "auto")
    assert fit.kernel.shape == size
    np.testing.assert_allclose(fit.kernel, weights, atol=1e-6 + 40 * sigma)
    assert fit.shift == (0, 0)


@pytest.mark.parametrize("size", [(2, 2), (4, 4), (1, 2), (2, 3)])
def test_auto_finds_even_sizes(size):
    weights = np.random.default_rng(0).random(size) + 0.2
    y = convcli.filter2d(part(), weights)
    np.testing.assert_allclose(learn_kernel(part(), y, size).kernel, weights, atol=1e-6)
    fit = learn_kernel(part(), y, "auto")
    assert fit.kernel.shape == size
    np.testing.assert_allclose(fit.kernel, weights, atol=1e-6)


@pytest.mark.parametrize("padding", [None, "valid"])
def test_auto_of_a_valid_pair(padding):
    for size in ((3, 3), (1, 2), (4, 5)):
        weights = np.random.default_rng(0).random(size) + 0.2
        fit = learn_kernel(part(), convcli.conv2d(part(), weights), "auto", padding=padding)
        np.testing.assert_allclose(fit.kernel, weights, atol=1e-6)
    assert learn_kernel(STRIPE, EDGES, "auto").kernel.shape == (1, 2)


@pytest.mark.parametrize("padding", [None, "full"])
def test_auto_of_a_full_pair(padding):
    y = convcli.conv2d(part(), convcli.kernel("emboss"), padding="full")
    fit = learn_kernel(part(), y, "auto", padding=padding)
    np.testing.assert_allclose(fit.kernel, convcli.kernel("emboss"), atol=1e-6)


@pytest.mark.parametrize("name", ["identity", "emboss"])
def test_auto_of_a_shifted_pair(name):
    """A shift is told as such, not made up for by a larger kernel."""
    y = convcli.filter2d(part(), name)
    fit = learn_kernel(part()[10:60, 10:80], y[7:57, 12:82], "auto")
    assert (fit.kernel.shape, fit.shift) == (convcli.kernel(name).shape, (3, -2))
    np.testing.assert_allclose(fit.kernel, convcli.kernel(name), atol=1e-6)


def test_auto_of_a_pair_without_a_kernel():
    fit = learn_kernel(part(), noise(*part().shape), "auto", bias=True)
    assert not fit.explains


def test_auto_with_wishes_and_layers():
    kernel = convcli.kernel("gaussian:1,5")
    fit = learn_kernel(part(), convcli.filter2d(part(), kernel), "auto", symmetric=True, sum_to_one=True)
    np.testing.assert_allclose(fit.kernel, kernel, atol=1e-6)
    x, weight = noise(2, 60, 60), np.random.default_rng(0).standard_normal((2, 2, 3, 1))
    fit = learn_kernel(x, convcli.conv2d(x, weight, padding="same"), "auto", layer=True)
    np.testing.assert_allclose(fit.kernel, weight, atol=1e-6)


# Geometry


@pytest.mark.parametrize("padding", ["same", "valid", "full"])
@pytest.mark.parametrize("size", [(3, 3), (2, 2), (4, 3)])
def test_padding_is_told_by_the_sizes(padding, size):
    x, kernel = noise(20, 22), np.random.default_rng(1).standard_normal(size)
    y = oracle.correlate(x, kernel, padding=padding, boundary=9.0)
    for given_ in (None, padding):
        np.testing.assert_allclose(learn_kernel(x, y, size, padding=given_).kernel, kernel, atol=1e-9)


def test_even_pad_has_a_side():
    """The odd cell of an even kernel is at the bottom right, unless told."""
    x, kernel = noise(20, 22), np.random.default_rng(1).standard_normal((2, 2))
    y = oracle.correlate(x, kernel, padding="same-lower")
    np.testing.assert_allclose(learn_kernel(x, y, 2, padding="same-lower").kernel, kernel, atol=1e-9)
    assert not np.allclose(learn_kernel(x, y, 2, padding="same").kernel, kernel, atol=0.1)


REFUSED = {
    "sizes": (ShapeError, (noise(20, 20), noise(17, 17), 3), {}, ["3x3", "20x20 (same)", "18x18 (valid)", "17x17"]),
    "told": (ShapeError, (noise(20, 20), noise(20, 20), 3), {"padding": "valid"}, ["18x18 (valid)", "20x20"]),
    "stride": (ShapeError, (noise(20, 20), noise(20, 20), 3), {"stride": 2}, ["stride 2x2", "10x10 (same)", "9x9"]),
    "large": (ShapeError, (noise(5, 6), noise(5, 6), 7), {}, ["7x7", "5x6"]),
    "large valid": (ShapeError, (noise(5, 6), noise(5, 6), 7), {"padding": "valid"}, ["7x7", "5x6"]),
    "start": (ConvcliError, (noise(9, 9), noise(9, 9), 3), {"method": "gd", "init": [[1, 2]]}, ["2", "9"]),
    "channels": (ConvcliError, (noise(3, 9, 9), noise(9, 9), 3), {}, ["3 channels", "1", "layer"]),
    "constant": (PictureError, (np.full((9, 9), 0.3), noise(9, 9), 3), {}, ["nothing to learn from"]),
    "constant colour": (
        PictureError,
        (np.ones((3, 9, 9)) * [[[0.1]], [[0.5]], [[0.9]]], noise(3, 9, 9), 3),
        {},
        ["nothing to learn from"],
    ),
    "zeros after": (PictureError, (noise(9, 9), np.zeros((9, 9)), 3), {}, ["nothing to learn from"]),
    "zeros after, of a picture's size": (
        PictureError,
        (noise(60, 60), np.zeros((60, 60)), 3),
        {},
        ["nothing to learn from"],
    ),
    "nan": (PictureError, (np.full((9, 9), np.nan), noise(9, 9), 3), {}, ["NaN"]),
    "inf after": (PictureError, (noise(9, 9), np.full((9, 9), np.inf), 3), {}, ["infinity"]),
    "method": (ConvcliError, (noise(9, 9), noise(9, 9), 3), {"method": "adam"}, ["'adam'", "lstsq or gd"]),
    "wish of gd": (ConvcliError, (noise(9, 9), noise(9, 9), 3), {"method": "gd", "symmetric": True}, ["lstsq"]),
    "init of lstsq": (ConvcliError, (noise(9, 9), noise(9, 9), 3), {"init": np.eye(3)}, ["gd"]),
    "steps": (ConvcliError, (noise(9, 9), noise(9, 9), 3), {"method": "gd", "steps": 0}, ["steps", "0"]),
    "both": (ConvcliError, (noise(3, 9, 9), noise(3, 9, 9), 3), {"layer": True, "per_channel": True}, ["exclude"]),
    "auto stride": (ConvcliError, (noise(9, 9), noise(9, 9), "auto"), {"stride": 2}, ["stride"]),
    "size": (ConvcliError, (noise(9, 9), noise(9, 9), 0), {}, ["size"]),
    "size word": (ConvcliError, (noise(9, 9), noise(9, 9), "large"), {}, ["size", "'large'"]),
    "rank": (ConvcliError, (noise(9), noise(9), 3), {}, ["before"]),
    "rank after": (ConvcliError, (noise(9, 9), noise(2, 2, 9, 9), 3), {}, ["after"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    error, args, options, words = REFUSED[case]
    with pytest.raises(error) as caught:
        learn_kernel(*args, **options)
    assert "\n" not in str(caught.value)
    assert [word for word in words if word not in str(caught.value)] == []


def test_init_of_auto():
    """A start has a size, which auto has not: told so, not that the kernel has 0 numbers."""
    with pytest.raises(ConvcliError) as caught:
        learn_kernel(photo(), photo(), "auto", method="gd", init=np.eye(3))
    assert "kernel 0" not in str(caught.value)


def test_dtypes():
    """Integers and float32 as they are: no fractions of white in Python."""
    x = np.random.default_rng(0).integers(0, 256, (20, 20)).astype(np.uint8)
    y = oracle.correlate(x.astype(float), convcli.kernel("emboss")).astype(np.int32)
    for before, after in ((x, y), (x.astype(np.float32), y.astype(np.float32)), (x.tolist(), y.tolist())):
        fit = learn_kernel(before, after, 3, bias=True)
        np.testing.assert_allclose(fit.kernel, convcli.kernel("emboss"), atol=1e-6)
        assert fit.bias == pytest.approx(0, abs=1e-3)
        assert fit.clipped == 0


def test_inputs_stay_as_they_are():
    x, y = noise(20, 20), noise(20, 20, seed=1)
    copies = x.copy(), y.copy()
    for options in ({}, {"method": "gd", "steps": 3}, {"non_negative": True}):
        learn_kernel(x, y, 3, **options)
    assert np.array_equal(x, copies[0])
    assert np.array_equal(y, copies[1])


# Ctrl-C


@pytest.mark.parametrize("options", [{}, {"per_channel": True}, {"layer": True}])
def test_interrupted(monkeypatch, options):
    """One Ctrl-C ends the descent, of all channels: what was found by then is the fit."""
    import signal

    from convcli.learning.moments import Moments

    asked = []
    plain = Moments.loss

    def loss(self, weights):
        asked.append(1)
        if len(asked) == 7:
            signal.raise_signal(signal.SIGINT)
        return plain(self, weights)

    x, y = noise(2, 14, 15), noise(2, 12, 13, seed=1)
    monkeypatch.setattr(Moments, "loss", loss)
    fit = learn_kernel(x, y, 3, method="gd", steps=50, **options)
    assert fit.interrupted
    assert (5 if not options else 1) <= len(fit.loss) <= 7
    assert len(asked) < 40
    assert np.isfinite(fit.kernel).all()
    monkeypatch.undo()
    whole = learn_kernel(x, y, 3, method="gd", steps=50, **options)
    assert not whole.interrupted
    assert len(whole.loss) == 50
    assert whole.method == Learning.DESCENT
    if not options:
        assert fit.loss[:5] == whole.loss[:5]
