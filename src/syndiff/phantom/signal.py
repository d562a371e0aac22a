"""Signal models: the table of tissues and the signal equations of the scans.

A voxel's signal is the sum over tissues of fraction × signal (partial volume mixes linearly). The
echo and repetition times of T1, T2 and PD are those that the SynDiff paper gives for the IXI scans
(T1: TE 4.6 ms, TR 9.81 ms; T2: TE 100 ms, TR 8178 ms; PD: TE 8 ms, TR 8178 ms). The T1 scan has an
inversion pulse, without which grey and white matter would hardly differ at this TR.

All times are in ms, all angles in degrees, CT in HU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Equation = Callable[[Floats, Floats, Floats], Floats]  # (T1, T2, PD) → signal


@dataclass(frozen=True)
class Tissue:
    """The properties of a tissue that determine its signal, at 1.5 T.

    Attributes:
        name: the tissue's name.
        t1_ms, t2_ms: relaxation times in ms.
        pd: proton density, water = 1.
        hu: X-ray attenuation in HU.
    """

    name: str
    t1_ms: float
    t2_ms: float
    pd: float
    hu: float


# Tissue maps, and labels in dseg files, use the indices of this list.
TISSUES = (
    Tissue("background", 1000.0, 1.0, 0.0, -1000.0),
    Tissue("csf", 4200.0, 1800.0, 1.00, 8.0),
    Tissue("grey_matter", 1130.0, 95.0, 0.83, 38.0),
    Tissue("white_matter", 660.0, 76.0, 0.71, 29.0),
    Tissue("bone", 500.0, 1.5, 0.12, 1150.0),
    Tissue("marrow", 320.0, 55.0, 0.40, 420.0),
    Tissue("muscle", 950.0, 42.0, 0.75, 55.0),
    Tissue("fat", 270.0, 75.0, 0.80, -95.0),
    Tissue("skin", 700.0, 38.0, 0.70, 35.0),
    Tissue("eye", 3600.0, 700.0, 0.98, 12.0),
    Tissue("lesion", 1450.0, 190.0, 0.90, 21.0),
)
INDEX = {tissue.name: index for index, tissue in enumerate(TISSUES)}

T1_ECHO_MS, T1_REPETITION_MS = 4.6, 9.81
T1_INVERSION_MS, T1_SHOT_MS, T1_FLIP_DEG, T1_PULSES = 900.0, 2300.0, 8.0, 120
T2_ECHO_MS, PD_ECHO_MS, SPIN_REPETITION_MS = 100.0, 8.0, 8178.0
FLAIR_ECHO_MS, FLAIR_REPETITION_MS = 110.0, 9000.0


def spin_echo(t1: Floats, t2: Floats, pd: Floats, *, te: float, tr: float) -> Floats:
    """Spin-echo signal S = PD (1 − e^(−TR/T1)) e^(−TE/T2); all times in ms."""
    return pd * (1 - np.exp(-tr / t1)) * np.exp(-te / t2)


def inversion_spin_echo(
    t1: Floats, t2: Floats, pd: Floats, *, ti: float, te: float, tr: float
) -> Floats:
    """Inversion-recovery signal S = PD |1 − 2 e^(−TI/T1) + e^(−TR/T1)| e^(−TE/T2); times in ms."""
    return pd * np.abs(1 - 2 * np.exp(-ti / t1) + np.exp(-tr / t1)) * np.exp(-te / t2)


def nulling_inversion_ms(t1_ms: float, tr_ms: float) -> float:
    """The TI at which `inversion_spin_echo` is 0 for a tissue: T1 ln(2 / (1 + e^(−TR/T1))), ms."""
    return float(t1_ms * np.log(2 / (1 + np.exp(-tr_ms / t1_ms))))


def inversion_gradient_echo(
    t1: Floats,
    t2: Floats,
    pd: Floats,
    *,
    ti: float,
    te: float,
    tr: float,
    shot: float,
    flip_deg: float,
    pulses: int,
) -> Floats:
    """Signal of an inversion-prepared spoiled gradient echo (MPRAGE) in the steady state.

    Each shot of length `shot` inverts the magnetisation M, waits, reads out `pulses` echoes at
    intervals `tr`, and recovers. The middle echo is at `ti` after the inversion. Each of these
    steps changes M by a linear map:

        waiting t:   M ← 1 + (M − 1) e^(−t/T1)
        one pulse:   M ← 1 + (M cos α − 1) e^(−TR/T1)

    so a whole shot is M ← a M + b, and the steady state before the inversion is b / (1 − a).
    S = PD |M(TI)| sin α e^(−TE/T2), with T2 in place of T2*. For α → 0,
    M(TI) = 1 − 2 e^(−TI/T1) / (1 + e^(−shot/T1)).
    """
    alpha = np.deg2rad(flip_deg)
    before = pulses // 2
    wait = ti - before * tr
    rest = shot - wait - pulses * tr
    to_centre = _then(_then((-1.0, 0.0), _recovery(wait, t1)), _train(before, tr, alpha, t1))
    a, b = _then(_then(to_centre, _train(pulses - before, tr, alpha, t1)), _recovery(rest, t1))
    steady = b / (1 - a)
    centre = to_centre[0] * steady + to_centre[1]
    return pd * np.abs(centre) * np.sin(alpha) * np.exp(-te / t2)


Linear = tuple[Floats | float, Floats | float]  # (a, b): M ← a M + b


def _then(first: Linear, second: Linear) -> Linear:
    return second[0] * first[0], second[0] * first[1] + second[1]


def _recovery(time: float, t1: Floats) -> Linear:
    decay = np.exp(-time / t1)
    return decay, 1 - decay


def _train(pulses: int, tr: float, alpha: float, t1: Floats) -> Linear:
    """The linear map of `pulses` pulses in a row: a geometric series."""
    e1 = np.exp(-tr / t1)
    a = e1 * np.cos(alpha)
    return a**pulses, (1 - e1) * (1 - a**pulses) / (1 - a)


def _t1(t1: Floats, t2: Floats, pd: Floats) -> Floats:
    return inversion_gradient_echo(
        t1, t2, pd, ti=T1_INVERSION_MS, te=T1_ECHO_MS, tr=T1_REPETITION_MS,
        shot=T1_SHOT_MS, flip_deg=T1_FLIP_DEG, pulses=T1_PULSES,
    )  # fmt: skip


def _t2(t1: Floats, t2: Floats, pd: Floats) -> Floats:
    return spin_echo(t1, t2, pd, te=T2_ECHO_MS, tr=SPIN_REPETITION_MS)


def _pd(t1: Floats, t2: Floats, pd: Floats) -> Floats:
    return spin_echo(t1, t2, pd, te=PD_ECHO_MS, tr=SPIN_REPETITION_MS)


def _flair(t1: Floats, t2: Floats, pd: Floats) -> Floats:
    ti = nulling_inversion_ms(TISSUES[INDEX["csf"]].t1_ms, FLAIR_REPETITION_MS)
    return inversion_spin_echo(t1, t2, pd, ti=ti, te=FLAIR_ECHO_MS, tr=FLAIR_REPETITION_MS)


@dataclass(frozen=True)
class Protocol:
    """The acquisition of a modality.

    Attributes:
        bids_suffix: suffix of the BIDS file names, e.g. "T1w" in sub-001_T1w.nii.gz.
        signal: (T1, T2, PD) → MR signal; None for CT, which measures attenuation.
    """

    bids_suffix: str
    signal: Equation | None


# The position of a modality selects its stream of random numbers: add new ones at the end.
PROTOCOLS: dict[str, Protocol] = {
    "T1": Protocol("T1w", _t1),
    "T2": Protocol("T2w", _t2),
    "PD": Protocol("PDw", _pd),
    "FLAIR": Protocol("FLAIR", _flair),
    "CT": Protocol("CT", None),
}
MODALITIES = tuple(PROTOCOLS)


def tissues_of(
    rng: np.random.Generator, spread: float = 0.03, tissues: tuple[Tissue, ...] = TISSUES
) -> tuple[Tissue, ...]:
    """The tissues of one person, whose properties vary randomly.

    Relaxation times and the HU of bone and marrow are multiplied by N(1, `spread`), clipped at
    three standard deviations. Proton density varies by a third of `spread`. The HU of soft tissue
    varies by 50 HU times `spread`.
    """
    factors = np.clip(rng.normal(1.0, spread, (len(tissues), 4)), 1 - 3 * spread, 1 + 3 * spread)
    return tuple(
        replace(
            tissue,
            t1_ms=tissue.t1_ms * f[0],
            t2_ms=tissue.t2_ms * f[1],
            pd=tissue.pd * (1 + (f[2] - 1) / 3),  # water content varies less than relaxation
            # The HU of bone varies by some per cent, that of soft tissue by a few HU.
            hu=tissue.hu * f[3] if tissue.hu > 200 else tissue.hu + 50 * (f[3] - 1),
        )
        if tissue.name != "background"
        else tissue
        for tissue, f in zip(tissues, factors, strict=True)
    )


def signal_table(modality: str, tissues: tuple[Tissue, ...]) -> Floats:
    """Signal of each tissue, and its derivatives by the relaxation times.

    Args:
        modality: one of `PROTOCOLS`.
        tissues: a person's tissues, see `tissues_of`.

    Returns:
        (tissues, 3): S, ∂S/∂ln T1, ∂S/∂ln T2. For CT: HU, and 10 and 0 HU in place of the
        derivatives (0 for air).
    """
    return table_of(PROTOCOLS[modality].signal, tissues)


def table_of(signal: Equation | None, tissues: tuple[Tissue, ...]) -> Floats:
    """As `signal_table`, for a signal equation; None for CT."""
    t1, t2, pd, hu = (np.array([getattr(t, n) for t in tissues]) for n in _PROPERTIES)
    if signal is None:
        return np.stack([hu, 10.0 * (pd > 0), 0.0 * hu], axis=1)
    up, down = np.exp(0.02), np.exp(-0.02)
    by_t1 = (signal(t1 * up, t2, pd) - signal(t1 * down, t2, pd)) / 0.04
    by_t2 = (signal(t1, t2 * up, pd) - signal(t1, t2 * down, pd)) / 0.04
    return np.stack([signal(t1, t2, pd), by_t1, by_t2], axis=1)


_PROPERTIES = ("t1_ms", "t2_ms", "pd", "hu")


def scan(
    maps: NDArray[np.float32],
    textures: NDArray[np.float32],
    table: Floats,
) -> NDArray[np.float32]:
    """The noiseless scan: Σ_k m_k (S_k + τ₁ ∂S_k/∂ln T1 + τ₂ ∂S_k/∂ln T2).

    Args:
        maps: (..., tissues) fractions that sum to 1.
        textures: (..., 2) τ₁ and τ₂, relative deviations of T1 and T2 within a tissue.
        table: (tissues, 3) as `signal_table` returns it.

    Returns:
        (...) the signal.
    """
    terms = maps @ table.astype(np.float32)  # (..., 3)
    image = terms[..., 0] + textures[..., 0] * terms[..., 1] + textures[..., 1] * terms[..., 2]
    return np.asarray(image, dtype=np.float32)
