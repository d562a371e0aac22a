"""Agreement with the official networks: their weights, inputs and outputs, if they are at hand.

The reference lies beside the real scans, in a folder `reference`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from syndiff.diffusion.large_steps import Schedule
from syndiff.errors import ModelError
from syndiff.importing import official as legacy
from tests.helpers.official import generator_state, options
from tests.helpers.tolerance import of_results

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def folder(test_data: Path) -> Path:
    reference = test_data.resolve().parent / "reference"
    if not reference.is_dir():
        pytest.skip("no reference tensors beside the real scans")
    return reference


@pytest.fixture(scope="module")
def config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "small_config.json").read_text())


@pytest.fixture(scope="module")
def tensors(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "small_tensors.safetensors")


@pytest.fixture(scope="module")
def weights(folder: Path) -> dict[str, dict[str, Tensor]]:
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in load_file(folder / "small_weights.safetensors").items():
        network, _, parameter = name.partition(".")
        parts.setdefault(network, {})[parameter] = tensor
    return parts


@torch.no_grad()
def test_diffusive_generator(config: dict, weights: dict, tensors: dict[str, Tensor]) -> None:
    network = legacy.diffusive_generator(config, weights["diffusive_generator"])
    x, t, z, out = (tensors[f"diffusive_generator.{n}"] for n in ("x", "t", "z", "out"))
    ours = network(x[:, :1], x[:, 1:], t, z)
    tolerance = of_results(lambda net: net(x[:, :1], x[:, 1:], t, z), network)
    torch.testing.assert_close(ours, out[:, :1], atol=tolerance, rtol=0)
    swapped = network(x[:, 1:], x[:, :1], t, z)
    assert (swapped - out[:, :1]).abs().max() > 1e-2  # the comparison would notice


@torch.no_grad()
def test_diffusive_discriminator(config: dict, weights: dict, tensors: dict[str, Tensor]) -> None:
    network = legacy.diffusive_discriminator(config, weights["diffusive_discriminator"])
    given = [tensors[f"diffusive_discriminator.{n}"] for n in ("x_prev", "x_t", "t")]
    out = tensors["diffusive_discriminator.out"]
    tolerance = of_results(lambda net: net(*given), network)
    torch.testing.assert_close(network(*given), out, atol=tolerance, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["generator", "discriminator"])
def test_nondiffusive(config: dict, weights: dict, tensors: dict[str, Tensor], kind: str) -> None:
    name = f"nondiffusive_{kind}"
    network = getattr(legacy, name)(config, weights[name])
    out = tensors[f"{name}.out"]
    tolerance = of_results(lambda net: net(tensors[f"{name}.x"]), network)
    torch.testing.assert_close(network(tensors[f"{name}.x"]), out, atol=tolerance, rtol=0)


def test_schedule(tensors: dict[str, Tensor]) -> None:
    schedule = Schedule(4)
    for ours, theirs in {
        "gamma": "posterior.betas",
        "alpha_bar": "posterior.alphas_cumprod",
        "mean_x0": "posterior.posterior_mean_coef1",
        "mean_xt": "posterior.posterior_mean_coef2",
        "variance": "posterior.posterior_variance",
    }.items():
        torch.testing.assert_close(getattr(schedule, ours), tensors[theirs], atol=1e-6, rtol=1e-5)


def test_checkpoints_as_the_official_training_saves_them(
    folder: Path, config: dict, weights: dict
) -> None:
    for file, build, name in (
        ("gen_diffusive_1_50.pth", legacy.diffusive_generator, "diffusive_generator"),
        ("gen_non_diffusive_1to2_50.pth", legacy.nondiffusive_generator, "nondiffusive_generator"),
    ):
        saved = torch.load(folder / file, weights_only=True)
        assert all(key.startswith("module.") for key in saved)
        plain, prefixed = build(config, weights[name]), build(config, saved)
        for a, b in zip(plain.parameters(), prefixed.parameters(), strict=True):
            assert torch.equal(a, b)


def test_wrong_or_incomplete_files(config: dict, weights: dict) -> None:
    state = weights["diffusive_generator"]
    with pytest.raises(ModelError, match="lacks all_modules"):
        legacy.diffusive_generator(config, weights["nondiffusive_generator"])
    with pytest.raises(ModelError, match="does not fit its options"):
        legacy.diffusive_generator(config | {"nz": 50}, state)
    with pytest.raises(ModelError, match="resblock_type=ddpm"):
        legacy.diffusive_generator(config | {"resblock_type": "ddpm"}, state)


def test_seeded_checkpoints_of_other_tests_are_made_as_the_official_ones(
    folder: Path, config: dict
) -> None:
    official = torch.load(folder / "gen_diffusive_1_50.pth", weights_only=True)
    ours = generator_state(**{name: config[name] for name in options()})
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in official.items()}
