"""Virtual subjects with exact ground truth: anatomy, signal equations and cohorts on disk."""

from syndiff.phantom.cohort import Subject, make_subject, write_cohort
from syndiff.phantom.heads import write_heads
from syndiff.phantom.pelvis import make_pelvis, write_pelves
from syndiff.phantom.signal import MODALITIES

__all__ = [
    "MODALITIES",
    "Subject",
    "make_pelvis",
    "make_subject",
    "write_cohort",
    "write_heads",
    "write_pelves",
]
