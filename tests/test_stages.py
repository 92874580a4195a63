"""The grammar of pipelines: text and TOML to layers, and back, and every way to get it wrong in one line."""

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from convcli.errors import ConvcliError
from convcli.kernels.named import NAMED
from convcli.kernels.reading import read_kernel
from convcli.layers import Conv, Dense, Each, Filter, Gray, Pool
from convcli.pipeline import Pipeline
from convcli.stages import MAX_LAYERS, STAGES, parse_stage, parse_stages, split_outside
from convcli.words import Boundary, Padding, Pointwise, Reduce

LONG = "9" * 5000  # more digits than Python turns into a number at once
rng = np.random.default_rng(3)
WEIGHT = rng.standard_normal((4, 3, 3, 5))
BIAS = rng.standard_normal(4)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Every test runs in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def only(text, where=None):
    """The one layer of a text."""
    (layer,) = Pipeline.parse(text, where).layers
    return layer


def complaint(text, where=None):
    """The one line that refuses a pipeline."""
    with pytest.raises(ConvcliError) as caught:
        Pipeline.parse(str(text), where)
    message = str(caught.value)
    assert message
    assert len(message.splitlines()) == 1, message
    return message


def write(path, text):
    """The path of a file of that text."""
    path = Path(path)
    path.write_text(text, encoding="utf-8", newline="")
    return path


def same_layer(one, other):
    """Whether two layers are alike in every field, arrays by their numbers."""
    if type(one) is not type(other):
        return False
    for name, value in vars(one).items():
        twin = getattr(other, name)
        if name == "kernel" and value is not None and twin is not None:
            alike = value.combine == twin.combine and value.name == twin.name
            alike &= np.array_equal(value.weights, twin.weights) and np.array_equal(value.bias, twin.bias)
        else:
            alike = np.array_equal(value, twin) if isinstance(value, np.ndarray) else value == twin
        if not alike:
            return False
    return True


def same_stages(one, other):
    return len(one.stages) == len(other.stages) and all(
        (a.text, a.repeat, a.measures) == (b.text, b.repeat, b.measures) and same_layer(a.layer, b.layer)
        for a, b in zip(one.stages, other.stages, strict=True)
    )


# --- how a text falls apart


@pytest.mark.parametrize(
    ("text", "separator", "pieces"),
    [
        ("a|b", "|", ["a", "b"]),
        ("", "|", [""]),
        ("|", "|", ["", ""]),
        ("a | [b | c] | d", "|", ["a ", " [b | c] ", " d"]),
        ("a '|' b|c", "|", ["a '|' b", "c"]),
        ('a "|" b|c', "|", ['a "|" b', "c"]),
        ("a (|) b|c", "|", ["a (|) b", "c"]),
        ("[[1|2]|[3]]|x", "|", ["[[1|2]|[3]]", "x"]),
        ("'[' | ']'", "|", ["'[' ", " ']'"]),  # a bracket in quotes is none
        ("[' | '] | b", "|", ["[' | '] ", " b"]),  # and a quote in brackets is one
        ("[']' | ']'] | b", "|", ["[']' | ']'] ", " b"]),
        ('"it\'s"|x', "|", ['"it\'s"', "x"]),  # the other quote in quotes is none
        ("a  b\tc\nd", " ", ["a", "", "b", "c", "d"]),
        ("a [b c] 'd e' f=\"g h\"", " ", ["a", "[b c]", "'d e'", 'f="g h"']),
        ("a\u00a0b\u2003c", " ", ["a", "b", "c"]),
    ],
)
def test_splitting(text, separator, pieces):
    assert split_outside(text, separator) == pieces


@pytest.mark.parametrize(
    ("text", "stages"),
    [
        ("relu|abs", ["relu", "abs"]),
        ("  relu  |\n abs\t", ["relu", "abs"]),
        ("filter '1 1' | relu", ["filter '1 1'", "relu"]),
        ("filter [1 0 -1; 2 0 -2] | relu", ["filter [1 0 -1; 2 0 -2]", "relu"]),
        ("filter [[1, 0], [0, 1]]|filter '1;2'", ["filter [[1, 0], [0, 1]]", "filter '1;2'"]),
    ],
)
def test_stages_are_split_at_bars_outside_quotes_and_brackets(text, stages):
    assert [stage.text for stage in parse_stages(text)] == stages


@pytest.mark.parametrize(
    "text",
    ["filter [1 0 -1; 2 0 -2]", "filter '1 0 -1; 2 0 -2'", 'filter "1 0 -1; 2 0 -2"', "filter [[1,0,-1],[2,0,-2]]"],
)
def test_a_kernel_with_spaces_stands_in_brackets_or_quotes(text):
    np.testing.assert_array_equal(only(text).kernel.weights, [[1, 0, -1], [2, 0, -2]])


def test_a_kernel_may_have_line_breaks_in_quotes():
    np.testing.assert_array_equal(only("filter '1 0\n0 1'").kernel.weights, [[1, 0], [0, 1]])


def test_a_bar_in_quotes_is_a_file_name(folder):
    np.save(folder / "a|b.npy", np.ones((2, 2)))
    assert only("filter 'a|b.npy'").size == (2, 2)


# --- repeats


@pytest.mark.parametrize("text", ["relu * 3", "relu*3", "relu *3", "relu* 3", "relu  *\t3  "])
def test_a_number_behind_a_star_at_the_end_repeats_the_stage(text):
    assert Pipeline.parse(text).layers == (Each(function=Pointwise.RELU),) * 3


