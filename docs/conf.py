"""How Sphinx builds the manual: `make docs` writes build/docs, offline, with warnings as errors."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_extensions")]
# Pages are executed by a kernel of their own, which finds this checkout, keeps what it compiles, and runs anywhere.
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / "build" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.05")

import reference  # noqa: E402
import unexecuted  # noqa: E402

import jxai  # noqa: E402

project = "jxai"
author = "the jxai authors"
version = release = jxai.__version__
html_title = "jxai"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "sphinx_design",
    "docstrings",
    "reference",
    "results",
    "listings",
    "unexecuted",
    "mathml",
]
exclude_patterns = ["_extensions", "examples"]
nitpicky = True
# Other libraries' names have no pages here, and type variables have none anywhere.
nitpick_ignore_regex = [(r"py:.*", r"(?!jxai\.).*")]
default_role = "code"

myst_enable_extensions = ["attrs_block", "attrs_inline", "colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3
suppress_warnings = ["myst.strikethrough", "ref.python"]  # two classes of one name: either is found by its full name

nb_execution_excludepatterns = unexecuted.pages()
nb_execution_mode = "cache"
nb_execution_cache_path = str(ROOT / "build" / "docs-cache" / "notebooks")
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
autodoc_type_aliases = {name: f"jxai.typing.{name}" for name in reference.ALIASES}
add_function_parentheses = False
toc_object_entries_show_parents = "hide"

html_theme = "sphinx_book_theme"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["manual.css"]
html_copy_source = html_show_sourcelink = False
html_show_copyright = html_show_sphinx = False
html_theme_options = {
    "show_toc_level": 2,
    "show_navbar_depth": 1,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "home_page_in_toc": False,
    "extra_footer": "",
}
copybutton_prompt_text = "$ "
