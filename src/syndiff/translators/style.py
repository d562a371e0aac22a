"""MUNIT's translator: the source's content in a style that is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor

from syndiff.networks.content_style import ContentEncoder, StyleDecoder
from syndiff.translators.base import Translator
from syndiff.translators.explicit import Explicit, Noise


class StyleTranslator(Translator):
    """The content encoder of one modality and the decoder of the other."""

    kind = "style"
    stochastic = True

    def __init__(
        self, encoder: ContentEncoder, decoder: StyleDecoder, config: Mapping[str, Any]
    ) -> None:
        super().__init__(config)
        self.encoder, self.decoder = encoder, decoder

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> StyleTranslator:
        network = config["network"]
        return cls(
            ContentEncoder(**network["encoder"]), StyleDecoder(**network["decoder"]), config
        )

    @property
    def size_multiple(self) -> int:
        return self.encoder.size_multiple

    def forward(self, source: Tensor, noise: Noise, steps: int = 0) -> Tensor:
        self.chain_steps(steps)
        return self._styled(source, noise.normal(self.decoder.style_dim))

    def explicit(self, steps: int = 0) -> Explicit:
        self.chain_steps(steps)
        return Explicit(self._styled, {"style": (self.decoder.style_dim,)})

    def _styled(self, source: Tensor, style: Tensor) -> Tensor:
        return cast(Tensor, self.decoder(self.encoder(source), style))
