"""Translate slices, volumes and files; nothing in here knows of training."""

from syndiff.inference.doubts import doubts
from syndiff.inference.requests import Model, describe, digest, translate_file
from syndiff.inference.slices import choose_device, translate_slices
from syndiff.inference.synthesis import sample, sample_slices
from syndiff.inference.translation import (
    VolumeTranslator,
    load_volume_translator,
    translate_volume,
)
from syndiff.io.marks import sidecar

__all__ = [
    "Model",
    "VolumeTranslator",
    "choose_device",
    "describe",
    "digest",
    "doubts",
    "load_volume_translator",
    "sample",
    "sample_slices",
    "sidecar",
    "translate_file",
    "translate_slices",
    "translate_volume",
]
