"""Where results go, and what is never harmed: outputs, folders, links, existing files, odd names, full disks."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pictures import files, tree

ODD_NAMES = [
    "a b.png",
    " .png",
    "[1].png",
    "[1 2; 3 4]",
    "{stem}.png",
    "100%.png",
    "ä€😀.png",
    "new\nline.png",
    "q'\".png",
]
ODD_NAMES += ["-x.png", "--help.png", "a;b|c&.png", "*.png", "$HOME.png", os.fsdecode(b"\xff\xfe.png"), "\x1b[31m.png"]


def picture(path, level=100):
    """A small picture of one level, its folder made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((5, 6), level, np.uint8)).save(path, format="JPEG" if path.suffix == ".jpg" else "PNG")
    return path


def level(path):
    with Image.open(path) as image:
        return np.asarray(image)[0, 0].tolist()


NEGATIVE = ("filter", "-k", "-1", "--bias", "1", "-q")  # level 100 becomes 155


@pytest.fixture
def a(tmp_path):
    return picture(tmp_path / "a.png")


# -o


@pytest.mark.parametrize(
    ("args", "output"),
    [
        (("edge", "a.png"), "a.edge.png"),
        (("gaussian:2", "a.png"), "a.gaussian-2.png"),
        (("motion:size=5,angle=30", "a.png"), "a.motion-size-5-angle-30.png"),
        (("filter", "a.png", "-k", "1"), "a.filter.png"),
        (("edge", "a.png", "--format", "npy"), "a.edge.npy"),
        (("edge", "a.png", "--format", "jpeg"), "a.edge.jpeg"),
        (("edge", "a.png", "-o", "b.jpg"), "b.jpg"),
        (("edge", "a.png", "--output", "b.PNG"), "b.PNG"),
        (("edge", "a.png", "--output=b.tif"), "b.tif"),
        (("edge", "a.png", "-o", "new/"), "new/a.png"),
        (("edge", "a.png", "-o", "new/deep/"), "new/deep/a.png"),
        (("edge", "a.png", "-o", "there"), "there/a.png"),
        (("edge", "a.png", "-o", "there/"), "there/a.png"),
        (("edge", "a.png", "-o", "new/", "--format", "webp"), "new/a.webp"),
        (("edge", "a.png", "-o", "{stem}-{command}{ext}"), "a-edge.png"),
        (("gaussian:sigma=2", "a.png", "-o", "{command}/{stem}.jpg"), "gaussian-sigma-2/a.jpg"),
        (("edge", "sub/b.png"), "sub/b.edge.png"),
        (("edge", "sub/b.png", "-o", "new/"), "new/b.png"),
        (("edge", "./a.png"), "a.edge.png"),
    ],
)
def test_where_the_result_goes(args, output, invoke, a, tmp_path):
    (tmp_path / "there").mkdir()
    picture(tmp_path / "sub/b.png")
    before = set(files(tmp_path))
    assert invoke(*args, "-q") == (0, f"{output}\n".encode(), b"")
    assert set(files(tmp_path)) - before == {output}


def test_the_name_of_pools(invoke, a):
    assert invoke("pool", "a.png", "--max", "2", "-q") == (0, b"a.pool.png\n", b"")


def test_absolute_paths(invoke, a, tmp_path):
    target = tmp_path / "out" / "x.png"
    assert invoke("edge", a, "-o", f"{tmp_path}/out/", "-q") == (0, f"{target.with_name('a.png')}\n".encode(), b"")
    assert invoke("edge", a, "-o", target, "-q") == (0, f"{target}\n".encode(), b"")


def test_the_suffix_says_the_format(invoke, a, tmp_path):
    assert invoke("edge", "a.png", "-o", "b.jpg", "-q").status == 0
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.format == "JPEG"


@pytest.mark.parametrize("template", ["{foo}.png", "{stem}{}.png", "{0}.png", "{stem!r}.png", "{stem:>9}.png"])
def test_an_unknown_field_of_a_template(template, invoke, a, tmp_path):
    before = tree(tmp_path)
    done = invoke("edge", "a.png", "-o", template)
    assert (done.status, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"convcli: -o ")
    assert b"there are {stem} {ext} {parent} {command}" in done.stderr
    assert tree(tmp_path) == before


