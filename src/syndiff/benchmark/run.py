"""benchmark(): counts and times workloads; the result is plain data for JSON."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch

from syndiff import __version__
from syndiff.benchmark.ceiling import DTYPES, Work, ceiling, describe_work
from syndiff.benchmark.compare import FORMAT
from syndiff.benchmark.counting import Counts, count
from syndiff.benchmark.measure import Call, Measured, held_bytes, measure
from syndiff.benchmark.need import needed_step
from syndiff.benchmark.workloads import COUNTED_AS, OFFICIAL, OURS, BenchmarkSetup, Case, cases_of
from syndiff.errors import OptionError
from syndiff.inference import choose_device
from syndiff.objectives.methods import METHODS
from syndiff.objectives.syndiff import SynDiffSettings
from syndiff.reporting import SILENT, Reporter
from syndiff.training.presets import TrainSettings, choose

WHATS = ("train", "translate", "volume")
ASKED_FOR = ("export",)  # not part of "all": it needs onnxruntime and takes minutes
COUNTED = ("train", "translate", "export")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Options:
    """What to measure, and how.

    Attributes:
        what: "train", "translate", "volume", "export".
        method: name of the method.
        preset: of the training settings.
        networks: "small" or "full"; empty for the preset's.
        size: rows and columns of a cross-section.
        batches: batch sizes, one case each.
        precision: "32" or "bf16".
        device: "auto", "cpu", "cuda", …
        warmup, repeats: calls before and while the clock runs; 0 repeats only count.
        baseline: also run the renditions of the official code, at the first batch size.
        compiled: also run this package's networks compiled by torch.
        slices: cross-sections of the volume.
        settings: training settings that replace those of the preset.
        work: sizes of the measurement of the ceiling that replace those of the device.
    """

    what: tuple[str, ...] = ("train", "translate")
    method: str = "syndiff"
    preset: str = "default"
    networks: str = ""
    size: int = 256
    batches: tuple[int, ...] = (1,)
    precision: str = "32"
    device: str = "auto"
    warmup: int = 1
    repeats: int = 5
    baseline: bool = False
    compiled: bool = False
    slices: int = 160
    settings: TrainSettings | None = None
    work: Work | None = None

    def record(self) -> dict[str, Any]:
        """The options except `settings` and `work`, as plain data."""
        fields = asdict(replace(self, settings=None, work=None))
        del fields["settings"], fields["work"]
        return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}

    def check(self) -> None:
        """Check the options.

        Raises:
            OptionError: an option, or a combination of options, is not valid.
        """
        known = WHATS + ASKED_FOR
        if not self.what or not set(self.what) <= set(known):
            raise OptionError(f"`what` {','.join(self.what)}", f"of {', '.join(known)}, or all")
        if self.method not in METHODS:
            raise OptionError(f"the method {self.method!r}", f"one of {', '.join(METHODS)}")
        if self.baseline and self.method != "syndiff":
            raise OptionError(f"`baseline` with {self.method}", "`method` syndiff")
        if self.precision not in DTYPES:
            raise OptionError(f"the precision {self.precision!r}", f"one of {', '.join(DTYPES)}")
        if not self.batches or min(self.batches) < 1:
            raise OptionError("a batch size of less than 1", "1 or more")
        if self.settings is None and (self.size < 64 or self.size % 32):
            raise OptionError(f"`size` {self.size}", "a multiple of 32, 64 or more")


def benchmark(options: Options, report: Reporter = SILENT) -> dict[str, Any]:
    """Count and time.

    Args:
        options: what to measure, and how.
        report: receives the phases.

    Returns:
        Plain data: "machine", "options", "ceiling" and "cases" (see docs/performance.md).

    Raises:
        OptionError: an option is not valid.
    """
    options.check()
    device = choose_device(options.device)
    if "export" in options.what and device.type != "cpu":
        raise OptionError(f"`what` export on {device}", "`device` cpu, where exports are run")
    settings = options.settings or choose(options.preset, options.networks, method=options.method)
    setup = BenchmarkSetup(
        options.method, settings, options.size, 1, options.precision, options.slices
    )
    rates = {}
    if options.repeats:
        report.phase("the device's own rates")
        precisions = {options.precision, "32"} if options.baseline else {options.precision}
        rates = {p: ceiling(device, p, options.work) for p in sorted(precisions)}
    lines = []
    for what in options.what:
        for batch in options.batches:
            baseline = options.baseline and batch == options.batches[0]
            cases = cases_of(what, replace(setup, batch=batch), baseline, options.compiled)
            lines += _side_by_side(cases, options, device, rates, report)
    _add_ratios(lines)
    return {
        "format": FORMAT,
        "syndiff_version": __version__,
        "machine": _machine(device),
        "options": options.record(),
        "ceiling": rates and {"flop_per_s": rates, "work": describe_work(device, options.work)},
        "cases": lines,
    }


def _side_by_side(
    cases: list[Case],
    options: Options,
    device: torch.device,
    rates: dict[str, Any],
    report: Reporter,
) -> list[dict[str, Any]]:
    """The lines of cases whose timed calls are interleaved."""
    lines, counted = [], {}
    for case in cases:
        program = COUNTED_AS.get(case.variant, case.variant)
        if program not in counted:
            if case.what in COUNTED:
                report.phase(f"counting: {case.what}, {program}, batch {case.setup.batch}")
            counted[program] = _counted(case)
        lines.append(_line(case, options) | counted[program])
    if options.repeats:
        report.phase(f"timing: {cases[0].what}, batch {cases[0].setup.batch}")
        timed = _timed(cases, options, device)
        for line, case, (held, phases) in zip(lines, cases, timed, strict=True):
            line |= _times(case, line, held, phases, rates[case.setup.precision], device)
    return lines


def _line(case: Case, options: Options) -> dict[str, Any]:
    """The fields that identify a case."""
    return {
        "what": case.what,
        "variant": case.variant,
        "method": case.setup.method,
        "preset": options.preset,
        "networks": options.networks or "preset's",
        "size": case.setup.size,
        "batch": case.setup.batch,
        "precision": case.setup.precision,
    }


def _counted(case: Case) -> dict[str, Any]:
    """Operations and allocations of each kind of call, and the operations' mean per image."""
    if case.what not in COUNTED:
        return {}
    numbers = [number for _, number in case.phases]
    found = count(
        partial(case.build, case.setup, CPU),
        numbers,
        warm=case.what == "train",
    )
    kinds = [_kind(share, counts) for (share, _), counts in zip(case.phases, found, strict=True)]
    line: dict[str, Any] = {
        "flop_per_image": sum(k["share"] * k["flop"] for k in kinds) / case.images,
        "counts": kinds,
    }
    objective = case.setup.settings.objective
    if case.what == "train" and isinstance(objective, SynDiffSettings):
        plain, penalty = needed_step(objective, case.setup.size)
        line["flop_needed_per_image"] = plain + penalty / objective.gradient_penalty_interval
    return line


