"""Sheets of maps and boxes on pictures: what is to be seen is found there, pixel by pixel."""

import tracemalloc

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convcli.errors import ShapeError
from convcli.images.overlay import draw_box
from convcli.images.picture import Picture
from convcli.images.sheet import contact_sheet
from pictures import encoded

PAPER, PINK, YELLOW = (28, 34, 48), (255, 0, 200), (1, 0.85, 0)


def codes_of(count, height, width):
    """Maps of whole numbers from 0 to 255, each of them different and with both ends."""
    maps = np.random.default_rng(5).integers(0, 256, (count, height, width)).astype(np.float32)
    maps[:, 0, 0], maps[:, -1, -1] = 0, 255
    return maps


def grey_block(codes, factor):
    block = np.kron(codes, np.ones((factor, factor))).astype(np.uint8)
    return np.repeat(block[..., None], 3, axis=2)


def places(sheet, block):
    """Where a block is found in a sheet, exactly."""
    height, width = block.shape[:2]
    near = cv2.matchTemplate(sheet.pixels, block, cv2.TM_SQDIFF) < 0.5 * block.size + 1000
    return [
        (int(y), int(x)) for y, x in np.argwhere(near) if (sheet.pixels[y : y + height, x : x + width] == block).all()
    ]


def only_place(sheet, block):
    found = places(sheet, block)
    assert len(found) == 1
    return found[0]


def is_paper(pixels):
    return (pixels == PAPER).all(axis=-1)


def grays(sheet, least=0, most=255):
    """Where the sheet has a pure grey, which its paper has not; nor have its letters, but for their brightest, 240."""
    red, green, blue = np.moveaxis(sheet.pixels, 2, 0)
    return (red == green) & (red == blue) & (red >= least) & (red <= most)


@pytest.mark.parametrize("stretch", [True, False])
@pytest.mark.parametrize("count", [1, 2, 7, 12])
def test_every_map_is_there_once_in_reading_order_under_its_label(count, stretch):
    codes = codes_of(count, 8, 8)
    sheet = contact_sheet(codes * 3 - 40 if stretch else codes / 255, stretch=stretch)
    assert sheet.pixels.dtype == np.uint8
    assert sheet.white == 255
    assert not sheet.alpha
    assert sheet.notices == ()
    found = [only_place(sheet, grey_block(one, 14)) for one in codes]
    assert found == sorted(found)
    for y, x in found:
        lines = [sheet.pixels[y - 16 : y - 3, x : x + 112], sheet.pixels[y - 29 : y - 16, x : x + 112]][: 1 + stretch]
        assert all((~is_paper(line)).sum() > 4 for line in lines)
        around = sheet.pixels[y - 2 : y + 114, x - 2 : x + 114].copy()
        around[2:-2, 2:-2] = PAPER
        assert is_paper(around).all()


def test_maps_of_other_proportions_keep_them():
    codes = codes_of(3, 5, 9)
    sheet = contact_sheet(codes)
    assert sheet.notices == ()
    for one in codes:
        only_place(sheet, grey_block(one, 12))


def test_stretching_is_each_map_s_own_and_without_it_values_are_clipped():
    ramp = np.linspace(-0.5, 1.5, 64).reshape(1, 8, 8)
    only_place(contact_sheet(ramp, stretch=False), grey_block(np.rint(255 * np.clip(ramp[0], 0, 1)), 14))
    stretched = grey_block(np.rint(255 * (ramp[0] + 0.5) / 2), 14)
    assert len(places(contact_sheet(np.concatenate([ramp, ramp * 1e-30, ramp * 1e30])), stretched)) == 3


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int16])
def test_any_depth_and_any_memory_order(dtype):
    codes = codes_of(3, 8, 8).astype(dtype)
    sheet = contact_sheet(codes)
    assert len([only_place(sheet, grey_block(one, 14)) for one in codes]) == 3
    mixed = np.moveaxis(np.ascontiguousarray(np.moveaxis(codes, 0, 2)), 2, 0)
    np.testing.assert_array_equal(contact_sheet(mixed).pixels, sheet.pixels)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("stretch", [True, False])
def test_what_is_not_finite_is_pink_and_does_not_count(value, stretch):
    codes = codes_of(4, 8, 8)
    maps = codes.copy() if stretch else codes / 255
    maps[2, 3, 4:6] = value
    block = grey_block(codes[2], 14)
    block[3 * 14 : 4 * 14, 4 * 14 : 6 * 14] = PINK
    sheet = contact_sheet(maps, stretch=stretch)
    only_place(sheet, block)
    assert (sheet.pixels == PINK).all(axis=-1).sum() == 2 * 14 * 14
    assert sheet.notices == ("1 of 4 maps hold NaN or infinity, shown in pink",)