def test_a_field_in_a_name_is_not_filled(invoke, tmp_path):
    picture(tmp_path / "{ext}{stem}.png")
    assert invoke("edge", "{ext}{stem}.png", "-o", "x-{stem}.png", "-q") == (0, b"x-{ext}{stem}.png\n", b"")


def test_several_inputs(invoke, a, tmp_path):
    picture(tmp_path / "b.jpg", 100)
    assert invoke(*NEGATIVE, "a.png", "b.jpg") == (0, b"a.filter.png\nb.filter.jpg\n", b"")
    assert invoke(*NEGATIVE, "a.png", "b.jpg", "-o", "out/") == (0, b"out/a.png\nout/b.jpg\n", b"")
    assert level(tmp_path / "out/a.png") == 155
    done = invoke(*NEGATIVE, "a.png", "b.jpg", "-o", "t/{stem}.{command}.png")
    assert done == (0, b"t/a.filter.png\nt/b.filter.png\n", b"")


COLLISIONS = [
    (("a.png", "b.png", "-o", "x.png"), b"a.png and b.png would both be written to x.png"),
    (("a.png", "b.png", "-o", "{command}.png"), b"a.png and b.png would both be written to edge.png"),
    (("a.png", "a.jpg", "-o", "{stem}.png"), None),
    (("a.png", "a.jpg", "-o", "out/{stem}.png"), b"a.png and a.jpg would both be written to out/a.png"),
    (("a.png", "a.jpg", "-o", "out/", "--format", "png"), b"a.png and a.jpg would both be written to out/a.png"),
    (("a.png", "sub/a.png", "-o", "out/"), b"a.png and sub/a.png would both be written to out/a.png"),
    (("a.png", "b.png", "-o", "-"), b"-o - takes one input"),
]


@pytest.mark.parametrize(("args", "message"), COLLISIONS, ids=[" ".join(args) for args, _ in COLLISIONS])
def test_several_inputs_to_one_output(args, message, invoke, a, tmp_path):
    for name in ("b.png", "a.jpg", "sub/a.png"):
        picture(tmp_path / name)
    before = tree(tmp_path)
    done = invoke("edge", *args)
    assert (done.status, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"convcli: ")
    assert done.stderr.count(b"\n") == 1
    assert message is None or message in done.stderr
    assert tree(tmp_path) == before


def test_the_same_input_twice(invoke, a, tmp_path):
    before = tree(tmp_path)
    for again in ("a.png", "./a.png"):
        done = invoke("edge", "a.png", again)
        assert (done.status, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert tree(tmp_path) == before


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="names that differ in case are one file there")
def test_names_that_differ_in_case_alone_are_one_file_on_some_disks(invoke, a, tmp_path):
    picture(tmp_path / "A.png", 50)
    refused = invoke(*NEGATIVE, "a.png", "A.png", "-o", "out/")
    assert (refused.status, refused.stdout) == (2, b"")
    assert not (tmp_path / "out").exists()


# Folders


@pytest.fixture
def album(tmp_path):
    """A folder as they are: sub-folders, hidden files, links, other things."""
    for name in ("b.png", "a.jpg", "sub/c.PNG", "sub/deep/d.png", ".hidden.png", ".cache/e.png", "elsewhere/f.png"):
        picture(tmp_path / ("" if name.startswith("elsewhere") else "album") / name)
    (tmp_path / "album/notes.txt").write_text("1 2\n")
    (tmp_path / "album/array.npy").write_bytes(b"")
    (tmp_path / "album/table.csv").write_text("1,2\n")
    (tmp_path / "album/link").symlink_to("../elsewhere", target_is_directory=True)
    (tmp_path / "album/round").symlink_to(".", target_is_directory=True)
    (tmp_path / "album/broken.png").symlink_to("nowhere.png")
    return tmp_path / "album"


def test_a_folder(invoke, album, tmp_path):
    assert invoke(*NEGATIVE, "album", "-o", "out/") == (0, b"out/a.jpg\nout/b.png\n", b"")
    assert files(tmp_path / "out") == ["a.jpg", "b.png"]


