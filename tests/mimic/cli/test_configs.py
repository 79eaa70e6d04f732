"""Shipped YAMLs, their schemas, and completion in shells."""

import json
import os
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from mimic.cli import main
from mimic.cli.completion import script
from mimic.cli.configs import KINDS, _described
from mimic.cli.main import COMMANDS, build_parser
from mimic.config.inference import CaseConfig, InferenceConfig
from mimic.config.loading import COMMAND_KEYS, shipped_configs
from pose import PoseError
from pose.adjust import Adjustment


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_shipped_yamls_are_listed_with_what_they_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["configs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} == set(shipped_configs())
    assert all(len(line.split()) > 3 for line in lines)
    commands = {"accelerate", "mimic", "pip", "python", "torchrun"}
    assert not [line for line in lines if line.split()[1] in commands], "what it does, not how it is run"
    needs = {"Hardware:", "Needs", "Needs:", "Expect:", "Gives:"}
    assert not [line for line in lines if line.split()[1] in needs], "what it does, not what it needs"


@pytest.mark.parametrize(
    ("head", "described"),
    [
        ("# mimic train a.yaml\n# Hardware: 2 cores, 1.5 GiB. Trains a hat. Needs: a head.", "Trains a hat."),
        ("# Trains a hat.\n# Hardware: 2 cores. To try it:\n# mimic train\n#   max_steps=1", "Trains a hat."),
        ("# Hardware: 2 cores.\n#\n#   mimic train\n# A=1 mimic train\n# Trains\n# a hat", "Trains a hat"),
        ("# Hardware: 2 cores. Needs a head:\n# python -m hd\n# Expect: hats", "Trains unet of a/b (hats)."),
    ],
)  # fmt: skip
def test_a_yaml_is_described_by_what_it_trains_wherever_its_head_says_so(
    head: str, described: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        head + "\nfamily: hats\nmodel: a/b\ntrainable: [unet]\n# Another comment.\n", encoding="utf-8"
    )
    assert _described(path) == described


def test_yamls_are_copied_and_never_over_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["configs", "demo", "train/debug", "-o", "mine"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(Path("mine/demo.yaml")), str(Path("mine/debug.yaml"))]
    assert main(["configs", "demo", "-o", "my.yaml"]) == 0
    assert Path("my.yaml").read_bytes() == shipped_configs()["demo"].read_bytes()
    Path("demo.yaml").write_text("mine")
    assert main(["configs", "demo"]) == 2
    assert Path("demo.yaml").read_text() == "mine"
    assert main(["configs", "--all", "-o", "all"]) == 0
    assert len(list(Path("all").rglob("*.yaml"))) == len(shipped_configs())
    capsys.readouterr()
    assert main(["configs", "demmo"]) == 2
    assert "did you mean demo?" in capsys.readouterr().err


def test_commands_in_copied_yamls_name_files_that_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["configs", "train/debug", "-o", "my own.yaml"]) == 0
    assert '# mimic train --config "my own.yaml"' in Path("my own.yaml").read_text(encoding="utf-8")
    assert main(["configs", "train/mimicmotion_paper", "-o", "there"]) == 0
    head = Path("there/mimicmotion_paper.yaml").read_text(encoding="utf-8")
    assert "-m mimic.train --config there/mimicmotion_paper.yaml data.path" in head
    line = capsys.readouterr().out.splitlines()[-1]
    assert line == "commands in it also need: mimic configs accelerate/ddp -o configs/accelerate/ddp.yaml"
    assert "--config_file configs/accelerate/ddp.yaml" in head
    assert main(["configs", "--all", "-o", "all"]) == 0
    assert "also need" not in capsys.readouterr().out
    for path in Path("all").rglob("*.yaml"):
        copied, shipped = path.read_text(encoding="utf-8"), shipped_configs()
        name = path.relative_to("all").with_suffix("").as_posix()
        assert yaml.safe_load(copied) == yaml.safe_load(shipped[name].read_text(encoding="utf-8"))
        named = re.findall(r"(?:--config|--config_file) (\S+)", copied)
        assert not [each for each in named if not each.startswith("bundled:") and not Path(each).is_file()]


def test_the_settings_of_preparing_are_listed_though_no_yaml_has_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["configs", "--keys", "prepare"]) == 0
    assert "min_frames (default: 16)\n    Minimum number of frames" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["configs", "--schema", "prepare"])


def test_bundled_names_run_shipped_yamls(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["infer", "--config", "bundled:demo", "device=warp"]) == 2
    assert "device is 'warp'" in capsys.readouterr().err
    assert main(["train", "--config", "bundled:train/debug", "max_steps=none"]) == 2
    assert "max_steps" in capsys.readouterr().err
    assert main(["infer", "--config", "bundled:none"]) == 2
    assert "`mimic configs` lists them" in capsys.readouterr().err


