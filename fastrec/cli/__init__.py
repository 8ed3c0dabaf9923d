"""The command line, ``fastrec``: one file a command, ``app`` ties them together."""

from fastrec.cli.app import main

__all__ = ["main"]
