"""Reports: rows and outcomes to text, JSON, CSV, Markdown and HTML. Strings are returned, never printed."""

import io
from collections.abc import Iterable, Sequence
from typing import Any

from convcli.errors import ConvcliError
from convcli.layers import Row

REPORT_SUFFIXES = (".json", ".csv", ".md", ".txt", ".html")
MUCH_LOST = 0.01  # the share of clipped values from which a hint at --range is worth a line

HEADER = ("layer", "kernel", "stride", "padding", "input", "output", "field", "multiply-adds")


def row_cells(row: Row) -> tuple[str, ...]:
    """One row of the table for people."""
    kernel = _times(row.kernel) + (f" by {_times(row.dilation)}" if row.dilation != (1, 1) else "")
    return (
        row.layer,
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
    lines = [HEADER, *map(row_cells, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    text = []
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        cells[-1] = line[-1].rjust(widths[-1])
        text.append("  ".join(cells).rstrip())
    text.extend(f"{row.layer}: {_unused(row)}" for row in rows if any(row.unused))
    return "\n".join(text)


def range_lines(found: dict[str, float], *, clipped: bool) -> str:
    """The values before clipping, the share that was lost, and what to do about it."""
    if found["min"] > found["max"]:
        return "range: every value is NaN"
    line = f"range {found['min']:.4g} to {found['max']:.4g}"
    lost = found["below"] + found["above"]
    if not clipped or not lost:
        return line
    line += f" before clipping: {_percent(found['below'])} below 0, {_percent(found['above'])} above 1"
    if lost >= MUCH_LOST:
        line += "\nclipped values are lost; --range abs, signed or minmax keeps them"
    return line


def render(records: Sequence[dict[str, Any]], suffix: str) -> str:
    """A report file of the records of a run (the JSON objects of ``--json``). ConvcliError for an unknown suffix."""
    if suffix == ".json":
        import json

        return json.dumps(list(records), indent=2) + "\n"
    if suffix not in REPORT_SUFFIXES:
        raise ConvcliError(f"a report ends in {' '.join(REPORT_SUFFIXES)}, not {suffix!r}")
    flat = list(_flat(records))
    if suffix == ".csv":
        import csv

        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, CSV_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat)
        return buffer.getvalue()
    header = ("input", "status", *HEADER, "range")
    lines = [tuple(_person(one)) for one in flat]
    if suffix == ".md":
        cells = [header, tuple("---" for _ in header), *lines]
        return "\n".join("| " + " | ".join(map(_markdown, line)) + " |" for line in cells) + "\n"
    if suffix == ".html":
        return _html(header, lines)
    widths = [max(len(line[place]) for line in [header, *lines]) for place in range(len(header))]
    padded = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in [header, *lines]
    ]
    return "\n".join(line.rstrip() for line in padded) + "\n"


ROW_COLUMNS = Row._fields
FILE_COLUMNS = ("input", "output_file", "status", "error", "seconds", "min", "max", "below", "above")
CSV_COLUMNS = (*FILE_COLUMNS, "layer", "shape", *(name for name in ROW_COLUMNS if name not in ("layer", "input")))


def _flat(records: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """One line for each layer of each input; an input without layers has a line of its own."""
    for record in records:
        shared = {
            "output_file": record["output"],
            "status": record["status"],
            "error": record["error"],
            "seconds": record["seconds"],
            **(record["range"] or {}),
        }
        for row in record["layers"] or [dict.fromkeys(ROW_COLUMNS, "")]:
            cells = {key: _times(value) if isinstance(value, list) else value for key, value in row.items()}
            cells["input"], cells["layer"] = record["input"], row["layer"]
            yield shared | cells | {"shape": _times(row["input"]) if row["layer"] else ""}


def _person(line: dict[str, Any]) -> Iterable[str]:
    """The cells of a line for people."""
    spread = f"{_number(line['min'])} to {_number(line['max'])}" if "min" in line else line["error"] or ""
    pads = " ".join(str(line["padding"]).split("x")) + f" {line['boundary']}"
    for key in (
        line["input"],
        line["status"],
        line["layer"],
        line["kernel"],
        line["stride"],
        pads.strip(),
        line["shape"],
    ):
        yield one_line(str(key))
    yield from map(str, (line["output"], line["receptive_field"], line["macs"], spread))


def one_line(text: str) -> str:
    """Names can hold anything; a report line can't."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape", "backslashreplace").decode() for one in text
    )


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


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.0005 else "< 0.1 %" if share else "0 %"
