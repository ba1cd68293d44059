"""Tables as text."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def format_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table with a header, its columns aligned. Control characters, which names of files may hold, become "?"."""
    shown = [["".join("?" if unicodedata.category(c) == "Cc" else c for c in cell) for cell in row] for row in [columns, *rows]]
    widths = [max(map(len, cells)) for cells in zip(*shown, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown)
