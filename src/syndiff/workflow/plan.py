"""How long each preset takes on this machine, and what memory: measured by a few steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from syndiff.inference import choose_device
from syndiff.preparation.manifest import Manifest, read_manifest
from syndiff.reporting import SILENT, Reporter
from syndiff.training.need import Need, in_gb, memory_need, room_bytes, what_fits
from syndiff.training.pace import Pace, epoch_steps, measure_pace
from syndiff.training.presets import PRESETS, TrainSettings, choose

A_DAY = 24.0  # hours


@dataclass(frozen=True)
class PresetPlan:
    """What a preset takes.

    Attributes:
        preset: its name.
        settings: of it.
        steps: of the whole training.
        size: rows and columns of the data's slices.
        pace: that was measured.
        need: memory; None if nobody knows.
        room_bytes: memory that there is; None if nobody knows.
    """

    preset: str
    settings: TrainSettings
    steps: int
    size: int
    pace: Pace
    need: Need | None
    room_bytes: int | None

    @property
    def step_seconds(self) -> float:
        return self.pace.step_seconds(self.settings.batch_size, self.size)

    @property
    def hours(self) -> float:
        """Of the steps alone; validations come on top."""
        return self.steps * self.step_seconds / 3600

    @property
    def memory_bytes(self) -> int | None:
        if self.need is None:
            return None
        return self.need.bytes(self.settings.batch_size // self.settings.accumulate)

    @property
    def remark(self) -> str:
        """What to know beside the numbers, in words."""
        said = []
        room, memory = self.room_bytes, self.memory_bytes
        if self.need is not None and room is not None and memory is not None and memory > room:
            fits = what_fits(self.settings, self.need, room)
            said.append(f"{in_gb(room)} are free: {fits}")
        if self.pace.size < self.size:
            said.append(f"timed at {self.pace.size}×{self.pace.size}, in proportion to the pixels")
        if self.pace.steps == 1:
            said.append("timed by a single step: more `seconds` tell more")
        return "; ".join(said)


def plan(
    data: Path,
    *,
    source: str | None = None,
    target: str | None = None,
    presets: Sequence[str] = tuple(PRESETS),
    method: str = "syndiff",
    seconds: float = 60.0,
    device: str = "auto",
    precision: str = "32",
    report: Reporter = SILENT,
) -> list[PresetPlan]:
    """Measure each preset.

    Args:
        data: folder made by `prepare`.
        source, target: modalities; the data's first two if not given.
        presets: their names.
        method: of the training.
        seconds: that all measurements may take together, about.
        device, precision: where and how.
        report: told which preset is measured.

    Raises:
        UserError: the data or an option cannot be used.
    """
    manifest, place = read_manifest(Path(data)), choose_device(device)
    pair = _pair(manifest, source, target)
    found = []
    for number, name in enumerate(presets):
        settings = choose(name, method=method)
        report.phase(f"timing steps of {name}")
        report.progress(number, len(presets))
        share = seconds / len(presets)
        size = max(manifest.size)
        pace = measure_pace(settings, size, seconds=share, device=place, precision=precision)
        need = memory_need(settings, (manifest.size[0], manifest.size[1]), 1, precision)
        steps = settings.max_steps or settings.epochs * epoch_steps(manifest, pair, settings)
        found.append(PresetPlan(name, settings, steps, size, pace, need, room_bytes(place)))
    return found


def suggested(plans: Sequence[PresetPlan]) -> PresetPlan:
    """The first preset that fits into memory and ends within a day; else the fastest that fits."""
    fitting = [p for p in plans if not _too_large(p)] or list(plans)
    return next((p for p in fitting if p.hours <= A_DAY), min(fitting, key=lambda p: p.hours))


def _too_large(plan: PresetPlan) -> bool:
    need, room = plan.memory_bytes, plan.room_bytes
    return need is not None and room is not None and need > room


def table(plans: Sequence[PresetPlan]) -> list[str]:
    """The plans as lines for a person."""
    lines = [f"{'preset':8} {'batch':>5} {'s/step':>8} {'steps':>9} {'time':>9} {'memory':>8}"]
    for p in plans:
        memory = "unknown" if p.memory_bytes is None else in_gb(p.memory_bytes)
        lines.append(
            f"{p.preset:8} {p.settings.batch_size:5} {p.step_seconds:8.2f} {p.steps:9,} "
            f"{in_time(p.hours):>9} {memory:>8}"
        )
        if p.remark:
            lines.append(f"         {p.remark}")
    return lines


def in_time(hours: float) -> str:
    """Hours as a person says them: "12 min", "3.4 h", "12 days"."""
    if hours < 1:
        return f"{max(1, round(60 * hours))} min"
    return f"{hours:.1f} h" if hours < 72 else f"{hours / 24:.0f} days"


def _pair(manifest: Manifest, source: str | None, target: str | None) -> tuple[str, ...]:
    """The modalities to train between.

    Raises:
        OptionError: the data do not hold them.
    """
    from syndiff.evaluation.pairs import check_modalities

    wanted = tuple(m for m in (source, target) if m) or manifest.modalities[:2]
    check_modalities(manifest, wanted)
    return tuple(wanted)
