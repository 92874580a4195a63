"""Agreement with OpenCV and SciPy on every boundary they share with us."""

import cv2
import numpy as np
import pytest
from scipy import ndimage, signal

import convcli
from convcli.kernels.named import NAMED

RNG = np.random.default_rng(11)
LINEAR = [name for name, one in NAMED.items() if one.combine is None]

OPENCV = {
    "zero": cv2.BORDER_CONSTANT,
    "edge": cv2.BORDER_REPLICATE,
    "reflect": cv2.BORDER_REFLECT_101,
    "symmetric": cv2.BORDER_REFLECT,
}
NDIMAGE = {"zero": "constant", "edge": "nearest", "reflect": "mirror", "symmetric": "reflect", "wrap": "wrap"}


@pytest.mark.parametrize("boundary", OPENCV)
@pytest.mark.parametrize("name", LINEAR)
def test_opencv_on_bytes(name, boundary):
    picture = RNG.integers(0, 256, (37, 41, 3), np.uint8)
    kernel = convcli.kernel(name)
    want = cv2.filter2D(picture, -1, kernel, borderType=OPENCV[boundary]).astype(int)
    got = convcli.filter2d(picture, name, boundary=boundary, dtype=np.uint8).astype(int)
    exact = (kernel == np.rint(kernel)).all()
    assert np.abs(got - want).max() <= (0 if exact else 1)


@pytest.mark.parametrize("boundary", OPENCV)
@pytest.mark.parametrize("size", [(2, 2), (4, 3), (3, 6), (5, 5), (8, 8)])
def test_opencv_on_floats_with_even_kernels(size, boundary):
    picture = RNG.random((30, 33)).astype(np.float32)
    kernel = RNG.standard_normal(size).astype(np.float32)
    want = cv2.filter2D(picture, -1, kernel, borderType=OPENCV[boundary])
    got = convcli.filter2d(picture, kernel, padding="same-lower", boundary=boundary)
    np.testing.assert_allclose(got, want, atol=1e-4)


@pytest.mark.parametrize("boundary", NDIMAGE)
@pytest.mark.parametrize("size", [(3, 3), (2, 2), (4, 5), (1, 6), (9, 9)])
def test_ndimage(size, boundary):
    picture = RNG.random((20, 23))
    kernel = RNG.standard_normal(size)
    got = convcli.filter2d(picture, kernel, padding="same-lower", boundary=boundary)
    np.testing.assert_allclose(got, ndimage.correlate(picture, kernel, mode=NDIMAGE[boundary]), atol=1e-12)


@pytest.mark.parametrize("padding", ["full", "valid", "same"])
@pytest.mark.parametrize("size", [(3, 3), (2, 4), (5, 2)])
def test_signal(size, padding):
    picture = RNG.random((20, 23))
    kernel = RNG.standard_normal(size)
    got = convcli.conv2d(picture, kernel, padding=padding)
    np.testing.assert_allclose(got, signal.correlate2d(picture, kernel, mode=padding), atol=1e-12)
    if padding != "same":
        flipped = convcli.conv2d(picture, kernel, padding=padding, flip=True)
        np.testing.assert_allclose(flipped, signal.convolve2d(picture, kernel, mode=padding), atol=1e-12)


def test_impulse_response_is_a_correlations():
    spot = np.zeros((5, 5))
    spot[2, 2] = 1
    got = convcli.filter2d(spot, "1 2 3; 4 5 6; 7 8 9", boundary="zero")
    assert got[1:4, 1:4].tolist() == [[9, 8, 7], [6, 5, 4], [3, 2, 1]]
    assert convcli.filter2d(spot, "1 2 3; 4 5 6; 7 8 9", flip=True)[1:4, 1:4].tolist() == [
        [1, 2, 3],
        [4, 5, 6],
        [7, 8, 9],
    ]


@pytest.mark.parametrize("size", [2, 3, 5])
def test_maximum_is_ndimages(size):
    picture = RNG.integers(0, 256, (30, 31), np.uint8)
    want = ndimage.maximum_filter(picture, size, mode="constant", cval=0)
    got = convcli.max_pool2d(picture, size, stride=1, padding="same-lower")
    np.testing.assert_array_equal(got, want)