def test_constant_maps_are_mid_grey_and_those_without_a_finite_value_pink():
    maps = np.zeros((4, 8, 8))
    maps[1], maps[2], maps[3, :4] = 7e9, np.nan, np.nan
    sheet = contact_sheet(maps)
    assert grays(sheet, 128, 128).sum() == 112 * 112 * 2.5
    assert (sheet.pixels == PINK).all(axis=-1).sum() == 112 * 112 * 1.5
    assert not grays(contact_sheet(np.ones((1, 8, 8)), stretch=False), 128, 128).any()


@pytest.mark.parametrize("great", [1.7e308, 3e38, 65504.0, 5e-324])
def test_the_greatest_and_the_least_numbers(great):
    values = np.array([-great, 0, 0, great]).reshape(1, 2, 2)
    only_place(contact_sheet(values), grey_block(np.array([[0, 128], [128, 255]]), 32))
    shrunk = contact_sheet(np.kron(values, np.ones((320, 320))))
    only_place(shrunk, grey_block(np.array([[0, 128], [128, 255]]), 160))


def test_large_maps_are_shrunk_by_averaging_also_what_is_left_at_the_edges():
    codes = codes_of(2, 1003, 1278)
    codes[1, 500, 700] = np.nan
    sheet = contact_sheet(codes)
    padded = np.pad(codes.astype(np.float64), ((0, 0), (0, 1), (0, 2)), constant_values=np.nan)
    means = np.nanmean(padded.reshape(2, 251, 4, 320, 4), axis=(2, 4))
    for one, block in enumerate([grey_block(np.rint(255 * (plane / 255)), 1) for plane in means]):
        if one:
            block[125, 175] = PINK
        y, x = only_place(sheet, block[:250, :319])  # whole blocks of 16, whose means are exact
        seen = sheet.pixels[y : y + 251, x : x + 320].astype(int)
        assert np.abs(seen - block).max() <= 1
    assert sheet.notices[0] == "maps are shown at 1/4 of their size; -o NAME.npy keeps them exactly"


def test_memory_is_taken_for_one_map_at_a_time():
    maps = np.broadcast_to(codes_of(1, 1000, 1000), (16, 1000, 1000))
    contact_sheet(maps[:1])  # imports
    tracemalloc.start()
    sheet = contact_sheet(maps)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * sheet.pixels.nbytes + 8_000_000  # all of them would be 128 MB in float64


@pytest.mark.parametrize(
    "shape",
    [
        (1, 3000, 4000),
        (10, 1500, 2000),
        (4096, 127, 128),
        (1000, 1, 500),
        (1000, 500, 1),
        (64, 14, 14),
        (10, 320, 20),
        (512, 7, 7),
    ],
)
def test_sheets_stay_within_their_bound_and_are_roughly_4_to_3(shape):
    sheet = contact_sheet(np.broadcast_to(np.float32(0.5), shape), title="of what")
    height, width = sheet.size
    assert height * width <= 40_000_000
    if shape[0] > 1:
        assert 0.8 < width / height < 1.8
    assert grays(sheet, 128, 128).sum() >= shape[0] * 12 * 12


@pytest.mark.parametrize("count", [1, 9])
@pytest.mark.parametrize(("height", "width"), [(1, 4096), (4096, 1), (1, 1_000_000), (2, 300), (1, 28), (4096, 20)])
def test_strips_are_wide_enough_to_be_seen(count, height, width):
    sheet = contact_sheet(np.zeros((count, height, width), np.float32), stretch=False, labels=[""] * count)
    ys, xs = np.nonzero(grays(sheet, 0, 0))
    shape = np.unique(ys).size, np.unique(xs).size
    assert min(shape) >= 12
    assert max(sheet.size) < 2000
    assert len(ys) <= count * 320 * 24
    (notice,) = sheet.notices
    assert "their height" in notice
    assert "their width" in notice


def test_small_maps_are_enlarged_by_whole_numbers_up_to_32():
    for side in range(1, 129):
        sheet = contact_sheet(np.zeros((1, side, side)))
        shown = round(grays(sheet, 128, 128).sum() ** 0.5)
        assert shown % side == 0
        assert shown == side * 32 or 75 <= shown <= 149
        assert sheet.notices == ()