def test_repeats_belong_to_their_stage():
    pipeline = Pipeline.parse("conv 5x5 * 2 | relu | maxpool 2*3")
    assert [layer.label for layer in pipeline.layers] == ["conv", "conv", "relu", *["maxpool"] * 3]
    assert [stage.repeat for stage in pipeline.stages] == [2, 1, 3]


def test_a_repeat_may_follow_a_bracket_and_keys():
    pipeline = Pipeline.parse("filter [1 2]*2 | conv 3x3 out=4*2")
    assert [stage.repeat for stage in pipeline.stages] == [2, 2]
    assert pipeline.layers[3].outputs == 4


@pytest.mark.parametrize(
    "text", ["relu * 3 * 2", "* 3 relu", "conv * 3 3x3", "relu * 2.5", "relu * -1", "relu * x", "relu *"]
)
def test_a_star_elsewhere_means_nothing(text):
    assert complaint(text).startswith("stage 1, ")


def test_a_star_in_a_kernel_repeats_nothing():
    assert complaint("filter '1 * 3'").startswith("stage 1, filter: ")
    assert complaint("filter [1 * 3]").startswith("stage 1, filter: ")


@pytest.mark.parametrize("text", ["relu * 0", f"relu * {MAX_LAYERS + 1}", "relu | * 3", f"relu * {LONG}"])
def test_repeats_have_limits(text):
    message = complaint(text)
    assert re.match(r"stage \d, ", message)
    assert "10,000" in message
    assert len(message) < 300 or LONG in message


def test_a_pipeline_has_at_most_so_many_layers():
    assert len(Pipeline.parse(f"relu * {MAX_LAYERS}").layers) == MAX_LAYERS
    assert len(Pipeline.parse(f"relu * {MAX_LAYERS - 1} | abs").layers) == MAX_LAYERS
    assert complaint(f"abs | relu * {MAX_LAYERS}").startswith("stage 2, relu: ")
    assert complaint(f"relu * {MAX_LAYERS} | abs").startswith("stage 2, abs: ")


# --- keys


def test_a_key_is_an_identifier_before_the_equals_sign():
    assert only("gaussian:sigma=2,size=9 stride=2").size == (9, 9)
    assert only("filter gaussian:sigma=2,size=7").size == (7, 7)
    assert only("conv gaussian:size=5 out=3").size == (5, 5)
    assert only("filter 'gaussian:sigma=1,size=3' bias='0.5'").bias == 0.5
    assert only('conv "3x3" out="2"').outputs == 2


def test_a_quoted_word_with_an_equals_sign_is_a_value(folder):
    np.save(folder / "a=b.npy", np.ones((2, 3)))
    assert only("filter 'a=b.npy'").size == (2, 3)
    assert only("filter ./a=b.npy").size == (2, 3)  # no identifier before it
    assert only("conv weights=a=b.npy").size == (2, 3)  # the first = is the key's


def test_keys_and_flags_may_stand_in_any_order():
    want = Pool(reduce=Reduce.AVG, size=(3, 3), stride=(2, 2), padding=(1, 1), ceil=True, count_pads=False)
    for words in (
        "3 stride=2 padding=1 ceil exclude-pad",
        "3 exclude-pad padding=1 ceil stride=2",
        "padding=1 3 stride=2 ceil exclude-pad",
    ):
        assert only(f"avgpool {words}") == want


# --- every kind of stage


@pytest.mark.parametrize("name", NAMED)
def test_every_named_filter_is_a_stage_with_the_filters_defaults(name):
    assert same_layer(only(name), Filter(kernel=read_kernel(name)))
    assert (only(name).padding, only(name).boundary) == (Padding.SAME, Boundary.REFLECT)


KEYS = "padding=2x1 boundary=wrap stride=2x3 dilation=3 bias=-0.5"
WINDOW = {"padding": (2, 1), "boundary": Boundary.WRAP, "stride": (2, 3), "dilation": (3, 3), "bias": -0.5}


@pytest.mark.parametrize("kernel", ["gaussian:2", "sobel", "dog:1,1.6", "unsharp:sigma=2,amount=0.5"])
def test_a_named_filter_takes_arguments_and_keys(kernel):
    want = Filter(kernel=read_kernel(kernel), **WINDOW)
    assert same_layer(only(f"{kernel} {KEYS}"), want)
    assert same_layer(only(f"filter {kernel} {KEYS}"), want)


@pytest.mark.parametrize("kernel", ["[1 2; 3 4]", "edge", "[1/9 2/9]", "[5]"])
def test_filter_takes_any_kernel(kernel):
    assert same_layer(only(f"filter {kernel}"), Filter(kernel=read_kernel(kernel)))
    assert same_layer(only(f"filter {kernel} {KEYS}"), Filter(kernel=read_kernel(kernel), **WINDOW))


def test_filter_with_a_weight_is_a_layer_with_a_layers_defaults(folder):
    np.save(folder / "w.npy", WEIGHT)
    got = only("filter w.npy")
    assert isinstance(got, Conv)
    assert (got.padding, got.boundary, got.bias) == (Padding.VALID, Boundary.ZERO, None)
    np.testing.assert_array_equal(got.weight(3), WEIGHT)
    assert only("filter w.npy bias=0.25 padding=same").bias == 0.25


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("conv 3x3", {"shape": (3, 3)}),
        ("conv 3x5 out=16", {"shape": (3, 5), "outputs": 16}),
        ("conv 1x1 groups=4 out=8", {"shape": (1, 1), "groups": 4, "outputs": 8}),
        ("conv 3x3 groups=in", {"shape": (3, 3), "groups": None}),
        ("conv 3x3 init=random", {"shape": (3, 3), "seed": 0}),
        ("conv 3x3 init=random seed=7", {"shape": (3, 3), "seed": 7}),
        ("conv 3x3 bias=0", {"shape": (3, 3), "bias": 0.0}),
        ("conv 3x3 bias=-2.5", {"shape": (3, 3), "bias": -2.5}),
        (f"conv 3x3 {KEYS}", {"shape": (3, 3)} | WINDOW),
    ],
)
def test_conv_by_its_size(text, fields):
    assert same_layer(only(text), Conv(**fields))


