"""Many files: ``edge`` over a folder of photographs beside an OpenCV script on two processes, libvips and mogrify.

``python benchmarks/batch.py [COUNT]``: so many photographs of 2 megapixels (300) are made of the samples by crops and
noise; files a second of each program. Then the start and the memory of a folder of 100,000 names, and the time of a
small file. Peers that are not installed are left out.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

SAMPLES = Path(__file__).parents[1] / "sample_images"
HEIGHT, WIDTH, NAMES, WATCHED = 1224, 1632, 100_000, 2000
CONVCLI = str(Path(sys.executable).with_name("convcli"))
TAPS = "-1,-1,-1,-1,8,-1,-1,-1,-1"
MATRIX = "3 3 1 0\n-1 -1 -1\n-1 8 -1\n-1 -1 -1\n"  # libvips' form of them
OPENCV = """
import glob, os, sys, cv2, numpy as np
from multiprocessing import Pool
KERNEL = np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]], np.float32)
folder, output, suffix = sys.argv[1:]
cv2.setNumThreads(1)
def one(path):
    name = os.path.splitext(os.path.basename(path))[0] + suffix
    options = [cv2.IMWRITE_JPEG_QUALITY, 90] if suffix == ".jpg" else []
    cv2.imwrite(os.path.join(output, name), cv2.filter2D(cv2.imread(path), -1, KERNEL), options)
if __name__ == "__main__":
    with Pool(2) as pool:
        pool.map(one, sorted(glob.glob(folder + "/*.jpg")), chunksize=4)
"""


def make_photographs(folder: Path, count: int) -> None:
    """Crops of enlarged samples, with noise."""
    large = []
    for name in ("coffee.png", "chelsea.png"):
        with Image.open(SAMPLES / name) as sample:
            enlarged = sample.convert("RGB").resize((WIDTH * 3 // 2, HEIGHT * 3 // 2), Image.Resampling.BICUBIC)
        large.append(np.asarray(enlarged, np.float32))
    for number in range(count):
        random = np.random.default_rng(number)
        top, left = random.integers(0, HEIGHT // 2), random.integers(0, WIDTH // 2)
        crop = large[number % 2][top : top + HEIGHT, left : left + WIDTH]
        noisy = np.clip(crop + random.normal(0, 5, crop.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"p{number:03d}.jpg", quality=90)


def rates(folder: Path, script: Path, suffix: str, count: int, environment: dict[str, str]) -> None:
    """Files a second of each program."""
    edge = [CONVCLI, "edge", str(folder), "-q"] + (["--format", "png"] if suffix == ".png" else ["--quality", "90"])
    matrix = script.with_name("edge.mat")
    target = f"OUT/$(basename $1 .jpg){suffix}"
    calls = {
        "convcli": [*edge, "-o", "OUT/"],
        "convcli -j 1 --threads 1": [*edge, "-o", "OUT/", "-j", "1", "--threads", "1"],
        "OpenCV": [sys.executable, str(script), str(folder), "OUT", suffix],
        "libvips": ["sh", "-c", f"ls {folder}/*.jpg | xargs -P2 -n1 sh -c 'vips conv $1 {target} {matrix}' sh"],
        "mogrify": ["mogrify", "-path", "OUT", "-format", suffix[1:], "-morphology", "Convolve", f"3x3: {TAPS}"],
    }
    seconds: dict[str, float] = {}
    for name, call in calls.items():
        if not shutil.which("vips" if name == "libvips" else call[0]):
            continue
        if name == "mogrify":
            call = [*call, *map(str, sorted(folder.glob("*.jpg"))[: count // 10])]  # it takes its time
        with tempfile.TemporaryDirectory() as output:
            start = time.perf_counter()
            subprocess.run(
                [word.replace("OUT", output) for word in call],
                check=True,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            seconds[name] = (time.perf_counter() - start) / (count // 10 if name == "mogrify" else count)
    for name, one in seconds.items():
        print(f"| JPEG to {suffix[1:]} | {name} | {1 / one:.1f} | {one / seconds['convcli']:.2f} |", flush=True)


def many_names(folder: Path, environment: dict[str, str]) -> None:
    """Start, memory and time a file of a folder of very many small pictures."""
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(folder / "0.png")
    data = (folder / "0.png").read_bytes()
    for number in range(1, NAMES):
        (folder / f"{number}.png").write_bytes(data)
    with tempfile.TemporaryDirectory() as output:
        start = time.perf_counter()
        call = [CONVCLI, "edge", str(folder), "-o", f"{output}/", "-q", "-j", "2"]
        process = subprocess.Popen(call, stdout=subprocess.PIPE, env=environment)
        assert process.stdout
        process.stdout.readline()
        first = time.perf_counter() - start
        for _ in range(WATCHED):
            process.stdout.readline()
        each = (time.perf_counter() - start - first) / WATCHED
        status = Path(f"/proc/{process.pid}/status").read_text()
        memory = next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]
        process.send_signal(signal.SIGINT)
        process.communicate()
    times = f"first of {NAMES:,} files after {first:.2f} s, {1000 * each:.2f} ms a file"
    print(f"{times}, {int(memory) / 1024:.0f} MB at most")


def main() -> None:
    """Print the tables."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
    print("| edge, 2 megapixels | program | files/s | convcli's are as many times that |\n|---|---|---:|---:|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "photographs"
        folder.mkdir()
        make_photographs(folder, count)
        script = Path(name) / "opencv.py"
        script.write_text(OPENCV)
        (Path(name) / "edge.mat").write_text(MATRIX)
        for suffix in (".jpg", ".png"):
            rates(folder, script, suffix, count, environment)
        names = Path(name) / "names"
        names.mkdir()
        many_names(names, environment)


if __name__ == "__main__":
    main()
