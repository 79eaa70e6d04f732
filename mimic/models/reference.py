"""How one UNet lends another what it sees of the reference: attention layers that write and read a bank.

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
from diffusers import ModelMixin
from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor, nn

from mimic.models.attention import (
    DispatchedAttnProcessor,
    SwitchableAttention,
    attention_layers,
    output_of,
    switchable,
)

BLOCKS = ("full", "midup")
"""Which blocks take part: all (Animate Anyone), or the middle and the upward ones (MagicAnimate)."""


@dataclass
class ReferenceBank:
    """Features of the writer by block. Each run of the writer needs a new bank."""

    blocks: str = "full"
    """One of `BLOCKS`."""
    features: dict[str, Tensor] = field(default_factory=dict)
    """Name of a transformer block to ``B x M x C``."""
    projected: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Keys and values of `features` for one reader, from `projected_by`; empty means that it projects them
    itself."""

    def __post_init__(self) -> None:
        if self.blocks not in BLOCKS:
            raise ValueError(
                f"reference blocks '{self.blocks}' are not known; use one of {', '.join(BLOCKS)}."
            )

    def write(self, block: str, features_BMC: Tensor) -> None:
        """Store the features of a block if it takes part."""
        if takes_part(block, self.blocks):
            self.features[block] = features_BMC

    def rounded(self, dtype: torch.dtype) -> ReferenceBank:
        """Return a bank with the features in `dtype`: the released pipelines store them in float16 whatever
        the precision of the models is."""
        return ReferenceBank(self.blocks, {name: value.to(dtype) for name, value in self.features.items()})

    def of_videos(self, block: str, videos: Sequence[int] | None) -> ReferenceTokens:
        """A block's tokens for the given videos of a batch, or for all."""
        features, projected = self.features[block], self.projected.get(block)
        if videos is None or len(features) == 1:
            return ReferenceTokens(features, projected)
        key_and_value = (
            None if projected is None else (_some(projected[0], videos), _some(projected[1], videos))
        )
        return ReferenceTokens(_some(features, videos), key_and_value)

    def projected_by(self, unet: ModelMixin) -> ReferenceBank:
        """The same bank with the keys and values that the reader's self-attention makes of its features.

        The reader then projects a reference once and not once for each frame, window and step. Results may
        differ in the order of sums. To be made anew when the reader's weights change.
        """
        projected, dtype = {}, unet.dtype
        for layer in attention_layers(unet):
            if isinstance(layer, ReferenceAttention) and layer.block in self.features:
                # Not in the precision of the weights, which may have 8 bits.
                tokens = self.features[layer.block].to(dtype)
                projected[layer.block] = layer.to_k(tokens), layer.to_v(tokens)
        return ReferenceBank(self.blocks, self.features, projected)

    def read(self, attends: Sequence[bool]) -> ReferenceReading:
        """Return the argument for a reader's call. `attends` says for each video of the batch whether it
        attends to the reference (the unconditional half of guidance does not)."""
        return ReferenceReading(self, tuple(bool(each) for each in attends))


@dataclass(frozen=True)
class ReferenceReading:
    """A filled bank, and which videos of a batch attend to it."""

    bank: ReferenceBank
    attends: tuple[bool, ...]
    """One entry for each video; the bank holds one reference for all videos, or one for each."""

    def attend(self, block: str, hidden: Tensor, attention: Attend) -> Tensor:
        """Self-attention of ``BF x N x C`` in `block`, computed by `attention` for the videos that look at
        the reference and for those that do not."""
        own = hidden.unflatten(0, (len(self.attends), -1))  # B x F x N x C
        if block not in self.bank.features:
            return attention(own, None).flatten(0, 1)
        results: dict[int, Tensor] = {}
        for attends in (False, True):
            videos = [video for video, each in enumerate(self.attends) if each == attends]
            if not videos:
                continue
            all_of_them = len(videos) == len(own)
            tokens = self.bank.of_videos(block, None if all_of_them else videos) if attends else None
            seen = attention(own if all_of_them else _some(own, videos), tokens)
            if all_of_them:
                return seen.flatten(0, 1)
            results |= dict(zip(videos, seen))
        return torch.cat([results[video] for video in range(len(own))])


@dataclass(frozen=True)
class ReferenceTokens:
    """Reference tokens appended to the keys and values of a block's self-attention."""

    features: Tensor
    """``B x M x C``, or of one reference for all videos."""
    projected: tuple[Tensor, Tensor] | None = None
    """Their keys and values, if these were computed in advance."""


Attend = Callable[[Tensor, "ReferenceTokens | None"], Tensor]
"""Self-attention of tokens ``B x F x N x C`` that also look at the given reference."""


