"""Every odd file ends in a result or in one clear line: no traceback, no half of an output.

Through the command line, as a user meets it: as the input of `translate`, and as one subject's
scan in an otherwise good cohort for `prepare`.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from syndiff import cli
from syndiff.io.formats import READABLE, WRITABLE, read
from syndiff.preparation.intensity import IntensityScale
from syndiff.preparation.manifest import read_manifest

pytestmark = pytest.mark.real_data

RESULT = ""
ODD = {  # what `read` makes of it: a result, or a line with this in it
    "CT_small.dcm": "modality CT",
    "ExplVR_BigEndNoMeta.dcm": "modality RTPLAN",
    "MR_small_bigendian.dcm": "a derived series",
    "MR_truncated.dcm": "a derived series",
    "all_zero.nii.gz": "blank",
    "big_endian.nii.gz": "zero is unknown",  # a map of statistics, half of it below 0
    "complex.nii.gz": "complex",
    "dicom_enhanced_multiframe": RESULT,
    "dicom_mixed_orientation": "several sizes or orientations",
    "dicom_rgb": "colours",
    "dicom_two_slices": RESULT,
    "five_dimensional.nii": "5 axes",
    "four_dimensional.nii.gz": "4 axes",
    "freesurfer.mgz": "4 axes",
    "header_without_image.hdr": "without its image",
    "lfs_pointer.nii.gz": "git-LFS pointer",
    "nifti2.nii.gz": RESULT,
    "no_meta.dcm": "SeriesInstanceUID",
    "no_sform_no_qform.nii.gz": "left and right are unknown",
    "not_nifti.nii": "not a readable image",
    "rgb.nii.gz": "colours",
    "rtplan.dcm": "modality RTPLAN",
    "single_slice.nii.gz": "blank",
    "singular_affine.nii": "singular",
    "tiny_anatomical.nii": RESULT,
    "truncated.nii.gz": "cut short",
    "with_nan.nii.gz": "NaN",
    "zero_bytes.nii.gz": "empty",
}
IMAGES = [name for name in ODD if name.endswith(READABLE)]
SUBJECTS = ("sub-01", "sub-02", "sub-03", "sub-04")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    errors: list[str]  # lines of stderr

    def one_clear_line(self, *words: str) -> None:
        """Assert that the command was refused in one line that holds these words."""
        assert self.code == 2, self
        (line,) = (line for line in self.errors if line.startswith("error: "))
        assert line == self.errors[-1]  # before it stand warnings and progress
        assert all(
            line.startswith(("warning: ", "preparing: ", "prepare: loading "))
            for line in self.errors[:-1]
        )
        assert len(line) < 600
        for word in words:
            assert word in line


@pytest.fixture
def syndiff(monkeypatch, capsys):
    """Run the command line in this process; anything but an orderly end fails the test."""

    def run(*arguments: str | Path) -> Ended:
        monkeypatch.setattr(sys, "argv", ["syndiff", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        errors = capsys.readouterr().err
        assert "Traceback" not in errors
        return Ended(int(end.value.code or 0), errors.strip().splitlines())

    return run


@pytest.fixture(scope="module")
def translator(tmp_path_factory) -> Path:
    """A translator folder with a tiny, untrained network."""
    torch = pytest.importorskip("torch")
    from syndiff.diffusion.large_steps import Schedule
    from syndiff.networks.ncsnpp import NCSNpp
    from syndiff.translators import AdversarialDiffusionTranslator

    torch.manual_seed(0)
    network = {"channels": 8, "multipliers": [1, 2], "blocks": 1, "attention_levels": []}
    scale = IntensityScale("robust", "a.u.", 2.5, 300.0).to_dict()
    config = {
        "sources": ["T1"],
        "target": "T2",
        "spacing_mm": 4.0,
        "size": [32, 32],
        "intensity": {"T1": scale, "T2": scale},
        "network": network,
        "schedule": {"steps": 2},
    }
    model = AdversarialDiffusionTranslator(NCSNpp(**network), Schedule(2), config)
    return model.save(tmp_path_factory.mktemp("model") / "T1_to_T2")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    """Four good subjects in the layout subject/T1w.nii.gz."""
    raw = tmp_path_factory.mktemp("cohort")
    shape, spacing = (30, 36, 20), 4.0
    grid = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in shape], indexing="ij")
    radius = np.sqrt(sum((g / r) ** 2 for g, r in zip(grid, (11, 14, 8), strict=True)))
    affine = np.diag([spacing] * 3 + [1.0])
    affine[:3, 3] = [-spacing * (n - 1) / 2 for n in shape]
    for number, subject in enumerate(SUBJECTS):
        rng = np.random.default_rng(number)
        for modality, (outer, inner) in {"T1": (100, 150), "T2": (60, 180)}.items():
            values = np.where(radius < 0.5, inner, np.where(radius < 1, outer, 0))
            image = nib.Nifti1Image(values + rng.normal(5, 1, shape), affine)
            (raw / subject).mkdir(exist_ok=True)
            nib.save(image, raw / subject / f"{modality}w.nii.gz")
    return raw


def with_odd(cohort: Path, odd: Path, subject: str, raw: Path, stem: str = "T1w") -> Path:
    """A copy of the cohort in which an odd file or folder stands for a subject's T1w scan."""
    shutil.copytree(cohort, raw)
    (raw / subject / "T1w.nii.gz").unlink()
    suffix = ".nii.gz" if odd.name.endswith(".nii.gz") else odd.suffix
    copy = shutil.copytree if odd.is_dir() else shutil.copyfile
    copy(odd, raw / subject / f"{stem}{suffix}")
    return raw / subject / f"{stem}{suffix}"


