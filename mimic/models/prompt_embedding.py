"""What a text encoder makes of one sentence, kept as weights: who always says the same needs no text encoder.

Legend: L tokens, D width of the embedding.
"""

from __future__ import annotations

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch import Tensor, nn


class PromptEmbedding(ModelMixin, ConfigMixin):
    """The hidden states of one sentence, ``1 x L x D``.

    Args:
        num_tokens: L, 77 for CLIP's text encoders.
        width: D, 768 for Stable Diffusion 1.5.
        text: the sentence, for the record; MagicAnimate's is the empty one.
    """

    @register_to_config
    def __init__(self, num_tokens: int = 77, width: int = 768, text: str = "") -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.zeros(1, num_tokens, width))

    def forward(self, num_videos: int = 1) -> Tensor:
        """``B x L x D``, the same for every video."""
        return self.embedding.expand(num_videos, -1, -1)

    @classmethod
    def of(cls, embedding_1LD: Tensor, *, text: str = "") -> PromptEmbedding:
        """A model that holds a copy of these hidden states."""
        module = cls(num_tokens=embedding_1LD.shape[1], width=embedding_1LD.shape[2], text=text)
        module.embedding = nn.Parameter(embedding_1LD.detach().clone())
        return module.eval()
