"""Feature networks from real file formats: TorchScript, safetensors, torch.save; misfits are told."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from mimic.metrics.features import FeatureNetwork, PerceptualDistance, fill, is_torchscript, resized
from mimic.metrics.networks.i3d import I3D
from mimic.metrics.networks.inception import InceptionV3
from mimic.metrics.networks.lpips import BACKBONES, TAPS, Layer, Lpips
from mimic.metrics.networks.resnet3d import ResNet3D
from mimic.weights.errors import SourceError
from mimic.weights.strict import WeightsError

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*torch.jit.*:DeprecationWarning", "ignore::torch.jit.TracerWarning"
)
RNG = np.random.default_rng(0)


class Plain(nn.Module):
    """A network of the documented interface: what it is given, averaged."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).mean(dim=2)


class Detector(nn.Module):
    """A network that prepares pixels itself, as the published TorchScript detectors do."""

    def forward(
        self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False
    ) -> Tensor:
        assert rescale
        assert resize
        assert return_features
        return x.float().flatten(2).mean(dim=2)


class Embedding(nn.Module):
    """A network whose outputs' squared distance is the distance, as NVIDIA's vgg16.pt."""

    def forward(self, x: Tensor, return_lpips: bool = False) -> Tensor:
        assert return_lpips
        return x.flatten(2).mean(dim=2) / 255


def scripted(module: nn.Module, path: Path) -> str:
    torch.jit.script(module).save(str(path))
    return str(path)


def pictures(num: int, size: int = 20) -> np.ndarray:
    return RNG.integers(0, 256, (num, size, size, 3)).astype(np.uint8)


def test_a_plain_torchscript_network_gets_the_documented_input(tmp_path):
    network = FeatureNetwork("fid", scripted(Plain(), tmp_path / "plain.pt"))
    frames = pictures(3, 299)
    expected = frames.reshape(3, -1, 3).mean(axis=1) / 127.5 - 1
    np.testing.assert_allclose(network(frames), expected, atol=1e-5)
    clips = FeatureNetwork("fid_vid", scripted(Plain(), tmp_path / "clip.pt"))
    clip = pictures(16, 112)[None]
    expected = clip.reshape(1, -1, 3).mean(axis=1) - (114.7748, 107.7354, 99.4750)
    np.testing.assert_allclose(clips(clip), expected, atol=1e-3)


def test_a_detector_gets_bytes_at_their_own_size_and_its_switches(tmp_path):
    network = FeatureNetwork("fvd", scripted(Detector(), tmp_path / "detector.pt"))
    clip = pictures(16)[None]
    np.testing.assert_allclose(network(clip), clip.reshape(1, -1, 3).mean(axis=1), rtol=1e-5)


def test_antialiased_resizing_is_pillows_bicubic_filter():
    picture = pictures(1, 40)[0]
    ours = resized(torch.from_numpy(picture).permute(2, 0, 1)[None].float(), 13, 17, "antialiased")[0]
    for channel in range(3):
        layer = Image.fromarray(picture[..., channel].astype(np.float32))
        theirs = np.asarray(layer.resize((17, 13), Image.Resampling.BICUBIC))
        np.testing.assert_allclose(ours[channel].numpy(), theirs, atol=0.02)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_of_both_formats_fill_the_network(tmp_path, suffix, monkeypatch):
    torch.manual_seed(0)
    small = ResNet3D((1, 1), 4).eval()
    state = {f"module.{key}": value for key, value in small.state_dict().items()}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"epoch": 3, "arch": "resnet-50", "state_dict": state}, path)
    else:
        save_file(state, path)
    role = FeatureNetwork.__init__.__globals__["ROLES"]["fid_vid"]
    monkeypatch.setitem(
        FeatureNetwork.__init__.__globals__["ROLES"],
        "fid_vid",
        type(role)(lambda: ResNet3D((1, 1), 4), role.size, role.num_frames, role.normalise),
    )
    network = FeatureNetwork("fid_vid", str(path))
    clip = pictures(16)[None]
    pixels = torch.from_numpy(clip).permute(0, 4, 1, 2, 3).float()
    with torch.no_grad():
        expected = small(network.prepared(pixels)).numpy()
    np.testing.assert_allclose(network(clip), expected, rtol=1e-4, atol=1e-5)
    assert len(network.facts["sha256"]) == 64


def test_weights_that_do_not_fit_are_listed(tmp_path):
    state = {key: value.clone() for key, value in ResNet3D((1,), 4).state_dict().items()}
    state["surplus.weight"] = state.pop("fc.bias")
    with pytest.raises(WeightsError, match=r"(?s)fc\.bias.*surplus\.weight"):
        fill(ResNet3D((1,), 4), state, "weights.pth")
    counterless = {
        key: value
        for key, value in ResNet3D((1,), 4).state_dict().items()
        if "num_batches_tracked" not in key
    }
    fill(ResNet3D((1,), 4), counterless, "weights.pth")


