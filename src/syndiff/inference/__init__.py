"""Translate slices, volumes and files with a trained translator."""

from syndiff.inference.doubts import doubts
from syndiff.inference.options import DEFAULTS, TranslationOptions
from syndiff.inference.requests import (
    Model,
    describe,
    load_model,
    save,
    shipped,
    translate,
    translate_file,
)
from syndiff.inference.slices import choose_device, translate_slices
from syndiff.inference.synthesis import sample, sample_slices
from syndiff.inference.translation import Translation, translate_volume
from syndiff.io.marks import sidecar

__all__ = [
    "DEFAULTS",
    "Model",
    "Translation",
    "TranslationOptions",
    "choose_device",
    "describe",
    "doubts",
    "load_model",
    "sample",
    "sample_slices",
    "save",
    "shipped",
    "sidecar",
    "translate",
    "translate_file",
    "translate_slices",
    "translate_volume",
]
