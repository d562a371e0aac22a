"""A benchmark, and changes between two, as tables in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from syndiff.benchmark.compare import Change

Cell = Callable[[Mapping[str, Any]], str]
WHOSE: dict[str, Cell] = {
    "what": lambda c: c["what"],
    "whose": lambda c: c["variant"] + (f", {c['precision']}" if c["precision"] != "32" else ""),
    "batch": lambda c: str(c["batch"]),
}
TIMES: dict[str, Cell] = {
    "s/image": lambda c: c.get("failure") or _number(c, "seconds_per_image", "{:.4g}"),
    "±": lambda c: _number(c, "spread", "{:.0%}"),
    "images/s": lambda c: _number(c, "images_per_s", "{:.3g}"),
    "×": lambda c: _number(c, "speedup", "{:.2f}"),
    "peak GB": lambda c: _number(c, "peak_bytes", "{:.2f}", 1e-9),
}
WORK: dict[str, Cell] = {
    "GFLOP": lambda c: _number(c, "flop_per_image", "{:.4g}", 1e-9),
    "needed": lambda c: _number(c, "flop_needed_per_image", "{:.4g}", 1e-9),
    "matmul": lambda c: _number(c, "share_of_matmul", "{:.0%}"),
    "conv": lambda c: _number(c, "share_of_convolution", "{:.0%}"),
}


def show(results: Mapping[str, Any]) -> None:
    """Print the cases: a table of times and memory, and one of operations; 80 columns each."""
    console = Console()
    console.print(_heading(results), highlight=False)
    for columns in (TIMES, WORK):
        cells = {name: [cell(c) for c in results["cases"]] for name, cell in columns.items()}
        filled = {name: values for name, values in cells.items() if any(values)}
        if not filled:
            continue
        whose = {name: [cell(c) for c in results["cases"]] for name, cell in WHOSE.items()}
        filled = whose | filled
        table = Table(box=None, pad_edge=False)
        for name in filled:
            table.add_column(name, justify="left" if name in ("what", "whose") else "right")
        for row in zip(*filled.values(), strict=True):
            table.add_row(*row)
        console.print()
        console.print(table)


def show_changes(found: Sequence[Change]) -> None:
    """Print the changes, and how many counts changed."""
    table = Table("case", "quantity", box=None, pad_edge=False)
    for name in ("old", "new", "change"):
        table.add_column(name, justify="right")
    for c in found:
        table.add_row(c.case, c.quantity, f"{c.old:.6g}", f"{c.new:.6g}", f"{c.percent:+.2f} %")
    console = Console()
    exact = sum(c.exact for c in found)
    console.print(f"counts that changed: {exact}", highlight=False)
    if found:
        console.print(table)


def _heading(results: Mapping[str, Any]) -> str:
    machine, options = results["machine"], results["options"]
    line = (
        f"{options['method']}, preset {options['preset']}, {options['size']}×{options['size']}; "
    )
    line += f"{machine['device']}, torch {machine['torch']}"
    for precision, rates in results["ceiling"].get("flop_per_s", {}).items():
        line += (
            f"\n{precision}: {rates['matmul'] / 1e9:.4g} GFLOP/s in matrix products, "
            f"{rates['convolution'] / 1e9:.4g} in convolutions"
        )
    return line


def _number(case: Mapping[str, Any], name: str, form: str, scale: float = 1.0) -> str:
    return form.format(case[name] * scale) if name in case else ""
