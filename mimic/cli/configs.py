"""`mimic configs`: list, copy and describe the YAMLs that come with the package."""

from __future__ import annotations

import argparse
import itertools
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from mimic.cli.options import Subparsers, UsageError

KINDS = ("infer", "train", "compare", "mini_vae", "adjust")
KINDS_OF_KEYS = (*KINDS, "prepare")
"""Settings of `mimic prepare` are given on the command line, not in a YAML."""

_COMMAND = re.compile(r"#\s*(?:[A-Z_0-9]+=\S+ )*(?:accelerate|mimic|pip|python|torchrun) |#   ")
"""A command in the head of a YAML, or a line that is indented below one."""
_SHIPPED_PATH = re.compile(r"(--config |)\bconfigs/([\w/]+)\.yaml")
"""Path of a shipped YAML in a checkout, as commands in comments name it."""
_OTHER_SENTENCE = re.compile(r"(?:Hardware|Needs?|Gives|Expect)\b")
"""Begins a sentence that does not tell what a YAML does."""


def add(subparsers: Subparsers, shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "configs",
        parents=[shared],
        help="list and copy the YAMLs that come with mimic",
        description="Without arguments, list the shipped YAMLs. With names, copy them to the current folder "
        "or to -o, to be edited. Unedited ones run as --config bundled:NAME.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="as listed, such as demo or train/debug")
    parser.add_argument("-o", "--output", type=Path, metavar="PATH", help="file or folder to copy to")
    parser.add_argument("--all", action="store_true", help="copy all of them (-o is then a folder)")
    parser.add_argument(
        "--keys", choices=KINDS_OF_KEYS, help="list the settings of a command or file, with their meaning"
    )
    parser.add_argument("--schema", choices=KINDS, help="print the JSON schema of such a YAML, for editors")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from mimic.config.loading import shipped_config, shipped_configs

    if options.keys or options.schema:
        from mimic.config.schema import adjust_schema, described_keys, json_schema

        kind = options.keys or options.schema
        schema = adjust_schema() if kind == "adjust" else json_schema(_settings(kind))
        print(json.dumps(schema, indent=2) if options.schema else "\n".join(described_keys(schema)))
        return 0
    if not options.names and not options.all:
        for line in _listed(shipped_configs()):
            print(line)
        return 0
    names = [*shipped_configs()] if options.all else options.names
    sources = {name: shipped_config(name) for name in names}
    targets = {
        name.removesuffix(".yaml"): _target(name, source, options, is_alone=len(sources) == 1)
        for name, source in sources.items()
    }
    others: set[str] = set()
    for source, target in zip(sources.values(), targets.values()):
        content, missing = _with_places(source.read_text(encoding="utf-8"), targets)
        _write(content.encode(), target)
        print(target)
        others |= missing
    for name in sorted(others):
        print(f"commands in it also need: mimic configs {name} -o configs/{name}.yaml")
    return 0


def _settings(kind: str) -> type:
    if kind == "infer":
        from mimic.config import InferenceConfig

        return InferenceConfig
    if kind == "compare":
        from mimic.compare.settings import CompareConfig

        return CompareConfig
    if kind == "prepare":
        from mimic.data.prepare import PrepareSettings

        return PrepareSettings
    if kind == "train":
        from mimic.training.settings import TrainSettings

        return TrainSettings
    from mimic.training.main import trainer_named

    return trainer_named(kind).Settings


def _listed(configs: dict[str, Path]) -> Iterator[str]:
    width = max(map(len, configs), default=0)
    for name, path in configs.items():
        yield f"{name:<{width}}  {_described(path)}"


def _described(path: Path) -> str:
    """Return the sentences in a YAML's head that tell what it does; of a training without any, its keys."""
    content = path.read_text(encoding="utf-8")
    head = itertools.takewhile(lambda line: line.startswith("#"), content.splitlines())
    words = " ".join(line.lstrip("# ") for line in head if not _COMMAND.match(line))
    sentences = itertools.dropwhile(_OTHER_SENTENCE.match, re.split(r"(?<=\.)\s+(?=[A-Z])", words.strip()))
    text = " ".join(itertools.takewhile(lambda sentence: not _OTHER_SENTENCE.match(sentence), sentences))
    return textwrap.shorten(text or _described_by_keys(content), 110, placeholder=" …").rstrip(":")


def _described_by_keys(content: str) -> str:
    import yaml

    keys = yaml.safe_load(content)
    trained = ", ".join(keys.get("trainable", ())) or "the model"
    return f"Trains {trained} of {keys.get('model')} ({keys.get('family')})."


def _target(name: str, source: Path, options: argparse.Namespace, *, is_alone: bool) -> Path:
    """Where to copy a YAML: the folders of its name are kept where all are copied."""
    from mimic.files import local_path

    output = local_path(options.output) if options.output is not None else Path()
    if options.output is not None and is_alone and not options.all and output.suffix in (".yaml", ".yml"):
        return output
    if output.is_file() or output.suffix in (".yaml", ".yml"):
        raise UsageError(f"-o is {options.output}; several files need a folder")
    return output / (f"{name}.yaml" if options.all else source.name)


def _with_places(content: str, targets: dict[str, Path]) -> tuple[str, set[str]]:
    """Let the commands in a YAML's comments name files by where they are after the copy.

    Returns:
        the content, and the names of shipped YAMLs that its commands need as files and that are not copied.
    """
    others = set[str]()

    def place(found: re.Match[str]) -> str:
        option, name = found[1], found[2]
        if name in targets:
            return f"{option}{_quoted(targets[name])}"
        if option == "--config ":
            return f"{option}bundled:{name}"
        others.add(name)
        return found[0]

    lines = [
        _SHIPPED_PATH.sub(place, line) if line.startswith("#") else line
        for line in content.splitlines(keepends=True)
    ]
    return "".join(lines), others


def _quoted(path: Path) -> str:
    name = path.as_posix()
    return f'"{name}"' if " " in name else name


def _write(content: bytes, target: Path) -> None:
    """Write a file, but never over another one."""
    if target.exists() and target.read_bytes() != content:
        raise UsageError(f"{target} is there already and is different; give another place with -o")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
