"""All studies by name."""

from __future__ import annotations

from clearhead.core.errors import UserError, nearest
from clearhead.lab.studies import (
    embeddings,
    ladder,
    mask,
    mixers,
    norms,
    positions,
    projection,
    query_key_value,
    residual,
    scale,
    tokenizers,
)
from clearhead.lab.study import Study

STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        ladder.STUDY,
        query_key_value.STUDY,
        scale.STUDY,
        mask.STUDY,
        projection.STUDY,
        residual.STUDY,
        norms.STUDY,
        embeddings.STUDY,
        positions.STUDY,
        mixers.STUDY,
        tokenizers.STUDY,
    )
}


def find(name: str) -> Study:
    """Return the study of a name.

    Raises:
        UserError: there is no such study; the nearest is named.
    """
    if name not in STUDIES:
        raise UserError(f"There is no study {name}; clearhead lab list shows them.{nearest(name, STUDIES)}")
    return STUDIES[name]
