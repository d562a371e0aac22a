"""The output folder of `prepare`: it can be started, resumed and finished.

OUT/.work/options.json      what was asked for, while it is unfinished
OUT/.work/….written.json    what a file of slices was made of, written after the slices
OUT/slices/…                see `manifest`
OUT/manifest.json           written last; then .work goes
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from syndiff.errors import OptionError
from syndiff.io.atomic import read_json, whole_file, write_json
from syndiff.io.checked import checked, inside
from syndiff.io.digest import stamp_of
from syndiff.io.locks import clear_leftovers, in_use, is_leftover
from syndiff.preparation.intensity import IntensityScale
from syndiff.preparation.manifest import FILE_NAME, Manifest, read_manifest, write_manifest
from syndiff.preparation.source import Source
from syndiff.preparation.stored import Begun, Written

WORK = ".work"
AGAIN = "delete the folder of prepared data and prepare again"


@dataclass(frozen=True)
class OutFolder:
    """The folder of one call of `prepare`.

    Attributes:
        out: where it lies.
        options: what was asked for; a folder made with others is refused.
        source: where its slices come from.
        skip_bad: scans that a finished folder left out as unusable may be left out again.
    """

    out: Path
    options: dict[str, Any]
    source: Source
    skip_bad: bool = False

    @property
    def work(self) -> Path:
        return self.out / WORK

    def take_up(self) -> Manifest | None:
        """Make the folder or resume it.

        Returns:
            The manifest if the folder is finished, else None.

        Raises:
            OptionError: the folder holds other data, or was made with other options or scans.
        """
        for part in (self.out, *self.out.glob("slices/*/*")):
            clear_leftovers(part)
        manifest_path, options_path = self.out / FILE_NAME, self.work / "options.json"
        if manifest_path.is_file():
            manifest = read_manifest(self.out)
            self._check_same(manifest.content.get("options", {}))
            self._check_same_scans(manifest)
            if all(_in_order(scan.slices_path, scan.record) for scan in manifest.all_scans()):
                shutil.rmtree(self.work, ignore_errors=True)  # left by a run stopped at its end
                return manifest
            self._reopen(manifest)
        elif options_path.is_file():
            begun = read_json(options_path, "note of options", AGAIN)
            self._check_same(checked(Begun, begun, options_path, AGAIN).root)
        elif any(not self._is_begun(path) for path in self.out.iterdir()):
            raise self._foreign()
        write_json(options_path, self.options)
        return None

    def look(self) -> str:
        """ "new", "begun" or "finished": what `take_up` would find; nothing is written.

        Raises:
            OptionError: as `take_up`.
        """
        options_path = self.work / "options.json"
        if (self.out / FILE_NAME).is_file():
            manifest = read_manifest(self.out)
            self._check_same(manifest.content.get("options", {}))
            self._check_same_scans(manifest)
            whole = all(_in_order(scan.slices_path, scan.record) for scan in manifest.all_scans())
            return "finished" if whole else "begun"
        if options_path.is_file():
            begun = read_json(options_path, "note of options", AGAIN)
            self._check_same(checked(Begun, begun, options_path, AGAIN).root)
            return "begun"
        if self.out.is_dir() and any(not self._is_begun(path) for path in self.out.iterdir()):
            raise self._foreign()
        return "new"

    def _foreign(self) -> OptionError:
        return OptionError(
            f"the folder {self.out} holds other files", "a new or empty folder for prepared data"
        )

    def _is_begun(self, path: Path) -> bool:
        """Whether it is what a call that was killed at once has left."""
        return is_leftover(path) or (path == self.work and not in_use(path))

    def is_written(self, entry: Mapping[str, Any], scale: IntensityScale) -> bool:
        """Whether a scan's slices exist, are whole, and were made as the entry says."""
        note = self._note(entry)
        if not note.is_file() or not _in_order(self.out / entry["slices"], entry):
            return False
        return bool(read_json(note, "note", AGAIN) == _plain(_made_of(entry, scale)))

    def write(
        self,
        entry: Mapping[str, Any],
        scale: IntensityScale,
        parts: Iterator[NDArray[np.float32]],
    ) -> None:
        """Write a scan's slices, handed over some at a time, and note what they were made of."""
        header = {
            "descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)),
            "fortran_order": False,
            "shape": (entry["count"], *entry["grid"]["shape"]),
        }
        with whole_file(self.out / entry["slices"]) as temporary, temporary.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for part in parts:
                file.write(np.ascontiguousarray(part, dtype=np.float32).tobytes())
        write_json(self._note(entry), _made_of(entry, scale))

    def finish(self, content: Mapping[str, Any]) -> Manifest:
        """Write the manifest and clear away what was only needed on the way to it."""
        wanted = {entry["slices"] for entry in content["scans"]}
        for note in self.work.glob("*.written.json"):  # of an interrupted run with other scans
            made = checked(Written, read_json(note, "note", AGAIN), note, AGAIN).entry.slices
            if made.startswith("slices/") and made not in wanted:
                inside(self.out, made).unlink(missing_ok=True)
        write_manifest(self.out, dict(content))
        shutil.rmtree(self.work)
        return read_manifest(self.out)

    def _reopen(self, manifest: Manifest) -> None:
        """Turn a finished folder with missing or damaged slices back into an unfinished one."""
        records: dict[str, dict[str, Any]] = {}
        for entry in manifest.content["scans"]:
            records.setdefault(entry["subject"], {})[entry["modality"]] = entry
            write_json(self._note(entry), _made_of(entry, manifest.scale(entry["modality"])))
        for subject, of in records.items():
            self.source.restore(subject, of)
        write_json(self.work / "options.json", self.options)
        (self.out / FILE_NAME).unlink()

    def _note(self, entry: Mapping[str, Any]) -> Path:
        return self.work / f"{entry['subject']}.{entry['modality']}.written.json"

    def _check_same(self, options: Mapping[str, Any]) -> None:
        """Raise OptionError if the folder was begun with other options."""
        for name, value in self.options.items():
            if options.get(name) != _plain(value):
                raise OptionError(
                    f"{self.out} was prepared with `{name}` {options.get(name)}, "
                    f"not {_plain(value)}",
                    remedy="choose another folder, or delete this one",
                )

    def _check_same_scans(self, manifest: Manifest) -> None:
        """Raise OptionError if a finished folder was made from other scans."""
        remedy = "choose another folder, or delete this one"
        files, splits = self.source.files, self.source.splits
        held = {(scan.subject, scan.modality): scan for scan in manifest.all_scans()}
        skipped = manifest.content.get("left_out", {}).get("skipped", []) if self.skip_bad else []
        gone = {(item["subject"], item["file"]) for item in skipped}
        wanted = {
            (s, m): splits[s]
            for s, of in files.items()
            for m, path in of.items()
            if not gone & {(s, None), (s, path.as_posix())}
        }
        if {place: scan.split for place, scan in held.items()} != wanted:
            raise OptionError(
                f"{self.out} was prepared from other subjects or splits", remedy=remedy
            )
        for (subject, modality), scan in held.items():
            path = files[subject][modality]
            stamp = {"file": path.as_posix(), **stamp_of(self.source.raw / path)}
            if any(scan.record.get(name) != value for name, value in stamp.items()):
                raise OptionError(
                    f"{self.source.raw / path} has changed since {self.out} was made", "", remedy
                )


def _made_of(entry: Mapping[str, Any], scale: IntensityScale) -> dict[str, Any]:
    return {"entry": entry, "scale": scale.to_dict()}


def _plain(value: Any) -> Any:
    """The value after writing to JSON and reading back: tuples become lists."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


def _in_order(path: Path, entry: Mapping[str, Any]) -> bool:
    """Whether the file holds an array of the entry's shape, whole."""
    try:
        # Raises where the file is shorter than its shape.
        slices = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return False
    return slices.shape == (entry["count"], *entry["grid"]["shape"])
