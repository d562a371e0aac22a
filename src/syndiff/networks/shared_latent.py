"""UNIT's encoders and decoders, which share one latent space.

Liu, Breuel, Kautz, Unsupervised Image-to-Image Translation Networks, NIPS 2017. Each modality has
its own convolutions and most of its residual blocks; the last block of the encoders and the first
one of the decoders belong to both modalities:

    image → image_encoder → shared_block → latent → shared_block → image_decoder → image
            └─ own ─────┘   └ of both ─┘            └ of both ─┘   └─ own ─────┘

The blocks are those of this package's ResNet, with instance normalisation.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from syndiff.networks.resnet import ResidualBlock, decoding, encoding, init_normal


def image_encoder(in_channels: int, channels: int, blocks: int) -> nn.Sequential:
    """A modality's own part of its encoder; b in_channels h w → b 4·channels h/4 w/4."""
    residual = [ResidualBlock(4 * channels) for _ in range(blocks - 1)]
    return nn.Sequential(*encoding(in_channels, channels), *residual).apply(init_normal)


def shared_block(channels: int) -> nn.Module:
    """The block that encoders, or decoders, have in common; b 4·channels h/4 w/4 → the same."""
    return ResidualBlock(4 * channels).apply(init_normal)


def image_decoder(out_channels: int, channels: int, blocks: int, upsampling: str) -> nn.Sequential:
    """A modality's own part of its decoder; b 4·channels h/4 w/4 → b out_channels h w."""
    residual = [ResidualBlock(4 * channels) for _ in range(blocks - 1)]
    layers = decoding(out_channels, channels, upsampling)
    return nn.Sequential(*residual, *layers).apply(init_normal)


@dataclass(frozen=True)
class SharedLatentSettings:
    """The sizes that a user chooses, described in `SharedLatentGenerator.build`."""

    channels: int = 64
    blocks: int = 4
    upsampling: str = "transposed"
    name: str = "shared_latent"


class SharedLatentGenerator(nn.Module):
    """One direction through the latent space; (b, c, h, w) in [-1, 1] → (b, c', h, w).

    Args:
        encoder: encoder of the source modality.
        shared_encoder, shared_decoder: the blocks of both modalities.
        decoder: decoder of the target modality.
    """

    size_multiple = 4

    def __init__(
        self,
        encoder: nn.Module,
        shared_encoder: nn.Module,
        shared_decoder: nn.Module,
        decoder: nn.Module,
    ) -> None:
        super().__init__()
        self.encoder, self.shared_encoder = encoder, shared_encoder
        self.shared_decoder, self.decoder = shared_decoder, decoder

    @classmethod
    def build(
        cls,
        in_channels: int = 1,
        out_channels: int = 1,
        channels: int = 64,
        blocks: int = 4,
        upsampling: str = "transposed",
    ) -> SharedLatentGenerator:
        """A generator with newly initialised weights.

        Args:
            in_channels, out_channels: channels of the image to translate and of the result.
            channels: width at full resolution; it doubles at each of the two halvings.
            blocks: residual blocks of the encoder, and of the decoder; one of them is shared.
            upsampling: "transposed" or "resize", see `ResNetGenerator`.
        """
        return cls(
            image_encoder(in_channels, channels, blocks),
            shared_block(channels),
            shared_block(channels),
            image_decoder(out_channels, channels, blocks, upsampling),
        )

    def forward(self, x: Tensor) -> Tensor:
        code = self.shared_encoder(self.encoder(x))  # b 4·channels h/4 w/4
        return self.decoder(self.shared_decoder(code))