def test_convs_defaults():
    got = only("conv 3x3")
    assert (got.padding, got.boundary, got.stride, got.dilation, got.groups) == ("valid", "zero", 1, 1, 1)
    assert (got.bias, got.offset, got.complete) == (None, None, False)
    assert [got.channels(one) for one in (1, 3, 7)] == [1, 1, 1]  # out=1
    assert [only("conv 3x3 groups=in").channels(one) for one in (1, 3, 7)] == [1, 3, 7]
    assert only("conv 3x3 groups=in out=6").channels(3) == 6


def test_a_matrix_for_conv_is_every_channels_weight():
    got = only("conv edge out=2 bias=1")
    np.testing.assert_array_equal(got.weight(3), np.broadcast_to(read_kernel("edge").weights, (2, 3, 3, 3)))
    np.testing.assert_array_equal(only("conv [1 2; 3 4]").weight(2), [[[[1, 2], [3, 4]]] * 2])
    np.testing.assert_array_equal(only("conv [7]").weight(1), [[[[7]]]])
    assert only("conv gaussian:2 groups=in").weight(5).shape == (5, 1, 13, 13)


@pytest.mark.parametrize("suffix", ["npy", "npz", "json", "safetensors"])
def test_weights_come_from_a_file(folder, suffix):
    if suffix == "npy":
        np.save(folder / "w.npy", WEIGHT)
    elif suffix == "npz":
        np.savez(folder / "w.npz", weight=WEIGHT)
    elif suffix == "safetensors":
        save_file({"weight": WEIGHT}, folder / "w.safetensors")
    else:
        write("w.json", json.dumps({"kernel": WEIGHT.tolist(), "bias": BIAS.tolist()}))
    for text in (f"conv weights=w.{suffix}", f"conv 3x5 out=4 weights=w.{suffix}", f"conv w.{suffix}"):
        got = only(text)
        np.testing.assert_array_equal(got.weight(3), WEIGHT)
        assert got.channels(3) == 4
    if suffix == "json":
        np.testing.assert_array_equal(only("conv weights=w.json").offset, BIAS)
        np.testing.assert_array_equal(only("conv weights=w.json bias=1").offset, BIAS + 1)


MODEL = {"conv1.weight": WEIGHT, "conv1/kernel:0": WEIGHT + 1, "conv1.bias": BIAS, "fc.weight": np.ones((2, 12))}


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_one_array_of_a_file_is_named_behind_a_colon(folder, suffix):
    if suffix == "npz":
        np.savez(folder / "m.npz", **MODEL)
    else:
        save_file(MODEL, folder / "m.safetensors")
    got = only(f"conv weights=m.{suffix}:conv1.weight bias=m.{suffix}:conv1.bias")
    np.testing.assert_array_equal(got.weight(3), WEIGHT)
    np.testing.assert_array_equal(got.bias, BIAS)
    np.testing.assert_array_equal(only(f"conv weights=m.{suffix}:conv1/kernel:0").weight(3), WEIGHT + 1)
    np.testing.assert_array_equal(only(f"dense 2 weights=m.{suffix}:fc.weight").matrix, np.ones((2, 12)))
    assert "conv1.weight" in complaint(f"conv weights=m.{suffix}:conv1.wieght")


def test_out_and_the_size_must_agree_with_the_file(folder):
    np.save(folder / "w.npy", WEIGHT)
    assert "5x3" in complaint("conv 5x3 weights=w.npy")
    assert "3x5" in complaint("conv 5x3 weights=w.npy")
    message = complaint("relu | conv 3x5 out=5 weights=w.npy")
    assert message.startswith("stage 2, conv: ")
    assert "out=5" in message
    assert "4" in message
    np.save(folder / "k.npy", np.ones((3, 3)))
    assert "3x3" in complaint("conv 2x2 weights=k.npy")
    assert only("conv 3x3 out=6 weights=k.npy").channels(2) == 6  # a matrix says nothing of outputs


def test_a_bias_is_a_number_or_a_file(folder):
    np.save(folder / "b.npy", BIAS)
    write("b.csv", ",".join(map(repr, BIAS.tolist())))
    write("b.json", json.dumps(BIAS.tolist()))
    for name in ("b.npy", "b.csv", "b.json", "./b.npy", folder / "b.npy"):
        np.testing.assert_array_equal(only(f"conv 3x3 out=4 bias={name}").bias, BIAS)
        np.testing.assert_array_equal(only(f"dense 4 bias={name}").bias, BIAS)
    np.save(folder / "b2.npy", WEIGHT)
    assert "(4, 3, 3, 5)" in complaint("conv 3x3 bias=b2.npy")
    assert "3" in complaint("dense 3 bias=b.npy")


