"""A trained model as one readable file of code, with its weights and a test that it computes the same."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import torch

from clearhead.convert.card import card
from clearhead.convert.export import require_gpt
from clearhead.convert.family import SIZES, listed, misfits
from clearhead.convert.parity import probe_tokens, prompt_of
from clearhead.convert.tokenizer_json import FILE, to_tokenizer_json
from clearhead.core import run as runs
from clearhead.core.errors import UserError
from clearhead.core.events import read
from clearhead.core.files import new_folder, to_json, write_atomically
from clearhead.core.words import counted
from clearhead.model.config import (
    FeedForwardConfig,
    GptConfig,
    LayerNormConfig,
    RMSNormConfig,
    RotaryConfig,
    SwiGLUConfig,
)
from clearhead.model.layers import hidden_width
from clearhead.model.transformer import GPT
from clearhead.show.history import History, nats
from clearhead.show.readable import count
from clearhead.store.checkpoint import model_tensors, save_tensors
from clearhead.store.load import Loaded
from clearhead.text.tokenizer import CharTokenizer, Tokenizer

CODE_FILE = "model.py"
WEIGHTS_FILE = "model.safetensors"
TEST_FILE = "test.safetensors"
CHARACTERS_FILE = "characters.txt"
CARD_FILE = "README.md"

NEEDED = {
    "positions.kind": ("learned", "rotary", "none"),
    "norm.kind": ("layer", "rms"),
    "feed_forward.kind": ("relu", "gelu", "gelu_exact", "squared_relu", "swiglu"),
}
PARTS = SIZES | {"embedding_norm", "convolution", "qk_norm", "logit_softcap"}

TOKENIZERS = {"char", "byte", "bpe", "huggingface"}
LONGEST_LITERAL = 70
TEST_LOGITS = 1 << 20
"""At most so many numbers are kept to compare with."""

RENAMED = {"positions.table": "positions.weight"}

LOADING = """\
```sh
python model.py "{prompt}"   # goes on from a prompt
python model.py --test   # computes what the training program computed
```

