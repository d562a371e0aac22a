"""Convert networks of the official SynDiff code, given by options and state dict, to our modules.

Official names are those in github.com/icon-lab/SynDiff. Each function that returns a network takes
the official option dictionary and a state dict, with or without the `module.` prefixes of
distributed training. It returns our module with these weights, in evaluation mode.
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
    "use_geometric": False,
}

DIFFUSIVE_GENERATOR = "a diffusive generator"
# A tensor that only this kind of network has → the network's name in messages.
KINDS = {
    "z_transform.1.weight": DIFFUSIVE_GENERATOR,
    "start_conv.weight": "a diffusive discriminator",
    "model.10.conv_block.1.weight": "a one-shot (non-diffusive) generator",
    "model.0.weight": "a one-shot (non-diffusive) discriminator",
}


def kind_of(state_dict: State) -> str:
    """The name of the official network that the weights belong to; empty if there is none."""
    names = _Official(state_dict).names
    return next((kind for name, kind in KINDS.items() if name in names), "")


def options_of(state_dict: State) -> dict[str, Any]:
    """The official options that follow from the shapes of a diffusive generator's weights.

    Returns:
        num_channels, num_channels_dae, ch_mult, num_res_blocks, nz, z_emb_dim and n_mlp under
        their official names, and `attention_levels`, the levels with attention (0 is the full
        resolution). The resolutions of these levels depend on the image size, which does not
        follow from the shapes.

    Raises:
        ModelError: the weights are not those of a diffusive generator, or its block types are
            not supported.
    """
    w = _Official(state_dict)
    kinds = [_kind_at(w, place) for place in range(3, _places(w))]
    blocks = [3 + i for i, kind in enumerate(kinds) if kind == "residual"]
    levels = kinds.count("pyramid") + 1
    # Each level has n blocks on the way down and n + 1 on the way up. Between two levels there are
    # a block that halves the resolution and one that doubles it. Two blocks are in the middle.
    per_level, rest = divmod(len(blocks) - 3 * levels, 2 * levels)
    if rest or per_level < 1:
        raise ModelError(
            f"the checkpoint's {len(blocks)} residual blocks on {levels} levels",
            "a diffusive generator with resblock_type biggan, progressive none and "
            "progressive_input residual",
        )
    firsts = [blocks[level * (per_level + 1)] for level in range(levels)]
    width = w("all_modules.2.weight").shape[0]
    return {
        "num_channels": w("all_modules.2.weight").shape[1],
        "num_channels_dae": width,
        "ch_mult": [w(f"all_modules.{i}.Conv_0.weight").shape[0] // width for i in firsts],
        "num_res_blocks": per_level,
        "nz": w("z_transform.1.weight").shape[1],
        "z_emb_dim": w("z_transform.1.weight").shape[0],
        "n_mlp": sum(name.startswith("z_transform.") for name in w.names) // 2 - 1,
        "attention_levels": [
            level for level, i in enumerate(firsts) if _kind_at(w, i + 1) == "attention"
        ],
    }


def _places(w: _Official) -> int:
    """The length of the official list of modules."""
    numbers = (n.split(".")[1] for n in w.names if n.startswith("all_modules."))
    return max((int(number) for number in numbers), default=-1) + 1


def _kind_at(w: _Official, place: int) -> str:
    """The kind of module at a position of the official list; empty for the last layers."""
    tells = {
        "residual": "GroupNorm_0.style.weight",
        "attention": "NIN_0.W",
        "pyramid": "Conv2d_0.weight",
    }
    found = (kind for kind, name in tells.items() if f"all_modules.{place}.{name}" in w.tensors)
    return next(found, "")


def diffusive_generator(config: Mapping[str, Any], state_dict: State) -> NCSNpp:
    """Convert the official `NCSNpp` to ours, `module(x_t, source, t, z)` → (b, 1, h, w).

    The official network has two output channels, of which only the first is used. Our network has
    this channel only.

    Raises:
        ModelError: our network does not implement an option, or the weights do not fit.
    """
    w = _Official(state_dict)
    network = NCSNpp(**network_arguments(config))
    return _loaded(network, w, _generator_state(network, w))


def network_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the official options of a diffusive generator to the arguments of our `NCSNpp`.

    Raises:
        ModelError: our network does not implement an option.
    """
    _check_options(config)
    multipliers = [int(m) for m in config["ch_mult"]]
    sizes = [config["image_size"] // 2**level for level in range(len(multipliers))]
    return {
        "in_channels": config["num_channels"],
        "channels": config["num_channels_dae"],
        "multipliers": multipliers,
        "blocks": config["num_res_blocks"],
        "attention_levels": [
            level for level, size in enumerate(sizes) if size in config["attn_resolutions"]
        ],
        "time_dim": config["num_channels_dae"],
        "latent_dim": config["nz"],
        "latent_embedding": config["z_emb_dim"],
        "latent_layers": config["n_mlp"] + 1,
        "dropout": config.get("dropout", 0.0),
    }


def diffusive_discriminator(config: Mapping[str, Any], state_dict: State) -> StepDiscriminator:
    """Convert the official `Discriminator_large` to ours, `module(x_prev, x_t, t)` → (b, 1).

    Raises:
        ModelError: the weights do not fit.
    """
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
    return _loaded(network, w, state)


def nondiffusive_generator(config: Mapping[str, Any], state_dict: State) -> ResNetGenerator:
    """Convert the official ResNet generator to ours, `module(x)` → (b, 1, h, w).

    The width and the number of blocks are read from the weights, since the official code has no
    options for them (it uses 64 and 6).

    Raises:
        ModelError: the weights do not fit.
    """
    w = _Official(state_dict)
    blocks = len({name.split(".")[1] for name in w.names if ".conv_block." in name})
    channels, in_channels = w("model.1.weight").shape[:2]
    network = ResNetGenerator(in_channels=in_channels, channels=channels, blocks=blocks)
    return _loaded(network, w, {f"layers.{_ours_resnet(name)}": w(name) for name in w.names})


def nondiffusive_discriminator(config: Mapping[str, Any], state_dict: State) -> PatchDiscriminator:
    """Convert the official PatchGAN to ours, `module(x)` → patch logits.

    Raises:
        ModelError: the weights do not fit.
    """
    w = _Official(state_dict)
    channels, in_channels = w("model.0.weight").shape[:2]
    halvings = sum(name.endswith(".weight") for name in w.names) - 2
    network = PatchDiscriminator(in_channels=in_channels, channels=channels, halvings=halvings)
    state = {name.replace("model.", "layers.", 1): w(name) for name in w.names}
    return _loaded(network, w, state)


class _Official:
    """An official state dict without `module.` prefixes; missing tensors raise ModelError."""

    def __init__(self, state_dict: State) -> None:
        self.tensors = {name.replace("module.", ""): t for name, t in state_dict.items()}
        self.names = list(self.tensors)
        self.unused = set(self.names)

    def __call__(self, name: str) -> Tensor:
        if name not in self.tensors:
            raise ModelError(
                f"the checkpoint lacks {name}",
                "the weights of this kind of network with these options",
            )
        self.unused.discard(name)
        return self.tensors[name].float()

    def layer(self, ours: str, theirs: str) -> dict[str, Tensor]:
        """Weight and bias of a layer under our name."""
        return {f"{ours}.{part}": self(f"{theirs}.{part}") for part in ("weight", "bias")}


def _generator_state(network: NCSNpp, w: _Official) -> dict[str, Tensor]:
    """Our state dict, made in the order of the official module list, which our forward shares."""
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
    for i in dense:  # PixelNorm has index 0 in both networks
        state |= w.layer(f"latent_layers.{i}", f"z_transform.{i}")
    return state


def _joined(w: _Official, ours: str, theirs: list[str]) -> dict[str, Tensor]:
    """Concatenate the small linear layers of all blocks to the single layer of our network."""
    return {
        f"{ours}.{part}": torch.cat([w(f"{name}.{part}") for name in theirs])
        for part in ("weight", "bias")
    }


def _ours_resnet(name: str) -> str:
    """model.10.conv_block.5.weight → 10.layers.5.weight; other layers keep their number."""
    return name.removeprefix("model.").replace("conv_block", "layers")


def _loaded(network: Network, w: _Official, state: dict[str, Tensor]) -> Network:
    if w.unused:
        raise ModelError(
            f"the checkpoint holds {len(w.unused)} tensors more than the network has, "
            f"e.g. {min(w.unused)}",
            "the weights of this kind of network with these options",
        )
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
