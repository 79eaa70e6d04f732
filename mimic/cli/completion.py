"""`mimic completion`: print a script that completes commands, options and settings in a shell."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mimic.cli.options import Subparsers

if TYPE_CHECKING:
    from pydantic import BaseModel

_BASH = """\
_mimic() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} at=$COMP_CWORD command= before= words found files=1 i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "${{COMP_WORDS[i]}}" in -*) ;; *) command="${{COMP_WORDS[i]}}"; break ;; esac
    done
    [ "$word" = : ] && word= && at=$((at + 1))
    if [ "${{COMP_WORDS[at-1]}}" = : ]; then  # the shell takes bundled:demo for three words
        before="${{COMP_WORDS[at-2]}}:" at=$((at - 2))
        word="$before$word"
    fi
    if [ -z "$command" ]; then
        words="{commands}"
        files=
    else
        case "$command" in
{cases}
        esac
        case "${{COMP_WORDS[at-1]}}" in
{values}
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
    COMPREPLY=("${{COMPREPLY[@]#"$before"}}")
    local IFS=$'\\n'
    [ -n "$files" ] && found=($(compgen -f -- "$word"))
    if [ -n "${{found[*]}}" ]; then
        COMPREPLY+=("${{found[@]}}")
        {of_files}
    else
        case "${{COMPREPLY[*]}}" in *=) {of_settings} ;; esac
    fi
}}
complete {always}-F _mimic mimic
"""
# Among words of which one names a file, bash quotes what a shell reads otherwise, also the = of a setting.
_OF_BASH = {
    "of_files": "compopt -o filenames 2>/dev/null",
    "of_settings": "compopt -o nospace 2>/dev/null",
    "always": "",
}
_OF_ZSH = {"of_files": ":", "of_settings": ":", "always": "-o filenames "}
_BEFORE_ZSH = "autoload -U +X bashcompinit && bashcompinit\n"

_BEFORE_COMMANDS = ("--help", "--version", "--quiet", "--log-json", "--debug")

_FISH = """\
complete -c mimic -n __fish_use_subcommand -f
{commands}
{options}
"""


def add(subparsers: Subparsers, shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "completion",
        parents=[shared],
        help="print a script for completion in a shell",
        description="Print a script that completes commands, options and settings.",
        epilog='bash: eval "$(mimic completion bash)" in ~/.bashrc; zsh: the same with zsh in ~/.zshrc; '
        "fish: mimic completion fish > ~/.config/fish/completions/mimic.fish",
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))
    parser.set_defaults(run=run, parsers=subparsers)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    print(script(options.shell, options.parsers), end="")
    return 0


def script(shell: str, subparsers: Subparsers) -> str:
    """Return the completion script of a shell, for the commands of a parser."""
    words = {name: _words(parser) for name, parser in subparsers.choices.items()}
    if shell == "fish":
        commands = (f"complete -c mimic -n __fish_use_subcommand -a {name}" for name in words)
        options = (
            f"complete -c mimic -n '__fish_seen_subcommand_from {name}' -a '{' '.join(own)}'"
            for name, own in words.items()
        )
        return _FISH.format(commands="\n".join(commands), options="\n".join(options))
    cases = (f'            {name}) words="{" ".join(own)}" ;;' for name, own in words.items())
    values = (f'            {option}) words="{" ".join(own)}" ;;' for option, own in _values().items())
    before, own = ("", _OF_BASH) if shell == "bash" else (_BEFORE_ZSH, _OF_ZSH)
    blocks = {"cases": "\n".join(cases), "values": "\n".join(values)}
    return before + _BASH.format(commands=" ".join([*words, *_BEFORE_COMMANDS]), **blocks, **own)


def _words(parser: argparse.ArgumentParser) -> list[str]:
    """Options of a command, the choices of its arguments, and the settings that it takes."""
    from mimic.config import InferenceConfig
    from mimic.config.loading import shipped_configs
    from mimic.data.prepare.settings import PrepareSettings
    from mimic.training.settings import TrainSettings

    words: list[str] = []
    command = parser.prog.rpartition(" ")[2]
    for action in parser._actions:
        words += action.option_strings or [str(choice) for choice in action.choices or ()]
    if command == "configs":
        words += shipped_configs().keys()
    if command in ("animate", "infer", "demo"):
        keys = {*InferenceConfig.FOR_ALL_CASES, *InferenceConfig.model_fields} - {"test_case"}
        words += sorted(f"{key}=" for key in keys)
    if command == "train":
        words += [f"{key}=" for key in _dotted(TrainSettings)]
    if command == "prepare":
        words += [f"{key}=" for key in PrepareSettings.model_fields]
    return words


def _dotted(schema: type[BaseModel]) -> Iterator[str]:
    """All keys of a settings class, those beneath others as `data.path`."""
    from mimic.config.keys import settings_class

    for name, field in schema.model_fields.items():
        inner = settings_class(field.annotation)
        yield from (name,) if inner is None else (f"{name}.{key}" for key in _dotted(inner))


def _values() -> dict[str, list[str]]:
    """What may follow an option, besides files."""
    from mimic.config.loading import shipped_configs
    from mimic.config.one_line import RELEASED_MODELS
    from mimic.files import bundled_models
    from mimic.sampling.presets import PRESETS

    return {
        "--config": [f"bundled:{name}" for name in shipped_configs()],
        "--model": [*(f"bundled:{name}" for name in bundled_models()), *RELEASED_MODELS],
        "--preset": [*PRESETS],
    }
