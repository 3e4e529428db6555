"""Sphinx: ``make docs`` writes docs/_build/html, warnings are errors.

Formulas become MathML at build time, so that the pages need no network and no script for them. The
notebooks are copied from ``examples`` and shown as they were stored, without being run.
"""

from __future__ import annotations

import shutil
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math import latex2mathml
from numpydoc.xref import DEFAULT_LINKS
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.writers.html5 import HTML5Translator

import hasa_opt
from hasa_opt import federated, models, tasks

project = "hasa_opt"
author = "The hasa_opt developers"
release = hasa_opt.__version__
version = release
copyright = author

ROOMS = (federated, models, tasks)
"""Modules of many names, each of which has a page."""

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "matplotlib.sphinxext.plot_directive",
    "myst_nb",
    "numpydoc",
]
exclude_patterns = ["_build"]
nb_execution_mode = "off"
plot_html_show_source_link = False
plot_html_show_formats = False
plot_formats = [("svg", 100)]
plot_rcparams = {"savefig.bbox": "tight"}
templates_path = ["_templates"]
default_role = "py:obj"
toc_object_entries_show_parents = "hide"

autosummary_generate = True
autosummary_ignore_module_all = False
autosummary_filename_map = {  # A class of the same letters has the page of that name.
    f"{room.__name__}.{name}": f"{room.__name__}.{name}_function"
    for room in (hasa_opt, *ROOMS)
    for name in dir(room)
    if name.islower() and hasattr(room, name.capitalize())
} | {"hasa_opt.solving.rosters.roster": "hasa_opt.solving.rosters.roster_function"}
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_xref_param_type = True
numpydoc_xref_ignore = "all"  # but these; Python's own pages are elsewhere
numpydoc_xref_aliases = {name: name for name in DEFAULT_LINKS} | {
    name: f"{room.__name__}.{name}"
    for room in (*ROOMS, hasa_opt)
    for name in dir(room)
    if name[0].isupper()
}

html_theme = "pydata_sphinx_theme"
html_title = "hasa_opt"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_show_sourcelink = False
html_show_sphinx = False
html_theme_options = {
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": True,
    "show_nav_level": 1,
    "header_links_before_dropdown": 4,
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {"index": []}
html_math_renderer = "mathml"


def inline_math(page: HTML5Translator, node: nodes.math) -> None:
    """A formula within a line."""
    page.body.append(latex2mathml.tex2mathml(node.astext(), as_block=False))
    raise nodes.SkipNode


def block_math(page: HTML5Translator, node: nodes.math_block) -> None:
    """A formula of its own."""
    page.body.append(page.starttag(node, "div", CLASS="math"))
    page.body.append(latex2mathml.tex2mathml(node.astext(), as_block=True))
    page.body.append("</div>\n")
    raise nodes.SkipNode


def bases(module: str, name: str) -> tuple[type, ...]:
    """What a class inherits from."""
    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    bases: tuple[type, ...] = found.__bases__
    return bases


def public_bases(module: str, name: str) -> bool:
    """Whether a class inherits from what a reader can look up, so that it is worth a line."""
    return any(base is not object and not is_mixin(base) for base in bases(module, name))


def has_mixins(module: str, name: str) -> bool:
    """Whether a class has methods of a base without a page, which are shown as its own."""
    return any(map(is_mixin, bases(module, name)))


def is_mixin(base: type) -> bool:
    """Whether a base is inside the package, without a page of its own."""
    return base.__module__.startswith("hasa_opt._utils")


def leave_mixins_out(app: Sphinx, name: str, obj: type, options: Any, found: list[type]) -> None:
    """Name no base that has no page."""
    found[:] = [base for base in found if not is_mixin(base)]


def told_elsewhere(module: str, name: str) -> str:
    """What is said of an imported constant where it is defined."""
    found = vars(import_module(module))[name]
    for place, other in list(sys.modules.items()):
        if place.startswith(f"{module}.") and vars(other).get(name) is found:
            told = ModuleAnalyzer.for_module(place).find_attr_docs().get(("", name))
            if told:
                return " ".join(told).strip()
    return ""


autosummary_context = {
    "public_bases": public_bases,
    "has_mixins": has_mixins,
    "told_elsewhere": told_elsewhere,
    "rooms": {room.__name__: room.__all__ for room in ROOMS},
}
suppress_warnings = ["config.cache"]  # That it holds a function is no reason to worry.


def copy_notebooks(app: Sphinx) -> None:
    """Put the notebooks among the pages."""
    place = Path(app.srcdir) / "tutorials"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for notebook in Path(app.srcdir).parent.glob("examples/*.ipynb"):
        shutil.copy(notebook, place)


def setup(app: Sphinx) -> None:
    """Register the renderer of formulas."""
    app.connect("builder-inited", copy_notebooks, priority=100)
    app.connect("autodoc-process-bases", leave_mixins_out)
    app.add_html_math_renderer("mathml", (inline_math, None), (block_math, None))