def test_a_folder_and_its_folders(invoke, album, tmp_path):
    before = tree(album)
    paths = b"out/a.jpg\nout/b.png\nout/sub/c.PNG\nout/sub/deep/d.png\n"
    for verb in (NEGATIVE, (*NEGATIVE, "-f")):
        assert invoke(*verb, "album/", "-r", "-o", "out/") == (0, paths, b"")
    assert files(tmp_path / "out") == ["a.jpg", "b.png", "sub/c.PNG", "sub/deep/d.png"]
    assert level(tmp_path / "out/sub/deep/d.png") == 155
    assert tree(album) == before


def test_a_folder_through_a_template(invoke, album, tmp_path):
    done = invoke(*NEGATIVE, "album", "-r", "-o", "out/{parent}/{stem}_{command}.png")
    assert done.status == 0
    assert files(tmp_path / "out") == ["a_filter.png", "b_filter.png", "sub/c_filter.png", "sub/deep/d_filter.png"]
    assert [Path(line).resolve() for line in done.stdout.decode().splitlines()] == [
        (tmp_path / "out" / name).resolve() for name in files(tmp_path / "out")
    ]


def test_several_folders_keep_their_trees(invoke, album, tmp_path):
    done = invoke(*NEGATIVE, "album", "elsewhere", "-o", "out/")
    assert done == (0, b"out/a.jpg\nout/b.png\nout/f.png\n", b"")


def test_folders_with_the_same_name_inside_collide(invoke, album, tmp_path):
    picture(tmp_path / "elsewhere/b.png")
    done = invoke(*NEGATIVE, "album", "elsewhere", "-o", "out/")
    assert (done.status, done.stdout) == (2, b"")
    assert b"album/b.png and elsewhere/b.png would both be written to out/b.png" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_linked_to_is_taken_when_named(invoke, album):
    assert invoke(*NEGATIVE, "album/link", "-o", "out/") == (0, b"out/f.png\n", b"")


def test_a_link_to_a_picture_is_a_picture(invoke, album, tmp_path):
    (album / "z.png").symlink_to(tmp_path / "elsewhere/f.png")
    assert invoke(*NEGATIVE, "album", "-o", "out/").stdout == b"out/a.jpg\nout/b.png\nout/z.png\n"
    assert not (tmp_path / "out/z.png").is_symlink()


def test_an_output_folder_inside_the_input_folder_is_not_taken(invoke, album, tmp_path):
    for _ in range(2):
        done = invoke(*NEGATIVE, "album", "-r", "-o", "album/out/", "-f")
        assert done.status == 0
        assert files(album / "out") == ["a.jpg", "b.png", "sub/c.PNG", "sub/deep/d.png"]


def test_the_folder_one_stands_in(invoke, album, monkeypatch):
    monkeypatch.chdir(album)
    assert invoke(*NEGATIVE, ".", "-o", "out/") == (0, b"out/a.jpg\nout/b.png\n", b"")
    assert invoke(*NEGATIVE, ".", "-o", "out/", "-f") == (0, b"out/a.jpg\nout/b.png\n", b"")


