"""A compiled step computes what the model does, in every architecture that it knows, and refuses the others."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clearhead.core.errors import UserError
from clearhead.core.extras import is_installed
from clearhead.generation.compiled import Compiled
from clearhead.generation.engine import Request, generate
from clearhead.model import shapes
from clearhead.model.build import build_model
from clearhead.text.tokenizer import CharTokenizer

# In a process of its own: what the tests check of annotated calls cannot be compiled.
IN_TWO_WAYS = """
import json, sys
import numpy as np, torch
sys.path.insert(0, sys.argv[1])
from architectures import AS_THEY_ARE, PROMPT, WHOLE, model_of, tokens
from clearhead.core.errors import UserError
from clearhead.generation import compiled, token_kernel
from clearhead.generation.engine import Request, write
from clearhead.generation.products import rounded
from clearhead.text.tokenizer import CharTokenizer

calls = 0

def counting(*arguments, read=token_kernel.read_token):
    global calls
    calls += 1
    read(*arguments)

token_kernel.read_token = counting

@torch.no_grad()
def furthest(model, **changed):
    own, given = model.new_cache(1), tokens()[:1]
    step, largest, away = compiled.Compiled(model, model.new_cache(1)), float(model(given).abs().max()), 0.0
    step.stack = step.stack._replace(**changed)
    for _ in range(2):
        own.clear(), step.cache.clear()
        for piece in given.split([PROMPT, *[1] * 7, 2, *[1] * 3], dim=1):
            away = max(away, float((step(piece) - model(piece, cache=own)).abs().max()))
    return away / largest

found, read = {}, {}
for name, changes in (WHOLE | AS_THEY_ARE).items():
    calls = 0
    try:
        found[name] = furthest(model_of(changes))
    except UserError as error:
        found[name] = str(error)
    read[name] = calls

broken = furthest(model_of(WHOLE["modern"]), head_epsilon=np.float32(0.3))
model = model_of(WHOLE["modern"])
twin = model_of(WHOLE["modern"])
step, own = compiled.Compiled(model, model.new_cache(1), "int8"), twin.new_cache(1)
with torch.no_grad():
    for name, part in twin.named_modules():
        if isinstance(part, torch.nn.Linear):
            levels, scales = rounded(part.weight)
            part.weight.copy_(levels.float() * scales.float()[:, None])
    given, away, exact_away = tokens()[:1], 0.0, 0.0
    plain = model(given)
    largest = float(plain.abs().max())
    for place in range(given.size(1)):
        piece = given[:, place : place + 1]
        made = step(piece)
        away = max(away, float((made - twin(piece, cache=own)).abs().max()) / largest)
        exact_away = max(exact_away, float((made - plain[:, place]).abs().max()) / largest)

model = model_of(WHOLE["llama"])
tokenizer = CharTokenizer("abcdefghijklm", unknown="refuse", end=False)
texts = [write(model, tokenizer, Request(prompt=[1, 2], num_tokens=53, compile=flag)) for flag in (False, True)]
with torch.no_grad():
    model.unembedding.weight[3] = float("nan")
try:
    write(model, tokenizer, Request(prompt=[1], num_tokens=3, compile=True))
    refused = ""
except Exception as error:
    refused = type(error).__name__
model = model_of(WHOLE["modern"])
model.blocks[1].feed_forward_norm = torch.nn.Identity()
unlike = model_of(WHOLE["modern"])
unlike.final_norm.register_forward_hook(lambda *_: None)
said = []
for each in (model, unlike):
    try:
        compiled.Compiled(each, each.new_cache(1))
    except UserError as error:
        said.append(str(error))
model = model_of(WHOLE["modern"])
step = compiled.Compiled(model, model.new_cache(1, 2))
for token in (1, 13, 1, 1):
    try:
        step(torch.tensor([[token]]))
    except (AssertionError, IndexError) as error:
        said.append(str(error))
print(json.dumps({"said": said, "found": found, "read": read, "broken": broken, "texts": texts, "refused": refused,
    "rounded": away, "not rounded": exact_away}))
"""


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    command = [sys.executable, "-W", "error", "-c", IN_TWO_WAYS, str(Path(__file__).parent)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    said: dict[str, Any] = json.loads(ran.stdout)
    return said


needs_numba = pytest.mark.skipif(not is_installed("numba"), reason="numba is not installed")

BY_NUMPY = {"alibi in a window"}
"""Where a position's scores are not all that decides, or not all positions are read."""

REFUSED = {"unscaled", "post-norm", "averaging", "convolution", "value is input", "constant key", "no output"}


@needs_numba
def test_a_compiled_step_computes_what_the_model_does(found: dict[str, Any]) -> None:
    known = {name: away for name, away in found["found"].items() if name not in REFUSED}
    assert len(known) > 10
    assert {name: away for name, away in known.items() if not isinstance(away, float) or away > 3e-5} == {}
    assert {name for name, calls in found["read"].items() if not calls} == REFUSED | BY_NUMPY


@needs_numba
def test_a_broken_step_is_told_apart(found: dict[str, Any]) -> None:
    assert found["broken"] > 1e-3


@needs_numba
def test_weights_in_int8_are_what_was_rounded(found: dict[str, Any]) -> None:
    assert found["rounded"] < 3e-5
    assert found["not rounded"] > 1e-3


@needs_numba
def test_models_with_other_parts_are_refused(found: dict[str, Any]) -> None:
    for name in REFUSED:
        assert "leave compile out" in found["found"][name]


@needs_numba
def test_what_loops_without_bounds_would_get_wrong_is_refused(found: dict[str, Any]) -> None:
    unlike, hooked, unknown, full = found["said"]
    assert unlike == hooked == "This model has parts that are not compiled; leave compile out."
    assert unknown == "token 13 of a vocabulary of 13"
    assert full == "the cache is full"


@needs_numba
def test_the_text_is_the_same(found: dict[str, Any]) -> None:
    plain, compiled = found["texts"]
    assert plain == compiled
    assert len(plain[0]) == 53


@needs_numba
def test_logits_that_are_no_numbers_show(found: dict[str, Any]) -> None:
    assert found["refused"] == "BrokenModel"


def test_without_numba_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "clearhead.generation.token_kernel", None)
    model = build_model(shapes.tiny(), 13)
    with pytest.raises(UserError, match=r"pip install 'clearhead\[compile\]'"):
        Compiled(model.eval(), model.new_cache(1))  # type: ignore[arg-type,operator]


@pytest.mark.parametrize("other", [{"weights": "bf16"}, {"use_cache": False}])
def test_a_compiled_step_reads_through_the_cache(other: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="reads through the cache, with weights in fp32 or int8"):
        Request(prompt=[1], compile=True, **other)


def test_a_step_that_is_compiled_for_a_cpu_reads_one_sample() -> None:
    model, tokenizer = (
        build_model(shapes.tiny(), 13).eval(),
        CharTokenizer("abcdefghijklm", unknown="refuse", end=False),
    )
    with pytest.raises(UserError, match="reads one sample; leave compile out"):
        generate(model, tokenizer, Request(prompt=[1], samples=2, compile=True))
