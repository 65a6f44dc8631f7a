"""While the tests run, every annotated call is checked against its types and shapes.

Compiled paths are tested in processes of their own, without these checks.
"""

import jaxtyping

jaxtyping.install_import_hook("clearhead", "beartype.beartype")