def test_random_weights_follow_from_their_seed_alone():
    first, again, other = (only(f"conv 3x3 out=64 init=random seed={seed}").weight(16) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.var() == pytest.approx(2 / (16 * 9), rel=0.1)
    assert abs(first.mean()) < 0.01
    np.testing.assert_array_equal(only("conv 3x3 init=random").weight(2), only("conv 3x3 init=random seed=0").weight(2))


@pytest.mark.parametrize("reduce", Reduce)
@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("2", {"size": (2, 2)}),
        ("2x3", {"size": (2, 3)}),
        ("3 stride=2", {"size": (3, 3), "stride": (2, 2)}),
        ("3 stride=2x1 padding=1", {"size": (3, 3), "stride": (2, 1), "padding": (1, 1)}),
        ("3 padding=0,1,2,0", {"size": (3, 3), "padding": ((0, 1), (2, 0))}),
        ("3 padding=same ceil", {"size": (3, 3), "padding": Padding.SAME, "ceil": True}),
    ],
)
def test_pools(reduce, words, fields):
    assert only(f"{reduce}pool {words}") == Pool(reduce=reduce, **fields)


def test_only_a_mean_can_leave_pads_out():
    assert only("avgpool 3 exclude-pad") == Pool(reduce=Reduce.AVG, size=(3, 3), count_pads=False)
    assert "exclude-pad" in complaint("maxpool 3 exclude-pad")


@pytest.mark.parametrize(
    ("text", "layer"),
    [
        ("globalavg", Pool(reduce=Reduce.AVG)),
        ("globalmax", Pool(reduce=Reduce.MAX)),
        *((name, Each(function=name)) for name in ("relu", "abs", "sigmoid", "tanh", "normalize")),
        ("threshold 0.5", Each(function=Pointwise.THRESHOLD, level=0.5)),
        ("threshold 50%", Each(function=Pointwise.THRESHOLD, level=0.5)),
        ("threshold -3", Each(function=Pointwise.THRESHOLD, level=-3.0)),
        ("gray", Gray()),
    ],
)
def test_stages_without_a_window_of_their_own(text, layer):
    assert only(text) == layer


def test_dense(folder):
    matrix = rng.standard_normal((3, 12))
    np.save(folder / "m.npy", matrix)
    assert same_layer(only("dense 3"), Dense(outputs=3))
    assert same_layer(only("dense 3 init=random"), Dense(outputs=3, seed=0))
    assert same_layer(only("dense 3 init=random seed=5 bias=1"), Dense(outputs=3, seed=5, bias=1.0))
    assert same_layer(only("dense 3 weights=m.npy"), Dense(outputs=3, matrix=matrix))
    assert "(3, 12)" in complaint("dense 4 weights=m.npy")


@pytest.mark.parametrize(
    ("text", "padding"),
    [(word, Padding(word)) for word in ("valid", "same", "same-lower", "full")]
    + [("0", (0, 0)), ("2", (2, 2)), ("1x2", (1, 2)), ("1,2,3,4", ((1, 2), (3, 4)))],
)
def test_paddings(text, padding):
    assert only(f"edge padding={text}").padding == padding
    assert only(f"conv 3x3 padding={text}").padding == padding


@pytest.mark.parametrize(
    ("text", "boundary"),
    [(word, Boundary(word)) for word in ("zero", "edge", "reflect", "symmetric", "wrap")]
    + [("mirror", Boundary.REFLECT), ("0.5", 0.5), ("50%", 0.5), ("-1", -1.0), ("0", 0.0)],
)
def test_boundaries(text, boundary):
    assert only(f"edge boundary={text}").boundary == boundary
    assert only(f"conv 3x3 boundary={text}").boundary == boundary


def test_amounts_are_kept_for_whoever_knows_the_inputs_kind():
    first, second, third = parse_stages("edge bias=50% boundary=128 | conv 3x3 bias=3 | threshold 2")
    assert [one.amount.value for one in first.measures] == [128.0, 0.5]
    assert [one.reach for one in first.measures] == [1, 1]
    assert all(one.option.startswith("stage 1, edge: ") for one in first.measures)
    with pytest.raises(ConvcliError, match=r"stage 1, edge: boundary=.*0\.502"):
        first.measures[0].check(pictures=True, arrays=False)
    with pytest.raises(ConvcliError, match=r"stage 1, edge: bias=.*%"):
        first.measures[1].check(pictures=False, arrays=True)
    assert [one.reach for one in second.measures + third.measures] == [16, np.inf]  # behind a layer: no colours


# --- there and back

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="'/"), max_size=6)
NUMBERS = st.sampled_from(["0", "1", "-2.5", "1/9", "1e-3", ".5"])
SPACE = st.sampled_from([" ", "  ", "\t", "\n", "\u00a0"])


@st.composite
def kernels(draw):
    """Kernels as people write them, with line breaks, comments of any letters, quotes and brackets."""
    width = draw(st.integers(1, 3))
    rows = [[draw(NUMBERS) for _ in range(width)] for _ in range(draw(st.integers(1, 3)))]
    form = draw(st.sampled_from(["bracket", "single", "double", "json", "comment", "name"]))
    if form == "name":
        return draw(st.sampled_from(["edge", "gaussian:2", "dog:1,1.6", "gaussian:sigma=1,size=3", "sobel"]))
    if form == "json":
        return json.dumps([[1.5] * width] * len(rows))
    if form == "comment":  # anything may stand behind #, to the end of the line
        words = "".join(one for one in draw(TEXTS) if len(f"a{one}a".splitlines()) == 1)
        rows[0] = ["2.5"] * width
        return f"'{' '.join(rows[0])} # {words}\\ \"\n{' '.join(rows[0])}'"
    text = draw(st.sampled_from([";", "; ", "\n", " ;\t"])).join(
        draw(st.sampled_from([" ", ",", ", "])).join(row) for row in rows
    )
    return {"bracket": f"[{text}]", "single": f"'{text}'", "double": f'"{text}"'}[form]