def test_the_output_folder_may_not_be_the_input_folder(invoke, album, tmp_path):
    before = tree(tmp_path)
    for args in (("-o", "album"), ("-o", "album/", "-f"), ("-o", "album/../album/", "-f")):
        done = invoke(*NEGATIVE, "album", *args)
        assert (done.status, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
        assert b"--in-place" in done.stderr
    assert tree(tmp_path) == before


def test_a_folder_in_place(invoke, album):
    done = invoke(*NEGATIVE, "album", "-r", "--in-place")
    assert done.status == 0
    assert level(album / "b.png") == level(album / "sub/deep/d.png") == 155
    assert level(album / ".hidden.png") == level(album / ".cache/e.png") == 100


# Existing files


def test_an_existing_output_is_refused(invoke, a, tmp_path):
    (tmp_path / "b.png").write_text("old")
    for args in ((), ("--existing", "error")):
        done = invoke("edge", "a.png", "-o", "b.png", *args)
        assert (done.status, done.stdout) == (1, b"")
        assert done.stderr.startswith(b"convcli: a.png: b.png exists; ")
        assert done.stderr.count(b"\n") == 1
    assert (tmp_path / "b.png").read_text() == "old"
    assert files(tmp_path) == ["a.png", "b.png"]


def test_existing_skip(invoke, a, tmp_path):
    (tmp_path / "b.png").write_text("old")
    done = invoke("edge", "a.png", "-o", "b.png", "--existing", "skip")
    assert (done.status, done.stdout) == (0, b"")
    assert b"skipped" in done.stderr
    assert (tmp_path / "b.png").read_text() == "old"


@pytest.mark.parametrize("args", [("--existing", "overwrite"), ("-f",), ("--force",), ("--existing", "skip", "-f")])
def test_existing_overwrite(args, invoke, a, tmp_path):
    (tmp_path / "b.png").write_text("old")
    assert invoke(*NEGATIVE, "a.png", "-o", "b.png", *args) == (0, b"b.png\n", b"")
    assert level(tmp_path / "b.png") == 155
    assert files(tmp_path) == ["a.png", "b.png"]


def test_existing_rename(invoke, a, tmp_path):
    (tmp_path / "b.png").write_text("old")
    names = [
        invoke(*NEGATIVE, "a.png", "-o", "b.png", "--existing", "rename").stdout.decode().strip() for _ in range(3)
    ]
    assert names == ["b-1.png", "b-2.png", "b-3.png"]
    assert (tmp_path / "b.png").read_text() == "old"
    assert [level(tmp_path / name) for name in names] == [155] * 3


def test_a_dry_run_prints_the_name_that_would_be_taken(invoke, a, tmp_path):
    (tmp_path / "b.png").write_text("old")
    assert invoke("edge", "a.png", "-o", "b.png", "--existing", "rename", "-n", "-q").stdout == b"b-1.png\n"


def test_an_existing_folder_or_broken_link_in_the_way(invoke, a, tmp_path):
    (tmp_path / "out/a.png").mkdir(parents=True)
    done = invoke("edge", "a.png", "-o", "out/", "-f")
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert done.stderr.startswith(b"convcli: a.png: ")
    (tmp_path / "b.png").symlink_to("nowhere.png")
    done = invoke("edge", "a.png", "-o", "b.png")
    assert (done.status, done.stderr[:29]) == (1, b"convcli: a.png: b.png exists;")
    assert str((tmp_path / "b.png").readlink()) == "nowhere.png"
    assert files(tmp_path) == ["a.png", "b.png"]


def test_the_mode_of_a_replaced_file_is_kept(invoke, a, tmp_path):
    (tmp_path / "b.png").write_text("old")
    (tmp_path / "b.png").chmod(0o600)
    assert invoke("edge", "a.png", "-o", "b.png", "-f").status == 0
    assert (tmp_path / "b.png").stat().st_mode & 0o777 == 0o600


def test_the_mode_of_a_new_file_follows_the_umask(run, a, tmp_path):
    before = os.umask(0o027)
    try:
        assert run("edge", "a.png", "-o", "b.png").returncode == 0
    finally:
        os.umask(before)
    assert (tmp_path / "b.png").stat().st_mode & 0o777 == 0o640


# Inputs are never harmed


@pytest.mark.parametrize("force", [(), ("-f",), ("--existing", "overwrite"), ("--existing", "rename")])
@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("a.png", "a.png"),
        ("a.png", "./a.png"),
        ("./a.png", "a.png"),
        ("a.png", "sub/../a.png"),
        ("a.png", "link.png"),
        ("link.png", "a.png"),
        ("link.png", "link.png"),
        ("a.png", "linked/a.png"),
        ("a.png", "linked/"),
        ("a.png", "."),
        ("a.png", "{stem}{ext}"),
        ("a.png", "{stem}.png"),
    ],
)
def test_an_input_is_never_overwritten(source, output, force, invoke, a, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.png").symlink_to("a.png")
    (tmp_path / "linked").symlink_to(".", target_is_directory=True)
    before = tree(tmp_path)
    done = invoke("edge", source, "-o", output, *force)
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert b"only --in-place overwrites inputs" in done.stderr
    assert tree(tmp_path) == before


def test_an_input_is_never_overwritten_by_its_own_hard_link(invoke, a, tmp_path):
    (tmp_path / "hard.png").hardlink_to(a)
    invoke("edge", "a.png", "-o", "hard.png", "-f", "-q")
    assert level(a) == 100


def test_one_input_is_never_overwritten_by_another(invoke, a, tmp_path):
    picture(tmp_path / "a.edge.png", 7)
    before = tree(tmp_path)
    done = invoke("edge", "a.png", "a.edge.png", "-f")
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert b"the output a.edge.png is an input" in done.stderr
    assert tree(tmp_path) == before


def test_a_report_never_overwrites_an_input(invoke, a, tmp_path):
    (tmp_path / "m.csv").write_text("1,2\n3,4\n")
    before = tree(tmp_path)
    done = invoke("edge", "m.csv", "--report", "m.csv")
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert tree(tmp_path) == before


def test_a_report_is_no_output_at_the_same_time(invoke, a, tmp_path):
    before = tree(tmp_path)
    done = invoke("edge", "a.png", "-o", "r.csv", "--report", "./r.csv")
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert tree(tmp_path) == before


def test_a_special_file_is_never_replaced_by_a_plain_one(run, a, tmp_path):
    os.mkfifo(tmp_path / "b.png")  # as /dev/null would be, with --format png
    with subprocess.Popen(["cat", tmp_path / "b.png"], stdout=subprocess.PIPE) as reader:
        run("edge", "a.png", "-o", "b.png", "-f")
        reader.kill()
    assert (tmp_path / "b.png").is_fifo()


def test_in_place(invoke, a, tmp_path):
    assert invoke(*NEGATIVE, "a.png", "--in-place") == (0, b"a.png\n", b"")
    assert level(a) == 155
    assert files(tmp_path) == ["a.png"]


def test_in_place_through_a_link_keeps_the_link(invoke, a, tmp_path):
    (tmp_path / "link.png").symlink_to("a.png")
    assert invoke(*NEGATIVE, "link.png", "--in-place") == (0, b"link.png\n", b"")
    assert (level(a), str((tmp_path / "link.png").readlink())) == (155, "a.png")


def test_in_place_of_a_broken_file_leaves_it_alone(invoke, a, tmp_path):
    a.write_bytes(a.read_bytes()[:-30])
    before = tree(tmp_path)
    assert invoke(*NEGATIVE, "a.png", "--in-place").status == 1
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (("a.png", "--in-place", "-o", "b.png"), b"--in-place"),
        (("-", "--in-place"), b"--in-place"),
        (("[1 2]", "--in-place"), b"--in-place"),
        (("a.png", "./a.png", "--in-place"), b"a.png"),
    ],
)
def test_in_place_is_for_files(args, word, invoke, a, tmp_path):
    before = tree(tmp_path)
    done = invoke("edge", *args)
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert word in done.stderr
    assert tree(tmp_path) == before