@pytest.mark.parametrize("kind", KINDS)
def test_schemas_have_every_key_of_the_shipped_yamls_with_its_meaning(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["configs", "--schema", kind]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["additionalProperties"] is False
    assert main(["configs", "--keys", kind]) == 0
    assert capsys.readouterr().out.strip()
    keys = COMMAND_KEYS.get(kind, frozenset())
    for name, path in shipped_configs().items():
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        is_this = kind == content.get("trainer") or (
            kind in COMMAND_KEYS and "trainer" not in content and content.keys() & keys
        )
        if is_this:
            unknown = content.keys() - schema["properties"].keys() - {"trainer"}
            assert not unknown, (name, unknown)


def test_the_schema_of_corrections_has_what_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["configs", "--schema", "adjust"]) == 0
    schema = json.loads(capsys.readouterr().out)
    properties = schema["properties"]
    with pytest.raises(PoseError) as told:
        Adjustment.from_dict({"no such key": 1})
    assert str(told.value).partition("known are ")[2] == ", ".join(sorted(properties))
    keyframe = properties["keyframes"]["items"]["properties"]
    for name in properties["limbs"]["properties"]:
        Adjustment.from_dict({"limbs": {name: properties["scale"]["maximum"]}})
    points = {name: [0.1, 0.2] for name in keyframe["points"]["properties"]}
    for unit in ("frame", "seconds"):
        assert unit in keyframe
        Adjustment.from_dict({"keyframes": [{unit: 1, "points": points}]})
    with pytest.raises(PoseError):
        Adjustment.from_dict({"scale": 1.1 * properties["scale"]["maximum"]})


def test_keys_of_optional_objects_and_of_objects_in_lists_are_listed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for kind, keys in {
        "infer": ["test_case[].ref_image_path"],
        "train": ["data.path", "lora.rank (default: 16)"],
        "compare": ["variants[].name", "clips.num_frames (default: 16)"],
    }.items():
        assert main(["configs", "--keys", kind]) == 0
        assert set(keys) <= set(capsys.readouterr().out.splitlines())


def test_the_schema_of_cases_has_all_names_at_both_places(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["configs", "--schema", "infer"]) == 0
    schema = json.loads(capsys.readouterr().out)
    case = schema["$defs"]["CaseConfig"]["properties"]
    assert case.keys() == {*CaseConfig.model_fields, *CaseConfig.OTHER_NAMES}
    assert schema["properties"].keys() == {*InferenceConfig.model_fields, *case}
    assert all(entry.get("description") for entry in case.values())


def test_shells_complete_commands_options_and_settings() -> None:
    parsers = build_parser()[1]
    names = {command.__name__.rpartition(".")[2] for command in COMMANDS}
    for shell in ("bash", "zsh", "fish"):
        text = script(shell, parsers)
        assert all(name in text for name in names)
        for word in ("--dry-run", "num_inference_steps=", "mimicmotion"):
            assert word in text
    ask = script("bash", parsers) + (
        'COMP_WORDS=(mimic animate --ov) COMP_CWORD=2; _mimic; echo "${COMPREPLY[@]}"\n'
        'COMP_WORDS=(mimic an) COMP_CWORD=1; _mimic; echo "${COMPREPLY[@]}"\n'
    )
    try:
        told = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, timeout=30, check=True)
    except FileNotFoundError:
        pytest.skip("there is no bash")
    assert told.stdout.split() == ["--overwrite", "animate"]


@pytest.mark.skipif(sys.platform == "win32" or shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("typed", "given"),
    [
        ("my\t", ["my dance.mp4"]),
        ('"my\t', ["my dance.mp4"]),
        ("--ov\tmy\t", ["--overwrite", "my dance.mp4"]),
        ("see\t7", ["seed=7"]),
        ("--model bundled:mini_a\t", ["--model", "bundled:mini_animate_anyone"]),
        ("--model mimicm\t", ["--model", "mimicmotion"]),
        ("--preset bal\t", ["--preset", "balanced"]),
        ("memory_\tlow", ["memory_mode=low"]),
    ],
)
def test_what_bash_completes_is_what_the_command_gets(tmp_path: Path, typed: str, given: list[str]) -> None:
    """Of names with spaces, and of settings, to which a value is to be typed."""
    (tmp_path / "my dance.mp4").touch()
    (tmp_path / "mimic.sh").write_text(
        script("bash", build_parser()[1]) + 'mimic() { shift; printf "%s\\n" "$@" > given; }\n'
    )
    (tmp_path / "inputrc").touch()
    import pty

    terminal, its_end = pty.openpty()
    process = subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"],
        env=os.environ | {"INPUTRC": str(tmp_path / "inputrc"), "TERM": "dumb"},
        stdin=its_end, stdout=its_end, stderr=its_end, start_new_session=True,
    )  # fmt: skip
    os.close(its_end)
    os.write(terminal, b". ./mimic.sh; touch ready\n")
    appears(tmp_path / "ready", terminal)
    os.write(terminal, f"mimic animate {typed}\n".encode())
    appears(tmp_path / "given", terminal)
    os.write(terminal, b"exit\n")
    process.wait(timeout=20)
    os.close(terminal)
    assert (tmp_path / "given").read_text().splitlines() == given


def appears(path: Path, terminal: int) -> None:
    """Read what a terminal shows until a file is written."""
    end, shown = time.monotonic() + 20, b""
    while not (path.is_file() and (path.name == "ready" or path.stat().st_size)):
        assert time.monotonic() < end, shown
        if select.select([terminal], [], [], 0.05)[0]:
            shown += os.read(terminal, 65536)