def _kind(share: float, counts: Counts) -> dict[str, Any]:
    names = sorted({*counts.forward, *counts.backward})
    return {
        "share": share,
        "flop": counts.flop,
        "networks": {
            name or "elsewhere": {
                "calls": counts.calls[name],
                "forward_flop": counts.forward[name],
                "backward_flop": counts.backward[name],
            }
            for name in names
        },
        "allocations": counts.allocations,
        "allocated_bytes": counts.allocated_bytes,
        "peak_bytes": counts.peak_bytes,
    }


def _timed(
    cases: list[Case], options: Options, device: torch.device
) -> list[tuple[int, list[Measured]]]:
    """For each case the GPU's bytes that it holds between calls, and its kinds of call timed."""
    workloads, held = [], []
    for case in cases:
        before = held_bytes(device)
        workloads.append(_built(case, device))
        held.append(held_bytes(device) - before)
    calls, owners = [], []
    for place, (case, workload) in enumerate(zip(cases, workloads, strict=True)):
        main = max(share for share, _ in case.phases)
        for share, number in case.phases:
            # A rare kind of call is repeated less often, in proportion to its share in the mean.
            repeats = max(1, math.ceil(options.repeats * share / main))
            warmup = options.warmup if share == main else min(1, options.warmup)
            calls.append(Call(partial(workload, number), warmup, repeats))
            owners.append(place)
    found = measure(calls, device)
    return [
        (held[place], [m for m, owner in zip(found, owners, strict=True) if owner == place])
        for place in range(len(cases))
    ]


def _built(case: Case, device: torch.device) -> Callable[[int], object]:
    """The workload after a first call, which makes the optimizers' moments.

    If memory does not suffice, every later call raises the error again.
    """
    try:
        workload = case.build(case.setup, device)
        workload(case.phases[0][1])
        return workload
    except torch.OutOfMemoryError as error:
        failure = error.with_traceback(None)  # a traceback would keep the networks in memory

    def fail(number: int) -> object:
        raise failure

    return fail


def _times(
    case: Case,
    line: dict[str, Any],
    held: int,
    phases: list[Measured],
    rates: dict[str, float],
    device: torch.device,
) -> dict[str, Any]:
    """Seconds, memory and the quantities that follow from them."""
    failures = [m.failure for m in phases if m.failure]
    if failures:
        return {"failure": failures[0]}
    shares = [share for share, _ in case.phases]
    seconds = sum(s * m.median for s, m in zip(shares, phases, strict=True))
    spread = sum(s * m.spread for s, m in zip(shares, phases, strict=True))
    found: dict[str, Any] = {
        "seconds": [m.seconds for m in phases],
        "seconds_per_image": seconds / case.images,
        "spread": spread / seconds,
        "images_per_s": case.images / seconds,
    }
    if device.type == "cuda":
        found["peak_bytes"] = held + max(m.peak_bytes for m in phases)
        found["peak_of"] = "the GPU's allocator"
    elif "counts" in line:
        found["peak_bytes"] = max(kind["peak_bytes"] for kind in line["counts"])
        found["peak_of"] = "counted tensors"
    if "flop_per_image" in line:
        rate = line["flop_per_image"] * found["images_per_s"]
        found |= {f"share_of_{kind}": rate / best for kind, best in rates.items()}
    return found


def _add_ratios(lines: list[dict[str, Any]]) -> None:
    """Add the speed-up per image over the official rendition of the same workload.

    If that was not run, the speed-up is over this package's uncompiled one at that batch size.
    """
    timed = [line for line in lines if "seconds_per_image" in line]
    official = {line["what"]: line for line in timed if line["variant"] == OFFICIAL}
    ours = {(line["what"], line["batch"]): line for line in timed if line["variant"] == OURS}
    others = {(line["what"], line["batch"]) for line in timed if line["variant"] != OURS}
    for line in timed:
        place = line["what"], line["batch"]
        beside = official.get(line["what"]) or (ours.get(place) if place in others else None)
        if beside:
            line["speedup"] = beside["seconds_per_image"] / line["seconds_per_image"]


def _machine(device: torch.device) -> dict[str, Any]:
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else "CPU",
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
    }
