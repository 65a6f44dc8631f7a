"""A model's folder in the format of Hugging Face, made a run: the same files and hashes as of a trained one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import Tensor

from clearhead.convert.huggingface import from_transformers
from clearhead.convert.tokenizer_json import read_tokenizer
from clearhead.core import run as runs
from clearhead.core.config import to_dict
from clearhead.core.errors import DamagedFile, UserError
from clearhead.core.files import read_json, sha256, write_atomically
from clearhead.core.run import Run
from clearhead.model.build import build_outline
from clearhead.model.config import GptConfig
from clearhead.store import checkpoint
from clearhead.text.config import TextConfig
from clearhead.text.tokenizer import Tokenizer

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
VOCABULARY_TENSORS = ("embedding.weight", "unembedding.weight")


def import_folder(folder: Path, path: Path | None = None, *, command: str = "") -> Run:
    """Make a run of a GPT-2 or a Llama that transformers saved, at step 0 and without a text; no network is used.

    Ids of the model that its tokenizer lacks (rows that only fill the table up) are left out.

    Args:
        path: the new run's folder; without one, a fresh name under the runs folder.

    Raises:
        UserError: something in the folder cannot be read, or cannot be expressed by our parts; it is named.
    """
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}; name one that holds {CONFIG_FILE} and {WEIGHTS_FILE}.")
    path = path or runs.new_path(folder.resolve().name)
    runs.require_free(path)
    described = _read_config(folder)
    config, tensors = from_transformers(described, read_weights(folder))
    tokenizer = read_tokenizer(folder)
    tensors = _cut_to(tensors, tokenizer.vocabulary_size, folder)
    files = [folder / CONFIG_FILE, *weight_files(folder)]
    source = {"model_type": described["model_type"], "sha256": {file.name: sha256(file) for file in files}}
    description = {
        "name": path.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "task": "lm",
        "config": {"text": to_dict(TextConfig()), "model": to_dict(config)},
        "parameters": _count(config, tokenizer.vocabulary_size),
        "vocabulary_size": tokenizer.vocabulary_size,
        "tokenizer": {"kind": tokenizer.kind, "fingerprint": tokenizer.fingerprint},
        "versions": runs.versions(),
        "machine": runs.machine(),
        "imported": source,
    }
    return _lay_down(path, description, tokenizer, tensors)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of a folder by name, those of 16 bits in float32.

    Raises:
        UserError: they are not in the safetensors format.
    """
    tensors: dict[str, Tensor] = {}
    for file in weight_files(folder):
        tensors |= checkpoint.load_tensors(file)
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def weight_files(folder: Path) -> list[Path]:
    """Return the file of the weights, or the files that the index names."""
    if (folder / WEIGHTS_FILE).is_file():
        return [folder / WEIGHTS_FILE]
    if (folder / INDEX_FILE).is_file():
        return list(_shards(folder))
    pickles = sorted(file.name for pattern in PICKLES for file in folder.glob(pattern))
    if pickles:
        raise UserError(
            f"{folder / pickles[0]} is a pickle, which can run code when it is read, so it is not; save the model as "
            "safetensors (save_pretrained does) and import that."
        )
    raise UserError(f"{folder} has no {WEIGHTS_FILE} and no {INDEX_FILE}.")


def _shards(folder: Path) -> Iterator[Path]:
    index = read_json(folder / INDEX_FILE)
    named = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(named, dict):
        raise DamagedFile(f"{folder / INDEX_FILE} is no index of weights.")
    for name in sorted(set(map(str, named.values()))):
        # A name with a folder in it would read a file from somewhere else.
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise UserError(f"{folder / INDEX_FILE} names {name!r}, which is no safetensors file of this folder.")
        yield folder / name


def _read_config(folder: Path) -> dict[str, Any]:
    config = read_json(folder / CONFIG_FILE)
    if not isinstance(config, dict):
        raise DamagedFile(f"{folder / CONFIG_FILE} is not a model's config.")
    return config


def _cut_to(tensors: Mapping[str, Tensor], vocabulary_size: int, folder: Path) -> dict[str, Tensor]:
    """Return the parameters for the ids that the tokenizer has."""
    rows = tensors["embedding.weight"].size(0)
    if rows < vocabulary_size:
        raise UserError(f"The tokenizer in {folder} has {vocabulary_size} ids, and the model only {rows}.")
    return {name: x[:vocabulary_size].clone() if name in VOCABULARY_TENSORS else x for name, x in tensors.items()}


def _count(config: GptConfig, vocabulary_size: int) -> dict[str, int]:
    """Return the number of parameters, in all and by role."""
    model = build_outline(config, vocabulary_size)
    counts = {"total": sum(parameter.numel() for parameter in model.parameters())}
    roles = model.roles()
    for name, parameter in model.named_parameters():
        counts[roles[name]] = counts.get(roles[name], 0) + parameter.numel()
    return counts


def _lay_down(path: Path, description: dict[str, Any], tokenizer: Tokenizer, tensors: Mapping[str, Tensor]) -> Run:
    """Write the run, step 0 included: it appears at once."""
    data: dict[str, Any] = {
        "names": [],
        "fingerprint": None,
        "sources": [],
        "split": {"description": "none: the model was imported"},
        "licence": None,
    }
    state = {"step": 0, "tokens": 0, "seconds": 0.0, "train_seconds": 0.0, "best": None}
    with runs.creating(path, description, data) as folder:
        tokenizer.save(folder / runs.TOKENIZER_FOLDER)
        write_atomically(folder / runs.VALIDATION_FILE, b"")
        checkpoint.save(Run(folder), checkpoint.Checkpoint(0, tensors, state))
    return Run(path)
