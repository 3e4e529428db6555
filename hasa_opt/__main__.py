"""``python -m hasa_opt`` is the command ``hasa-opt``."""

from hasa_opt.cli import main

if __name__ == "__main__":
    main()
