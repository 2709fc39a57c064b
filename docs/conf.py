"""The documentation site: the Markdown pages beside this file, and the reference from the docstrings.

A name in a docstring that Python knows but that has no page is shown without a link; one that Python does not know is
a warning, and warnings are errors. Nothing is asked of a network.
"""

import inspect
import pydoc
import re
import sys
from pathlib import Path
from typing import get_type_hints

sys.path.insert(0, str(Path(__file__).parent.parent))

import mtdnn
import mtdnn.config
import mtdnn.optim
import mtdnn.tasks
from mtdnn.schema import Strict

project = "mtdnn"
author = "the authors of mtdnn"
version = release = mtdnn.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False
add_module_names = False
nitpicky = True

html_theme = "furo"
html_title = f"mtdnn {version}"
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False

OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+((?:experiments|tests|benchmarks)/[^)]+|[A-Z]+\.md)\)")
LITERAL = re.compile(r"(``.*?``)")


def models_of(cls):
    for each in cls.__subclasses__():
        yield each
        yield from models_of(each)


def name_files(app, docname, source):
    """Links to files of the repository that are no pages become the files' names."""
    source[0] = OUTSIDE.sub(
        lambda link: f"`{link[2]}`" if link[1] == link[2] else f"{link[1]} (`{link[2]}`)", source[0]
    )


def escape_bars(app, what, name, obj, options, lines):
    """Norms are written |x| in docstrings, which is a substitution in reST."""
    text = LITERAL.split("\n".join(lines))
    text[::2] = [part.replace("|", r"\|") for part in text[::2]]
    lines[:] = "".join(text).split("\n")


def without_link(app, env, node, contnode):
    """The text alone, where the name is one that Python knows."""
    if node.get("refdomain") != "py":
        return None
    module, cls, target = (node.get(key) or "" for key in ("py:module", "py:class", "reftarget"))
    places = (f"{module}.{cls}.{target}", f"{module}.{target}", target)
    return contnode if any(pydoc.locate(place.strip(".")) is not None for place in places) else None


def setup(app):
    for function in vars(mtdnn.optim).values():
        if inspect.isfunction(function) and function.__module__ == mtdnn.optim.__name__:
            function.__annotations__ = get_type_hints(function)  # types without their bounds
    for model in models_of(Strict):  # their keys stand in the docstrings; pydantic's signature is not for reading
        model.__signature__ = inspect.Signature()
    app.connect("source-read", name_files)
    app.connect("autodoc-process-docstring", escape_bars)
    app.connect("missing-reference", without_link)