def is_sound(folder: Path) -> None:
    """A manifest is there, and every file that it names is whole and in [0, 1]."""
    manifest = read_manifest(folder)
    scans = [
        scan
        for split in ("train", "val", "test")
        for modality in manifest.modalities
        for scan in manifest.scans(split, modality)
    ]
    assert scans
    for scan in scans:
        slices = scan.load()
        assert np.isfinite(slices).all()
        assert slices.min() >= 0
        assert slices.max() <= 1
    on_disk = {path.resolve() for path in folder.rglob("*.npy")}
    assert on_disk == {scan.slices_path for scan in scans}
    assert not list(folder.rglob(".partial-*"))
    json.loads((folder / "manifest.json").read_text())


def test_the_table_names_every_odd_file(test_data):
    assert set(ODD) == {path.name for path in (test_data / "odd").iterdir()}


@pytest.mark.parametrize("name", ODD)
def test_translate(name, test_data, translator, syndiff, tmp_path):
    odd, output = test_data / "odd" / name, tmp_path / "T2w.nii.gz"
    ended = syndiff("translate", translator, odd, output, "--device", "cpu")
    if ODD[name] == RESULT:
        assert ended.code == 0, ended
        result, stored = nib.load(output), read(odd).stored
        assert result.shape == stored.shape
        np.testing.assert_allclose(result.affine, stored.affine, atol=1e-4)
        assert np.isfinite(result.get_fdata()).all()
        assert np.ptp(result.get_fdata()) > 0
    else:
        read_as = "CT series 1" if name == "CT_small.dcm" else name  # what its header says
        ended.one_clear_line(read_as, ODD[name])
        assert not list(tmp_path.iterdir())


def both_ways(names: list[str]) -> list:
    """Each file once in the fast tests, in turn as training and as test subject.

    The other way of each, and the file whose registration takes long, are slow.
    """
    return [
        pytest.param(
            name,
            split,
            marks=pytest.mark.slow if name == "nifti2.nii.gz" or way != number % 2 else (),
        )
        for number, name in enumerate(names)
        for way, split in enumerate(("train=3,test=1", "train=1,test=3"))
    ]


@pytest.mark.parametrize(("name", "split"), both_ways(IMAGES))
def test_prepare(name, split, test_data, cohort, syndiff, tmp_path):
    """As a training subject, and as a test subject that is registered."""
    odd = with_odd(cohort, test_data / "odd" / name, "sub-02", tmp_path / "raw")
    options = ("--modalities", "T1,T2", "--split", split, "--size", "64")
    ended = syndiff("prepare", tmp_path / "raw", tmp_path / "data", *options)
    if ended.code == 0:
        assert ODD[name] == RESULT
        is_sound(tmp_path / "data")
    else:
        ended.one_clear_line("sub-02", ODD[name])
        assert not (tmp_path / "data" / "manifest.json").exists()
        assert not (tmp_path / "data" / "slices").exists()
    assert odd.exists()


def ended_as_expected(ended: Ended, name: str, data: Path) -> None:
    """Prepared data, or one line that names the scan and says why it cannot be used."""
    if ODD[name] == RESULT:
        assert ended.code == 0, ended
        is_sound(data)
        return
    ended.one_clear_line("sub-04", ODD[name])
    assert not (data / "manifest.json").exists()


@pytest.mark.parametrize("name", [name for name in ODD if name not in IMAGES])
def test_prepare_with_dicom(name, test_data, cohort, syndiff, tmp_path):
    with_odd(cohort, test_data / "odd" / name, "sub-04", tmp_path / "raw")
    options = ("--modalities", "T1,T2", "--split", "train=2,test=2", "--no-register")
    ended = syndiff("prepare", tmp_path / "raw", tmp_path / "data", *options)
    ended_as_expected(ended, name, tmp_path / "data")


@pytest.mark.parametrize("name", [name for name in ODD if name not in IMAGES])
def test_prepare_with_dicom_under_the_name_of_a_nifti(name, test_data, cohort, syndiff, tmp_path):
    odd = with_odd(cohort, test_data / "odd" / name, "sub-04", tmp_path / "raw")
    odd.rename(odd.with_name("T1w.nii.gz"))
    options = ("--modalities", "T1,T2", "--split", "train=2,test=2", "--no-register")
    ended = syndiff("prepare", tmp_path / "raw", tmp_path / "data", *options)
    ended_as_expected(ended, name, tmp_path / "data")


def test_a_cohort_goes_on_once_the_odd_file_is_replaced(test_data, cohort, syndiff, tmp_path):
    odd = with_odd(cohort, test_data / "odd" / "truncated.nii.gz", "sub-02", tmp_path / "raw")
    command = ("prepare", tmp_path / "raw", tmp_path / "data", "--split", "train=3,test=1")
    assert syndiff(*command, "--size", "64").code == 2
    shutil.copyfile(cohort / "sub-02" / "T1w.nii.gz", odd)
    assert syndiff(*command, "--size", "64").code == 0
    is_sound(tmp_path / "data")


@pytest.mark.parametrize("name", [n for n in ODD if n.endswith(WRITABLE) and not ODD[n]])
def test_the_odd_files_that_are_read_are_read_in_full(name, test_data):
    scan, image = read(test_data / "odd" / name), nib.load(test_data / "odd" / name)
    assert scan.array.size == np.prod(image.shape)
    np.testing.assert_allclose(np.sort(scan.array, None), np.sort(image.get_fdata(), None), 1e-6)