# Dry runs, failures, and carrying on


def test_a_dry_run_writes_nothing(invoke, album, tmp_path):
    before = tree(tmp_path)
    done = invoke("edge", "album", "-r", "-o", "out/", "-n", "-q")
    assert done == (0, b"out/a.jpg\nout/b.png\nout/sub/c.PNG\nout/sub/deep/d.png\n", b"")
    assert invoke("edge", "album/b.png", "--dry-run", "-q") == (0, b"album/b.edge.png\n", b"")
    assert invoke("edge", "album", "--in-place", "-n", "-q") == (0, b"album/a.jpg\nalbum/b.png\n", b"")
    assert tree(tmp_path) == before


def test_a_dry_run_finds_what_is_missing(invoke, a, tmp_path):
    done = invoke("edge", "a.png", "nothing.png", "-n", "-q")
    assert done == (1, b"a.edge.png\n", b"convcli: nothing.png: no such file\n")
    assert files(tmp_path) == ["a.png"]


def broken(folder):
    """One bad file of each kind among good ones."""
    for name in ("1.png", "3.png", "5.png"):
        picture(folder / name)
    (folder / "2.png").write_text("no picture")
    (folder / "4.png").write_bytes((folder / "1.png").read_bytes()[:-30])


def test_one_bad_file_does_not_stop_the_others(invoke, tmp_path):
    broken(tmp_path)
    done = invoke("edge", "1.png", "2.png", "3.png", "4.png", "nothing.png", "5.png", "-q")
    assert (done.status, done.stdout) == (1, b"1.edge.png\n3.edge.png\n5.edge.png\n")
    lines = done.stderr.decode().splitlines()
    assert [line.split(": ")[1] for line in lines] == ["2.png", "4.png", "nothing.png"]
    assert all(line.startswith("convcli: ") for line in lines)


