"""Which modality a series is, by the words of its description, else by its timing."""

from __future__ import annotations

import re

from syndiff.dicom.frames import Frame

# The first that fits decides: FLAIR before T2, contrast before T1.
WORDS = (
    ("FLAIR", r"flair|dark.?fluid"),
    ("PD", r"pd(w|_?fs)?|proton.?density|rho"),
    ("T1C", r"t1(w)?.?(c|ce|gd|gad|post|\+c|km)"),
    ("T1", r"t1(w)?|mp2?rage|(ir)?.?(ft)?spgr|bravo|tfl3d\w*"),
    ("T2", r"t2(w)?"),
)
NOT_WEIGHTED = r"t2.?(star|\*)\w*|swi\w*|adc|dwi\w*|dti\w*|diff\w*|ep2d\w*|bold|perf\w*|asl|tof\w*"
SHORT_TE, LONG_TE, SHORT_TR, LONG_TR, FLAIR_TI = 35.0, 70.0, 1000.0, 1800.0, 1500.0  # ms


def contrast_of(frame: Frame) -> str:
    """ "CT", "T1", "T1C", "T2", "FLAIR", "PD"; empty if neither words nor times say so.

    A guess for people to read: nothing is chosen by it.
    """
    header = frame.header
    if header.modality != "MR":
        return header.modality
    text = header.description.lower()
    if _says(NOT_WEIGHTED, text):
        return ""
    named = next((name for name, words in WORDS if _says(words, text)), "") or _timed(frame)
    return "T1C" if named == "T1" and header.contrast_agent else named


def _says(words: str, text: str) -> bool:
    return re.search(rf"(?<![a-z0-9])({words})(?![a-z0-9])", text) is not None


def _timed(frame: Frame) -> str:
    """By echo, repetition and inversion time of a spin echo."""
    repetition, inversion = frame.header.repetition_time_ms, frame.header.inversion_time_ms
    try:
        echo = float(frame.tells_apart["EchoTime"])
    except ValueError:
        return ""
    if repetition is None:
        return ""
    if echo >= LONG_TE and repetition >= LONG_TR:
        return "FLAIR" if inversion is not None and inversion >= FLAIR_TI else "T2"
    if echo <= SHORT_TE and repetition >= LONG_TR and not inversion:
        return "PD"
    if echo <= SHORT_TE and repetition <= SHORT_TR:
        return "T1"
    return ""
