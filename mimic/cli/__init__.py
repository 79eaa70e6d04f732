"""The command `mimic`: parse, call, print. Nothing heavy is imported before a command runs."""

from mimic.cli.main import main

__all__ = ["main"]