def test_one_bad_file_in_a_folder(invoke, tmp_path):
    broken(tmp_path / "in")
    done = invoke("edge", "in", "-o", "out/", "-q")
    assert (done.status, done.stdout) == (1, b"out/1.png\nout/3.png\nout/5.png\n")
    assert files(tmp_path / "out") == ["1.png", "3.png", "5.png"]


def test_fail_fast(invoke, tmp_path):
    broken(tmp_path)
    done = invoke("edge", "1.png", "2.png", "3.png", "--fail-fast", "-q", "-j", "1")
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (1, b"1.edge.png\n", 1)
    assert not (tmp_path / "3.edge.png").exists()


def test_fail_fast_reports_what_was_done(invoke, tmp_path):
    broken(tmp_path)
    done = invoke("edge", "nothing.png", "1.png", "--fail-fast", "--report", "r.txt", "-q", "-j", "1")
    assert (done.status, done.stdout) == (1, b"")
    assert "nothing.png" in (tmp_path / "r.txt").read_text()


def test_a_too_small_picture_does_not_stop_the_others(invoke, tmp_path, samples):
    picture(tmp_path / "small.png")
    done = invoke("box:7", "small.png", samples / "brick.png", "-p", "valid", "-o", "out/", "-q")
    assert (done.status, done.stdout) == (1, b"out/brick.png\n")


# Odd names


@pytest.mark.parametrize("name", ODD_NAMES, ids=range(len(ODD_NAMES)))
def test_odd_names(name, invoke, tmp_path):
    picture(tmp_path / name)
    shown = os.fsencode(name)
    before = files(tmp_path)
    done = invoke("edge", "-q", "-o", "out/", "--", name, "missing.png")
    if name.endswith("]"):  # no suffix: its first bytes say what to write
        shown, name = shown + b".png", name + ".png"
    assert (done.status, done.stdout) == (1, b"out/" + shown + b"\n")
    assert done.stderr == b"convcli: missing.png: no such file\n"
    assert files(tmp_path) == sorted([*before, f"out/{name}"])
    bad = tmp_path / name
    bad.write_bytes(b"x")
    done = invoke("edge", "-o", "out2/", "--", name)
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert done.stderr.startswith(b"convcli: ")
    assert b"\x1b" not in done.stderr
    done.stderr.decode("utf-8")
    done = invoke("edge", "./", "-o", "out3/", "-q")  # the same name met in a folder
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)


@pytest.mark.skipif(not Path("/bin/bash").exists(), reason="needs bash")
def test_a_process_as_a_file(a, tmp_path):
    convcli = f"{shlex.quote(sys.executable)} -m convcli"
    script = f"{convcli} edge -q <(cat a.png) -o b.png"
    done = subprocess.run(["/bin/bash", "-c", script], cwd=tmp_path, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"b.png\n", b"")


def test_a_leading_dash_is_explained_or_taken(invoke, tmp_path):
    picture(tmp_path / "-x.png")
    assert invoke("edge", "-q", "--", "-x.png").stdout == b"-x.edge.png\n"
    assert invoke("edge", "-q", "./-x.png", "-f").stdout == b"-x.edge.png\n"
    done = invoke("edge", "-x.png")
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert b"-x" in done.stderr