@st.composite
def stage_texts(draw):
    keys = draw(
        st.lists(
            st.sampled_from(
                ["padding=same", "padding=1,2,3,4", "boundary=wrap", "boundary=0.5", "stride=2x1", "dilation=2"]
            ),
            unique_by=lambda key: key[:5],
            max_size=3,
        )
    )
    bias = draw(st.sampled_from([[], ["bias=0.5"], ["bias='-25%'"]]))
    words = draw(
        st.one_of(
            kernels().map(lambda kernel: ["filter", kernel, *keys, *bias]),
            st.sampled_from(["edge", "gaussian:2", "sobel", "unsharp:1,0.5"]).map(lambda name: [name, *keys, *bias]),
            st.sampled_from(["out=4", "groups=in", "init=random seed=3"]).map(
                lambda key: ["conv", "3x2", key, *keys, *bias]
            ),
            st.sampled_from(["maxpool 2", "avgpool 3x2 ceil exclude-pad", "minpool 2 stride=1 padding=1"]).map(
                str.split
            ),
            st.sampled_from([["relu"], ["gray"], ["globalavg"], ["threshold", "0.5"], ["dense", "10", "init=random"]]),
        )
    )
    times = draw(st.sampled_from(["", " * 2", "*10", " *\t3"]))
    return draw(SPACE).join(words) + times


@given(st.lists(stage_texts(), min_size=1, max_size=5), st.sampled_from([" | ", "|", "\n|\n"]))
def test_text_toml_and_pipelines_are_one(tmp_path_factory, texts, bar):
    pipeline = Pipeline.parse(bar.join(texts))
    assert len(pipeline.stages) == len(texts)
    again = Pipeline.parse(str(pipeline))
    assert again == pipeline
    assert hash(again) == hash(pipeline)
    assert str(again) == str(pipeline)
    assert same_stages(again, pipeline)
    evaluated = eval(repr(pipeline))
    assert evaluated == pipeline
    assert same_stages(evaluated, pipeline)
    path = write(tmp_path_factory.mktemp("toml") / "p.toml", pipeline.to_toml())
    filed = Pipeline.parse(str(path))
    assert same_stages(filed, pipeline)
    assert filed.to_toml() == pipeline.to_toml()
    assert eval(repr(filed)) == filed


@given(st.lists(stage_texts(), min_size=1, max_size=3))
def test_a_toml_list_means_what_its_texts_mean(tmp_path_factory, texts):
    quoted = json.dumps(texts, ensure_ascii=False).replace("\x7f", "\\u007f")
    path = write(tmp_path_factory.mktemp("toml") / "p.toml", f"stages = {quoted}")
    assert same_stages(Pipeline.parse(str(path)), Pipeline.parse("|".join(texts)))


@pytest.mark.parametrize(
    "name",
    [
        "a b.npy",
        "größe 核 😀.npy",
        'say "hi".npy',
        "back\\slash.npy",
        "tab\there.npy",
        "new\nline.npy",
        "del\x7f.npy",
        "a|b.npy",
    ],
)
def test_names_of_any_letters_survive(folder, name):
    np.save(folder / name, np.ones((2, 3)))
    pipeline = Pipeline.parse(f"filter '{name}' | relu")
    assert pipeline.layers[0].size == (2, 3)
    path = write("p.toml", pipeline.to_toml())
    assert same_stages(Pipeline.parse(str(path)), pipeline)
    assert same_stages(eval(repr(pipeline)), pipeline)


def test_toml_as_people_write_it():
    path = write(
        "net.toml",
        """# a net
stages = [
    "gray",  # one channel
    'filter "1 0 -1; 2 0 -2"',
    \"\"\"filter '
        1 0
        0 1'\"\"\",
    "conv 5x5 * 10",
    "filter \\u0027\\t1 2\\u0027",
]
""",
    )
    pipeline = Pipeline.parse(str(path))
    assert [stage.repeat for stage in pipeline.stages] == [1, 1, 1, 10, 1]
    np.testing.assert_array_equal(pipeline.layers[2].kernel.weights, np.eye(2))
    np.testing.assert_array_equal(pipeline.layers[-1].kernel.weights, [[1, 2]])
    assert same_stages(Pipeline.parse("  net.toml "), pipeline)


def test_pipelines_are_equal_by_their_stages_and_folder(folder):
    assert Pipeline.parse("relu|abs") == Pipeline.parse(" relu |  abs ")
    assert Pipeline.parse("relu * 1") == Pipeline.parse("relu")
    assert Pipeline.parse("relu") != Pipeline.parse("abs")
    assert Pipeline.parse("relu * 2") != Pipeline.parse("relu")
    assert Pipeline.parse("relu", folder) != Pipeline.parse("relu")
    assert Pipeline.parse("relu") != "relu"
    assert eval(repr(Pipeline.parse("relu", folder))) == Pipeline.parse("relu", folder)


def test_a_kernel_in_a_toml_file_is_no_pipeline():
    """KERNEL may be a .toml file; a single stage that ends with its name is still a stage."""
    write("k.toml", "kernel = [[1, 2], [3, 4]]")
    for text in ("filter k.toml", "conv k.toml", "conv 2x2 weights=k.toml"):
        np.testing.assert_array_equal(only(text).kernel.weights, [[1, 2], [3, 4]])
        assert eval(repr(Pipeline.parse(text))) == Pipeline.parse(text)
    write("my net.toml", 'stages = ["relu"]')
    assert str(Pipeline.parse("my net.toml")) == "relu"