def test_of_5000_maps_the_first_4096_are_shown_and_it_is_said():
    maps = np.zeros((5000, 1, 1), np.float32)
    maps[4095], maps[4096:] = 1, 0.5
    sheet = contact_sheet(maps, title="t" * 100_000, stretch=False)
    assert grays(sheet, 0, 0).sum() == 4095 * 32 * 32
    assert grays(sheet, 255, 255).sum() == 32 * 32
    assert not grays(sheet, 128, 128).any()
    assert sheet.notices == ("only the first 4,096 of 5,000 maps are shown; -o NAME.npy keeps all",)
    other = contact_sheet(np.concatenate([maps, maps[-1:]]), title="t" * 100_000, stretch=False)
    rows = np.nonzero((sheet.pixels != other.pixels).any(axis=(1, 2)))[0]
    assert len(rows) > 0
    assert rows.max() < 36  # nothing but the number in the title


LONG = "W" * 500


@pytest.mark.parametrize("shape", [(5, 8, 8), (5, 30, 1), (5, 1, 1), (30, 64, 64)])
def test_a_long_label_ends_before_the_next_tile(shape):
    maps = np.zeros(shape)
    labels = [""] * len(maps)
    plain = contact_sheet(maps, labels=labels)
    first = contact_sheet(maps, labels=[LONG, *labels[1:]])
    full = contact_sheet(maps, labels=[LONG] * len(maps))
    changed = (plain.pixels != first.pixels).any(axis=(0, 2))
    assert changed.any()
    assert (np.nonzero(changed)[0] < 12 + max(112, 2 * shape[2])).all()
    empty = is_paper(full.pixels).all(axis=0)
    runs = "".join("#" if one else "." for one in empty).split(".")
    assert sum(len(run) >= 12 for run in runs) >= 3  # the margins, and gaps between that nothing reaches into


def test_what_is_cut_off_a_label_is_told_by_an_ellipsis():
    def drawn(label):
        return contact_sheet(np.zeros((1, 8, 8)), labels=[label]).pixels

    long = drawn(LONG)
    kept = next(count for count in range(20) if (drawn("W" * count + "…") == long).all())
    rows, columns = np.nonzero((drawn("W" * kept) != long).any(axis=2))
    assert 4 < kept < 12
    assert np.ptp(rows) < 3  # three dots
    assert np.ptp(columns) < 10


def test_titles_are_shortened_and_widen_a_small_sheet_only_so_much():
    maps = np.zeros((1, 8, 8))
    bare, short, long = (contact_sheet(maps, title=title).size for title in ("", "ab", LONG))
    assert bare[1] == short[1] == 112 + 24
    assert short[0] > bare[0]
    assert long == (short[0], 480 + 24)
    assert is_paper(
        contact_sheet(maps, title="i" * 1_000_001).pixels[:, -12:]
    ).all()  # Pillow measures no more than a million


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=60), st.text(st.characters(), max_size=200))
def test_any_text_makes_a_sheet(label, title):
    sheet = contact_sheet(np.zeros((1, 1, 1)), labels=[label], title=title)
    assert sheet.size[1] <= 480 + 24
    assert is_paper(sheet.pixels[:, :12]).all()
    assert is_paper(sheet.pixels[:, -12:]).all()


def test_accents_are_left_off_rather_than_drawn_as_boxes():
    named = [contact_sheet(np.zeros((1, 8, 8)), labels=[name]).pixels for name in ("Zürich", "Zurich", "Zorich")]
    np.testing.assert_array_equal(named[0], named[1])
    assert (named[0] != named[2]).any()


@pytest.mark.parametrize("shape", [(3, 4), (1, 3, 4, 5), (0, 3, 3), (3, 0, 3), (3, 3, 0)])
def test_what_is_no_maps_is_refused(shape):
    with pytest.raises(ShapeError, match="each at least 1x1, not " + "x".join(map(str, shape))):
        contact_sheet(np.zeros(shape))


def test_labels_of_another_number_are_refused():
    with pytest.raises(ShapeError, match="2 labels for 3 maps"):
        contact_sheet(np.zeros((3, 2, 2)), labels=["a", "b"])


# boxes


def picture_of(height, width, channels, dtype):
    rng = np.random.default_rng(3)
    if np.dtype(dtype).kind == "f":
        return Picture(rng.uniform(0, 1, (height, width, channels)).astype(dtype), 1.0, channels in (2, 4))
    white = np.iinfo(dtype).max
    pixels = rng.integers(0, white, (height, width, channels), dtype, endpoint=True)
    return Picture(pixels, float(white), channels in (2, 4))


