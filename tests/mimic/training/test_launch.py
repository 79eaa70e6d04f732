"""Processes that a launcher starts train together or not at all; every launch command in the project runs."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from accelerate.state import AcceleratorState, PartialState
from torch import nn
from torch.distributed.run import get_args_parser as torchrun_parser

from mimic.cli.main import main as run_command
from mimic.config.loading import ConfigError
from mimic.training.engine import check_engine, make_accelerator
from mimic.training.main import settings_of
from tests.mimic.training.small import finish, free_port, log_of, small_settings, start

ROOT = Path(__file__).parents[3]
SOURCES = sorted([*ROOT.glob("configs/**/*.yaml"), *ROOT.glob("docs/*.md"), ROOT / "README.md"])
_START = re.compile(
    r"^(?:[A-Z_0-9]+=\S+ )*(?:python (?:-m mimic\.train|train\.py)|torchrun|accelerate launch|mimic train) "
)
TINY = ["model=tiny", "checkpoint=null", "max_steps=1", "batch_size=2", "accumulate=1", "precision=fp32",
        "num_workers=0", "cpu_threads=1", "optimiser.name=adamw", "memory.cache=null", "validation.every=0",
        "tensorboard=false", "data.source=synthetic", "data.path=null", "data.densepose_videos=null",
        "data.sizes=[]", "data.num_clips=2", "data.num_val_clips=1", "data.height=32", "data.width=32",
        "data.num_frames=2", "data.references=1", "data.reference_margin=0",
        "data.canvas_short_side=64"]  # fmt: skip
PROGRAMS = ("train.py", "mimic.train", "train")
NOT_RUN = {
    "zero2.yaml": "DeepSpeed is not among the dependencies",
    "train/mini_vae": "a separate trainer, which test_named_models.py runs",
}
"""A part of a command to the reason why it is not run here; its launcher and settings are checked."""


@dataclass(frozen=True)
class Command:
    """A launch command as it stands in a file."""

    source: str
    text: str

    def __str__(self) -> str:
        return f"{self.source}: {self.text}"

    def split(self) -> tuple[dict[str, str], list[str], Path, list[str]]:
        """Environment, launcher with its options, training YAML, overrides and options of the training."""
        words = shlex.split(self.text, comments=True)
        environment = {}
        while "=" in words[0]:
            name, _, value = words.pop(0).partition("=")
            environment[name] = value
        script = next(number for number, word in enumerate(words) if word in PROGRAMS)
        rest = words[script + 1 :]
        config = rest.index("--config")
        path = re.sub(r"^bundled:(.*)$", r"configs/\1.yaml", rest[config + 1])
        launcher = words[: script - 1 if words[script] == "mimic.train" else script]
        return environment, launcher, ROOT / path, rest[:config] + rest[config + 2 :]


def commands() -> Iterator[Command]:
    for path in SOURCES:
        is_yaml = path.suffix == ".yaml"
        lines = path.read_text(encoding="utf-8").splitlines()
        if is_yaml:
            lines = [line.removeprefix("#") for line in lines if line.startswith("#")]
        for number, line in enumerate(lines):
            text = line.strip()
            if not _START.match(text) or "…" in text:
                continue
            for more in lines[number + 1 :]:
                # A line goes on after a backslash, or, in a YAML's head, in a further indented one.
                if not (text.endswith("\\") or (is_yaml and more.startswith("   "))):
                    break
                text = f"{text.removesuffix(chr(92)).strip()} {more.strip()}"
            text = re.sub(r" {2,}\(.*\)$", "", text)
            yield Command(path.relative_to(ROOT).as_posix(), text)


OTHERS = {
    "-m mimic prepare": "two ranks: tests/mimic/data/prepare/test_shares.py",
    "-m mimic compare": "processes that share the cells: tests/mimic/compare/test_compare.py",
    "-m mimic infer": "two and four processes: tests/mimic/generation/test_ranks.py",
}
"""A part of a launch command of no training to where it is run."""
ALL = sorted(set(commands()), key=str)
TRAININGS = [command for command in ALL if not any(part in command.text for part in OTHERS)]
TO_RUN = list({command.text: command for command in TRAININGS}.values())


def reason_not_to_run(command: Command) -> str | None:
    return next((why for part, why in NOT_RUN.items() if part in command.text), None)


def num_processes(launcher: list[str]) -> int:
    """As the launcher's own parser and its file read it."""
    if launcher[0] == "torchrun":
        return int(torchrun_parser().parse_args([*launcher[1:], "train.py"]).nproc_per_node)
    if launcher[0] != "accelerate":
        return 1
    options = launch_command_parser().parse_args([*launcher[2:], "train.py"])
    if options.config_file is None:
        return options.num_processes or 1
    return options.num_processes or load_config_from_file(str(ROOT / options.config_file)).num_processes


def test_commands_are_found_where_they_stand():
    found = {command.source for command in TRAININGS}
    assert {"configs/accelerate/ddp.yaml", "configs/accelerate/fsdp2.yaml", "docs/finetune.md"} <= found
    assert {p.relative_to(ROOT).as_posix() for p in ROOT.glob("configs/train/*.yaml")} <= found
    assert any(command.text.endswith("num_workers=0 ema_decay=null") for command in TRAININGS), (
        "a second line"
    )