def test_a_bar_outside_quotes_is_no_part_of_a_stage(folder):
    """What to_toml writes and str says must be the same pipeline, so a stage in a list holds no bare bar either."""
    np.save(folder / "a|b.npy", np.ones((2, 2)))
    assert "stage 1" in complaint(write("p.toml", 'stages = ["filter a|b.npy"]'))
    assert "stage 1" in complaint(write("p.toml", 'stages = ["relu | abs"]'))


# --- files named in a .toml


@pytest.fixture
def nets(folder):
    """Two folders with files of the same names: ``net``, of the pipeline, and ``here``, where the program runs."""
    for value, name in enumerate(("here", "net"), 1):
        (folder / name).mkdir()
        np.save(folder / name / "w.npy", np.full((1, 1, 2, 2), value))
        np.save(folder / name / "b.npy", [value])
        np.savez(
            folder / name / "m.npz", weight=np.full((1, 4), value), **{"conv/kernel:0": np.full((1, 1, 2, 2), value)}
        )
        write(folder / name / "blur", "5 5 5")
    np.save(folder / "here" / "only.npy", np.full((1, 1, 2, 2), 9))
    return folder / "net"


def filed(nets, monkeypatch, *stages):
    write(nets / "p.toml", f"stages = {json.dumps(stages)}")
    monkeypatch.chdir(nets.parent / "here")
    by_path = Pipeline.parse(str(Path("..", "net", "p.toml")))
    assert same_stages(by_path, Pipeline.parse(" | ".join(stages), Path("..", "net")))
    assert same_stages(eval(repr(by_path)), by_path)
    return by_path.layers


def test_files_are_looked_for_beside_the_toml_first(nets, monkeypatch):
    layers = filed(
        nets,
        monkeypatch,
        "conv weights=w.npy bias=b.npy",
        "filter w.npy",
        "conv w.npy",
        "dense 1 weights=m.npz:weight bias=b.npy",
        "conv weights=only.npy",
        f"conv weights={nets.parent / 'here' / 'w.npy'}",
    )
    assert [layer.weight(1)[0, 0, 0, 0] for layer in (*layers[:3], *layers[4:])] == [2, 2, 2, 9, 1]
    assert layers[0].bias == 2
    assert (layers[3].matrix[0, 0], layers[3].bias) == (2, 2)


def test_so_are_arrays_whose_names_hold_colons(nets, monkeypatch):
    (layer,) = filed(nets, monkeypatch, "conv weights=m.npz:conv/kernel:0")
    assert layer.weight(1)[0, 0, 0, 0] == 2


def test_a_name_beats_a_file_beside_the_toml_too(nets, monkeypatch):
    by_name, by_path = filed(nets, monkeypatch, "filter blur", "filter ./blur")
    np.testing.assert_array_equal(by_name.kernel.weights, read_kernel("box:3").weights)
    np.testing.assert_array_equal(by_path.kernel.weights, [[5, 5, 5]])


def test_without_a_toml_files_are_looked_for_here(nets, monkeypatch):
    monkeypatch.chdir(nets.parent / "here")
    assert only("conv weights=w.npy").weight(1)[0, 0, 0, 0] == 1


# --- what can't be


