"""How one UNet lends another what it sees of the reference: attention processors that write and read a bank.

The writer is run on the reference picture; at every block the *normalised input of spatial self-attention*
goes into a bank. The reader's self-attention in the block of the same name then looks at the frame's own
tokens, followed by those of the reference (Animate Anyone, arXiv 2311.17117, section 3.2; MagicAnimate, arXiv
2311.16498, section 3.2). Bank and reading are arguments of the UNets' calls and nothing is kept between
calls, so that activation checkpointing recomputes what was computed.

Legend: B batch, F frames, N tokens of a frame, M tokens of the reference, C width of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor, nn

BLOCKS = ("full", "midup")
"""Which blocks take part: all (Animate Anyone), or the middle and the upward ones (MagicAnimate)."""


@dataclass
class ReferenceBank:
    """What the writer saw, block by block. A fresh one for each run of the writer."""

    blocks: str = "full"
    """One of `BLOCKS`."""
    features: dict[str, Tensor] = field(default_factory=dict)
    """Name of a transformer block to ``B x M x C``."""

    def __post_init__(self) -> None:
        if self.blocks not in BLOCKS:
            raise ValueError(
                f"reference blocks '{self.blocks}' are not known; use one of {', '.join(BLOCKS)}."
            )

    def write(self, block: str, features_BMC: Tensor) -> None:
        """Keep a block's features, if that block takes part."""
        if takes_part(block, self.blocks):
            self.features[block] = features_BMC

    def rounded(self, dtype: torch.dtype) -> ReferenceBank:
        """The same features in `dtype`: the released pipelines keep them in float16 whatever the models'
        precision."""
        return ReferenceBank(self.blocks, {name: value.to(dtype) for name, value in self.features.items()})

    def read(self, attends: Sequence[bool]) -> ReferenceReading:
        """What a reader's call is given: `attends` tells of each video of its batch whether it looks at the
        reference (the unconditional half of guidance does not)."""
        return ReferenceReading(self, tuple(bool(each) for each in attends))


@dataclass(frozen=True)
class ReferenceReading:
    """A filled bank, and who of a batch looks at it."""

    bank: ReferenceBank
    attends: tuple[bool, ...]
    """``B``; the bank holds one reference for all, or one for each."""

    def attend(self, block: str, hidden: Tensor, attention: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Self-attention of ``BF x N x C`` in `block`, by ``attention(queries, keys and values)``."""
        reference = self.bank.features.get(block)
        if reference is None:
            return attention(hidden, hidden)
        own = hidden.unflatten(0, (len(self.attends), -1))  # B x F x N x C
        results: dict[int, Tensor] = {}
        for attends in (False, True):
            videos = [video for video, each in enumerate(self.attends) if each == attends]
            if not videos:
                continue
            queries = own if len(videos) == len(own) else own[videos]
            keys = queries
            if attends:
                of_these = reference if len(reference) == 1 else reference[videos]
                shape = (*queries.shape[:2], *reference.shape[1:])  # b x F x M x C
                keys = torch.cat([queries, of_these[:, None].to(hidden.dtype).expand(shape)], dim=2)
            seen = attention(queries.flatten(0, 1), keys.flatten(0, 1)).unflatten(0, (len(videos), -1))
            if len(videos) == len(own):
                return seen.flatten(0, 1)
            results |= dict(zip(videos, seen))
        return torch.cat([results[video] for video in range(len(own))])


class ReferenceAttnProcessor:
    """diffusers' scaled dot product attention, but self-attention of a named block may write or read a bank.

    The bank arrives with the call, as ``cross_attention_kwargs={"reference": ...}``; without one this is
    plain attention. A `block` of None is for cross-attention, which takes no part.
    """

    def __init__(self, block: str | None) -> None:
        self.block = block
        self._plain = AttnProcessor2_0()

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        reference: ReferenceBank | ReferenceReading | None = None,
    ) -> Tensor:
        if self.block is not None and isinstance(reference, ReferenceReading):
            return reference.attend(
                self.block, hidden_states, lambda queries, keys: self._plain(attn, queries, keys)
            )
        if self.block is not None and isinstance(reference, ReferenceBank):
            reference.write(self.block, hidden_states)
        return self._plain(attn, hidden_states, encoder_hidden_states, attention_mask, temb)


class NormAlone(nn.Module):
    """A transformer block of which only the first norm is left: it feeds the bank, and nothing follows.

    The last block of a writer needs no more; MagicAnimate's released appearance encoder has no more.
    """

    def __init__(self, block: BasicTransformerBlock, name: str) -> None:
        super().__init__()
        self.norm1 = block.norm1
        self._name = name

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        timestep: Tensor | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
        class_labels: Tensor | None = None,
    ) -> Tensor:
        """The arguments of diffusers' block, which gradient checkpointing gives by position."""
        reference = (cross_attention_kwargs or {}).get("reference")
        if isinstance(reference, ReferenceBank):
            reference.write(self._name, self.norm1(hidden_states))
        return hidden_states


def takes_part(block: str, blocks: str) -> bool:
    """Whether a transformer block of that name is among `blocks` (one of `BLOCKS`)."""
    return blocks == "full" or not block.startswith("down_blocks.")


def reference_blocks(unet: nn.Module, blocks: str = "full") -> list[str]:
    """Names of the spatial transformer blocks that write or read, in the order in which the released code
    pairs them: widest first, then by its way through the UNet. UNets of equal layout pair name by name."""
    widths = {
        name: block.norm1.normalized_shape[0]
        for name, block in unet.named_modules()
        if isinstance(block, BasicTransformerBlock | NormAlone) and ".attentions." in name
    }
    way = ("down_blocks", "up_blocks", "mid_block") if blocks == "full" else ("mid_block", "up_blocks")
    in_order = [name for part in way for name in widths if name.startswith(part)]
    return sorted(in_order, key=lambda name: -widths[name])


def install_processors(unet: nn.Module) -> None:
    """Give the spatial attention of a UNet processors that know a bank when they are handed one."""
    for name, block in unet.named_modules():
        if isinstance(block, BasicTransformerBlock) and ".attentions." in name:
            block.attn1.set_processor(ReferenceAttnProcessor(name))
            block.attn2.set_processor(ReferenceAttnProcessor(None))


def check_reading(unet: Any, reading: ReferenceReading, num_videos: int) -> None:
    """Raise `ValueError` unless every feature of the bank will be read, each by its block.

    A block whose processor was exchanged for another would otherwise go on without the reference, silently.
    """
    bank = reading.bank
    if len(reading.attends) != num_videos:
        raise ValueError(f"the reading is for {len(reading.attends)} videos, the batch has {num_videos}.")
    if not bank.features:
        raise ValueError("the reference bank is empty; run the reference network with it first.")
    readers = {
        processor.block
        for name, processor in unet.attn_processors.items()
        if isinstance(processor, ReferenceAttnProcessor)
    }
    unread = sorted(set(bank.features) - readers)
    if unread:
        raise ValueError(f"no block of the denoising network reads the reference of {', '.join(unread)}.")
    sizes = sorted({len(features) for features in bank.features.values()} - {1, num_videos})
    if sizes:
        raise ValueError(
            f"the bank holds {sizes[0]} references for {num_videos} videos; give one, or each one."
        )