`model.py` is the whole model in {lines} lines, to be read and changed. It needs {needs}."""

CHECKED = "`python model.py --test` was run when this folder was made. It said: {said}"


def eject(loaded: Loaded, folder: Path) -> dict[str, Any]:
    """Write a run as one file of code with its weights, and return what its own test measured.

    The code holds only the parts in use, and needs nothing of this program. Its test is run before the folder appears.

    Raises:
        UserError: the folder exists, or the model or its tokenizer has a part that the file has no words for.
    """
    model = require_gpt(loaded)
    source = source_of(loaded, model)
    facts = {"lines": source.count("\n"), "needs": needs(loaded.tokenizer), "prompt": prompt_of(loaded)}
    with new_folder(folder) as temporary:
        write_atomically(temporary / CODE_FILE, source)
        tensors = model_tensors(model)
        save_tensors(temporary / WEIGHTS_FILE, {RENAMED.get(name, name): x for name, x in tensors.items()})
        save_tensors(temporary / TEST_FILE, _noted(loaded, model))
        _write_vocabulary(loaded.tokenizer, temporary)
        said = self_test(temporary / CODE_FILE)
        shown = LOADING.format(**facts)
        text = card(loaded, front={"tags": ["clearhead"]}, loading=shown, parity=CHECKED.format(said=said))
        write_atomically(temporary / CARD_FILE, text)
    difference = re.search(r"at most (\S+)\.$", said)
    assert difference is not None
    return {
        "run": loaded.run.name,
        "step": loaded.step,
        "parity": {"largest_difference": float(difference[1])},
        "versions": runs.versions(),
        **facts,
    }


def source_of(loaded: Loaded, model: GPT) -> str:
    """Return the code of a model.

    Raises:
        UserError: a part of the model or its tokenizer cannot be written; it is named.
    """
    if lacking := misfits(model.config, NEEDED, PARTS):
        raise UserError(f"A model with {listed(lacking)} cannot be ejected yet; the parts of every preset can.")
    if loaded.tokenizer.kind not in TOKENIZERS:
        raise UserError(
            f'A model with a tokenizer of kind "{loaded.tokenizer.kind}" cannot be ejected; those with '
            f"{listed(sorted(TOKENIZERS))} can."
        )
    template = resources.files("clearhead.convert").joinpath("ejected.txt").read_text(encoding="utf-8")
    return render(template, choices(loaded.tokenizer, model.config), words(loaded, model))


def render(template: str, chosen: Mapping[str, bool], values: Mapping[str, object]) -> str:
    """Return a template's text with the parts in use.

    A line that ends with `#: NAME` or `#: not NAME`, or the lines from `#: if NAME` to `#: end`, stand for a choice;
    `$NAME` stands for a value.
    """
    lines, inside = [], True
    for line in template.splitlines():
        if opened := re.fullmatch(r" *#: if (\w+)", line):
            inside = chosen[opened[1]]
        elif line.strip() == "#: end":
            inside = True
        elif inside:
            code, _, condition = line.partition("  #: ")
            name = condition.removeprefix("not ")
            if not condition or chosen[name] != condition.startswith("not "):
                lines.append(code)
    return Template("\n".join([*lines, ""])).substitute(values)


def choices(tokenizer: Tokenizer, config: GptConfig) -> dict[str, bool]:
    """Return which parts of the template are in use."""
    return {
        **_tokenizer_choices(tokenizer),
        "grouped": config.kv_heads != config.num_heads,
        "rotary": isinstance(config.positions, RotaryConfig),
        "learned": config.positions.kind == "learned",
        "qk_norm": config.qk_norm,
        "convolution": config.convolution > 1,
        "embedding_norm": config.embedding_norm,
        "tied": config.tied_head,
        "softcap": config.logit_softcap is not None,
        "plain": not config.tied_head and config.logit_softcap is None,
        "capped": not config.tied_head and config.logit_softcap is not None,
        "uncapped": config.tied_head and config.logit_softcap is None,
        "gated": config.feed_forward.kind == "swiglu",
        **{name: config.feed_forward.kind == name for name in ("relu", "squared_relu", "gelu", "gelu_exact")},
    }


def _tokenizer_choices(tokenizer: Tokenizer) -> dict[str, bool]:
    kind, documents = tokenizer.kind, tokenizer.end is not None
    newline = not documents and tokenizer.drop_unknown("\n")[0] == "\n"
    characters = tokenizer if isinstance(tokenizer, CharTokenizer) else None
    return {
        "documents": documents,
        "newline": newline,
        "nothing": not (documents or newline),
        "listed": characters is not None and _is_short(characters.characters),
        "stored": characters is not None and not _is_short(characters.characters),
        "refusing": characters is not None and characters.unknown == "refuse",
        "spelling": characters is not None and characters.unknown == "bytes",
        "bytes": kind == "byte",
        "library": kind in ("bpe", "huggingface"),
    }


def words(loaded: Loaded, model: GPT) -> dict[str, object]:
    """Return the values that stand in the code; none of them is text from outside that could be read as code."""
    config, tokenizer = model.config, loaded.tokenizer
    assert isinstance(config.feed_forward, FeedForwardConfig | SwiGLUConfig)
    return {
        **_docstring(loaded, model),
        "num_layers": config.num_layers,
        "num_heads": config.num_heads,
        "num_kv_heads": config.kv_heads,
        "group": config.num_heads // config.kv_heads,
        "width": config.width,
        "hidden": hidden_width(config.feed_forward, config.width),
        "context": config.context_length,
        "vocabulary": tokenizer.vocabulary_size,
        "end": tokenizer.end,
        "characters": _literal(tokenizer.characters) if isinstance(tokenizer, CharTokenizer) else "",
        "base": config.positions.base if isinstance(config.positions, RotaryConfig) else "",
        "norm": _norm(config),
        "bias": "" if config.bias else ", bias=False",
        "narrow": "WIDTH" if config.kv_heads == config.num_heads else "narrow",
        "reach": config.convolution - 1,
        "taps": config.convolution,
        "softcap": config.logit_softcap,
    }


def needs(tokenizer: Tokenizer) -> str:
    """Name the libraries that the code imports."""
    return "torch, safetensors and tokenizers" if tokenizer.kind in ("bpe", "huggingface") else "torch and safetensors"


def self_test(code: Path) -> str:
    """Run the test of ejected code in a process of its own, and return what it says.

    Raises:
        UserError: it fails.
    """
    command = [sys.executable, code.name, "--test"]
    done = subprocess.run(command, cwd=code.parent, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stdout + done.stderr).strip().splitlines()[-1:]
        raise UserError(f"Nothing was written: the ejected code does not compute the same ({''.join(last)}).")
    return done.stdout.strip()


@torch.inference_mode()
def _noted(loaded: Loaded, model: GPT) -> dict[str, torch.Tensor]:
    tokens = probe_tokens(loaded)[:1, : max(2, TEST_LOGITS // loaded.tokenizer.vocabulary_size)]
    return {"tokens": tokens, "logits": model(tokens)}


def _write_vocabulary(tokenizer: Tokenizer, folder: Path) -> None:
    """Write what the code reads its vocabulary from, where that does not stand in the code."""
    if isinstance(tokenizer, CharTokenizer):
        if not _is_short(tokenizer.characters):
            write_atomically(folder / CHARACTERS_FILE, tokenizer.characters)
    elif tokenizer.kind != "byte":
        write_atomically(folder / FILE, to_json(to_tokenizer_json(tokenizer)))


def _docstring(loaded: Loaded, model: GPT) -> dict[str, str]:
    config, run = model.config, loaded.description
    parameters = count(sum(parameter.numel() for parameter in model.parameters()))
    return {
        "title": _title(loaded),
        "sizes": f"{counted(config.num_layers, 'layer')}, {counted(config.num_heads, 'head')}, width {config.width}: "
        f"{parameters} parameters.",
        "origin": f"Written by Clearhead {runs.versions()['clearhead']}." if "imported" in run else _origin(loaded),
        "prompt": prompt_of(loaded),
        "needs": needs(loaded.tokenizer),
    }


def _title(loaded: Loaded) -> str:
    if "imported" in loaded.description:
        return "A GPT that was trained elsewhere, in one file."
    sources = [Path(str(source["name"])).name for source in loaded.run.data()["sources"]]
    source = re.sub(r"[^\w.-]+", "-", sources[0])[:40] if len(sources) == 1 else f"{len(sources)} texts"
    return f"A GPT that writes like {source}, in one file."


def _origin(loaded: Loaded) -> str:
    steps = f"{count(loaded.step)} step{'s' if loaded.step != 1 else ''}"
    said = f"Clearhead {runs.versions()['clearhead']} trained it in {steps}"
    at_step = [event for event in History(read(loaded.run.path)).evaluations() if event["step"] == loaded.step]
    return f"{said}; loss on unseen text: {nats(at_step[-1]):.3f} nats a token." if at_step else f"{said}."


def _norm(config: GptConfig) -> str:
    if isinstance(config.norm, LayerNormConfig):
        return f"nn.LayerNorm(WIDTH, eps={config.norm.epsilon}{'' if config.norm.bias else ', bias=False'})"
    assert isinstance(config.norm, RMSNormConfig)
    return f"nn.RMSNorm(WIDTH, eps={config.norm.epsilon}{'' if config.norm.gain else ', elementwise_affine=False'})"


def _is_short(characters: str) -> bool:
    return len(_literal(characters)) <= LONGEST_LITERAL


def _literal(characters: str) -> str:
    """Return a string as Python writes it, in the quotes that need fewer escapes."""
    quote = "'" if '"' in characters and "'" not in characters else '"'
    return f"{quote}{''.join(_escaped(character, quote) for character in characters)}{quote}"


def _escaped(character: str, quote: str) -> str:
    if character in (quote, "\\"):
        return f"\\{character}"
    return character if character.isprintable() else character.encode("unicode_escape").decode()
