"""``edge`` from file to file as whole processes, beside OpenCV, libvips, ImageMagick and GraphicsMagick.

``python benchmarks/files.py [RUNS]``: medians of so many runs, the programs in turn. A 12-megapixel photograph with
noise is made of a sample. Peers that are not installed are left out.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

SAMPLE = Path(__file__).parents[1] / "sample_images" / "coffee.png"
HEIGHT, WIDTH, SMALL = 3000, 4000, 512
QUALITY = 90
OPENCV = """
import sys, cv2, numpy as np
kernel = np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]], np.float32)
image = cv2.filter2D(cv2.imread(sys.argv[1]), -1, kernel)
cv2.imwrite(sys.argv[2], image, [cv2.IMWRITE_JPEG_QUALITY, 90])
"""
TAPS = "-1,-1,-1,-1,8,-1,-1,-1,-1"
MATRIX = "3 3 1 0\n-1 -1 -1\n-1 8 -1\n-1 -1 -1\n"  # libvips' form of them
CASES = {  # input, output, and the ratios to be reached
    "JPEG to PNG": (
        "photo.jpg",
        "out.png",
        {"OpenCV": 0.85, "libvips": 0.3, "ImageMagick": 0.15, "GraphicsMagick": 0.15},
    ),
    "JPEG to JPEG": (
        "photo.jpg",
        "out.jpg",
        {"OpenCV": 1.35, "libvips": 1.5, "ImageMagick": 0.6, "GraphicsMagick": 1.0},
    ),
    "PNG to PNG": (
        "photo.png",
        "out.png",
        {"OpenCV": 0.9, "libvips": 0.2, "ImageMagick": 0.12, "GraphicsMagick": 0.12},
    ),
    "512x512 PNG to PNG": ("small.png", "out.png", {"ImageMagick": 1.4}),
}


def make_photographs(folder: Path) -> None:
    """The sample enlarged, with the noise of a camera."""
    with Image.open(SAMPLE) as sample:
        large = np.asarray(sample.convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.float32)
    noise = np.random.default_rng(0).normal(0, 6, large.shape)
    photograph = Image.fromarray(np.clip(large + noise, 0, 255).astype(np.uint8))
    photograph.save(folder / "photo.jpg", quality=QUALITY)
    with Image.open(folder / "photo.jpg") as saved:
        saved.save(folder / "photo.png")
    photograph.crop((0, 0, SMALL, SMALL)).save(folder / "small.png")


def commands(folder: Path, source: str, target: str) -> dict[str, list[str]]:
    """The call of each program that is installed."""
    before, after = str(folder / source), str(folder / target)
    jpeg = target.endswith(".jpg")
    convert = shutil.which("magick") or shutil.which("convert-im6.q16") or "convert"
    quality = ["-quality", str(QUALITY)] if jpeg else []
    found = {
        "convcli": [str(Path(sys.executable).with_name("convcli")), "edge", before, "-o", after, "-f", "-q"]
        + (["--quality", str(QUALITY)] if jpeg else []),
        "OpenCV": [sys.executable, str(folder / "opencv.py"), before, after],
        "libvips": ["vips", "conv", before, f"{after}[Q={QUALITY}]" if jpeg else after, str(folder / "edge.mat")],
        "ImageMagick": [convert, before, "-morphology", "Convolve", f"3x3: {TAPS}", *quality, after],
        "GraphicsMagick": ["gm", "convert", before, "-convolve", TAPS, *quality, after],
    }
    return {name: call for name, call in found.items() if shutil.which(call[0])}


def seconds(call: list[str], environment: dict[str, str]) -> float:
    """The wall time of a process."""
    start = time.perf_counter()
    subprocess.run(call, check=True, env=environment, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Print the table."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
    print("| edge, 12 megapixels | convcli, ms | peer | its ms | ratio | at most |\n|---|---:|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_photographs(folder)
        (folder / "opencv.py").write_text(OPENCV)
        (folder / "edge.mat").write_text(MATRIX)
        for case, (source, target, limits) in CASES.items():
            calls = {
                name: call for name, call in commands(folder, source, target).items() if name in {"convcli", *limits}
            }
            times: dict[str, list[float]] = {name: [] for name in calls}
            for _ in range(runs):
                for program, call in calls.items():
                    times[program].append(1000 * seconds(call, environment))
            medians = {program: statistics.median(found) for program, found in times.items()}
            for program, limit in limits.items():
                if program in medians:
                    ours, theirs = medians["convcli"], medians[program]
                    print(
                        f"| {case} | {ours:.0f} | {program} | {theirs:.0f} | {ours / theirs:.2f} | {limit} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
