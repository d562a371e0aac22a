"""syndiff: unpaired medical image translation with adversarial diffusion.

import syndiff
translate = syndiff.load_translator("run/translators/T1_to_T2")
syndiff.write_volume(translate(syndiff.read_volume("T1.nii.gz")), "T2.nii.gz")
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
    from syndiff.errors import UserError as UserError
    from syndiff.inference import VolumeTranslator as VolumeTranslator
    from syndiff.inference import load_volume_translator as load_translator
    from syndiff.io.formats import read as read_volume
    from syndiff.io.formats import write as write_volume
    from syndiff.io.volume import Volume as Volume

# Public name → where it lives.
_HOMES = {
    "UserError": ("syndiff.errors", "UserError"),
    "Volume": ("syndiff.io.volume", "Volume"),
    "VolumeTranslator": ("syndiff.inference", "VolumeTranslator"),
    "load_translator": ("syndiff.inference", "load_volume_translator"),
    "read_volume": ("syndiff.io.formats", "read"),
    "write_volume": ("syndiff.io.formats", "write"),
}

__all__ = [
    "UserError",
    "Volume",
    "VolumeTranslator",
    "__version__",
    "load_translator",
    "read_volume",
    "write_volume",
]


def __getattr__(name: str) -> Any:
    """Load torch and nibabel only when asked for, so that the command line starts fast."""
    if name not in _HOMES:
        raise AttributeError(f"module 'syndiff' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return list(__all__)
