import pytest

from convcli.engine.shapes import Reach, as_pair, conv_window, pool_window
from convcli.errors import ConvcliError, ShapeError


@pytest.mark.parametrize(
    ("padding", "keep", "stride", "output"),
    [
        ("valid", False, 1, 11),  # the source text: 13x13, k=3 -> 11, 13, 15
        ("same", False, 1, 13),
        ("full", False, 1, 15),
        ("same", True, 2, 13),  # and its formulas with a stride
        ("full", True, 2, 15),
        ("same", False, 2, 7),
        ("full", False, 2, 8),
    ],
)
def test_sizes_of_the_text(padding, keep, stride, output):
    window = conv_window((13, 13), (3, 3), padding=padding, stride=stride, keep_size=keep)
    assert window.output == (output, output)


@pytest.mark.parametrize(
    ("n", "k", "s", "pads"),
    [  # TensorFlow's SAME: tf.nn.conv2d pads, from the table in its documentation of padding
        (224, 3, 2, (0, 1)),
        (224, 7, 2, (2, 3)),
        (225, 3, 2, (1, 1)),
        (5, 2, 1, (0, 1)),
        (6, 4, 1, (1, 2)),
        (7, 1, 3, (0, 0)),
    ],
)
def test_same_is_tensorflows(n, k, s, pads):
    assert conv_window((n, n), (k, k), padding="same", stride=s).pads == (pads, pads)
    assert conv_window((n, n), (k, k), padding="same-lower", stride=s).pads == (pads[::-1], pads[::-1])
    assert conv_window((n, n), (k, k), padding="same", stride=s).output == (-(-n // s),) * 2


def test_keep_size_does_not_drop_an_odd_unit():
    # the text's //2 would give 12 here
    window = conv_window((13, 13), (4, 4), padding="same", stride=2, keep_size=True)
    assert (window.output, window.pads) == ((13, 13), ((7, 8), (7, 8)))


@pytest.mark.parametrize("stride", [1, 2, 3, 5])
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("padding", ["same", "same-lower", "full", 2, (1, 0), ((3, 0), (1, 2))])
def test_keep_size_keeps_the_size_of_stride_1(padding, stride, dilation):
    options = {"padding": padding, "dilation": dilation}
    for n, k in [(13, 3), (13, 4), (9, 2), (30, 5)]:
        one = conv_window((n, n + 1), (k, k - 1), **options)
        kept = conv_window((n, n + 1), (k, k - 1), **options, stride=stride, keep_size=True)
        assert kept.output == one.output
        if stride == 1:
            assert kept.pads == one.pads


@pytest.mark.parametrize(
    ("n", "k", "s", "p", "ceil", "output"),
    [  # torch.nn.MaxPool2d, computed with PyTorch 2.13
        (3, 3, 2, 1, False, 2),
        (4, 3, 2, 0, True, 2),
        (4, 3, 2, 1, True, 3),
        (5, 2, 3, 1, True, 2),
        (6, 3, 3, 1, True, 3),
        (3, 2, 2, 1, True, 2),
    ],
)
def test_pool_sizes(n, k, s, p, ceil, output):
    assert pool_window((n, n), k, stride=s, padding=p, ceil=ceil).output == (output, output)


def test_unused_rows_are_those_at_the_end():
    assert pool_window((5, 6), 2).unused == (1, 0)
    assert conv_window((10, 10), (3, 3), stride=4).unused == (3, 3)
    assert conv_window((10, 10), (3, 3), padding="same").unused == (0, 0)


def test_reach_of_vgg16():
    # receptive field 212, stride 32, effective padding 90: google-research/receptive_field, VGG-16 to its last pool
    reach, size = Reach(), (512, 512)
    for convs in (2, 2, 3, 3, 3):
        for _ in range(convs):
            window = conv_window(size, (3, 3), padding=1)
            reach, size = reach.through(window), window.output
        window = pool_window(size, 2)
        reach, size = reach.through(window), window.output
    assert (reach.field, reach.jump, reach.padding) == ((212, 212), (32, 32), (90, 90))
    assert reach.start == (15.5, 15.5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: conv_window((4, 4), (5, 3)), ["5 does not fit height 4", "(4 + 0 + 0 - 5) / 1 + 1"]),
        (lambda: conv_window((4, 4), (3, 3), dilation=2), ["window of 5", "height 4"]),
        (lambda: conv_window((0, 4), (1, 1)), ["0x4", "no pixels"]),
        (lambda: conv_window((4, 4), (3, 3), padding="valid", keep_size=True), ["keep_size", "valid"]),
        (lambda: conv_window((4, 4), (3, 3), padding="some"), ["padding", "same-lower", "'some'"]),
        (lambda: conv_window((4, 4), (3, 3), padding=-1), ["padding", "0", "-1"]),
        (lambda: conv_window((4, 4), (3, 3), stride=0), ["stride", "1", "0"]),
        (lambda: conv_window((4, 4), (3, 3), stride=(1, 2, 3)), ["stride", "(1, 2, 3)"]),
        (lambda: conv_window((4, 4), (3, 3), stride=1.5), ["stride", "1.5"]),
        (lambda: pool_window((4, 4), 2, padding=2), ["smaller than its window", "2"]),
        (lambda: pool_window((4, 4), 5), ["5 does not fit height 4"]),
    ],
)
def test_what_does_not_fit(call, words):
    with pytest.raises(ConvcliError) as caught:
        call()
    assert all(word in str(caught.value) for word in words), caught.value


def test_errors_of_size_are_shape_errors():
    with pytest.raises(ShapeError):
        conv_window((2, 2), (3, 3))
    assert as_pair((2, 3), "x") == (2, 3)
