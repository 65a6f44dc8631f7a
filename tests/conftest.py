"""While the tests run, every annotated call on arrays is checked against its types and shapes.

Compiled paths are tested in processes of their own, without these checks.
"""

import jaxtyping

PACKAGES = ["text", "model", "show", "store", "generation", "convert", "training"]

jaxtyping.install_import_hook([f"clearhead.{package}" for package in PACKAGES], "beartype.beartype")
