"""Translators of accelerated scans: full ones are undersampled on request alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from syndiff.errors import OptionError
from syndiff.inference import TranslationOptions, translate_volume
from syndiff.io.volume import from_slices, to_slices
from syndiff.preparation.kspace import Acceleration
from tests.helpers.translators import build
from tests.helpers.volumes import head

PLAIN = TranslationOptions(device="cpu", check=False)


def test_full_scans_are_undersampled_on_request_alone() -> None:
    how, volume = Acceleration((2, 2)), head()
    translator = build()
    translator.config["accelerate"] = {"T1": how.to_dict()}
    low = volume.like(from_slices(how.undersampled(to_slices(volume))))
    asked = translate_volume(translator, volume, replace(PLAIN, accelerate=True))
    acquired = translate_volume(translator, low, PLAIN)
    np.testing.assert_allclose(asked.volume.array, acquired.volume.array, rtol=1e-4, atol=1e-3)
    assert asked.record["accelerate"]
    as_it_is = translate_volume(translator, volume, PLAIN)
    assert np.abs(as_it_is.volume.array - asked.volume.array).max() > 1.0
    with pytest.raises(OptionError, match="`accelerate` with T1_to_T2"):
        translate_volume(build(), volume, replace(PLAIN, accelerate=True))
