"""syndiff: unpaired medical image translation with adversarial diffusion.

import syndiff
translator = syndiff.load_translator("run/translators/T1_to_T2")
syndiff.volume.write(translator(syndiff.volume.read("T1.nii.gz")), "T2.nii.gz")
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

try:
    __version__ = version("syndiff")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"

if TYPE_CHECKING:
    from syndiff import volume as volume
    from syndiff.inference import load_volume_translator as load_translator

__all__ = ["__version__", "load_translator", "volume"]


def __getattr__(name: str) -> Any:
    """Load torch and nibabel only when asked for, so that the command line starts fast."""
    if name == "load_translator":
        return import_module("syndiff.inference").load_volume_translator
    if name == "volume":
        return import_module("syndiff.volume")
    raise AttributeError(f"module 'syndiff' has no attribute {name!r}")
