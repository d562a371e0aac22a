"""The pelvis' tissues, and the protocols of the pelvic data set that the SynDiff paper used.

Sec. IV-A of the paper names two protocols for each modality (the Gold Atlas' scanners). What it
does not give is chosen here: the gradient echo's flip angle, and the sharpness of a CT kernel. All
times are in ms, angles in degrees, CT in HU.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from syndiff.phantom.signal import Equation, Floats, Tissue, spin_echo

# Labels in dseg files are the indices of this list. Relaxation times are those at 1.5 T.
TISSUES = (
    Tissue("background", 1000.0, 1.0, 0.0, -1000.0),
    Tissue("skin", 700.0, 38.0, 0.70, 30.0),
    Tissue("fat", 270.0, 100.0, 0.80, -100.0),  # T2 as turbo spin echoes see it
    Tissue("muscle", 950.0, 45.0, 0.75, 55.0),
    Tissue("cortical_bone", 500.0, 1.5, 0.10, 1050.0),
    Tissue("yellow_marrow", 290.0, 85.0, 0.72, 130.0),
    Tissue("red_marrow", 480.0, 70.0, 0.68, 210.0),
    Tissue("cartilage", 1050.0, 35.0, 0.70, 75.0),
    Tissue("vessel", 1400.0, 12.0, 0.45, 45.0),  # T2 stands for the loss by flow
    Tissue("bladder_wall", 1000.0, 48.0, 0.76, 35.0),
    Tissue("urine", 3800.0, 900.0, 1.00, 6.0),
    Tissue("prostate_central", 1200.0, 75.0, 0.82, 42.0),
    Tissue("prostate_peripheral", 1350.0, 140.0, 0.86, 34.0),
    Tissue("seminal_vesicle", 1700.0, 190.0, 0.90, 22.0),
    Tissue("uterus", 1200.0, 72.0, 0.84, 55.0),
    Tissue("endometrium", 1500.0, 170.0, 0.90, 40.0),
    Tissue("ovary", 1900.0, 220.0, 0.92, 20.0),
    Tissue("bowel_wall", 950.0, 55.0, 0.78, 40.0),
    Tissue("bowel_content", 1100.0, 85.0, 0.70, 25.0),
    Tissue("gas", 1000.0, 1.0, 0.0, -990.0),
    Tissue("couch_shell", 1000.0, 1.0, 0.0, 60.0),
    Tissue("couch_foam", 1000.0, 1.0, 0.0, -930.0),
)
INDEX = {tissue.name: index for index, tissue in enumerate(TISSUES)}
MODALITIES = ("T1", "T2", "CT")
GRADIENT_FLIP_DEG = 12.0  # the paper gives none


def spoiled_echo(
    t1: Floats, t2: Floats, pd: Floats, *, te: float, tr: float, flip_deg: float
) -> Floats:
    """Spoiled gradient echo (Ernst): S = PD sin α (1 − E) / (1 − E cos α) e^(−TE/T2).

    E = e^(−TR/T1). T2 stands in place of T2*; times in ms.
    """
    alpha, e1 = np.deg2rad(flip_deg), np.exp(-tr / t1)
    return pd * np.sin(alpha) * (1 - e1) / (1 - e1 * np.cos(alpha)) * np.exp(-te / t2)


@dataclass(frozen=True)
class Protocol:
    """How a site scans; ranges are drawn evenly for each person.

    Attributes:
        t1_te_ms, t1_tr_ms: (least, most) echo and repetition time of T1.
        t1_flip_deg: flip angle of T1's gradient echo; None: a spin echo.
        t2_te_ms, t2_tr_ms: the same of T2, a spin echo.
        kernel_mm: standard deviation of the CT kernel in mm.
    """

    t1_te_ms: tuple[float, float]
    t1_tr_ms: tuple[float, float]
    t1_flip_deg: float | None
    t2_te_ms: tuple[float, float]
    t2_tr_ms: tuple[float, float]
    kernel_mm: float


PROTOCOLS = {
    "gold-atlas-spin-echo": Protocol(
        (7.2, 7.2), (500.0, 600.0), None, (97.0, 97.0), (6000.0, 6600.0), 0.9
    ),  # CT kernel B30f, soft
    "gold-atlas-gradient-echo": Protocol(
        (4.77, 4.77), (7.46, 7.46), GRADIENT_FLIP_DEG, (91.0, 102.0), (12000.0, 16000.0), 0.6
    ),  # CT kernel FC17
}
ALL_SITES = "gold-atlas"  # each person at one of the sites


def site_of(rng: np.random.Generator, protocol: str) -> Protocol:
    """The protocol of a person; the same numbers are drawn whatever `protocol` is."""
    drawn = rng.integers(len(PROTOCOLS))
    return list(PROTOCOLS.values())[drawn] if protocol == ALL_SITES else PROTOCOLS[protocol]


def equation(modality: str, site: Protocol, rng: np.random.Generator) -> Equation | None:
    """The signal equation of a scan, with echo and repetition time drawn; None for CT."""
    if modality == "CT":
        return None
    te, tr = (site.t1_te_ms, site.t1_tr_ms) if modality == "T1" else (site.t2_te_ms, site.t2_tr_ms)
    echo, repetition, flip = float(rng.uniform(*te)), float(rng.uniform(*tr)), site.t1_flip_deg

    def signal(t1: Floats, t2: Floats, pd: Floats) -> Floats:
        if modality == "T1" and flip is not None:
            return spoiled_echo(t1, t2, pd, te=echo, tr=repetition, flip_deg=flip)
        return spin_echo(t1, t2, pd, te=echo, tr=repetition)

    return signal
