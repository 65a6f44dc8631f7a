"""While the tests run, every annotated call on arrays is checked against its types and shapes.

Compiled paths are tested in processes of their own, without these checks.
"""

import os

# Before torch is loaded, here and in child processes: workers side by side whose threads compete are many times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import jaxtyping

PACKAGES = ["text", "model", "show", "store", "generation", "convert", "look", "training", "lab"]

jaxtyping.install_import_hook([f"clearhead.{package}" for package in PACKAGES], "beartype.beartype")
