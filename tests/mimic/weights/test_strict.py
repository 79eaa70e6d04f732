import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mimic.weights.strict import (
    WeightsError,
    align_memory,
    compare,
    load_strictly,
    read_state,
    without_prefixes,
)

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}


@pytest.fixture(params=["pth", "old.pth", "safetensors"])
def checkpoint(request, tmp_path):
    path = tmp_path / f"checkpoint.{request.param}"
    if request.param == "safetensors":
        save_file(STATE, path)
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=request.param == "pth")
    return path


def test_every_format_is_read(checkpoint):
    state = read_state(checkpoint)
    assert state.keys() == STATE.keys()
    assert all(torch.equal(state[key], STATE[key]) for key in STATE)


def test_a_dict_under_state_dict_is_opened(tmp_path):
    torch.save({"state_dict": STATE, "epoch": 3}, tmp_path / "c.pth")
    assert read_state(tmp_path / "c.pth").keys() == STATE.keys()


def test_a_truncated_file_is_told(checkpoint):
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: len(content) // 2])
    with pytest.raises(WeightsError, match=f"it has {len(content) // 2} bytes. Download it again|is refused"):
        read_state(checkpoint)


class Payload:
    executed = False

    def __reduce__(self):
        return (setattr, (Payload, "executed", True))


def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path):
    torch.save({"a.weight": Payload()}, tmp_path / "c.pth")
    with pytest.raises(WeightsError, match="is refused"):
        read_state(tmp_path / "c.pth")
    assert not Payload.executed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": torch.ones(1), "epoch": 3}, "entries that are no tensors: epoch"),
        ([torch.ones(1)], "holds a list; expected a dict"),
    ],
)
def test_other_content_is_told(tmp_path, content, message):
    torch.save(content, tmp_path / "c.pth")
    with pytest.raises(WeightsError, match=message):
        read_state(tmp_path / "c.pth")


def test_files_that_are_no_checkpoints_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.pth does not exist"):
        read_state(tmp_path / "none.pth")
    (tmp_path / "page.pth").write_text("<html>Not found</html>")
    with pytest.raises(WeightsError, match=r"page\.pth is refused|not a whole checkpoint"):
        read_state(tmp_path / "page.pth")
    (tmp_path / "lfs.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(WeightsError, match="Git LFS pointer"):
        read_state(tmp_path / "lfs.safetensors")


def test_modules_on_the_meta_device_take_the_tensors_themselves():
    with torch.device("meta"):
        module = nn.Linear(3, 2)
    load_strictly({"a.": module}, STATE, source="here")
    assert module.weight.data_ptr() == STATE["a.weight"].data_ptr()
    load_strictly({"a.": module}, STATE, source="here", dtype=torch.float16)
    assert module.bias.dtype == torch.float16


def test_a_mismatch_changes_nothing():
    module = nn.Linear(3, 2)
    before = module.weight.clone()
    with pytest.raises(WeightsError) as caught:
        load_strictly({"a.": module}, {"a.weight": STATE["a.weight"], "b": STATE["a.bias"]}, source="c.pth")
    assert "c.pth" in str(caught.value)
    assert (caught.value.mismatch.missing, caught.value.mismatch.surplus) == (["a.bias"], ["b"])
    assert torch.equal(module.weight, before)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_weights_that_are_no_floating_point_numbers_are_named_and_change_nothing(dtype):
    module = nn.Linear(3, 2)
    before = module.weight.clone()
    state = {"a.weight": torch.ones(2, 3, dtype=dtype), "a.bias": STATE["a.bias"]}
    found = str(dtype).removeprefix("torch.")
    with pytest.raises(WeightsError, match=rf"a\.weight: found {found}, expected float32"):
        load_strictly({"a.": module}, state, source="c.pth")
    assert torch.equal(module.weight, before)


def test_optional_keys_may_be_there_or_not():
    expected = {"a": [1]}
    assert not compare(expected, {"a": [1]}, optional=["b"])
    assert not compare(expected, {"a": [1], "b": [2]}, optional=["b"])
    assert compare(expected, {"a": [1], "c": [2]}, optional=["b"]).surplus == ["c"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float8_e5m2])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_that_are_not_finite_are_refused_with_their_names(tmp_path, value, dtype, suffix):
    broken = torch.ones(3, 4)
    broken[1, 2] = value
    state = {**STATE, "b.weight": broken.to(dtype), "empty": torch.ones(0), "steps": torch.arange(3)}
    path = tmp_path / f"c.{suffix}"
    torch.save(state, path) if suffix == "pth" else save_file(state, path)
    with pytest.raises(WeightsError, match=rf"c\.{suffix} holds NaN or infinite values in b\.weight\. Use"):
        read_state(path)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_file_beyond_half_precision_is_refused_where_it_is_cast_while_it_is_read(tmp_path, suffix):
    state, path = {**STATE, "b.weight": torch.full((3, 4), 7e4)}, tmp_path / f"c.{suffix}"
    torch.save(state, path) if suffix == "pth" else save_file(state, path)
    with pytest.raises(
        WeightsError, match=rf"c\.{suffix} holds values beyond what float16 .* in b\.weight\. Use"
    ):
        read_state(path, dtype=torch.float16)
    assert read_state(path, dtype=torch.bfloat16)["b.weight"].isfinite().all()


def test_weights_beyond_half_precision_are_refused_where_they_would_become_infinite():
    module = nn.Linear(4, 3)
    state = {key: value.clone() for key, value in module.state_dict().items()}
    state["weight"][0, 0], before = -7e4, module.weight.clone()
    with pytest.raises(
        WeightsError, match=r"beyond what float16 can hold in weight\. Use bfloat16 or float32"
    ):
        load_strictly({"": module}, state, source="c.pth", dtype=torch.float16)
    assert torch.equal(module.weight, before)
    load_strictly({"": module}, state, source="c.pth", dtype=torch.bfloat16)
    assert module.weight.dtype == torch.bfloat16


def test_prefixes_of_training_frameworks_are_removed_and_said(caplog):
    caplog.set_level("INFO", "mimic")
    state = {f"module.module.{key}": value for key, value in STATE.items()}
    assert without_prefixes(state, "module.", source="c.pth").keys() == STATE.keys()
    assert caplog.messages == ["c.pth: removed module. from 2 of 2 keys"]
    caplog.clear()
    kept = {"unet.module.weight": STATE["a.bias"]}
    assert without_prefixes(kept, "module.", source="c.pth") == kept
    assert not caplog.messages
    with pytest.raises(WeightsError, match=r"c\.pth holds a\.bias twice, once as module\.a\.bias"):
        without_prefixes({**STATE, "module.a.bias": STATE["a.bias"]}, "module.", source="c.pth")


def test_weights_at_odd_addresses_are_copied_and_others_stay():
    module = nn.Linear(3, 2)
    memory = torch.zeros(64)
    skew = next(i for i in range(16) if (memory.data_ptr() + 4 * i) % 64 == 4)
    module.weight.data = memory[skew : skew + 6].view(2, 3).copy_(STATE["a.weight"])
    align_memory(module)
    address = module.weight.data_ptr()
    assert address % 64 == 0
    assert torch.equal(module.weight, STATE["a.weight"])
    align_memory(module)
    assert module.weight.data_ptr() == address
