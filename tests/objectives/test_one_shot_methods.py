"""cGAN, AttGAN, SAGAN, UNIT and MUNIT: their networks and losses against closed forms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from syndiff.inference import TranslationOptions, translate_slices
from syndiff.networks.attention_unet import AttentionGate, AttentionUNet
from syndiff.networks.content_style import (
    ContentEncoder,
    StyledBlock,
    StyleDecoder,
    StyleEncoder,
    adaptive_instance_norm,
)
from syndiff.networks.patchgan import CascadeDiscriminator, MultiScaleDiscriminator
from syndiff.networks.resnet import PixelAttention, ResidualBlock, ResNetGenerator
from syndiff.networks.shared_latent import SharedLatentGenerator
from syndiff.objectives import attgan, cyclegan, munit, sagan, unit
from syndiff.objectives.base import DIRECTIONS, Batch, Draw, Objective
from syndiff.objectives.methods import method_named
from syndiff.preparation.manifest import read_manifest
from syndiff.training.hyperparameters import from_plain
from syndiff.training.watch import load_state
from syndiff.translators import load_translator
from tests.helpers.methods import CARD, METHODS, batch, build
from tests.helpers.runs import run_of, settings
from tests.helpers.tiny import write_prepared

OWN = ("cyclegan", "attgan", "sagan", "unit", "munit")
MODULES = {m.__name__.rpartition(".")[2]: m for m in (cyclegan, attgan, sagan, unit, munit)}


# --- the paper's values ---------------------------------------------------------------------


def test_weights_and_schedules_are_the_papers() -> None:
    for cycle_consistent in (
        cyclegan.CycleGANSettings(),
        attgan.AttGANSettings(),
        sagan.SAGANSettings(),
    ):
        assert (cycle_consistent.cycle, cycle_consistent.adversarial) == (100, 1)
    u, m = unit.UNITSettings(), munit.MUNITSettings()
    assert (u.cycle, u.adversarial, u.reconstruction) == (10, 1, 10)
    assert (m.image, m.content, m.style, m.adversarial) == (10, 1, 1, 1)
    rates = {name: module.TRAINING["generator_lr"] for name, module in MODULES.items()}
    assert rates == {"cyclegan": 2e-4, "attgan": 2e-4, "sagan": 2e-4, "unit": 1e-4, "munit": 1e-4}
    for name, module in MODULES.items():
        assert module.TRAINING["epochs"] == 100
        assert module.TRAINING["linear_decay_epochs"] == (0 if name in ("unit", "munit") else 50)


@pytest.mark.parametrize("name", OWN)
def test_small_networks_are_small(name: str) -> None:
    method, _ = METHODS[name]
    objective = method(MODULES[name].SMALL)
    assert sum(p.numel() for p in objective.parameters()) < 3e6


# --- cycle-consistency ----------------------------------------------------------------------


def test_generators_that_do_nothing_have_no_cycle_loss() -> None:
    objective, images = build("cyclegan"), batch()
    for name in objective.generators:
        objective.generators[name] = nn.Identity()
    draw = Draw(seed=0, step=0)
    fakes = objective.generate(images, draw)
    assert torch.equal(fakes["translated"]["target"], images.source)
    terms = objective.generator_losses(images, fakes, draw)
    assert float(terms["cycle_source"]) == float(terms["cycle_target"]) == 0


def test_the_cycle_is_the_other_generators_undoing() -> None:
    # to_target inverts the contrast; to_source leaves it: the way back is off by 2 |x|.
    objective, images = build("cyclegan"), batch()
    objective.generators["to_source"] = nn.Identity()
    objective.generators["to_target"] = Negative()
    draw = Draw(seed=0, step=0)
    terms = objective.generator_losses(images, objective.generate(images, draw), draw)
    assert float(terms["cycle_source"]) == pytest.approx(200 * float(images.source.abs().mean()))
    assert float(terms["cycle_target"]) == pytest.approx(200 * float(images.target.abs().mean()))


class Negative(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -x


@pytest.mark.parametrize("name", ["cyclegan", "attgan", "sagan", "unit", "munit"])
def test_each_discriminator_judges_its_own_modality(name: str) -> None:
    objective, images, draw = build(name), batch(), Draw(seed=0, step=0)
    fakes = objective.generate(images, draw).detached()
    for m, o in (("source", "target"), ("target", "source")):
        seen: list[torch.Tensor] = []
        hook = objective.discriminators[m].register_forward_pre_hook(
            lambda module, args, seen=seen: seen.append(args[0])
        )
        objective.discriminator_losses(images, fakes, draw)
        hook.remove()
        assert torch.equal(seen[0], images[m])
        assert torch.equal(seen[1], fakes["translated"][m])
        assert not torch.equal(seen[1], fakes["translated"][o])


# --- several source modalities --------------------------------------------------------------


@pytest.mark.parametrize("name", OWN)
def test_two_sources_make_one_target(name: str, tmp_path: Path) -> None:
    method, settings = METHODS[name]
    objective: Objective = method(settings, source_channels=2)  # type: ignore[call-arg]
    assert objective.makes == ("target",)
    images = Batch(torch.rand(2, 2, 32, 32) * 2 - 1, torch.rand(2, 1, 32, 32) * 2 - 1)
    draw = Draw(seed=0, step=0)
    fakes = objective.generate(images, draw)
    assert fakes["translated"]["source"].shape == (2, 2, 32, 32)
    terms = objective.discriminator_losses(images, fakes.detached(), draw)
    terms |= objective.generator_losses(images, fakes, draw)
    assert all(torch.isfinite(term) for term in terms.values())
    intensity = CARD["intensity"] | {"PD": CARD["intensity"]["T1"]}
    card = CARD | {"sources": ["T1", "PD"], "intensity": intensity}
    translator = objective.translator(objective.generators, "target", card)
    slices = np.random.default_rng(0).random((1, 2, 32, 32), np.float32)
    made = translate_slices(translator, slices, TranslationOptions(device="cpu"))
    loaded = load_translator(translator.save(tmp_path / "T1+PD_to_T2"))
    np.testing.assert_array_equal(
        translate_slices(loaded, slices, TranslationOptions(device="cpu")), made
    )


# --- the pool of past fakes -----------------------------------------------------------------


def test_a_pool_shows_older_fakes_half_of_the_time_and_forgets_the_replaced_ones() -> None:
    objective = cyclegan.CycleGAN(replace(METHODS["cyclegan"][1], image_pool=3))
    seen, made = [], 0
    for step in range(200):
        new = torch.arange(made, made + 2.0).view(2, 1, 1, 1)
        shown = objective._from_pool("target", new, Draw(0, step)).flatten().tolist()
        seen += [(value, value in new.flatten().tolist()) for value in shown]
        made += 2
    assert [value for value, _ in seen[:3]] == [0, 1, 2]  # until it is full
    again = {value for value, _ in seen[3:] if value > 2}
    assert len(again) == sum(value > 2 for value, _ in seen[3:])  # what was replaced is gone
    share = sum(fresh for _, fresh in seen[3:]) / len(seen[3:])
    assert share == pytest.approx(0.5, abs=4 * 0.5 / len(seen) ** 0.5)  # four deviations
    assert objective.kept["target"].shape == (3, 1, 1, 1)
    assert "source" not in objective.kept


def test_a_run_goes_on_with_its_pool(tmp_path: Path) -> None:
    data = write_prepared(tmp_path / "data", {"train1": "T1 T2", "train2": "T1 T2"})
    pooled = replace(METHODS["cyclegan"][1], image_pool=2)
    chosen = settings(objective=pooled, max_steps=6, final_lr=None)
    whole = run_of(data, tmp_path / "whole", settings=chosen)
    part = run_of(data, tmp_path / "part", settings=replace(chosen, max_steps=4))
    run_of(data, part, settings=chosen, resume=True)
    states = [load_state(run / "checkpoints/last.pt") for run in (whole, part)]
    for name, value in states[0]["discriminators"].items():
        assert torch.equal(value, states[1]["discriminators"][name])
    assert torch.equal(states[0]["kept"]["target"], states[1]["kept"]["target"])


# --- AttGAN ---------------------------------------------------------------------------------


def test_gates_lie_between_closed_and_open() -> None:
    torch.manual_seed(0)
    gate = AttentionGate(channels=4, gate_channels=8)
    x, g = torch.randn(2, 4, 8, 12), torch.randn(2, 8, 4, 6)
    alpha = gate.coefficients(x, g)
    assert alpha.shape == (2, 1, 8, 12)
    assert 0 < alpha.min() < alpha.max() < 1
    torch.testing.assert_close(gate(x, g), alpha * x)
    assert (gate.coefficients(x, -g) - alpha).abs().max() > 1e-3
    assert (gate.coefficients(-x, g) - alpha).abs().max() > 1e-3


def test_a_closed_gate_hides_the_skip_connection() -> None:
    torch.manual_seed(0)
    network = AttentionUNet(channels=4, levels=2)
    (gate,) = network.gates
    x = torch.randn(1, 1, 16, 16)
    with torch.no_grad():
        opened = network(x)
        gate.score.bias.fill_(-100.0)
        closed = network(x)
        skip = network.down[0](x)
    assert not gate(skip, network.down[1](F.max_pool2d(skip, 2))).any()
    assert (closed - opened).abs().max() > 1e-3


def test_the_finest_skip_connection_has_no_gate_and_old_runs_keep_theirs() -> None:
    method = method_named("attgan")
    assert not method.settings().generator.finest_gate
    assert not method.small.generator.finest_gate
    old = from_plain({"channels": 4, "levels": 3}, method)  # of a run that did not know of it
    assert old.generator.finest_gate
    assert not from_plain({"channels": 4, "finest_gate": False}, method).generator.finest_gate
    new = AttentionUNet(channels=4, levels=3, finest_gate=False)
    assert len(AttentionUNet(channels=4, levels=3).gates) == 2
    assert [gate.from_x.in_channels for gate in new.gates] == [8]  # twice the finest width
    assert new(torch.randn(1, 1, 16, 16)).shape == (1, 1, 16, 16)


@pytest.mark.parametrize("levels", [2, 3, 4])
def test_attention_unet_takes_multiples_of_its_halvings(levels: int) -> None:
    network = AttentionUNet(in_channels=2, channels=4, levels=levels)
    assert network.size_multiple == 2 ** (levels - 1)
    h, w = 2 * network.size_multiple, 3 * network.size_multiple
    assert network(torch.randn(3, 2, h, w)).shape == (3, 1, h, w)


# --- SAGAN ----------------------------------------------------------------------------------


def test_attention_is_the_papers_sum_over_all_pixels() -> None:
    torch.manual_seed(0)
    layer = PixelAttention(16)
    x = torch.randn(2, 16, 3, 5)
    assert torch.equal(layer(x), x)  # γ is 0 at first
    layer.gamma.data.fill_(0.7)
    f, g, h = (p(x).flatten(2) for p in (layer.key, layer.query, layer.value))  # b 2 n
    s = torch.einsum("bci,bcj->bij", f, g)
    beta = torch.softmax(s, dim=1)  # over i, for each j
    o = torch.einsum("bci,bij->bcj", h, beta).reshape(2, 2, 3, 5)
    torch.testing.assert_close(layer(x), 0.7 * layer.out(o) + x)


def test_attention_follows_the_last_two_residual_blocks() -> None:
    network = ResNetGenerator(channels=4, blocks=3, attention=2)
    kinds = [type(x) for x in network.layers if isinstance(x, ResidualBlock | PixelAttention)]
    assert kinds == [ResidualBlock, ResidualBlock, PixelAttention, ResidualBlock, PixelAttention]
    plain = ResNetGenerator(channels=4, blocks=3)
    assert not any(isinstance(x, PixelAttention) for x in plain.layers)


def test_attention_learns_to_fade_in() -> None:
    objective, images, draw = build("sagan"), batch(), Draw(seed=0, step=0)
    terms = objective.generator_losses(images, objective.generate(images, draw), draw)
    sum(terms.values(), torch.zeros(())).backward()
    for generator in objective.generators.values():
        layers = [x for x in generator.modules() if isinstance(x, PixelAttention)]
        assert len(layers) == 2
        assert all(layer.gamma.grad.abs() > 0 for layer in layers)


# --- UNIT -----------------------------------------------------------------------------------


def test_divergence_is_that_of_gaussians() -> None:
    mean = torch.randn(3, 4, 5, 6) * 2
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, 1.0), normal(0.0, 1.0)).mean()
    torch.testing.assert_close(unit.kl_to_standard_normal(mean), expected)


@pytest.mark.parametrize(("m", "o"), [("source", "target"), ("target", "source")])
def test_the_latent_space_is_shared(m: str, o: str) -> None:
    # A modality's own reconstruction teaches the shared blocks and nothing of the other modality.
    objective, images, draw = build("unit"), batch(), Draw(seed=0, step=0)
    fakes = objective.generate(images, draw)
    objective.generator_losses(images, fakes, draw)[f"reconstruction_{m}"].backward()
    touched = {
        name
        for name, network in objective.generators.items()
        if any(p.grad is not None and p.grad.any() for p in network.parameters())
    }
    assert touched == {"shared_encoder", "shared_decoder", f"encoder_{m}", f"decoder_{m}"}


def test_codes_are_their_means_and_a_unit_of_noise() -> None:
    objective, images = build("unit"), batch()
    decoded: list[torch.Tensor] = []
    objective.generators["shared_decoder"].register_forward_pre_hook(
        lambda module, args: decoded.append(args[0].detach())
    )
    fakes = objective.generate(images, Draw(seed=0, step=0))
    z, same_z, z_again = decoded[:3]  # translated, reconstructed, translated back
    assert torch.equal(z, same_z)
    first = z - fakes["code"]["source"].detach()
    second = z_again - fakes["code_again"]["source"].detach()
    for noise in (first, second):
        assert float(noise.mean()) == pytest.approx(0, abs=0.05)
        assert float(noise.std()) == pytest.approx(1, abs=0.05)
    assert (first - second).abs().max() > 1


def test_terms_of_unit_by_hand() -> None:
    objective, images, draw = build("unit"), batch(), Draw(seed=0, step=0)
    fakes = objective.generate(images, draw)
    terms = objective.generator_losses(images, fakes, draw)
    for m in ("source", "target"):
        expected = {
            "kl": 0.01 * fakes["code"][m].square().mean(),
            "kl_cycle": 0.01 * fakes["code_again"][m].square().mean(),
            "reconstruction": 10 * (fakes["reconstruction"][m] - images[m]).abs().mean(),
            "cycle": 10 * (fakes["round_trip"][m] - images[m]).abs().mean(),
        }
        for name, value in expected.items():
            torch.testing.assert_close(terms[f"{name}_{m}"], value)


def test_the_way_there_and_back_visits_each_modality_in_turn() -> None:
    objective, visited = build("unit"), []
    for name, network in objective.generators.items():
        network.register_forward_pre_hook(lambda module, args, name=name: visited.append(name))
    objective.generate(batch(), Draw(seed=0, step=0))
    own = [name for name in visited if not name.startswith("shared")]
    for m, o in DIRECTIONS:
        way, own = own[:5], own[5:]
        assert way[:3] == [f"encoder_{m}", f"decoder_{o}", f"encoder_{o}"]
        assert way[3:] == [f"decoder_{m}"] * 2  # its own reconstruction and the round trip


def test_unit_translates_the_mean_of_the_code() -> None:
    objective, images = build("unit"), batch()
    generators = objective.generators
    network = objective.translator(generators, "target", CARD).network
    assert isinstance(network, SharedLatentGenerator)
    code = generators["shared_encoder"](generators["encoder_source"](images.source))
    made = generators["decoder_target"](generators["shared_decoder"](code))
    assert torch.equal(network(images.source), made)


# --- MUNIT ----------------------------------------------------------------------------------


def test_adaptive_normalisation_sets_mean_and_deviation() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 16, 16) * 5 + 7
    scale, shift = torch.rand(2, 3) + 0.5, torch.randn(2, 3)
    y = adaptive_instance_norm(x, scale, shift)
    torch.testing.assert_close(y.mean(dim=(2, 3)), shift, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(y.std(dim=(2, 3), unbiased=False), scale, atol=1e-4, rtol=1e-4)


def test_the_style_sets_what_a_block_adds() -> None:
    torch.manual_seed(0)
    block, x, modulation = StyledBlock(3), torch.randn(2, 3, 8, 8), torch.randn(2, 4, 3)
    added = block(x, modulation) - x
    torch.testing.assert_close(added.mean(dim=(2, 3)), modulation[:, 3], atol=1e-4, rtol=1e-4)
    deviation = added.std(dim=(2, 3), unbiased=False)
    torch.testing.assert_close(deviation, (1 + modulation[:, 2]).abs(), atol=1e-3, rtol=1e-3)
    for inner in (0, 1):
        other = modulation.clone()
        other[:, inner] += torch.arange(3)
        assert (block(x, other) - x - added).abs().max() > 1e-3
    plain = F.instance_norm(block.conv_1(F.relu(F.instance_norm(block.conv_0(x)))))
    torch.testing.assert_close(block(x, torch.zeros(2, 4, 3)), x + plain)


def test_brightness_and_contrast_are_style_not_content() -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 1, 32, 32)
    brighter = 2 * x + 0.3
    content, style = ContentEncoder(channels=4, blocks=1), StyleEncoder(channels=4)
    torch.testing.assert_close(content(brighter), content(x), atol=1e-2, rtol=1e-2)
    assert (style(brighter) - style(x)).abs().max() > 0.1


def test_the_decoder_needs_content_and_style() -> None:
    torch.manual_seed(0)
    decoder = StyleDecoder(channels=4, blocks=2, style_dim=3, hidden=8)
    content, style = torch.randn(2, 16, 8, 12), torch.randn(2, 3)
    made = decoder(content, style)
    assert made.shape == (2, 1, 32, 48)
    assert (decoder(content, -style) - made).abs().max() > 1e-3
    assert (decoder(-content, style) - made).abs().max() > 1e-3
    torch.testing.assert_close(decoder(content[1:], style[1:]), made[1:], atol=1e-5, rtol=1e-4)


def test_styles_are_drawn_and_read_back() -> None:
    objective, images = build("munit"), batch(3)
    fakes = objective.generate(images, Draw(seed=0, step=0))
    drawn = Draw(seed=0, step=0)
    for m, o in DIRECTIONS:
        assert torch.equal(fakes["style"][o], drawn.normal(3, 8))
        made = objective.generators[f"decoder_{o}"](fakes["content"][m], fakes["style"][o])
        torch.testing.assert_close(fakes["translated"][o], made)
        style = objective.generators[f"style_{o}"](fakes["translated"][o])
        torch.testing.assert_close(fakes["style_again"][o], style)
        style = objective.generators[f"style_{m}"](images[m])
        made = objective.generators[f"decoder_{m}"](fakes["content"][m], style)
        torch.testing.assert_close(fakes["reconstruction"][m], made)
    terms = objective.generator_losses(images, fakes, drawn)
    expected = F.l1_loss(fakes["style_again"]["target"], fakes["style"]["target"])
    torch.testing.assert_close(terms["style_target"], expected)
    expected = F.l1_loss(fakes["content_again"]["source"], fakes["content"]["source"])
    torch.testing.assert_close(terms["content_source"], expected)


def test_every_scale_sees_a_coarser_image() -> None:
    network = MultiScaleDiscriminator(channels=4, halvings=2, scales=3)
    x = torch.randn(2, 1, 32, 48)
    logits = network(x)
    assert [tuple(scale.shape[2:]) for scale in logits] == [(8, 12), (4, 6), (2, 3)]
    halved = network.scales[1](F.avg_pool2d(x, 2))
    torch.testing.assert_close(logits[1], halved)
    assert CascadeDiscriminator(channels=4, halvings=3)(x).shape == (2, 1, 4, 6)


# --- learning -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OWN)
def test_a_short_training_improves_what_is_trained(name: str, prepared: Path) -> None:
    objective, manifest = build(name), read_manifest(prepared)
    arrays = [
        np.concatenate([np.load(scan.slices_path) for scan in manifest.scans("train", m)])
        for m in ("T1", "T2")
    ]
    order = np.random.default_rng(0)
    players = objective.discriminators, objective.generators
    optimizers = [torch.optim.Adam(p.parameters(), 3e-3, betas=(0.5, 0.9)) for p in players]
    distances = []
    for step in range(30):
        drawn = (array[order.integers(len(array), size=2)] for array in arrays)
        images = Batch(*(torch.from_numpy(x).float()[:, None] * 2 - 1 for x in drawn))
        draw = Draw(seed=0, step=step)
        fakes = objective.generate(images, draw)
        criticism = objective.discriminator_losses(images, fakes.detached(), draw)
        descend(optimizers[0], criticism)
        objective.discriminators.requires_grad_(False)
        terms = objective.generator_losses(images, fakes, draw)
        descend(optimizers[1], terms)
        objective.discriminators.requires_grad_(True)
        own = [v.item() for k, v in terms.items() if not k.startswith("adversarial")]
        distances.append(sum(own))
    assert np.mean(distances[-5:]) < 0.8 * np.mean(distances[:5])


def descend(optimizer: torch.optim.Optimizer, terms: dict[str, torch.Tensor]) -> None:
    optimizer.zero_grad()
    sum(terms.values(), torch.zeros(())).backward()
    optimizer.step()
