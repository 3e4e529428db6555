"""The command ``hasa-opt``; ``app`` puts it together."""

from hasa_opt.cli.commands import app, main

__all__ = ["app", "main"]
