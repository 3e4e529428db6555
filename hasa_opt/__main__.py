"""``python -m hasa_opt`` is the command ``hasa-opt``."""

from hasa_opt.cli import main

main()
