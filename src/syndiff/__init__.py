"""syndiff: unpaired medical image translation with adversarial diffusion.

import syndiff
model = syndiff.load_translator("run/translators/T1_to_T2")
made = syndiff.translate(model, "T1.nii.gz")
syndiff.write_volume(made.volume, "T2.nii.gz")
"""

from __future__ import annotations

import importlib as _importlib
import importlib.metadata as _metadata
import typing as _typing

try:
    __version__ = _metadata.version("syndiff")
except _metadata.PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"

if _typing.TYPE_CHECKING:
    from syndiff.errors import UserError
    from syndiff.inference import Model, Translation, TranslationOptions, translate
    from syndiff.inference import load_model as load_translator
    from syndiff.inference import save as save_translation
    from syndiff.io.formats import read as read_volume
    from syndiff.io.formats import write as write_volume
    from syndiff.io.volume import Volume
    from syndiff.reporting import Reporter
    from syndiff.translators.sampling import Sampling

# Public name → (module, attribute).
_LOCATIONS = {
    "Model": ("syndiff.inference", "Model"),
    "Reporter": ("syndiff.reporting", "Reporter"),
    "Sampling": ("syndiff.translators.sampling", "Sampling"),
    "Translation": ("syndiff.inference", "Translation"),
    "TranslationOptions": ("syndiff.inference", "TranslationOptions"),
    "UserError": ("syndiff.errors", "UserError"),
    "Volume": ("syndiff.io.volume", "Volume"),
    "load_translator": ("syndiff.inference", "load_model"),
    "read_volume": ("syndiff.io.formats", "read"),
    "save_translation": ("syndiff.inference", "save"),
    "translate": ("syndiff.inference", "translate"),
    "write_volume": ("syndiff.io.formats", "write"),
}

__all__ = [
    "Model",
    "Reporter",
    "Sampling",
    "Translation",
    "TranslationOptions",
    "UserError",
    "Volume",
    "__version__",
    "load_translator",
    "read_volume",
    "save_translation",
    "translate",
    "write_volume",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used.

    `import syndiff` alone loads neither torch nor nibabel, so that the command line starts fast.

    Raises:
        AttributeError: the name is not in `__all__`.
    """
    if name not in _LOCATIONS:
        raise AttributeError(f"module 'syndiff' has no attribute {name!r}")
    module, attribute = _LOCATIONS[name]
    return _typing.cast(object, getattr(_importlib.import_module(module), attribute))


def __dir__() -> list[str]:
    return list(__all__)
