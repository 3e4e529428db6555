"""One backend per file; :mod:`hasa_opt.backend` lists them and imports each on first use."""
