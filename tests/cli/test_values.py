"""Wrong values are refused before anything slow is imported; names are those of the rooms."""

from __future__ import annotations

import builtins
import json
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from syndiff import cli
from syndiff.cli import values

SLOW = {"torch", "lightning", "matplotlib", "distributed", "nilearn"} | {
    f"syndiff.{room}"
    for room in (
        *("training", "translators", "inference", "evaluation", "export", "importing"),
        *("benchmark", "objectives", "networks", "demo", "anatomy"),
    )
}


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["syndiff", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


@pytest.fixture
def slow_imports(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of slow modules that are asked for from now on, imported before or not."""
    asked: list[str] = []
    real = builtins.__import__

    def watched(name: str, *rest: Any, **more: Any) -> Any:
        if any(name == slow or name.startswith(f"{slow}.") for slow in SLOW):
            asked.append(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", watched)
    return asked


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("demo out --minutes 0", "0.1"),
        ("translate demo {scan} o.nii --sampling mean", "'chain'"),
        ("translate demo {scan} o.nii --device gpu", "--device gpu"),
        ("translate dmo {scan} o.nii", "did you mean 'demo'"),
        ("translate {run} {scan} o.nii", "T1_to_T2"),
        ("translate demo nothing.nii.gz o.nii", "nothing.nii.gz"),
        ("translate demo {scan} o.txt", ".nii.gz or .nii"),
        ("models --all", "--all"),
        ("info nothing", "no translator folder"),
        ("help offst", "'offset'"),
        ("phantom raw --modalities T1,T9", "T9"),
        ("phantom raw --modalities T1,flair", "did you mean 'FLAIR'"),
        ("prepare {dicom} out --intensity x", "'robust'"),
        ("prepare {dicom} out --size x", "--size"),
        ("train {data} run --preset huge", "--preset"),
        ("train {data} run --target PD", "one of T1, T2"),
        ("train {data} run --source t1", "did you mean 'T1'"),
        ("train {data} run --set nonsense", "NAME=VALUE"),
        ("train {data} run --devices gpu", "--devices gpu"),
        ("train {data} run --one-shot nothing", "--one-shot nothing"),
        ("train nodata run", "syndiff prepare"),
        ("train {run} run", "manifest.json"),
        ("train {data} nothing --resume", "no run"),
        ("evaluate {data} rep --model mine=nothing", "no translator folder nothing"),
        ("evaluate {data} rep --profile x", "'synthrad2023'"),
        ("methods --size 3", "32"),
        ("sample demo slices --count 0", "--count"),
        ("export demo out --format pt", "'onnx'"),
        ("import nothing.pth out --source T1 --target T2", "nothing.pth"),
        ("benchmark --what training", "train, translate"),
        ("benchmark --size 100", "multiple of 32"),
        ("benchmark --compare nothing.json", "nothing.json"),
    ],
)
def test_wrong_values_are_refused_before_slow_imports(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    slow_imports: list[str],
    arguments: str,
    words: str,
) -> None:
    (tmp_path / "scan.nii.gz").touch()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "manifest.json").write_text(json.dumps({"modalities": ["T1", "T2"]}))
    (tmp_path / "run" / "translators" / "T1_to_T2").mkdir(parents=True)
    (tmp_path / "run" / "translators" / "T1_to_T2" / "config.json").touch()
    (tmp_path / "dicom").mkdir()
    (tmp_path / "dicom" / "IM0001").write_bytes(b"\0" * 128 + b"DICM")
    monkeypatch.chdir(tmp_path)
    places = {"scan": "scan.nii.gz", "data": "data", "run": "run", "dicom": "dicom"}
    before = sorted(tmp_path.rglob("*"))
    assert call(monkeypatch, *arguments.format(**places).split()) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "\n" not in error
    assert words in error
    assert not slow_imports
    assert sorted(tmp_path.rglob("*")) == before


def test_slow_imports_are_seen(monkeypatch: pytest.MonkeyPatch, slow_imports: list[str]) -> None:
    assert call(monkeypatch, "models") == 0
    assert "syndiff.inference" in slow_imports


def test_names_are_those_of_the_rooms() -> None:
    from syndiff.benchmark.run import ASKED_FOR, WHATS
    from syndiff.evaluation.profiles import PROFILES
    from syndiff.export import FORMATS, PARTS
    from syndiff.inference.options import PRECISIONS
    from syndiff.objectives.methods import METHODS
    from syndiff.phantom.cohort import PROTOCOLS
    from syndiff.preparation.intensity import RULES
    from syndiff.preparation.manifest import SPLITS
    from syndiff.training import engine
    from syndiff.training.data import PAIRINGS
    from syndiff.training.presets import PRESETS
    from syndiff.translators import SHIPPED
    from syndiff.translators.sampling import WAYS

    for kind, names in (
        (values.Method, METHODS),
        (values.Preset, PRESETS),
        (values.Pairing, PAIRINGS),
        (values.Precisions, PRECISIONS),
        (values.Precisions, engine.PRECISIONS),
        (values.Sampling, WAYS),
        (values.Profile, PROFILES),
        (values.Split, SPLITS),
        (values.Intensity, RULES),
        (values.Format, FORMATS),
        (values.Part, PARTS),
        (values.Shipped, SHIPPED),
        (values.Scanned, PROTOCOLS),
        (values.What, (*WHATS, *ASKED_FOR, "all")),
    ):
        assert sorted(get_args(kind)) == sorted(names)


def test_a_folder_of_dicom_without_a_known_layout_is_told_how_to_lie(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    series = tmp_path / "raw" / "Doe, J" / "series 1"
    series.mkdir(parents=True)
    (series / "0001.dcm").touch()
    assert call(monkeypatch, "prepare", str(tmp_path / "raw"), str(tmp_path / "data")) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    assert "sub-01/T1/" in error
    assert "syndiff series" in error
    assert not (tmp_path / "data").exists()
