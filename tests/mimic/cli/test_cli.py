"""The command: what it does, what it prints, how it ends."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants

from mimic.cli import main
from mimic.cli.main import COMMANDS, build_parser
from mimic.dancers.clip import RenderedClip
from mimic.data.prepare import PrepareSettings
from mimic.video import probe, read_image, write_image
from pose import PoseSequence
from tests.tiny import random_pipeline

ROOT = Path(__file__).parents[3]
TOY = {
    "height": 32,
    "width": 32,
    "tile_size": 6,
    "tile_overlap": 2,
    "num_inference_steps": 1,
    "max_guidance_scale": 1.0,
    "min_guidance_scale": 1.0,
    "canvas_short_side": 256,
}


@pytest.fixture(scope="module")
def toy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    pipeline = random_pipeline()
    pipeline.generation_defaults = dict(TOY)
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, *command],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
    )


def test_help_is_quick_because_nothing_heavy_is_imported() -> None:
    script = (
        "import sys; before = set(sys.modules)\nfrom mimic.cli import main\ntry: main(['--help'])\n"
        "except SystemExit: print(sorted({name.partition('.')[0] for name in set(sys.modules) - before}"
        " - sys.stdlib_module_names))"
    )
    outcome = run("-c", script)
    assert outcome.stdout.rstrip().endswith("['mimic', 'pose']"), outcome.stdout + outcome.stderr
    for command in COMMANDS:
        name = command.__name__.rpartition(".")[2]
        assert re.search(rf"^    {name}\b", outcome.stdout, re.MULTILINE), name


def test_help_has_a_word_on_every_option_and_names_commands_that_exist() -> None:
    parser, commands = build_parser()
    for name, command in commands.choices.items():
        assert [action.dest for action in command._actions if not action.help and not action.choices] == []
        text = " ".join(command.format_help().split())
        for mentioned in re.findall(r"`mimic ((?:configs|download|animate|pose|prepare)\b[^`]*)`", text):
            words = mentioned.split()
            if len(words) > 1:  # more than the name of a command
                assert parser.parse_args(words).command == words[0], f"{name}: {mentioned}"
            assert words[0] in commands.choices


def test_the_defaults_that_help_on_preparing_names_are_those_of_the_settings() -> None:
    epilog = build_parser()[1].choices["prepare"].epilog
    assert epilog is not None
    named = dict(re.findall(r"(\w+)=([\d.]+)", epilog))
    assert len(named) >= 8
    defaults = PrepareSettings()
    assert {name: float(value) for name, value in named.items()} == {
        name: getattr(defaults, name) for name in named
    }


def test_demo_runs_the_shipped_config_with_changes(
    toy_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(
        ["demo", f"base_model_path={toy_model}", "--output-dir", "made", "max_frames=2", "device=cpu"]
    )
    assert code == 0
    printed = capsys.readouterr()
    assert [Path(line).name for line in printed.out.splitlines()] == ["demo_side_by_side.mp4", "demo.png"]
    assert sorted(path.name for path in Path("made").iterdir()) == [
        "demo.json",
        "demo.mp4",
        "demo.png",
        "demo_side_by_side.mp4",
    ]
    assert probe("made/demo.mp4").num_frames == 2
    assert json.loads(Path("made/demo.json").read_text())["reference"]["file"] == "bundled:demo/reference.png"
    assert "Traceback" not in printed.err
    # Two moments: a column of the reference and two of driving clip, map and result.
    assert read_image("made/demo.png").shape == (3 * 192, 3 * 192, 3)


def test_demo_never_replaces_a_picture_that_is_no_sheet(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("made").mkdir()
    write_image("made/demo.png", np.zeros((8, 8, 3), np.uint8))
    before = Path("made/demo.png").read_bytes()
    assert main(["demo", "--output-dir", "made", "device=cpu"]) == 2
    assert "demo.png is there and is no contact sheet of mimic's" in capsys.readouterr().err
    assert Path("made/demo.png").read_bytes() == before
    assert [path.name for path in Path("made").iterdir()] == ["demo.png"]


def write_config_whose_first_case_fails(toy_model: Path, dancer: RenderedClip) -> Path:
    write_image("me.png", dancer.frames[0])
    dancer.poses.save("moves.npz")
    gap = np.ones((len(dancer.poses), 1), np.bool_)
    gap[1:-1] = False
    replace(dancer.poses, is_present=gap).save("gap.npz")
    config = Path("two.yaml")
    config.write_text(
        f"base_model_path: {toy_model}\nestimator: blazepose\nalign: robust\ndevice: cpu\n"
        "test_case:\n"
        "  - {name: bad, ref_image_path: me.png, ref_video_path: gap.npz, missing: fail, bridge_gaps: 0}\n"
        "  - {name: good, ref_image_path: me.png, ref_video_path: moves.npz, max_frames: 1}\n"
    )
    return config


def test_a_log_is_appended_and_never_takes_the_place_of_what_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "a.yaml"
    config.write_text("test_case: [{ref_image_path: no.png, ref_video_path: no.mp4}]\n")
    before = config.read_text()
    assert main(["infer", "--config", str(config), "--log_file", str(config)]) == 2
    assert "--log_file: " in capsys.readouterr().err
    assert config.read_text() == before
    (tmp_path / "log.txt").write_text("of before\n")
    assert main(["infer", "--config", str(config), "--log_file", str(tmp_path / "log.txt")]) == 2
    assert (tmp_path / "log.txt").read_text().startswith("of before\n")


def test_a_failing_case_is_listed_and_the_exit_code_is_1(
    toy_model: Path, dancer: RenderedClip, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config_whose_first_case_fails(toy_model, dancer)
    code = main(
        [
            "infer",
            "--inference_config",
            str(config),
            "--output_dir",
            "made",
            "--no_use_float16",
            "--log_file",
            "log.txt",
        ]
    )
    assert code == 1
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [str(Path("made/good.mp4"))]
    assert "failed: bad: " in printed.err
    assert "failed: bad" in Path("log.txt").read_text()
    assert json.loads(Path("made/good.json").read_text())["model"]["dtype"] == "float32"


def test_a_single_case_that_fails_ends_as_its_error(
    toy_model: Path, dancer: RenderedClip, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config_whose_first_case_fails(toy_model, dancer)
    one = config.read_text().splitlines(keepends=True)[:-1]
    Path("one.yaml").write_text("".join(one))
    assert main(["infer", "--config", "one.yaml", "--output-dir", "alone"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("mimic: ")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["infer", "--config", "none.yaml"], "there is no config none.yaml"),
        (["demo", "sead=3"], "sead is not a setting; did you mean seed?"),
        (["demo", "num_frames=abc"], "tile_size (num_frames) is 'abc'; expected a whole number"),
        (["demo", "test_case.0.ref_image_path=."], "is a folder; expected a picture"),
        (["demo", "base_model_path=./none"], "there is no model folder none"),
        (["demo", "test_case.0.ref_image_path=none.png"], "mimic: there is no picture none.png"),
        (["demo", "device=warp"], "device is 'warp'"),
        (["pose", "none.mp4"], "there is no file none.mp4"),
        (["pose", "none.png"], "there is no file none.png"),
        (["pose", "a.mp4", "--stride", "0"], "--stride is 0"),
        (["pose", "a.mp4", "--smooth", "2"], "--smooth is 2; expected an odd number"),
        (["pose", "a.mp4", "-o", "a.txt"], "poses are saved as .npz or .json"),
        (["pose", "a.mp4", "-o", "a.npz", "--format", "coco"], "poses are saved as .json"),
        (["synth", "--seconds", "0"], "seconds is 0.0; expected a number from"),
        (["train", "--config", "none.yaml"], "there is no config none.yaml"),
    ],
)
def test_the_users_mistakes_are_one_sentence_and_exit_code_2(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert "Traceback" not in error
    assert error.startswith("mimic: ")
    assert len(error.splitlines()) == 1


def test_unknown_commands_and_options_end_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["dance"], ["demo", "--sped"], ["doctor", "seed=3"], []):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
    assert "mimic doctor --help" in capsys.readouterr().err


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--debug", "sead=3"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("Traceback")
    assert "sead is not a setting; did you mean seed?" in told.splitlines()[-1]


def test_options_of_all_commands_may_stand_before_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-q", "--debug", "demo", "sead=3"]) == 2
    assert "Traceback" in capsys.readouterr().err
    assert main(["--log-json", "configs", "--keys", "prepare"]) == 0
    assert all(json.loads(line)["event"] for line in capsys.readouterr().out.splitlines())


def test_dancers_are_rendered_with_their_poses(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["synth", "-n", "1", "--seconds", "0.5", "--fps", "6", "--size", "64", "48", "-o", "d", "-q"])
        == 0
    )
    assert capsys.readouterr().out.splitlines() == [str(Path("d/clip_0000.mp4"))]
    assert len(PoseSequence.load("d/clip_0000.npz")) == probe("d/clip_0000.mp4").num_frames == 3


def test_licences_are_told_and_without_consent_nothing_is_fetched() -> None:
    outcome = run("-m", "mimic.cli", "download", "mimicmotion", stdin="no\n")
    assert outcome.returncode == 2
    assert "4.51 GB in all" in outcome.stdout
    assert "for research use only" in outcome.stdout
    assert "Nothing was downloaded" in outcome.stdout
    assert list(Path().iterdir()) == []


def test_a_download_without_a_network_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    for name in ("dwpose", "animate-anyone"):
        assert main(["download", name, "--to", "weights", "-y"]) == 1
        printed = capsys.readouterr()
        assert printed.err.startswith("mimic: ")
        assert len(printed.err.splitlines()) == 1
        assert "Rerun the command" in printed.err
        assert "mimic download" not in printed.err, "the command that was just typed is no remedy"
        assert ("351 MB in all" in printed.out) == (name == "dwpose")
    assert not Path("weights").exists()


def test_the_doctor_tells_what_is_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for word in (
        "torch",
        "cores",
        "GPU",
        "onnxruntime",
        "PyAV",
        "poses",
        "bundled:mini",
        "checkpoint",
        "GB free",
    ):
        assert word in text
    assert "The released MimicMotion" in text.splitlines()[-1]


def test_the_doctor_tells_which_extras_are_here(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    requires = [
        "numpy>=1.26",
        "onnxruntime>=1.20; sys_platform != 'plan9'",
        "numpy>=1.26; extra == 'train'",
        "Made_Up>=1; extra == 'heif'",
        "made-up-too; sys_platform == 'plan9' and extra == 'heif'",
    ]
    monkeypatch.setattr("importlib.metadata.requires", lambda name: requires)
    main(["doctor"])
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines() if line[0:1] == "["]
    assert lines[0] == "[train] numpy"
    assert lines[2] == '[heif] without Made_Up: pip install "mimic-motion[heif]"'
    tomllib = pytest.importorskip("tomllib", reason="tomllib comes with Python 3.11")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert {line.split("]")[0][1:] for line in lines} == set(extras) - {"docs", "dev"}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to another process")
def test_an_interrupted_command_ends_with_130_and_leaves_no_partial_file(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "mimic.cli",
        "synth",
        "-n",
        "10000",
        "--seconds",
        "0.5",
        "--size",
        "96",
        "96",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [*command, "-o", "d"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        # Shells start background jobs with this signal ignored, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    while not Path("d/clip_0001.mp4").exists():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.splitlines()[-1] == "interrupted; finished results are kept"
    assert not [path for path in Path("d").iterdir() if path.name.startswith(".")]


def test_inference_py_is_the_same_door(tmp_path: Path) -> None:
    outcome = run(str(ROOT / "inference.py"), "--config", "none.yaml")
    assert outcome.returncode == 2
    assert outcome.stderr == "mimic: there is no config none.yaml\n"
    assert "released test.yaml" in run(str(ROOT / "inference.py"), "--help").stdout


def test_a_dry_run_of_the_demonstration_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--dry-run", "test_case.0.max_frames=4", "device=cpu"]) == 0
    assert "would write" in capsys.readouterr().out
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["animate", "me.jpg"], "mimic animate: the following arguments are required: CLIP (see"),
        (["animate", "a.png", "b.mp4", "--seed", "7"], "settings are given as key=value: seed=7 (see"),
        (
            ["animate", "a.png", "b.mp4", "--num-frames=8"],
            "settings are given as key=value: num_frames=8 (see",
        ),
        (["animate", "a.png", "b.mp4", "--sed", "7"], "unknown: --sed 7; did you mean --end?"),
        (["download", "foo"], "mimic download: argument name: invalid choice: 'foo'"),
    ],
)
def test_a_mistake_of_the_command_line_is_one_line(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


def test_a_misspelt_file_is_told_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    write_image("me.jpg", np.zeros((8, 8, 3), np.uint8))
    assert main(["animate", "me.jpeg", "bundled:demo/drving.mp4"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first == "mimic: there is no picture me.jpeg; did you mean me.jpg?"
    assert second.endswith("driving.mp4?")


def test_weights_inside_a_model_folder_are_told_to_be_given_by_the_folder(
    toy_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = next(toy_model.glob("unet/*.safetensors")).rename(toy_model / "own.safetensors")
    try:
        assert main(["animate", "a.png", "b.mp4", "--model", str(weights)]) == 2
    finally:
        weights.rename(toy_model / "unet" / "diffusion_pytorch_model.safetensors")
    assert "lies in a whole model; give its folder" in capsys.readouterr().err
