"""Saving memory changes neither loss nor gradients, and what is kept for the backward pass is less."""

from contextlib import nullcontext

import pytest
import torch
from torch.distributed.fsdp import fully_shard

from mimic.families.mimicmotion.tiny import tiny_pipeline
from mimic.models import offload
from mimic.models.memory import in_portions, save_memory
from mimic.models.offload import offloaded

FRAMES, SIDE = 3, 16


def gradients(offload: bool = False, **ways):
    """Loss, gradients by name, and bytes kept, of a step of UNet and PoseNet."""
    pipe = tiny_pipeline(height=SIDE, width=SIDE, seed=0)
    networks = torch.nn.ModuleDict({"unet": pipe.unet, "pose_net": pipe.pose_net}).train()
    names = list(networks.state_dict())
    save_memory(networks, **ways)
    assert list(networks.state_dict()) == names
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, FRAMES, 8, SIDE // 4, SIDE // 4, generator=generator)
    maps = torch.randn(2, FRAMES, 3, SIDE, SIDE, generator=generator)
    embedding = torch.randn(2, 1, 32, generator=generator)
    kept = 0

    def count(tensor):
        nonlocal kept
        kept += tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        with offloaded(networks, smallest=1) if offload else nullcontext():
            output = pipe.unet(
                latents, torch.tensor(0.3), embedding, torch.tensor([[6.0, 127.0, 0.0]] * 2),
                pose_latents=pipe.pose_net(maps), return_dict=False,
            )[0]  # fmt: skip
        loss = output.square().mean()
    loss.backward()
    return loss.item(), {name: p.grad for name, p in networks.named_parameters()}, kept


@pytest.fixture(scope="module")
def plain():
    return gradients()


@pytest.mark.parametrize(
    ("ways", "share"),
    [
        ({"gradient_checkpointing": True}, 0.3),
        ({"chunk_frames": 2}, 0.5),
        ({"gradient_checkpointing": True, "chunk_frames": 2}, 0.3),
        ({"gradient_checkpointing": True, "offload": True}, 0.3),
    ],
)
def test_every_way_of_saving_memory_gives_the_plain_gradients(plain, ways, share):
    loss, own, kept = gradients(**ways)
    assert loss == pytest.approx(plain[0], rel=1e-5)
    for name, expected in plain[1].items():
        assert own[name] is not None, name
        assert torch.allclose(own[name], expected, atol=1e-5 * float(1 + expected.abs().max())), name
    assert kept < share * plain[2]


def test_portions_are_of_the_size_asked_for_and_divide_what_goes_along():
    sizes = []

    def function(first, rest, other):
        sizes.append(len(first))
        assert other == "as it is"
        return first * rest

    first, rest = torch.arange(7.0), torch.arange(7.0) + 1
    assert torch.equal(in_portions(function, 3, first, rest, "as it is"), first * rest)
    assert sizes == [3, 3, 1]
    with pytest.raises(ValueError, match="at least one frame"):
        save_memory(torch.nn.Linear(1, 1), chunk_frames=0)


def test_saved_models_do_not_know_of_it(tmp_path):
    pipe = tiny_pipeline(height=SIDE, width=SIDE, seed=0)
    save_memory(torch.nn.ModuleList([pipe.unet, pipe.pose_net]), gradient_checkpointing=True, chunk_frames=1)
    pipe.save_pretrained(tmp_path)
    again = type(pipe).from_pretrained(tmp_path)
    assert type(again.unet).__name__ == "PoseConditionedSVDUNet"
    assert not any(
        "Checkpointed" in type(m).__name__ or "Chunked" in type(m).__name__ for m in again.unet.modules()
    )


def test_weights_that_fsdp2_has_gathered_stay_where_they_are(monkeypatch):
    out, moved = offload._Mover.out, []

    def note(mover, tensor):
        moved.append(tuple(tensor.shape))
        return out(mover, tensor)

    monkeypatch.setattr(offload._Mover, "out", note)
    torch.distributed.init_process_group("gloo", rank=0, world_size=1, store=torch.distributed.HashStore())
    try:
        mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
        layers = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.SiLU(), torch.nn.Linear(16, 5))
        for module in (layers[0], layers[2], layers):
            fully_shard(module, mesh=mesh)
        with offloaded(layers, smallest=0):
            y = layers(torch.ones(3, 8, requires_grad=True))
        y.sum().backward()
    finally:
        torch.distributed.destroy_process_group()
    assert set(moved) == {(3, 8), (3, 16)}, "activations of three pictures, and no weight"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="streams of a CUDA device")
def test_what_is_moved_on_a_gpu_comes_back_as_it_was():
    torch.manual_seed(0)
    layers = torch.nn.Sequential(*[torch.nn.Linear(2048, 2048) for _ in range(12)]).cuda()
    x = torch.randn(1024, 2048, device="cuda")

    def of_step(moves):
        layers.zero_grad()
        with offloaded(layers) if moves else nullcontext():
            y = x
            for layer in layers:
                y = torch.nn.functional.gelu(layer(y))
        y.square().mean().backward()
        return [p.grad.clone() for p in layers.parameters()]

    expected = of_step(moves=False)
    for _ in range(5):
        assert all(torch.equal(own, other) for own, other in zip(of_step(moves=True), expected))
