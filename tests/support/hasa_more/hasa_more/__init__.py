"""One of each kind that another package can add to hasa_opt; see pyproject.toml."""
