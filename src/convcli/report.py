"""Reports: rows and outcomes to text, JSON, CSV, Markdown and HTML. Strings are returned, never printed."""

import io
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from convcli.errors import one_line
from convcli.layers import Row
from convcli.values import format_bytes
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
        *((kernel, _times(row.stride), _pads(row)) if row.windowed else ("-", "-", "-")),
        _times(row.input),
        _times(row.output),
        _times(row.receptive_field),
        _count(row.macs),
    )


def table(rows: Sequence[Row]) -> str:
    """The shape report for people, aligned for a terminal."""
    text = [_aligned(Section(HEADER, list(map(row_cells, rows)), HEADER[-1:]))]
    text.extend(f"{row.layer}: {_unused(row)}" for row in rows if any(row.unused))
    return "\n".join(text)


def plan_text(rows: Sequence[Row], size: int, memory: int) -> str:
    """What an input would become, from its header: ``size`` is the bytes of its file, ``memory`` those of the work."""
    sizes = f"{_times(rows[0].input)} ({format_bytes(size)}) -> {_times(rows[-1].output)}"
    return f"{sizes}, about {format_bytes(memory)} of memory"


class Section(NamedTuple):
    """A table of a report: a header, its lines, and the columns that hold counts."""

    header: Sequence[str]
    lines: Sequence[Sequence[str]]
    counts: Sequence[str] = ()


def shape_sections(rows: Sequence[Row]) -> list[Section]:
    """What the layers of a chain compute, and what their outputs see of its input."""
    computed, seen = [], []
    for number, row in enumerate(rows, 1):
        name, kernel, stride, pads, _, output, field, macs = row_cells(row)
        weights = f"{row.params:,}" if row.params else "-"
        cells = kernel, stride, pads.removesuffix(" zero"), output, weights, macs if row.params else "-"
        computed.append((str(number), name, *cells, format_bytes(row.memory)))
        top = "x".join(map(str, row.effective_padding))
        seen.append((str(number), name, field, _times(row.jump), ",".join(f"{one:g}" for one in row.start), top))
    return [
        Section(SHAPE_HEADER, computed, SHAPE_HEADER[-3:]),
        Section(("", "layer", "field", "jump", "start", "effective padding"), seen),
    ]


SHAPE_HEADER = ("", "layer", "kernel", "stride", "padding", "output", "weights", "mult-adds", "memory")


def total(rows: Sequence[Row]) -> dict[str, Any]:
    """The sums of a chain, and what its last output sees."""
    last = rows[-1].to_dict()
    sums: dict[str, Any] = {name: sum(getattr(row, name) for row in rows) for name in ("params", "macs", "memory")}
    return sums | {name: last[name] for name in ("receptive_field", "jump", "start", "effective_padding", "output")}


def shapes_record(rows: Sequence[Row]) -> dict[str, Any]:
    """The shapes as JSON has them."""
    return {"layers": [row.to_dict() for row in rows], "total": total(rows)}


def shape_notes(rows: Sequence[Row]) -> list[str]:
    """The totals as sentences, and what is never read."""
    found = total(rows)
    work = f"{found['params']:,} weight{'s' * (found['params'] != 1)}, {found['macs']:,} multiply-adds"
    notes = [f"total: {work}, {format_bytes(found['memory'])} of activations"]
    sight = f"an output sees {_times(found['receptive_field'])} of the input"
    alone = found["output"][1:] == [1, 1]
    notes.append(sight if alone else f"{sight}, the next one {_times(found['jump'])} further")
    several = [f"layer {number}, {row.layer}: {_unused(row)}" for number, row in enumerate(rows, 1) if any(row.unused)]
    return notes + several


def render_shapes(rows: Sequence[Row], notes: Sequence[str], suffix: str) -> str:
    """A report file of the shapes alone, the text of ``.txt`` being that for a terminal."""
    if suffix == ".json":
        import json

        return json.dumps(shapes_record(rows), indent=2) + "\n"
    if suffix == ".csv":
        return _written([Row._fields, *([_plain(one) for one in row.to_dict().values()] for row in rows)])
    sections = shape_sections(rows)
    if suffix == ".html":
        return _html(sections, notes)
    if suffix == ".md":
        return "\n".join(map(_markdown_table, sections)) + "\n" + "".join(f"- {_markdown(note)}\n" for note in notes)
    return "\n\n".join([*map(_aligned, sections), "\n".join(notes)]) + "\n"


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
    section = Section(("file", "status", *HEADER, "range"), lines, HEADER[-1:])
    if suffix == ".md":
        return _markdown_table(section)
    return _html([section]) if suffix == ".html" else _aligned(section) + "\n"


def _csv(records: Iterable[dict[str, Any]]) -> str:
    """One line for each layer of each input; an input without layers has a line of its own."""
    lines: list[Sequence[Any]] = [CSV_COLUMNS]
    for record in records:
        spread = record["range"] or {}
        file = [record[key] for key in FILE_FIELDS] + [spread.get(key) for key in RANGE_FIELDS]
        for row in record["layers"] or [dict.fromkeys(Row._fields)]:
            lines.append(file + [_plain(one) for one in row.values()])
    return _written(lines)


def _plain(value: Any) -> Any:
    return _times(value) if isinstance(value, list) else value


def _written(lines: Iterable[Sequence[Any]]) -> str:
    import csv

    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(lines)
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


def _aligned(section: Section) -> str:
    """Columns side by side, counts to the right."""
    lines = [section.header, *section.lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = []
    for line in lines:
        columns = zip(section.header, line, widths, strict=True)
        cells = [one.rjust(width) if name in section.counts else one.ljust(width) for name, one, width in columns]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def _markdown_table(section: Section) -> str:
    lines = [section.header, ["---"] * len(section.header), *section.lines]
    return "".join("| " + " | ".join(map(_markdown, line)) + " |\n" for line in lines)


def _markdown(cell: str) -> str:
    return cell.replace("\\", "\\\\").replace("|", "\\|")


def _html(sections: Iterable[Section], notes: Iterable[str] = ()) -> str:
    import html

    def cells(tag: str, line: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in line) + "</tr>"

    def table(section: Section) -> str:
        return "\n".join(
            ["<table>", cells("th", section.header), *(cells("td", line) for line in section.lines), "</table>"]
        )

    body = "\n".join([*map(table, sections), *(f"<p>{html.escape(note)}</p>" for note in notes)])
    style = "body{font:14px system-ui}table{border-collapse:collapse;margin-bottom:1em}"
    style += "td,th{padding:4px 10px;text-align:left}tr:nth-child(even){background:#f3f3f3}"
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>convcli report</title>\n'
        f"<style>{style}</style>\n{body}\n</html>\n"
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
    return f"{n:,}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.0005 else "< 0.1 %" if share else "0 %"