@pytest.mark.parametrize(
    ("text", "says"),
    [
        # unknown names
        ("conf 3x3", "stage 1, conf: there is no such stage; did you mean 'conv'"),
        ("relu | maxpol 2", "stage 2, maxpol: there is no such stage; did you mean 'maxpool'"),
        ("guassian:2", "stage 1, guassian:2: there is no such stage; did you mean 'gaussian'"),
        ("conv2d 3x3", "'conv'"),
        ("Relu", "'relu'"),
        ("xyzzyx", "stage 1, xyzzyx: there is no such stage"),
        ("conv:3", "there is no such stage"),
        ("[1 2; 3 4]", "there is no such stage"),
        ("3x3", "there is no such stage"),
        # missing values
        ("filter", "stage 1, filter: needs a KERNEL"),
        ("conv", "stage 1, conv: needs a size"),
        ("conv out=3", "needs a size"),
        ("maxpool", "stage 1, maxpool: needs a size"),
        ("minpool stride=2", "stage 1, minpool: needs a size"),
        ("threshold", "stage 1, threshold: needs a level"),
        ("dense", "stage 1, dense: needs a number of outputs"),
        # words too many
        ("relu 3", "stage 1, relu: '3' is one too many"),
        ("relu ceil", "'ceil' is one too many"),
        ("gray x=3", "'x=' is one too many"),
        ("gaussian 2", "'2' is one too many"),
        ("edge edge", "'edge' is one too many"),
        ("maxpool 2 3", "'3' is one too many"),
        ("maxpool 2 ceil ceil", "'ceil' is one too many"),
        ("maxpool 2 boundary=zero", "'boundary=' is one too many"),
        ("maxpool 2 dilation=2", "'dilation=' is one too many"),
        ("maxpool 2 ceill", "'ceil'"),
        ("globalavg 2", "'2' is one too many"),
        ("conv 3x3 5x5", "'5x5' is one too many"),
        ("conv 3x3 outputs=3", "'outputs=' is one too many"),
        ("conv 3x3 strides=2", "'stride='"),
        ("edge out=3", "'out=' is one too many"),
        ("filter edge groups=1", "'groups=' is one too many"),
        ("threshold 1 2", "'2' is one too many"),
        ("dense 3 4", "'4' is one too many"),
        ("conv 3x3 out=3 out=3", "out= is given twice"),
        # values that can't be
        ("conv 3", "3x3"),
        ("conv 0x3", "0"),
        ("conv 3x3x3", "3x3x3"),
        ("conv 3x3 out=0", "out= must be a whole number from 1"),
        ("conv 3x3 out=-1", "out= "),
        ("conv 3x3 out=two", "out= must be a whole number from 1, not 'two'"),
        ("conv 3x3 out=", "out= "),
        ("conv 3x3 out=2.5", "out= "),
        ("conv 3x3 groups=0", "groups= "),
        ("conv 3x3 groups=all", "groups= "),
        ("conv 3x3 init=zeros", "init= must be random, not 'zeros'"),
        ("conv 3x3 seed=3", "seed= goes with init=random"),
        ("conv 3x3 init=random seed=-1", "seed= "),
        ("conv edge init=random", "two weights"),
        ("conv edge weights=edge", "two weights"),
        ("conv sobel", "no single matrix"),
        ("conv weights=nothere.npy", "stage 1, conv: weights= no such kernel file: 'nothere.npy'"),
        ("conv 3x3 bias=nothere.npy", "stage 1, conv: bias= no such file: 'nothere.npy'"),
        ("filter nothere.npy", "no such kernel file: 'nothere.npy'"),
        ("filter eqde", "'edge'"),
        ("filter 3x3", "size"),
        ("filter [1 2; 3]", "row 2"),
        ("filter [1 x]", "'x'"),
        ("filter [1 nan]", "finite"),
        ("filter []", "empty"),
        ("filter -", "standard input"),
        ("gaussian:x", "gaussian"),
        ("gaussian:2,3,4", "gaussian"),
        ("gaussian:radius=2", "radius"),
        ("edge padding=some", "padding= must be valid, same, same-lower, full, N, HxW or T,B,L,R, not 'some'"),
        ("edge padding=-1", "padding= "),
        ("edge padding=1,2,3", "padding= "),
        ("edge padding=1x2x3", "padding= "),
        ("edge padding=99999", "65535"),
        ("edge boundary=mirrored", "boundary= must be zero, edge, reflect, symmetric, wrap, mirror or a number"),
        ("edge boundary=inf", "boundary= "),
        ("edge stride=0", "stride= "),
        ("edge stride=1x2x3", "stride= "),
        ("edge stride=2x", "stride= "),
        ("edge dilation=1.5", "dilation= "),
        ("edge bias=nan", "bias= "),
        ("edge bias=much", "bias= must be a number or a percentage, not 'much'"),
        ("maxpool 0", "0"),
        ("maxpool x", "'x'"),
        ("maxpool 2 stride=0", "stride= "),
        ("threshold high", "'high'"),
        ("threshold inf", "'inf'"),
        ("dense 0", "'0'"),
        ("dense many", "'many'"),
        ("dense 3 weights=edge", "no such file: 'edge'"),
        ("dense 3 seed=1", "seed= goes with init=random"),
        # empty stages
        ("", "stage 1, "),
        ("   ", "stage 1, "),
        ("relu |", "stage 2, "),
        ("| relu", "stage 1, "),
        ("relu || abs", "stage 2, "),
        ("relu | \t\n| abs", "stage 2, "),
    ],
)
def test_what_is_refused_and_how(text, says):
    message = complaint(text)
    assert re.match(r"stage \d+, ", message)
    assert says in message


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("filter [1 0", 1),
        ("filter 1 0]", 1),
        ("filter '1 0", 1),
        ('filter "1 0', 1),
        ("filter [1 0 | relu", 1),
        ("relu | filter [1 0", 2),
        ("relu | filter 1 0]", 2),
        ("relu | filter '1 0", 2),
        ("relu | abs | filter (1 | tanh", 3),
    ],
)
def test_an_open_bracket_or_quote_names_its_stage(text, number):
    message = complaint(text)
    assert re.search("open|closes nothing", message)
    assert message.startswith(f"stage {number}, "), message


@pytest.mark.parametrize(
    "text",
    [
        f"maxpool {LONG}",
        f"conv {LONG}x3",
        f"conv 3x3 out={LONG}",
        f"conv 3x3 groups={LONG}",
        f"conv 3x3 init=random seed={LONG}",
        f"dense {LONG}",
        f"edge padding={LONG}",
        f"edge padding={LONG},1,1,1",
        f"edge stride={LONG}",
        f"edge bias={LONG}",
        f"threshold {LONG}",
        f"gaussian:1,{LONG}",
        f"filter [{LONG}]",
        f"filter [[{LONG}]]",
    ],
)
def test_numbers_of_thousands_of_digits_are_refused_too(text):
    assert complaint(text).startswith("stage 1, ")


@pytest.mark.parametrize(
    "text", ["filter " + "[" * 50_000 + "1" + "]" * 50_000, "filter " + "(" * 50_000 + ")" * 50_000]
)
def test_nothing_is_nested_too_deep_to_be_refused(text):
    assert complaint(text).startswith("stage 1, filter: ")


