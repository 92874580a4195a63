"""Agreement with PyTorch, where it is installed: ``make torch``."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import convcli
from convcli.errors import ShapeError

torch = pytest.importorskip("torch", reason="PyTorch is not installed; `make torch` installs it")
functional = torch.nn.functional

pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@given(
    batch=st.integers(0, 2),
    channels=st.integers(1, 3),
    outputs=st.integers(1, 3),
    groups=st.integers(1, 2),
    size=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=pairs,
    dilation=pairs,
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    seed=st.integers(0, 999),
)
def test_conv2d(batch, channels, outputs, groups, size, kernel, stride, dilation, padding, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((batch, channels * groups, *size)).astype(np.float32)
    weight = rng.standard_normal((outputs * groups, channels, *kernel)).astype(np.float32)
    bias = rng.standard_normal(outputs * groups).astype(np.float32)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    try:
        got = convcli.conv2d(x, weight, bias, **options)
    except ShapeError:
        with pytest.raises(RuntimeError):
            functional.conv2d(*map(torch.from_numpy, (x, weight, bias)), **options)
        return
    want = functional.conv2d(*map(torch.from_numpy, (x, weight, bias)), **options).numpy()
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, atol=1e-4)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even")
@pytest.mark.parametrize("size", [(2, 2), (3, 4), (5, 1), (7, 7)])
def test_same_is_pytorchs_at_stride_1(size):
    x = np.random.default_rng(1).random((1, 1, 12, 13)).astype(np.float32)
    weight = np.random.default_rng(2).random((1, 1, *size)).astype(np.float32)
    want = functional.conv2d(torch.from_numpy(x), torch.from_numpy(weight), padding="same").numpy()
    np.testing.assert_allclose(convcli.conv2d(x, weight, padding="same"), want, atol=1e-5)


@given(
    size=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=pairs,
    dilation=pairs,
    ceil=st.booleans(),
    count=st.booleans(),
    data=st.data(),
)
def test_pools(size, kernel, stride, dilation, ceil, count, data):
    padding = tuple(data.draw(st.integers(0, k // 2)) for k in kernel)
    x = np.random.default_rng(sum(size)).standard_normal((2, 3, *size)).astype(np.float32)
    options = {"stride": stride, "padding": padding, "ceil_mode": ceil}

    def same(ours, theirs):
        try:
            got = ours()
        except ShapeError:
            with pytest.raises(RuntimeError):
                theirs()
            return
        if np.isneginf(got[0]).any():
            return  # a dilated window that falls between the cells: PyTorch's index is then arbitrary
        want = theirs()
        for one, other in zip(got, want, strict=True):
            np.testing.assert_allclose(one, other.numpy(), rtol=1e-5, atol=1e-6)

    tensor = torch.from_numpy(x)
    same(
        lambda: convcli.max_pool2d(x, kernel, **options, dilation=dilation, return_indices=True),
        lambda: functional.max_pool2d(tensor, kernel, **options, dilation=dilation, return_indices=True),
    )
    same(
        lambda: convcli.avg_pool2d(x, kernel, **options, count_include_pad=count),
        lambda: functional.avg_pool2d(tensor, kernel, **options, count_include_pad=count),
    )


def test_lp_pool():
    x = np.random.default_rng(5).random((2, 8, 9)).astype(np.float32)
    for p in (1, 2, 3):
        want = functional.lp_pool2d(torch.from_numpy(x), p, 3, stride=2).numpy()
        np.testing.assert_allclose(convcli.lp_pool2d(x, 3, p, stride=2), want, rtol=1e-4)
