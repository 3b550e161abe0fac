"""Tables as a person reads them on a terminal."""

from __future__ import annotations


def table(rows: list[tuple], heading: tuple | None = None) -> str:
    """Left-aligned first column, right-aligned others."""
    cells = [tuple(str(cell) for cell in row) for row in ([heading] if heading else []) + rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = []
    for number, row in enumerate(cells):
        lines.append("  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths))).rstrip())
        if heading and number == 0:
            lines.append("  ".join("-" * width for width in widths))
    return "\n".join("    " + line for line in lines)
