"""Networks of the official SynDiff code: its options and state dicts become our modules.

The official names are those of github.com/icon-lab/SynDiff. Every function takes the official
option dictionary and a state dict (with or without the `module.` prefixes that its training
leaves) and returns our module with those weights, in eval mode.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from syndiff.errors import ModelError
from syndiff.networks.ncsnpp import NCSNpp
from syndiff.networks.patchgan import PatchDiscriminator
from syndiff.networks.resnet import ResNetGenerator
from syndiff.networks.step_discriminator import StepDiscriminator

State = Mapping[str, Tensor]
Network = TypeVar("Network", bound=nn.Module)

# Options that change the mathematics, with the only value that our networks implement.
FIXED = {
    "resblock_type": "biggan",
    "progressive": "none",
    "progressive_input": "residual",
    "embedding_type": "positional",
    "fir": True,
    "fir_kernel": [1, 3, 3, 1],
    "skip_rescale": True,
    "conditional": True,
    "centered": True,
    "not_use_tanh": False,
}


def diffusive_generator(config: Mapping[str, Any], state_dict: State) -> NCSNpp:
    """The official `NCSNpp` as ours, called as `module(x_t, source, t, z)` → (b, 1, h, w).

    The official network makes two channels, of which only the first is ever used; ours makes it.

    Raises:
        ModelError: an option that our network does not implement, or weights that do not fit.
    """
    _check_options(config)
    multipliers = tuple(config["ch_mult"])
    sizes = [config["image_size"] // 2**level for level in range(len(multipliers))]
    network = NCSNpp(
        in_channels=config["num_channels"],
        channels=config["num_channels_dae"],
        multipliers=multipliers,
        blocks=config["num_res_blocks"],
        attention_levels=tuple(
            level for level, size in enumerate(sizes) if size in config["attn_resolutions"]
        ),
        time_dim=config["num_channels_dae"],
        latent_dim=config["nz"],
        latent_embedding=config["z_emb_dim"],
        latent_layers=config["n_mlp"] + 1,
        dropout=config.get("dropout", 0.0),
    )
    return _loaded(network, _generator_state(network, _Official(state_dict)))


def diffusive_discriminator(config: Mapping[str, Any], state_dict: State) -> StepDiscriminator:
    """The official `Discriminator_large` as ours, called as `module(x_prev, x_t, t)` → (b, 1)."""
    width = config["ngf"]
    network = StepDiscriminator(
        stem=2 * width,
        widths=tuple(width * m for m in (4, 8, 8, 8, 8, 8)),
        time_dim=config["t_emb_dim"],
    )
    w = _Official(state_dict)
    state = w.layer("stem", "start_conv") | w.layer("out_conv", "final_conv")
    state |= w.layer("out_linear", "end_linear")
    state |= w.layer("time_layers.0", "t_embed.main.0") | w.layer(
        "time_layers.1", "t_embed.main.2"
    )
    for i in range(len(network.blocks)):
        ours, theirs = f"blocks.{i}", f"conv{i + 1}"
        state |= w.layer(f"{ours}.conv_0", f"{theirs}.conv1.0")
        state |= w.layer(f"{ours}.conv_1", f"{theirs}.conv2.0")
        state |= w.layer(f"{ours}.time", f"{theirs}.dense_t1")
        state[f"{ours}.skip.weight"] = w(f"{theirs}.skip.0.weight")
    return _loaded(network, state)


def nondiffusive_generator(config: Mapping[str, Any], state_dict: State) -> ResNetGenerator:
    """The official ResNet generator as ours, called as `module(x)` → (b, 1, h, w).

    Its width and number of blocks are read from the weights: the official code fixes them to 64
    and 6 and has no option for them.
    """
    w = _Official(state_dict)
    blocks = len({name.split(".")[1] for name in w.names if ".conv_block." in name})
    channels, in_channels = w("model.1.weight").shape[:2]
    network = ResNetGenerator(in_channels=in_channels, channels=channels, blocks=blocks)
    return _loaded(
        network,
        {f"layers.{_ours_resnet(name)}": w(name) for name in w.names},
    )


def nondiffusive_discriminator(config: Mapping[str, Any], state_dict: State) -> PatchDiscriminator:
    """The official PatchGAN as ours, called as `module(x)` → patch logits."""
    w = _Official(state_dict)
    channels, in_channels = w("model.0.weight").shape[:2]
    halvings = sum(name.endswith(".weight") for name in w.names) - 2
    network = PatchDiscriminator(in_channels=in_channels, channels=channels, halvings=halvings)
    return _loaded(network, {name.replace("model.", "layers.", 1): w(name) for name in w.names})


class _Official:
    """An official state dict without its `module.` prefixes; says in words what is missing."""

    def __init__(self, state_dict: State) -> None:
        self.tensors = {name.replace("module.", ""): t for name, t in state_dict.items()}
        self.names = list(self.tensors)

    def __call__(self, name: str) -> Tensor:
        if name not in self.tensors:
            raise ModelError(
                f"the checkpoint lacks {name}",
                "the weights of this kind of network with these options",
            )
        return self.tensors[name].float()

    def layer(self, ours: str, theirs: str) -> dict[str, Tensor]:
        """Weight and bias of a layer under our name."""
        return {f"{ours}.{part}": self(f"{theirs}.{part}") for part in ("weight", "bias")}


def _generator_state(network: NCSNpp, w: _Official) -> dict[str, Tensor]:
    """Walk the official list of modules in its order, which is that of our forward."""
    state = w.layer("time_layers.0", "all_modules.0") | w.layer("time_layers.1", "all_modules.1")
    state |= w.layer("stem", "all_modules.2")
    modulations: list[str] = []
    biases: list[str] = []
    place = iter(range(3, 10_000))
    counters = {"residual": 0, "attention": 0, "pyramid": 0}

    def following(kind: str) -> tuple[str, str]:
        ours = f"{kind}.{counters[kind]}"
        counters[kind] += 1
        return ours, f"all_modules.{next(place)}"

    def residual() -> None:
        ours, theirs = following("residual")
        state.update(w.layer(f"{ours}.conv_0", f"{theirs}.Conv_0"))
        state.update(w.layer(f"{ours}.conv_1", f"{theirs}.Conv_1"))
        if f"{theirs}.Conv_2.weight" in w.tensors:
            state.update(w.layer(f"{ours}.skip", f"{theirs}.Conv_2"))
        modulations.extend(f"{theirs}.GroupNorm_{i}.style" for i in (0, 1))
        biases.append(f"{theirs}.Dense_0")

    def attention() -> None:
        ours, theirs = following("attention")
        state.update(w.layer(f"{ours}.norm", f"{theirs}.GroupNorm_0"))
        matrices = [w(f"{theirs}.NIN_{i}.W").T[:, :, None, None] for i in range(4)]
        offsets = [w(f"{theirs}.NIN_{i}.b") for i in range(4)]
        state[f"{ours}.query_key_value.weight"] = torch.cat(matrices[:3])
        state[f"{ours}.query_key_value.bias"] = torch.cat(offsets[:3])
        state[f"{ours}.out.weight"], state[f"{ours}.out.bias"] = matrices[3], offsets[3]

    def pyramid() -> None:
        ours, theirs = following("pyramid")
        state.update(w.layer(f"{ours}.conv", f"{theirs}.Conv2d_0"))

    def level_down(level: int) -> None:
        for _ in range(network.blocks):
            residual()
            if level in network.attention_levels:
                attention()
        if level < network.levels - 1:
            residual()
            pyramid()

    def level_up(level: int) -> None:
        for _ in range(network.blocks + 1):
            residual()
        if level in network.attention_levels:
            attention()
        if level > 0:
            residual()

    for level in range(network.levels):
        level_down(level)
    residual()
    attention()
    residual()
    for level in reversed(range(network.levels)):
        level_up(level)
    state |= w.layer("out_norm", f"all_modules.{next(place)}")
    last = f"all_modules.{next(place)}"
    state["out_conv.weight"], state["out_conv.bias"] = (
        w(f"{last}.weight")[:1],
        w(f"{last}.bias")[:1],
    )
    state |= _joined(w, "to_modulations", modulations) | _joined(w, "to_biases", biases)
    dense = [i for i, layer in enumerate(network.latent_layers) if isinstance(layer, nn.Linear)]
    for i in dense:  # PixelNorm stands at 0 in both
        state |= w.layer(f"latent_layers.{i}", f"z_transform.{i}")
    return state


def _joined(w: _Official, ours: str, theirs: list[str]) -> dict[str, Tensor]:
    """The small linear layers of all blocks as the one that we batch them into."""
    return {
        f"{ours}.{part}": torch.cat([w(f"{name}.{part}") for name in theirs])
        for part in ("weight", "bias")
    }


def _ours_resnet(name: str) -> str:
    """model.10.conv_block.5.weight → 10.layers.5.weight; other layers keep their number."""
    return name.removeprefix("model.").replace("conv_block", "layers")


def _loaded(network: Network, state: dict[str, Tensor]) -> Network:
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(
            "the checkpoint does not fit its options"
            f" ({str(error).splitlines()[-1].strip()[:160]})",
            remedy="give the options that it was trained with",
        ) from error
    return network.eval()


def _check_options(config: Mapping[str, Any]) -> None:
    for option, value in FIXED.items():
        given = config.get(option, value)
        if given != value:
            raise ModelError(f"the official option {option}={given}", f"{value}")
