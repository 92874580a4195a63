"""Reports: rows and outcomes to text, JSON, CSV, Markdown and HTML. Strings are returned, never printed."""

import io
from collections.abc import Iterable, Sequence
from typing import Any

from convcli.errors import one_line
from convcli.layers import Row
from convcli.words import Range

REPORT_SUFFIXES = (".json", ".csv", ".md", ".txt", ".html")
MAX_NAME = 16  # of a layer, so that a table keeps to 80 columns
MUCH_LOST = 0.01  # the share of clipped values from which a hint at --range is worth a line

HEADER = ("layer", "kernel", "stride", "padding", "input", "output", "field", "multiply-adds")


def row_cells(row: Row) -> tuple[str, ...]:
    """One row of the table for people."""
    name = row.layer if len(row.layer) <= MAX_NAME else row.layer[: MAX_NAME - 3] + "..."
    kernel = _times(row.kernel) + (f" by {_times(row.dilation)}" if row.dilation != (1, 1) else "")
    return (
        name,
        kernel,
        _times(row.stride),
        _pads(row),
        _times(row.input),
        _times(row.output),
        _times(row.receptive_field),
        _count(row.macs),
    )


def table(rows: Sequence[Row]) -> str:
    """The shape report for people, aligned for a terminal."""
    text = [_aligned([HEADER, *map(row_cells, rows)])]
    text.extend(f"{row.layer}: {_unused(row)}" for row in rows if any(row.unused))
    return "\n".join(text)


def range_text(found: dict[str, float], lost: tuple[float, float], choice: Range) -> str:
    """The values before clipping, and the shares that were lost below and above."""
    if not found["min"] <= found["max"]:
        return "no numbers"
    text = f"{found['min']:.4g} to {found['max']:.4g}"
    if any(lost):
        low = "0" if choice is Range.CLIP else "-1"
        text += f" before clipping: {_percent(lost[0])} below {low}, {_percent(lost[1])} above 1"
    return text


def hint(lost: tuple[float, float], choice: Range) -> str:
    """What to do when much was lost, or nothing."""
    if sum(lost) < MUCH_LOST:
        return ""
    if choice is Range.CLIP:
        return "clipped values are lost; --range abs or signed keeps -1 to 1, minmax everything"
    return "clipped values are lost; --range minmax keeps everything"


def render(records: Sequence[dict[str, Any]], rows: Sequence[Sequence[Row]], ranges: Sequence[str], suffix: str) -> str:
    """A report file of a run: the JSON objects of ``--json``, with each one's rows and the text of its range."""
    if suffix == ".json":
        import json

        return json.dumps(list(records), indent=2) + "\n"
    if suffix == ".csv":
        return _csv(records)
    lines = []
    for record, layers, spread in zip(records, rows, ranges, strict=True):
        for cells in map(row_cells, layers) if layers else [("",) * len(HEADER)]:
            lines.append(tuple(map(one_line, (record["input"], record["status"], *cells, record["error"] or spread))))
    header = ("file", "status", *HEADER, "range")
    if suffix == ".md":
        table_lines = [header, tuple("---" for _ in header), *lines]
        return "\n".join("| " + " | ".join(map(_markdown, line)) + " |" for line in table_lines) + "\n"
    return _html(header, lines) if suffix == ".html" else _aligned([header, *lines]) + "\n"


def _csv(records: Iterable[dict[str, Any]]) -> str:
    """One line for each layer of each input; an input without layers has a line of its own."""
    import csv

    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for record in records:
        spread = record["range"] or {}
        file = [record[key] for key in FILE_FIELDS] + [spread.get(key) for key in RANGE_FIELDS]
        for row in record["layers"] or [dict.fromkeys(Row._fields)]:
            writer.writerow(file + [_times(one) if isinstance(one, list) else one for one in row.values()])
    return buffer.getvalue()


FILE_FIELDS = ("input", "output", "status", "error", "seconds")
RANGE_FIELDS = ("min", "max", "below", "above")
CSV_COLUMNS = (
    "file",
    "written_to",
    *FILE_FIELDS[2:],
    *RANGE_FIELDS,
    *(f"{name}_shape" if name in ("input", "output") else name for name in Row._fields),
)


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    """Columns side by side, the numbers of the multiply-adds to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = lines[0].index(HEADER[-1])
    text = [
        [one.rjust(width) if place == right else one.ljust(width) for place, (one, width) in enumerate(cells)]
        for cells in (list(zip(line, widths, strict=True)) for line in lines)
    ]
    return "\n".join("  ".join(cells).rstrip() for cells in text)


def _markdown(cell: str) -> str:
    return cell.replace("\\", "\\\\").replace("|", "\\|")


def _html(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    import html

    def cells(tag: str, line: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in line) + "</tr>"

    body = "\n".join(cells("td", line) for line in lines)
    style = "body{font:14px system-ui}table{border-collapse:collapse}td,th{padding:4px 10px;text-align:left}"
    style += "tr:nth-child(even){background:#f3f3f3}"
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>convcli report</title>\n'
        f"<style>{style}</style>\n"
        f"<table>\n{cells('th', header)}\n{body}\n</table>\n</html>\n"
    )


def _times(values: Iterable[Any]) -> str:
    return "x".join(f"{one:g}" if isinstance(one, float) else str(one) for one in values)


def _pads(row: Row) -> str:
    top, bottom, left, right = row.padding
    if not any(row.padding):
        return "none"
    if (top, left) == (bottom, right):
        text = str(top) if top == left else f"{top}x{left}"
    else:
        text = f"{top},{bottom},{left},{right}"
    return text if row.boundary == "none" else f"{text} {row.boundary}"


def _unused(row: Row) -> str:
    parts = [
        f"the last {n} {name}{'s' if n > 1 else ''}" for n, name in zip(row.unused, ("row", "column"), strict=True) if n
    ]
    return " and ".join(parts) + (" are never read" if len(parts) > 1 or max(row.unused) > 1 else " is never read")


def _count(n: int) -> str:
    """A count in at most five characters."""
    for size, letter in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**4, "k")):
        if n >= size:
            return f"{n / (size if letter != 'k' else 1000):.3g} {letter}"
    return str(n)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.0005 else "< 0.1 %" if share else "0 %"
