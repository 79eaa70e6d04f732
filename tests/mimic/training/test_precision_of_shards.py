"""FSDP2 in bf16 computes what DDP computes: inputs arrive as they are, gradients are reduced in float32."""

import json
import os
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import nn

from mimic.data.batch import EncodedSample, collate
from mimic.families.mimicmotion.training import MimicMotionNetworks, MimicMotionObjective
from mimic.training.engine import EngineModel, autocast_under_fsdp, local, make_accelerator
from tests.mimic.training.small import finish, free_port, quick_settings, shares_out_on_cpus, start
from tests.mimic.training.test_distributed import FSDP2

SEEN: dict[str, torch.Tensor] = {}


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv = nn.GroupNorm(2, 8), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        return x + self.conv(nn.functional.silu(self.norm(x)))


class SmallUNet(nn.Module):
    """Blocks under the names by which the engine gathers them, and what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_in, self.conv_out = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1)
        self.down_blocks = nn.ModuleList([nn.ModuleDict({"resnets": nn.ModuleList([Block(), Block()])})])
        self.time = nn.Linear(3 + 1 + 6, 8)

    def forward(self, sample, timestep, encoder_hidden_states, added_time_ids, *, pose_latents, return_dict):
        SEEN.update(sample=sample, timestep=timestep, time_ids=added_time_ids)
        F = sample.shape[1]
        condition = torch.cat([added_time_ids, timestep[:, None], encoder_hidden_states[:, 0]], dim=1)
        x = self.conv_in(sample.flatten(0, 1)) + pose_latents
        x = x + self.time(condition).repeat_interleave(F, 0)[..., None, None]
        for block in self.down_blocks[0]["resnets"]:
            x = block(x)
        return (self.conv_out(x).unflatten(0, (-1, F)),)


class SmallPoseNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 8, stride=8)

    def forward(self, maps):
        return self.conv(maps.flatten(0, 1))


def sample_of(seed: int) -> EncodedSample:
    generator = torch.Generator().manual_seed(seed)
    F, h = 3, 4
    return EncodedSample(
        pose_maps=torch.rand(F + 1, 3, 8 * h, 8 * h, generator=generator) * 2 - 1,
        masks={"hands": torch.rand(F + 1, 1, h, h, generator=generator)},
        key=f"clip {seed}",
        latents=torch.randn(F, 4, h, h, generator=generator),
        reference_latents=torch.randn(4, h, h, generator=generator),
        image_embedding=torch.randn(6, generator=generator),
    )


def draws_of(rank: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(100 + rank)
    ones = torch.ones(1)
    keeps = {f"keep_{name}": ones for name in ("image_embedding", "reference", "pose")}
    # The noise augmentation is no number that bf16 knows.
    draws = {"sigma": ones * (0.3 + rank), "noise_aug": ones * 0.1234567}
    return keeps | draws | {"noise": torch.randn(1, 4, 4, 4, 4, generator=generator)}


def one_pass(folder: Path, environment: dict[str, str]) -> None:
    """Forward and backward in this process, one of two; notes loss, gradients and what arrived."""
    os.environ.update(environment)
    rank = int(environment["RANK"])
    torch.set_num_threads(1)
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = make_accelerator(quick_settings(folder, precision="bf16"))
    torch.manual_seed(0)
    networks = MimicMotionNetworks(
        SmallUNet(),
        SmallPoseNet(),
        MimicMotionObjective(),
        scaling_factor=0.2,
        encode_reference=lambda pixels: pixels,
        decoded_loss=lambda *_: torch.zeros(()),
    )
    model = EngineModel(networks, autocast=autocast_under_fsdp(accelerator))
    optimiser = torch.optim.AdamW(model.parameters())
    model, optimiser = accelerator.prepare(model, optimiser)
    loss, *_ = model(collate([sample_of(rank)]), draws_of(rank))
    accelerator.backward(loss)
    gradients = {name: p.grad for name, p in networks.named_parameters()}
    whole = {
        name: grad.full_tensor() if hasattr(grad, "full_tensor") else grad for name, grad in gradients.items()
    }
    found = {
        "loss": accelerator.reduce(loss.detach(), reduction="mean").item(),
        "norm": torch.stack([grad.float().norm() for grad in whole.values()]).norm().item(),
        "reduced": sorted({str(local(grad).dtype) for grad in gradients.values()}),
        "seen": {name: [str(value.dtype), value.double().sum().item()] for name, value in SEEN.items()},
        "is_shared_out": any(hasattr(p, "full_tensor") for p in networks.parameters()),
    }
    (folder / str(rank)).write_text(json.dumps(found))
    accelerator.wait_for_everyone()
    accelerator.end_training()


def both(folder: Path, environment: dict[str, str]) -> list[dict]:
    folder.mkdir()
    own = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    own |= {"MASTER_PORT": str(free_port()), **environment}
    if torch.cuda.is_available():
        own["ACCELERATE_USE_CPU"] = "true"
    processes = [start(one_pass, folder, own | {"RANK": rank, "LOCAL_RANK": rank}) for rank in "01"]
    assert finish(processes, seconds=180) == [0, 0]
    return [json.loads((folder / rank).read_text()) for rank in "01"]


@shares_out_on_cpus
def test_bf16_under_fsdp2_is_bf16_under_ddp(tmp_path):
    ddp, fsdp = both(tmp_path / "ddp", {}), both(tmp_path / "fsdp", FSDP2)
    assert [found["is_shared_out"] for found in (*ddp, *fsdp)] == [False, False, True, True]
    for found, expected in zip(fsdp, ddp):
        # Noise level, noisy latents and time ids are not rounded on their way in.
        assert found["seen"] == expected["seen"]
        assert {dtype for dtype, _ in found["seen"].values()} == {"torch.float32"}
        assert found["reduced"] == expected["reduced"] == ["torch.float32"]
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
        assert found["norm"] == pytest.approx(expected["norm"], rel=2e-3)
