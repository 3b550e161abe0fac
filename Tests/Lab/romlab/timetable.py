"""Where the lab's time goes: seconds by what they were spent on, for one scenario after the other."""

from __future__ import annotations

import csv
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .table import table

# What a scenario has to itself is what is left.
PARTS = ("creation", "first copy", "failover", "reset", "audit")
ITSELF, WHOLE = "itself", "all"
COLUMNS = (*PARTS, ITSELF, WHOLE)


class Timetable:
    def __init__(self) -> None:
        self.rows: list[tuple[str, dict[str, float]]] = []
        self._spent: dict[str, float] = defaultdict(float)
        self._begun = time.monotonic()
        # What is under way, the innermost last, each with what its inner ones have taken of it.
        self._open: list[list] = []

    @contextmanager
    def spends(self, part: str) -> Iterator[None]:
        """A part within another is not counted twice: it is the inner one's."""
        begun = time.monotonic()
        self._open.append([part, 0.0])
        try:
            yield
        finally:
            taken = time.monotonic() - begun
            _, inner = self._open.pop()
            self._spent[part] += taken - inner
            if self._open:
                self._open[-1][1] += taken

    def begin(self) -> None:
        self._spent.clear()
        self._open.clear()
        self._begun = time.monotonic()

    def end(self, name: str) -> None:
        """One row more: of the scenario that began last."""
        whole = time.monotonic() - self._begun
        parts = {part: self._spent[part] for part in PARTS}
        self.rows.append((name, {**parts, ITSELF: whole - sum(parts.values()), WHOLE: whole}))

    def slowest(self, count: int) -> list[tuple[str, float]]:
        return sorted(((name, parts[WHOLE]) for name, parts in self.rows), key=lambda row: -row[1])[:count]

    def text(self) -> str:
        total = {part: sum(parts[part] for _, parts in self.rows) for part in COLUMNS}
        return table([(name, *(f"{parts[part]:.0f}" for part in COLUMNS))
                      for name, parts in [*self.rows, ("all of them", total)]], ("seconds", *COLUMNS))

    def write(self, file: Path) -> None:
        with open(file, "w", newline="") as output:
            writer = csv.writer(output)
            writer.writerow(("scenario", *COLUMNS))
            for name, parts in self.rows:
                writer.writerow((name, *(f"{parts[part]:.1f}" for part in COLUMNS)))
