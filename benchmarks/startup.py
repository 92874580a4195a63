"""Start-up: a whole ``convcli edge`` of a 512x512 PNG beside the bare imports it can't do without.

    python benchmarks/startup.py

Both in turn, 15 times after one warm-up; medians and their difference in milliseconds. The promise is at most 60.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 15
PICTURE = Path(__file__).parents[1] / "sample_images" / "camera.png"
PROGRAM = str(Path(sys.executable).with_name("convcli"))
BARE = [sys.executable, "-c", "import numpy, PIL.Image, typer"]


def seconds(command: list[str]) -> float:
    """Wall time of one process."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Print the medians."""
    with tempfile.TemporaryDirectory() as folder:
        output = str(Path(folder) / "edge.png")
        run = [PROGRAM, "edge", str(PICTURE), "-o", output, "-f"]
        commands = {
            "bare imports": BARE,
            "convcli edge": run,
            "convcli --version": [PROGRAM, "--version"],
            "convcli --help": [PROGRAM, "--help"],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(RUNS + 1):
            for name, command in commands.items():
                times[name].append(1000 * seconds(command))
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    for name, value in medians.items():
        print(f"{name:18} {value:6.1f} ms")
    print(f"edge over bare     {medians['convcli edge'] - medians['bare imports']:6.1f} ms")


if __name__ == "__main__":
    main()