def test_files_that_are_no_networks_are_told(tmp_path):
    with pytest.raises(SourceError, match="no checkpoint"):
        FeatureNetwork("fid", str(tmp_path / "absent.pt"))
    (tmp_path / "broken.pth").write_bytes(b"nothing of use")
    with pytest.raises(WeightsError, match=r"broken\.pth"):
        FeatureNetwork("fid", str(tmp_path / "broken.pth"))
    whole = Path(scripted(Plain(), tmp_path / "plain.pt")).read_bytes()
    assert is_torchscript(tmp_path / "plain.pt")
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match=r"cut\.pt"):
        FeatureNetwork("fid", str(tmp_path / "cut.pt"))


def test_a_network_that_returns_no_rows_is_told(tmp_path):
    class Scalar(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean()

    with pytest.raises(WeightsError, match="one row each"):
        FeatureNetwork("fid", scripted(Scalar(), tmp_path / "scalar.pt"))(pictures(2, 299))


@pytest.mark.parametrize(
    ("build", "num_keys", "num_weights"),
    [(InceptionV3, 566, 23_850_960), (ResNet3D, 320, 47_018_576), (I3D, 344, 12_697_264)],
)
def test_networks_have_the_size_of_the_published_ones(build, num_keys, num_weights):
    with torch.device("meta"):
        network = build()
    assert len(network.state_dict()) == num_keys
    assert sum(parameter.numel() for parameter in network.parameters()) == num_weights


def small_lpips() -> Lpips:
    torch.manual_seed(1)
    network = Lpips((Layer(6), Layer(None, 2, 2, 0), Layer(5)), (0, 2)).eval()
    for name, parameter in network.named_parameters():
        if name.startswith("lin"):
            nn.init.uniform_(parameter)
    return network


def by_definition(network: Lpips, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Equation 1 of the paper in NumPy, from the maps of the network."""
    distances = np.zeros(len(a))
    both = [torch.from_numpy(p).permute(0, 3, 1, 2).float() / 127.5 - 1 for p in (a, b)]
    with torch.no_grad():
        maps = [[m.double().numpy() for m in network.maps(p)] for p in both]
    for layer, pair in enumerate(zip(*maps, strict=True)):
        weights = dict(network.named_parameters())[f"lin{layer}.model.1.weight"].detach().numpy().ravel()
        x, y = (m / np.sqrt((m**2).sum(axis=1, keepdims=True)).clip(1e-9) for m in pair)
        distances += ((weights[None, :, None, None] * (x - y) ** 2).sum(axis=1)).mean(axis=(1, 2))
    return distances


def test_lpips_is_its_definition_through_torchscript(tmp_path):
    network = small_lpips()
    a, b = pictures(3), pictures(3)
    pair = (torch.zeros(1, 3, 20, 20), torch.zeros(1, 3, 20, 20))
    path = tmp_path / "lpips.pt"
    torch.jit.trace(network, pair, check_trace=False).save(str(path))
    measured = PerceptualDistance(str(path))
    np.testing.assert_allclose(measured(a, b), by_definition(network, a, b), rtol=1e-4)
    np.testing.assert_allclose(measured(a, a), 0, atol=1e-7)
    halved = PerceptualDistance(str(path), is_range_halved=True)
    assert not np.allclose(halved(a, b), measured(a, b), rtol=1e-3)


def test_lpips_of_an_embedding_is_the_squared_distance(tmp_path):
    path = scripted(Embedding(), tmp_path / "vgg16.pt")
    a, b = pictures(2), pictures(2)
    means = [p.reshape(2, -1, 3).mean(axis=1) / 255 for p in (a, b)]
    expected = ((means[0] - means[1]) ** 2).sum(axis=1)
    np.testing.assert_allclose(PerceptualDistance(path)(a, b), expected, rtol=1e-4)
    np.testing.assert_allclose(PerceptualDistance(path, is_range_halved=True)(a, b), expected / 4, rtol=1e-3)


@pytest.mark.parametrize("name", ["vgg", "alex"])
def test_published_lpips_files_load_with_a_backbone_beside_them(tmp_path, name):
    torchmetrics = pytest.importorskip("torchmetrics")
    lin = Path(torchmetrics.__file__).parent / f"functional/image/lpips_models/{name}.pth"
    if not lin.is_file():
        pytest.skip("this torchmetrics does not bring the authors' weights")
    with torch.device("meta"):
        network = Lpips(BACKBONES[name], TAPS[name]).eval()
    network.to_empty(device="cpu")
    torch.manual_seed(2)
    for parameter in network.features.parameters():
        nn.init.uniform_(parameter, -0.05, 0.06)
    backbone = {k: v for k, v in network.state_dict().items() if k.startswith("features.")}
    torch.save({**backbone, "classifier.0.weight": torch.zeros(1)}, tmp_path / "backbone.pth")
    network.load_state_dict({**backbone, **torch.load(lin, map_location="cpu", weights_only=True)})
    measured = PerceptualDistance(f"{tmp_path / 'backbone.pth'}+{lin}")
    with pytest.raises(WeightsError, match=r"lin0\.model"):
        PerceptualDistance(str(tmp_path / "backbone.pth"))
    if name == "alex":  # VGG's arithmetic is the same code, and slow
        a, b = pictures(1, 36), pictures(1, 36)
        np.testing.assert_allclose(measured(a, b), by_definition(network, a, b), rtol=1e-3)