@pytest.mark.parametrize("text", ["relu{}x", "filter '1{}x'", "relu{}* x", "relu *{}x"])
def test_long_texts_are_read_in_time(text):
    """A .toml may hold a mebibyte; what takes the square of its length here takes hours there."""
    before = time.perf_counter()
    complaint(text.format(" " * 40_000))
    assert time.perf_counter() - before < 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('stages = ["relu",\n"abs"\n"tanh"]', "line 3"),
        ("stages = [\n'relu',\n\n]]", "line 4"),
        ("gray | relu", "line 1"),
        ("", "no list of stages"),
        ("# nothing\n", "no list of stages"),
        ('stages = "relu"', "no list of stages"),
        ("stages = 3", "no list of stages"),
        ("[stages]\nx = 1", "no list of stages"),
        ("stages = []", "stage"),
        ('stages = ["relu"]\nname = "net"', "line 2: there is 'name'"),
        ('name = "net"\n\nstages = ["relu"]', "line 1: there is 'name'"),
        ('stages = ["relu"]\n\n[meta]\nx = 1', "line 3: there is 'meta'"),
        ('stages = ["relu"]\nstage = "abs"', "line 2: there is 'stage'"),
        ('layers = ["relu"]', "'layers'"),
        ('stages = ["relu", 3]', "stage 2 is 3, which must be text"),
        ('stages = [["relu"]]', "stage 1 is ['relu'], which must be text"),
        ("stages = [{a = 1}]", "stage 1 is {'a': 1}, which must be text"),
        ('stages = ["relu", ""]', "stage 2, "),
        ('stages = ["relu", "filter [1"]', "stage 2, filter: "),
        (f"stages = {'[' * 5000}{']' * 5000}", ""),
        (f"stages = {LONG}", ""),
    ],
)
def test_a_toml_that_is_no_pipeline(text, says):
    message = complaint(write("p.toml", text))
    assert message.startswith("p.toml: ")
    assert says in message


@pytest.mark.parametrize(
    ("text", "line", "stage"),
    [
        ('stages = ["relu", "nope"]', 1, "stage 2, nope"),
        ('stages = [\n  "relu",\n  "nope",\n]', 3, "stage 2, nope"),
        ('stages = [\n  "nope",\n  "relu",\n]', 2, "stage 1, nope"),
        ('# what follows\n\nstages = [\n  "relu",\n\n  # and then\n  "nope",\n]', 7, "stage 2, nope"),
        ('stages = [\n  "relu", "relu",\n  "relu",\n  "relu 3",\n]', 4, "stage 4, relu"),
        ('stages = [\n  "relu",\n  \'filter "1 x"\',\n]', 3, "stage 2, filter"),
        ('stages = [\n  "relu",\n  "filter \\"1 x\\"",\n]', 3, "stage 2, filter"),
        ('stages = [\n  "maxpool 2",\n  "pool 2",\n]', 3, "stage 2, pool"),
        ('# first a maxpool\nstages = [\n  "maxpool",\n]', 3, "stage 1, maxpool"),
        ('stages = [\n  "relu",  # then maxpool\n  "maxpool",\n]', 3, "stage 2, maxpool"),
    ],
)
def test_a_bad_stage_of_a_toml_names_its_line(text, line, stage):
    assert complaint(write("p.toml", text)).startswith(f"p.toml: line {line}, {stage}: ")


def test_files_that_cannot_be_read(folder):
    assert complaint("nothere.toml").startswith("nothere.toml: ")
    assert "No such file" in complaint("nothere.toml")
    (folder / "dir.toml").mkdir()
    assert complaint("dir.toml").startswith("dir.toml: ")
    (folder / "latin.toml").write_bytes('stages = ["größe"]'.encode("latin-1"))
    assert "UTF-8" in complaint("latin.toml")
    (folder / "large.toml").write_bytes(b"#" * (2**20 + 1))
    assert "1 MiB" in complaint("large.toml")
    assert complaint("\0.toml")


def parsed(text):
    """The pipeline, or None if it was refused in one line; anything else that is raised gets through."""
    try:
        return Pipeline.parse(text)
    except ConvcliError as error:
        message = str(error)
    assert len(message.splitlines()) == 1
    return None


PIECES = [
    *STAGES,
    *NAMED,
    *"|[]()'\"*=:;,.-x%/\\ \n\t\0",
    "3x3",
    "out=",
    "init=random",
    "weights=",
    "bias=",
    "12",
    "0.5",
    ".npy",
    ".toml",
]


@given(
    st.one_of(
        st.text(max_size=40),
        st.lists(st.sampled_from(PIECES), max_size=12).map("".join),
        st.lists(st.sampled_from(PIECES), max_size=8).map(" ".join),
    )
)
@example("* 3")
@example("relu * ٣")
@example("relu * ²")
@example("maxpool ²")
@example("edge padding=²")
@example("\udcff")
@example("filter '\udcff.npy'")
@example("filter '" + "x" * 5000 + ".npy'")
@example("conv 3x3 bias='a\nb\u2028c.npy'")
@example("'a\nb'")
@example("[a\nb] 3")
@example("edge 'a\u2028b'")
@example("edge [a\nb]=3")
@example("filter gaussian:'\n'")
@example("conv weights='a.npz:b\nc'")
def test_any_text_is_a_pipeline_or_one_line(text):
    pipeline = parsed(text)
    assert pipeline is None or parsed(str(pipeline)) == pipeline


@given(
    st.one_of(
        st.text(st.characters(codec="utf-8"), max_size=60),
        st.lists(st.sampled_from([*PIECES, "stages = ", '"relu"', "#"]), max_size=12).map("".join),
    )
)
def test_any_toml_is_a_pipeline_or_one_line(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "fuzz.toml"
    for body in (text, f"stages = [{text}]", f"stages = {json.dumps(['relu', text])}"):
        write(path, body)
        pipeline = parsed(str(path))
        if pipeline:
            write(path, pipeline.to_toml())
            assert same_stages(Pipeline.parse(str(path)), pipeline)


def test_a_stage_of_its_own():
    stage = parse_stage("conv 5x5 * 10")
    assert (stage.text, stage.repeat) == ("conv 5x5", 10)
    assert same_layer(stage.layer, Conv(shape=(5, 5)))
    assert not same_layer(stage.layer, replace(stage.layer, stride=2))  # the judge can fail
    with pytest.raises(ConvcliError, match="empty"):
        parse_stage("")
