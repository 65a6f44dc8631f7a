"""A run from a stranger: nothing in it is executed, and what is not as it should be is refused in a sentence.

Here every hash fits, as one who means harm would make it; the hashes guard against accidents only.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from clearhead.core.errors import UserError
from clearhead.core.files import MANIFEST, sha256, to_json
from clearhead.core.run import Run, Selection
from clearhead.show import report
from clearhead.store.integrity import inspect, measure_room
from clearhead.store.load import load
from clearhead.training import fit
from faults.victims import SHORT, live, run_of


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run that is as it should be."""
    place = tmp_path_factory.mktemp("honest")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CLEARHEAD_CACHE", "CLEARHEAD_RUNS"):
            patch.setenv(name, "")
        live(SHORT, place)
        yield run_of(place)


@pytest.fixture
def run(honest: Run, tmp_path: Path) -> Run:
    """A copy of it."""
    return Run(shutil.copytree(honest.path, tmp_path / "victim"))


def sign(file: Path) -> None:
    """Make the manifest fit a file that was changed."""
    folder = next(parent for parent in file.parents if (parent / MANIFEST).exists())
    listed = json.loads((folder / MANIFEST).read_text())
    listed["files"][file.relative_to(folder).as_posix()] = {"bytes": file.stat().st_size, "sha256": sha256(file)}
    (folder / MANIFEST).write_text(to_json(listed))


def use(run: Run) -> None:
    """Do with a run what the verbs do."""
    inspect(run)
    measure_room(run)
    load(f"{run.path}@last")
    load(f"{run.path}@best")
    fit.resume(Selection(run, "last")).data.validation_source()
    report.write(run.path)


class Bomb:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


SIGNED = [
    "checkpoints/step-8/model.safetensors",
    "checkpoints/step-8/optimizer.safetensors",
    "checkpoints/step-8/average.safetensors",
    "checkpoints/step-8/state.json",
    "tokenizer/tokenizer.json",
    "validation.bin",
    "run.json",
    "data.json",
]


@pytest.mark.parametrize("name", [*SIGNED, "events.jsonl", MANIFEST])
def test_a_pickle_is_never_opened(run: Run, tmp_path: Path, name: str) -> None:
    canary = tmp_path / "canary"
    torch.save({"a": Bomb(canary)}, run.path / name, _use_new_zipfile_serialization=len(name) % 2 == 0)
    if name in SIGNED:
        sign(run.path / name)
    with contextlib.suppress(UserError) if "state" in name else pytest.raises(UserError):
        use(run)  # a step whose state cannot be read is passed over
    assert not canary.exists()
    pickle.loads(pickle.dumps(Bomb(canary)))
    assert canary.exists()


def header(length: int, tensors: dict[str, Any], data: bytes = b"") -> bytes:
    content = json.dumps(tensors).encode()
    return struct.pack("<Q", length or len(content)) + content + data


LIES = {
    "empty": b"",
    "short": b"\0" * 7,
    "a header of a gigabyte": header(1 << 30, {}),
    "a header of everything": header(2**64 - 1, {}),
    "offsets beyond the end": header(0, {"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}, bytes(4)),
    "offsets that overlap": header(
        0,
        {
            "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
            "b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        },
        bytes(4),
    ),
    "a shape of 2 to the 80": header(
        0, {"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}, bytes(4)
    ),
    "another type": header(0, {"a": {"dtype": "OBJECT", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("name", ["model", "optimizer", "average"])
def test_tensors_that_lie_are_refused(run: Run, name: str, lie: str) -> None:
    file = run.step_folder(8) / f"{name}.safetensors"
    file.write_bytes(LIES[lie])
    sign(file)
    with pytest.raises(UserError):
        use(run)


def fill(value: float) -> Callable[[dict[str, torch.Tensor]], Any]:
    return lambda tensors: tensors.update({name: torch.full_like(tensors[name], value) for name in sorted(tensors)[:1]})


UNFIT: dict[str, Callable[[dict[str, torch.Tensor]], Any]] = {
    "not a number": fill(float("nan")),
    "infinite": fill(float("inf")),
    "one less": lambda tensors: tensors.pop(min(tensors)),
    "one more": lambda tensors: tensors.update(zzz=torch.zeros(3)),
    "a single number": lambda tensors: tensors.update({min(tensors): torch.zeros(())}),
}


@pytest.mark.parametrize("unfit", UNFIT)
@pytest.mark.parametrize("name", ["model", "average"])
def test_weights_that_are_none_are_refused(run: Run, name: str, unfit: str) -> None:
    file = run.step_folder(8) / f"{name}.safetensors"
    tensors = load_file(file)
    UNFIT[unfit](tensors)
    save_file(tensors, file)
    sign(file)
    with pytest.raises(UserError, match="The saved weights"):
        fit.resume(Selection(run, "last"))


STRANGE: list[Any] = [None, True, -1, 2**70, 1e308, "", "x", [], [[]], {}, {"x": 1}, "../../x"]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of everything inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*path, key)
        yield from places(each, (*path, key))


def mutate(content: Any, rng: random.Random) -> None:
    *outer, last = rng.choice(list(places(content)))
    for key in outer:
        content = content[key]
    if isinstance(content, dict) and rng.random() < 0.3:
        del content[last]
    else:
        content[last] = rng.choice(STRANGE)


@pytest.mark.parametrize("name", [name for name in SIGNED if name.endswith(".json")])
def test_contents_that_make_no_sense_are_refused_or_used(run: Run, name: str) -> None:
    """Whatever stands in a file whose hash fits: it works, or one sentence refuses it."""
    rng, file = random.Random(f"{name}!"), run.path / name
    whole = file.read_text()
    refused = 0
    for _ in range(10):
        content = json.loads(whole)
        mutate(content, rng)
        file.write_text(to_json(content))
        sign(file)
        try:
            use(run)
        except UserError:
            refused += 1
    assert refused


def test_endless_nesting_is_refused(run: Run) -> None:
    for name in ("run.json", "data.json", "tokenizer/tokenizer.json"):
        file = run.path / name
        whole = file.read_bytes()
        file.write_text("[" * 100_000)
        sign(file)
        with pytest.raises(UserError, match="not valid JSON"):
            use(run)
        file.write_bytes(whole)
        sign(file)
    use(run)