def test_a_name_that_is_too_long(invoke, tmp_path):
    done = invoke("edge", "x" * 300 + ".png")
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)


def test_an_output_name_that_is_too_long(invoke, a, tmp_path):
    done = invoke("edge", "a.png", "-o", "x" * 300 + ".png")
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert done.stderr.startswith(b"convcli: a.png: ")


def test_a_long_name_leaves_room_for_a_temporary_one(invoke, a, tmp_path):
    name = "x" * 251 + ".png"
    assert invoke("edge", "a.png", "-o", name, "-q") == (0, f"{name}\n".encode(), b"")


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "POSIX"])
def test_names_survive_any_locale(locale, run, tmp_path):
    picture(tmp_path / "ä€.png")
    env = {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = run("edge", "ä€.png", env=env)
    assert (done.returncode, done.stdout) == (0, "ä€.edge.png\n".encode())
    assert b"Traceback" not in done.stderr


# Disks and folders that refuse


def test_a_folder_that_is_not_there(invoke, a, tmp_path):
    done = invoke("edge", "a.png", "-o", "nowhere/b.png")
    assert done == (1, b"", b"convcli: a.png: there is no folder nowhere to write in\n")
    assert files(tmp_path) == ["a.png"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
@pytest.mark.parametrize("output", ["/proc/x.png", "/proc/x/", "/proc/{stem}/b.png"])
def test_a_folder_that_can_not_be_written(output, invoke, a, tmp_path):
    done = invoke("edge", "a.png", "-o", output)
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert done.stderr.startswith(b"convcli: a.png: can't write /proc/")
    assert files(tmp_path) == ["a.png"]


def test_a_read_only_folder(invoke, a, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    if os.access(tmp_path / "locked", os.W_OK):
        pytest.skip("this user may write anywhere")
    for output in ("locked/b.png", "locked/", "locked/new/"):
        done = invoke("edge", "a.png", "-o", output)
        assert (done.status, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
        assert b"Permission denied" in done.stderr


def test_a_file_where_a_folder_should_be(invoke, a, tmp_path):
    (tmp_path / "out").write_text("a file")
    for output, status in (("out/", 2), ("out/b.png", 1), ("out/deep/", 2)):
        done = invoke("edge", "a.png", "-o", output)
        assert (done.status, done.stdout, done.stderr.count(b"\n")) == (status, b"", 1)
        assert done.stderr.startswith(b"convcli: a.png: " if status == 1 else b"convcli: -o: ")
    assert files(tmp_path) == ["a.png", "out"]


@pytest.mark.parametrize("report", ["nowhere/r.json", "a.png/r.csv", "/proc/r.txt"])
def test_a_report_that_can_not_be_written(report, invoke, a, tmp_path):
    done = invoke("edge", "a.png", "--report", report, "-q")
    assert done.status in (1, 2)
    assert done.stderr.startswith(b"convcli: --report: ")
    assert done.stderr.count(b"\n") == 1


def limited(script, cwd):
    convcli = f"{shlex.quote(sys.executable)} -m convcli"
    return subprocess.run(["sh", "-c", f"ulimit -f 8; {convcli} {script}"], cwd=cwd, capture_output=True, timeout=60)


@pytest.mark.parametrize(
    "args", ["-o b.png -f", "-o b.png --existing overwrite", "-o new.png", "-o new/", "--in-place"]
)
def test_a_full_disk_leaves_the_old_file_and_no_other(args, samples, tmp_path):
    (tmp_path / "c.png").write_bytes((samples / "chelsea.png").read_bytes())
    (tmp_path / "b.png").write_text("old")
    before = {name: data for name, data in tree(tmp_path).items() if data is not None}
    done = limited(f"blur c.png {args}", tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert done.stderr.startswith(b"convcli: c.png: can't write ")
    assert {name: data for name, data in tree(tmp_path).items() if data is not None} == before


def test_a_full_disk_does_not_stop_what_still_fits(samples, tmp_path):
    for name in ("chelsea.png", "text-6x8.png"):
        (tmp_path / name).write_bytes((samples / name).read_bytes())
    done = limited("blur chelsea.png text-6x8.png -q", tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"text-6x8.blur.png\n", 1)


def test_ctrl_c_leaves_nothing_half_written(samples, tmp_path):
    picture(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")  # nobody ever writes into it: reading waits
    command = [sys.executable, "-m", "convcli", "edge", "a.png", "b.png", "-q"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"a.edge.png\n"
        process.send_signal(2)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, b"")
    assert b"Traceback" not in err
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.edge.png", "a.png", "b.png"]


# What is kept, whatever is asked


@pytest.mark.parametrize("args", [("--report", "k.json"), ("-o", "k.json.png", "--report", "./k.json", "-f")])
def test_a_report_never_overwrites_the_kernel(args, invoke, a, tmp_path):
    (tmp_path / "k.json").write_text("[[1]]")
    done = invoke("filter", "a.png", "-k", "k.json", *args)
    assert (done.status, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert (tmp_path / "k.json").read_text() == "[[1]]"


def test_a_result_never_overwrites_the_kernel(invoke, a, tmp_path):
    kernel = picture(tmp_path / "k.png")
    before = kernel.read_bytes()
    assert invoke("filter", "a.png", "-k", "k.png", "-o", "k.png", "-f").status == 2
    assert kernel.read_bytes() == before


def test_foreign_files_among_the_inputs_do_not_stop_the_others(invoke, a, tmp_path):
    (tmp_path / "notes.md").write_text("no picture")
    shutil.copy(tmp_path / "a.png", tmp_path / "odd.jfif")  # a PNG by its first bytes
    done = invoke("edge", "a.png", "notes.md", "odd.jfif", "-o", "out/", "-q")
    assert (done.status, done.stdout) == (1, b"out/a.png\nout/odd.png\n")
    assert done.stderr.startswith(b"convcli: notes.md: not a picture")


def test_a_link_to_itself_does_not_stop_the_others(invoke, a, tmp_path):
    (tmp_path / "album").mkdir()
    (tmp_path / "album/loop.png").symlink_to("loop.png")
    picture(tmp_path / "album/b.png")
    assert invoke("edge", "album", "-o", "out/", "-q") == (0, b"out/b.png\n", b"")


def test_an_animation_is_not_cut_to_its_first_frame_in_place(invoke, tmp_path):
    frames = [Image.new("L", (4, 4), level) for level in (0, 100, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    before = (tmp_path / "a.gif").read_bytes()
    done = invoke("edge", "a.gif", "--in-place", "--frame", "1")
    assert (done.status, done.stdout) == (1, b"")
    assert b"has 3 frames" in done.stderr
    assert (tmp_path / "a.gif").read_bytes() == before
    assert invoke("identity", "a.gif", "--in-place", "-q").status == 0
    with Image.open(tmp_path / "a.gif") as made:
        assert made.n_frames == 3


def test_a_matrix_in_a_folder_of_results_is_a_matrix(invoke, tmp_path):
    assert invoke("filter", "[1 2]", "-k", "2", "-o", "out/", "-q") == (0, b"out/matrix.txt\n", b"")
    assert (tmp_path / "out/matrix.txt").read_text() == "2 4\n"


def test_the_work_of_naming_grows_with_the_files_not_with_their_square(monkeypatch, tmp_path):
    """Each input and each output is looked up a few times, however many there are."""
    from convcli import naming
    from convcli.sources import Inputs, Source
    from convcli.words import Existing

    looked_up = []
    identity = naming.identity
    monkeypatch.setattr(naming, "identity", lambda path: looked_up.append(path) or identity(path))
    paths = [tmp_path / f"{number}.png" for number in range(100)]
    sources = [Source(str(path), path, tmp_path) for path in paths]
    plan = naming.Plan(Inputs(sources), naming.Naming(f"{tmp_path}/out/", "edge", into_folder=True))
    naming.name_report("--report", tmp_path / "r.json", plan, [], Existing.ERROR)
    naming.check_traces(plan, tmp_path / "trace", ["edge"], [])
    assert len(list(plan)) == len(paths)
    assert len(looked_up) < 12 * len(paths)
