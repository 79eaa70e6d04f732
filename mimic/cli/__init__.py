"""The command `mimic`: parse, call, print. Nothing heavy is imported before a command is chosen."""

from mimic.cli.main import main

__all__ = ["main"]
