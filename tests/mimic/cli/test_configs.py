"""Shipped YAMLs, their schemas, and completion in shells."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from mimic.cli import main
from mimic.cli.completion import script
from mimic.cli.configs import KINDS
from mimic.cli.main import COMMANDS, build_parser
from mimic.config.inference import CaseConfig, InferenceConfig
from mimic.config.loading import COMMAND_KEYS, shipped_configs


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
