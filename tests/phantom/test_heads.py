"""Label maps of individuals: both families are understood; scans of them are what they say."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from syndiff.errors import DataError, OptionError, VolumeError
from syndiff.io import formats
from syndiff.phantom.head_contrast import CONTRASTS, SOURCES, blackened, lesion_signal
from syndiff.phantom.head_signal import FSE_T2, MPRAGE, signal_of, with_scalp
from syndiff.phantom.head_slices import BRIGHTNESS, Head, draw_pair, draw_slices
from syndiff.phantom.heads import write_heads
from syndiff.phantom.label_maps import INDEX, TISSUES, read_label_map, tissues_of_labels
from tests.helpers import label_maps


def tissues(numbers: tuple[int, ...]) -> set[str]:
    found = np.unique(tissues_of_labels(label_maps.head(numbers), 4.0))
    return {TISSUES[code] for code in found}


@pytest.mark.parametrize("numbers", [label_maps.SYNTHSEG, label_maps.BRAINWEB])
def test_both_families_have_the_same_tissues(numbers: tuple[int, ...]) -> None:
    found = tissues(numbers)
    assert {"air", "bone", "csf", "grey_matter", "white_matter", "ventricle"} <= found
    assert {"scalp_2", "scalp_4"} <= found  # layers of what lies below the skin


def test_a_falx_lies_between_hemispheres_only() -> None:
    labels = np.zeros((30, 30, 30), np.int16)
    labels[2:14, 2:-2, 2:-2], labels[17:-2, 2:-2, 2:-2] = 2, 41
    labels[14:17, 2:-2, 2:-2] = 24
    falx = tissues_of_labels(labels, 1.0) == INDEX["falx"]
    assert set(np.argwhere(falx)[:, 0]) == {15}


def test_the_axes_of_a_file_do_not_matter(tmp_path: Path) -> None:
    path = label_maps.write(tmp_path / "a.nii.gz", label_maps.SYNTHSEG)
    image = nib.load(path)
    other = nib.as_closest_canonical(image)
    turned = other.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    nib.save(turned, tmp_path / "b.nii.gz")
    first, second = (read_label_map(tmp_path / name)[0] for name in ("a.nii.gz", "b.nii.gz"))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("values", "spacing"), [(np.full((4, 4, 4), 0.4), 1.0), (np.ones((4, 4, 4)), 3.0)]
)
def test_what_is_no_label_map_is_refused(
    tmp_path: Path, values: np.ndarray, spacing: float
) -> None:
    image = nib.Nifti1Image(values.astype(np.float32), np.diag([1.0, 1.0, spacing, 1.0]))
    nib.save(image, tmp_path / "scan.nii.gz")
    with pytest.raises(VolumeError):
        read_label_map(tmp_path / "scan.nii.gz")


def test_foreign_numbers_are_refused() -> None:
    with pytest.raises(VolumeError, match="labels from 0 to 900"):
        tissues_of_labels(np.array([[[0, 900]]]), 1.0)


def test_every_tissue_has_a_signal_and_fluid_is_dark_in_t1_and_bright_in_t2() -> None:
    t1, t2 = signal_of(MPRAGE), signal_of(FSE_T2)
    order = [INDEX[name] for name in ("white_matter", "grey_matter", "csf")]
    assert t1[order[0]] > t1[order[1]] > t1[order[2]]
    assert t2[order[0]] < t2[order[1]] < t2[order[2]]
    assert t2[INDEX["pallidum"]] == min(t2[code] for code in range(1, 10))  # iron


def test_fat_of_the_scalp_goes_as_deep_as_it_is_told() -> None:
    signal = signal_of(MPRAGE)
    thin, thick = with_scalp(signal, 0.0, 0.0), with_scalp(signal, 3.0, 0.0)
    layers = [INDEX[f"scalp_{n}"] for n in (2, 3, 4)]
    np.testing.assert_array_equal(thin[layers], signal[INDEX["muscle"]])
    np.testing.assert_array_equal(thick[layers], signal[INDEX["fat"]])


def test_a_pair_follows_from_its_seed_and_shows_one_anatomy() -> None:
    head = Head(tissues_of_labels(label_maps.head(label_maps.SYNTHSEG), 4.0), 4.0)
    pairs = [draw_pair(np.random.default_rng(3), [head], 64, 3.0) for _ in range(2)]
    for a, b in zip(*pairs, strict=True):
        np.testing.assert_array_equal(a, b)
    means = []
    for seed in range(12):
        source, target = draw_pair(np.random.default_rng(seed), [head], 64, 3.0)
        assert source.dtype == target.dtype == np.float32
        for image in (source, target):
            assert image.min() >= 0
            assert image.max() <= 1
        air = target < 0.005
        assert source[air].mean() < 0.5 * source[~air].mean()
        means.append(source[~air].mean() * BRIGHTNESS)
    assert 0.4 < np.median(means) < 2.5  # about the mean over the head, which is 1


@pytest.mark.parametrize("source", CONTRASTS)
def test_one_anatomy_in_every_contrast(source: str) -> None:
    """Fluid is dark in T1w and FLAIR and bright in T2w, lesions are bright in T2w and FLAIR."""
    head = Head(tissues_of_labels(label_maps.head(label_maps.SYNTHSEG), 4.0), 4.0)
    targets = [contrast for contrast in CONTRASTS if contrast != source]
    images = draw_slices(np.random.default_rng(5), [head], 64, 3.0, source=source, targets=targets)
    again = draw_slices(np.random.default_rng(5), [head], 64, 3.0, source=source, targets=targets)
    assert len(images) == 3
    for a, b in zip(images, again, strict=True):
        assert a.min() >= 0
        assert a.max() <= 1
        np.testing.assert_array_equal(a, b)
    for seed in range(20):
        signal = SOURCES[source](np.random.default_rng(seed), 1.0, 0.3)
        bright = signal[INDEX["ventricle"]] > signal[INDEX["white_matter"]]
        assert bright == (source == "T2")
        lesion = lesion_signal(source, signal, 0.5, is_source=True)
        assert (lesion > signal[INDEX["white_matter"]]) == (source != "T1")
        assert lesion > 1.05 * signal[INDEX["csf"]] or source == "T2"
        assert blackened(np.random.default_rng(seed), source, signal).min() >= 0


def test_the_targets_of_one_source_do_not_change_it() -> None:
    head = Head(tissues_of_labels(label_maps.head(label_maps.SYNTHSEG), 4.0), 4.0)
    one, t2 = draw_slices(np.random.default_rng(1), [head], 64, 3.0)
    other, flair, same = draw_slices(
        np.random.default_rng(1), [head], 64, 3.0, targets=("FLAIR", "T2")
    )
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(t2, same)
    assert not np.array_equal(flair, t2)


@pytest.mark.parametrize("protocol", ["ixi", "clinical2d", "random"])
def test_a_cohort_of_label_maps(tmp_path: Path, protocol: str) -> None:
    maps = tmp_path / "maps"
    maps.mkdir()
    label_maps.write(maps / "a.nii.gz", label_maps.SYNTHSEG, 1.0)
    label_maps.write(maps / "b.nii.gz", label_maps.BRAINWEB, 1.0)
    options = {"modalities": ("T1", "T2", "CT"), "protocol": protocol}
    folders = write_heads(tmp_path / "out", maps, **options)
    assert [f.name for f in folders] == ["sub-001", "sub-002"]
    first = tmp_path / "out" / "sub-001" / "anat"
    labels = formats.read(tmp_path / "out/derivatives/labels/sub-001/anat/sub-001_dseg.nii.gz")
    scans = {s: formats.read(first / f"sub-001_{s}.nii.gz") for s in ("T1w", "T2w", "CT")}
    white = labels.array == INDEX["white_matter"]
    fluid = labels.array == INDEX["ventricle"]
    for scan in scans.values():
        assert scan.array.shape == labels.array.shape
        np.testing.assert_allclose(scan.affine, labels.affine)
    assert scans["T1w"].array[white].mean() > 1.3 * scans["T1w"].array[fluid].mean()
    assert scans["T2w"].array[fluid].mean() > 1.5 * scans["T2w"].array[white].mean()
    bone = labels.array == INDEX["bone"]
    assert scans["CT"].array[bone].mean() > 300 > scans["CT"].array[white].mean()
    before = (first / "sub-001_T1w.nii.gz").read_bytes()
    write_heads(tmp_path / "out", maps, **options)  # nothing is left to do
    write_heads(tmp_path / "again", maps, **options)
    assert (tmp_path / "again/sub-001/anat/sub-001_T1w.nii.gz").read_bytes() == before


def test_the_middle_of_a_block_stays_where_it_is(tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    maps.mkdir()
    path = label_maps.write(maps / "a.nii.gz", label_maps.SYNTHSEG, 1.0)
    write_heads(tmp_path / "out", maps, modalities=("T2",), spacing_mm=2.0, noise=0, bias=0)
    scan = formats.read(tmp_path / "out/sub-001/anat/sub-001_T2w.nii.gz")
    original = nib.load(path)

    def centre(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
        middle = np.argwhere(array).mean(0)
        return (affine @ [*middle, 1.0])[:3]

    inside = scan.array > 0.05 * scan.array.max()
    expected = centre(np.asarray(original.dataobj) > 0, original.affine)
    np.testing.assert_allclose(centre(inside, scan.affine), expected, atol=0.15)


def test_wrong_wishes_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no label maps"):
        write_heads(tmp_path / "out", tmp_path)
    label_maps.write(tmp_path / "a.nii.gz", label_maps.SYNTHSEG, 1.0)
    for wrong in ({"protocol": "7T"}, {"modalities": ("PET",)}, {"spacing_mm": 1.5}):
        with pytest.raises(OptionError):
            write_heads(tmp_path / "out", tmp_path, **wrong)
    with pytest.raises(DataError, match="1 label maps"):
        write_heads(tmp_path / "out2", tmp_path, subjects=3)
