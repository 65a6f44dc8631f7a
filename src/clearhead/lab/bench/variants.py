"""The same task of us and of the peers that somebody asked for, each in a process of its own."""

from __future__ import annotations

from functools import partial
from typing import Any

from clearhead.core.errors import UserError
from clearhead.core.extras import is_installed
from clearhead.core.runtime import Precision, multiplies_bf16
from clearhead.lab.bench import nanogpt
from clearhead.lab.bench.worker import worker
from clearhead.lab.bench.workload import Request, Variant

OURS = "clearhead.lab.bench.ours"
TRANSFORMERS = "clearhead.lab.bench.transformers_worker"


def precisions() -> tuple[Precision, ...]:
    """Return the precisions of matrix products that are worth measuring here."""
    return ("fp32", "bf16") if multiplies_bf16("cpu") else ("fp32",)


def of_ours(name: str, request: Request, **settings: Any) -> Variant:
    """Return a task of ours."""
    return Variant(name=name, prepare=partial(worker, OURS, settings, threads=request.threads))


def of_nanogpt(name: str, request: Request, **settings: Any) -> list[Variant]:
    """Return a task of nanoGPT, where it was asked for."""
    if request.nanogpt is None:
        return []
    nanogpt.require_nanogpt(request.nanogpt)
    folder = request.nanogpt.absolute()
    prepare = partial(worker, nanogpt.WORKER, settings, threads=request.threads, folder=folder)
    return [Variant(name=name, ours=False, prepare=prepare)]


def of_transformers(request: Request, **settings: Any) -> list[Variant]:
    """Return a task of transformers, where it was asked for.

    Raises:
        UserError: the library is not installed.
    """
    if not request.transformers:
        return []
    if not is_installed("transformers"):
        raise UserError("transformers is not installed; pip install 'clearhead[hf]', or leave --transformers out.")
    prepare = partial(worker, TRANSFORMERS, settings, threads=request.threads)
    return [Variant(name="transformers", ours=False, prepare=prepare)]