def boxed(picture, box, thick=1):
    """What a small box gives, each pixel by its distance from it."""
    top, bottom, left, right = box
    ys, xs = np.mgrid[: picture.size[0], : picture.size[1]]
    away = np.maximum(np.maximum(top - ys, ys - bottom), np.maximum(left - xs, xs - right))
    dtype = picture.pixels.dtype
    color = picture.color.repeat(3 // picture.color.shape[2], axis=2)
    dim = color.astype(np.float64) * 0.6
    expected = dim if dtype.kind == "f" else np.rint(dim)
    expected[away <= 0] = color[away <= 0]
    expected[(away > 0) & (away <= thick)] = (np.array(YELLOW) * picture.white).astype(dtype)
    expected[(away > thick) & (away <= 2 * thick)] = 0
    alpha = np.where(((away > 0) & (away <= 2 * thick))[..., None], picture.white, picture.pixels[..., -1:])
    return (np.concatenate([expected, alpha], axis=2) if picture.alpha else expected).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "box",
    [
        (5, 9, 6, 12),
        (7, 7, 7, 7),
        (-4, 3, 8, 30),
        (15, 50, 20, 60),
        (-9, -1, -5, 3),
        (-30, -20, 2, 4),
        (-9, 99, -9, 99),
    ],
)
def test_boxes_pixel_by_pixel(dtype, channels, box):
    picture = picture_of(20, 26, channels, dtype)
    before = picture.pixels.copy()
    drawn = draw_box(picture, box)
    np.testing.assert_allclose(drawn.pixels, boxed(picture, box), rtol=1e-6)
    assert drawn.pixels.dtype == dtype
    assert (drawn.white, drawn.alpha, drawn.metadata) == (picture.white, picture.alpha, picture.metadata)
    np.testing.assert_array_equal(picture.pixels, before)
    if np.dtype(dtype).kind != "f":
        assert encoded(drawn, "PNG")


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(1, 30), st.integers(1, 30))
def test_small_boxes_anywhere(data, height, width):
    top, left = data.draw(st.integers(-40, 40)), data.draw(st.integers(-40, 40))
    box = top, top + data.draw(st.integers(0, 14)), left, left + data.draw(st.integers(0, 14))
    picture = picture_of(height, width, 3, np.uint8)
    np.testing.assert_array_equal(draw_box(picture, box).pixels, boxed(picture, box))


def test_the_line_is_thicker_on_larger_pictures():
    picture = picture_of(900, 1500, 1, np.uint8)
    np.testing.assert_array_equal(
        draw_box(picture, (100, 200, 300, 500)).pixels, boxed(picture, (100, 200, 300, 500), 3)
    )


def test_a_large_box_along_the_edge_of_the_picture_is_closed_inside():
    picture = picture_of(40, 50, 1, np.uint8)
    drawn = draw_box(picture, (0, 39, 0, 49)).pixels
    np.testing.assert_array_equal(drawn, boxed(picture, (2, 37, 2, 47)))
    lower = draw_box(picture, (-1, 39, 10, 48)).pixels  # beyond at the top; room for the line alone at the right
    np.testing.assert_array_equal(lower, boxed(picture, (-1, 37, 10, 48)))


@pytest.mark.parametrize("box", [(0, 0, 0, 0), (-5, 5, -5, 5)])
def test_a_picture_of_one_pixel_within_its_box_stays(box):
    picture = picture_of(1, 1, 1, np.uint8)
    np.testing.assert_array_equal(draw_box(picture, box).pixels, picture.pixels.repeat(3, axis=2))


def test_the_line_is_seen_on_white_on_black_on_its_own_colour_and_on_nothing():
    for color in [(255, 255, 255, 255), (0, 0, 0, 255), (255, 216, 0, 255), (128, 128, 128, 0)]:
        picture = Picture(np.full((30, 30, 4), color, np.uint8), 255.0, alpha=True)
        drawn = draw_box(picture, (10, 20, 10, 20)).pixels.astype(int)
        line, edge, far, inner = drawn[15, 9], drawn[15, 8], drawn[15, 5], drawn[15, 10]
        assert line[3] == edge[3] == 255
        assert max(np.abs(line - inner).max(), np.abs(edge - inner).max()) > 200
        assert max(np.abs(line - far).max(), np.abs(edge - far).max()) > 100


@pytest.mark.parametrize("box", [(5, 4, 0, 0), (0, 0, 3, 2)])
def test_a_box_that_ends_before_it_starts_is_refused(box):
    with pytest.raises(ShapeError, match="a box can't go from"):
        draw_box(picture_of(9, 9, 1, np.uint8), box)