class ReferenceAttention(SwitchableAttention):
    """Self-attention of a named block that writes into a bank or reads one.

    The bank is passed with the call, as ``cross_attention_kwargs={"reference": ...}``; without one this is
    plain attention. Writing and reading belong to the layer and not to its processor, so that they remain
    when diffusers' switches set another processor.
    """

    block: str | None
    """Name of the transformer block; None for cross-attention, which neither writes nor reads."""

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        reference: ReferenceBank | ReferenceReading | None = None,
        **others: Any,
    ) -> Tensor:
        """As in diffusers, with what the call writes or reads.

        Args:
            hidden_states: ``B x N x C``, or ``BF x N x C`` where a reference is read.
            encoder_hidden_states, attention_mask, others: as the parent's.
            reference: bank that a writer fills, or the reading of one.
        """
        if self.block is not None and isinstance(reference, ReferenceReading):
            return reference.attend(self.block, hidden_states, self._attend)
        if self.block is not None and isinstance(reference, ReferenceBank):
            reference.write(self.block, hidden_states)
        result: Tensor = super().forward(hidden_states, encoder_hidden_states, attention_mask, **others)
        return result

    def _attend(self, own_BFNC: Tensor, tokens: ReferenceTokens | None) -> Tensor:
        own = own_BFNC.flatten(0, 1)
        frames = own_BFNC.shape[:2]
        if tokens is None:
            seen = super().forward(own)
        elif tokens.projected is not None and isinstance(self.processor, DispatchedAttnProcessor):
            query, key, value = self.processor.project(self, own, None)
            projected = (_each_frame(each, frames).flatten(0, 1) for each in tokens.projected)
            keys, values = (torch.cat(pair, dim=1) for pair in zip((key, value), projected))
            seen = output_of(self, self.processor.attend(self, query, keys, values))
        else:
            of_reference = _each_frame(tokens.features.to(own.dtype), frames)
            seen = super().forward(own, torch.cat([own_BFNC, of_reference], dim=2).flatten(0, 1))
        return seen.unflatten(0, frames)


def _some(tensor: Tensor, videos: Sequence[int]) -> Tensor:
    """``tensor[videos]`` without copying the indices to the device of the tensor."""
    first, end = videos[0], videos[-1] + 1
    if list(videos) == list(range(first, end)):
        return tensor[first:end]
    return torch.stack([tensor[video] for video in videos])


def _each_frame(tokens_BMC: Tensor, frames: torch.Size) -> Tensor:
    return tokens_BMC[:, None].expand(*frames, -1, -1)  # B x F x M x C


class NormAlone(nn.Module):
    """A transformer block reduced to its first norm, whose output goes into the bank.

    This is all that the last block of a writer needs and all that MagicAnimate's released appearance encoder
    contains.
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
        """The arguments of diffusers' block, which gradient checkpointing passes by position."""
        reference = (cross_attention_kwargs or {}).get("reference")
        if isinstance(reference, ReferenceBank):
            reference.write(self._name, self.norm1(hidden_states))
        return hidden_states


def takes_part(block: str, blocks: str) -> bool:
    """Whether a transformer block of that name is among `blocks` (one of `BLOCKS`)."""
    return blocks == "full" or not block.startswith("down_blocks.")


def reference_blocks(unet: nn.Module, blocks: str = "full") -> list[str]:
    """Names of the spatial transformer blocks that write or read, in the order in which the released code
    pairs them: by decreasing width, then in its order of the parts of the UNet. In UNets of equal layout
    blocks of the same name correspond."""
    unet = getattr(unet, "_orig_mod", unet)  # of torch.compile
    widths = {
        name: block.norm1.normalized_shape[0]
        for name, block in unet.named_modules()
        if isinstance(block, BasicTransformerBlock | NormAlone) and ".attentions." in name
    }
    way = ("down_blocks", "up_blocks", "mid_block") if blocks == "full" else ("mid_block", "up_blocks")
    in_order = [name for part in way for name in widths if name.startswith(part)]
    return sorted(in_order, key=lambda name: -widths[name])


def install_processors(unet: nn.Module) -> None:
    """Give a UNet attention layers that keep our processors, and its spatial ones the reference."""
    for name, block in unet.named_modules():
        if not isinstance(block, BasicTransformerBlock):
            continue
        for layer, own_name in ((block.attn1, name), (block.attn2, None)):
            switchable(layer)
            if ".attentions." in name:
                layer.__class__ = ReferenceAttention
                layer.block = own_name


def check_written(unet: nn.Module, bank: ReferenceBank) -> None:
    """Raise `ValueError` unless every block of the writer that takes part has written."""
    missing = [name for name in reference_blocks(unet, bank.blocks) if name not in bank.features]
    if missing:
        raise ValueError(
            f"block {missing[0]} of the reference network wrote nothing into the bank: its self-attention "
            "was replaced or skipped; load the network again."
        )


def check_reading(unet: nn.Module, reading: ReferenceReading, num_videos: int) -> None:
    """Raise `ValueError` unless every block that should have written has, and every feature will be read.

    A layer that was replaced would otherwise run without the reference, silently.
    """
    bank = reading.bank
    if len(reading.attends) != num_videos:
        raise ValueError(f"the reading is for {len(reading.attends)} videos, the batch has {num_videos}.")
    if not bank.features:
        raise ValueError("the reference bank is empty; run the reference network with it first.")
    readers = {layer.block for layer in attention_layers(unet) if isinstance(layer, ReferenceAttention)}
    unread = sorted(set(bank.features) - readers)
    if unread:
        raise ValueError(f"no block of the denoising network reads the reference of {', '.join(unread)}.")
    unwritten = [name for name in reference_blocks(unet, bank.blocks) if name not in bank.features]
    if unwritten:
        raise ValueError(
            f"the reference bank has nothing for block {unwritten[0]} of the denoising network; fill it with "
            "a reference network of the same layout."
        )
    sizes = sorted({len(features) for features in bank.features.values()} - {1, num_videos})
    if sizes:
        raise ValueError(
            f"the bank holds {sizes[0]} references for {num_videos} videos; give one, or each one."
        )
