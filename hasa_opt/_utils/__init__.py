"""What every room stands on: checks of values, exact arithmetic, deadlines, files, random streams.

Nothing here knows of clients, problems or models.
"""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["VERSION"]

try:
    VERSION = version("hasa-opt")
except PackageNotFoundError:
    VERSION = "0.0.0"