def test_launch_commands_of_no_training_say_where_they_are_run():
    used = {part for part in OTHERS for command in ALL if part in command.text}
    assert {"-m mimic prepare", "-m mimic compare"} <= used
    for where in OTHERS.values():
        assert (ROOT / where.rpartition(" ")[2]).is_file()


@pytest.mark.parametrize("command", TRAININGS, ids=str)
def test_every_launch_command_has_a_launcher_and_settings_that_fit(command):
    _, launcher, config, options = command.split()
    settings = settings_of(config, [option for option in options if not option.startswith("--")])
    if hasattr(settings, "family"):
        assert settings.batch_size % (num_processes(launcher) * settings.accumulate) == 0
    assert reason_not_to_run(command) or hasattr(settings, "family")


@pytest.mark.slow
@pytest.mark.timeout(1500)  # on busy machines
@pytest.mark.parametrize("command", [c for c in TO_RUN if reason_not_to_run(c) is None], ids=str)
def test_every_launch_command_trains_at_tiny_size(command, tmp_path, monkeypatch, capsys):
    environment, launcher, config, options = command.split()
    folder = tmp_path / "run"
    size = [*TINY, f"output_dir={folder}", f"data.height={64 if 'animate' in config.stem else 32}"]
    if config.stem.startswith("mini_magic"):
        # The tiny model predicts noise, as the released one; test_named_models trains the miniature itself.
        size.append("objective.decoded_weight=0")
    training = ["--config", str(config), *options, *size]
    if launcher[0] in ("python", "mimic"):
        monkeypatch.chdir(ROOT)
        assert run_command(["train", *training]) == 0
        said, processes = capsys.readouterr().out, 1
    else:
        said, processes = launched(launcher, training, environment), 2
    if "--dry-run" not in options:
        assert len(log_of(folder)) == 1
        assert (folder / "final" / "model_index.json").is_file()
        assert f": {processes} process{'es' if processes > 1 else ''} x " in said


def launched(launcher: list[str], training: list[str], environment: dict[str, str]) -> str:
    """What a training says that a launcher started with two processes, on a port of their own."""
    if launcher[0] == "torchrun":
        command = ["torch.distributed.run", *launcher[1:], "--master_port", str(free_port())]
    else:
        more = ["--num_processes", "2", "--main_process_port", str(free_port())]
        command = ["accelerate.commands.launch", *launcher[2:], *more]
    done = subprocess.run(
        [sys.executable, "-m", *command, "-m", "mimic.train", *training],
        check=False, env=os.environ | environment | {"OMP_NUM_THREADS": "1"},
        cwd=ROOT, capture_output=True, text=True, timeout=1400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def note_number_of_processes(folder: Path, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = make_accelerator(small_settings(folder))
    (folder / environment["RANK"]).write_text(str(accelerator.num_processes))
    accelerator.end_training()


def as_torchrun_starts(function: Callable[..., None], folder: Path) -> list[int | None]:
    """Exit codes of two processes of `function`, which takes the folder and torchrun's environment."""
    both = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    both |= {"MASTER_PORT": str(free_port())}
    processes = [start(function, folder, both | {"RANK": rank, "LOCAL_RANK": rank}) for rank in "01"]
    return finish(processes, seconds=120)


@pytest.mark.skipif(torch.cuda.is_available(), reason="of machines without a GPU")
def test_what_torchrun_starts_on_cpus_trains_together(tmp_path):
    assert as_torchrun_starts(note_number_of_processes, tmp_path) == [0, 0]
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["2", "2"]


def leave_sums_behind(folder: Path, environment: dict[str, str]) -> None:
    """End while the group's thread still has sums to free; the model is the last that holds the group."""
    os.environ.update(environment)
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = make_accelerator(small_settings(folder))
    model = accelerator.prepare(nn.Linear(2, 2))
    for _ in range(300):
        torch.distributed.all_reduce(torch.ones(2), async_op=True)
    accelerator.end_training()
    accelerator._models.clear()
    del model


@pytest.mark.skipif(torch.cuda.is_available(), reason="of machines without a GPU")
def test_a_training_on_cpus_ends_while_its_last_sums_are_freed(tmp_path):
    assert as_torchrun_starts(leave_sums_behind, tmp_path) == [0, 0]


@pytest.mark.parametrize("name", ["WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"])
def test_processes_that_the_engine_does_not_see_stop_the_run(tmp_path, monkeypatch, name):
    PartialState()  # alone, as accelerate sees it
    monkeypatch.setenv(name, "2")
    with pytest.raises(ConfigError, match=r"launcher started 2 processes .* but 1 would train together"):
        make_accelerator(small_settings(tmp_path))
    monkeypatch.setenv(name, "two")
    with pytest.raises(ConfigError, match=f"{name}='two'; expected a number"):
        make_accelerator(small_settings(tmp_path))


def test_a_number_of_processes_without_this_ones_rank_is_one_sentence(tmp_path, monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    PartialState._reset_state()
    with pytest.raises(ConfigError, match=r"does not say which one this is \(RANK\)\. Unset WORLD_SIZE"):
        make_accelerator(small_settings(tmp_path))


def test_the_8_bit_optimiser_and_shared_out_weights_are_refused_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    with pytest.raises(
        ConfigError, match=r"adamw_8bit, which cannot step .*use adamw, .*or launch with .*ddp"
    ):
        check_engine(small_settings(tmp_path, optimiser={"name": "adamw_8bit"}))
    check_engine(small_settings(tmp_path))
