"""A run as a folder that transformers loads, checked before it appears."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from clearhead.convert import parity
from clearhead.convert.card import card
from clearhead.convert.folder import CONFIG_FILE, WEIGHTS_FILE
from clearhead.convert.huggingface import to_transformers
from clearhead.convert.tokenizer_json import FILE, to_tokenizer_json
from clearhead.core import run as runs
from clearhead.core.errors import UserError
from clearhead.core.files import new_folder, sha256, to_json, write_atomically
from clearhead.model.transformer import GPT
from clearhead.store.checkpoint import model_tensors, save_tensors
from clearhead.store.load import Loaded

TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
CERTIFICATE_FILE = "parity.json"
CARD_FILE = "README.md"

LOADING = """\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{folder}")
tokenizer = AutoTokenizer.from_pretrained("{folder}")
ids = tokenizer({prompt!r}, return_tensors="pt").input_ids
print(tokenizer.decode(model.generate(ids, max_new_tokens={num_tokens}, do_sample=True)[0]))
```"""

CHECKED = (
    "Loaded with transformers {transformers} in float32, the model gave logits that differ from the run's by at most "
    "{largest_difference:.2g} (the largest logit is {largest_logit:.1f}) on {tokens_compared:,} tokens, and the "
    "tokenizer the same ids for {strings:,} strings. `parity.json` has the figures, versions and hashes."
)


def export_folder(loaded: Loaded, folder: Path) -> dict[str, Any]:
    """Write a run as a folder for transformers, with a card and a certificate, and return the certificate.

    The folder is loaded by transformers and compared with the run before it appears; see `parity.measure`.

    Raises:
        UserError: the folder exists, transformers is missing, or it has no such model or tokenizer.
    """
    transformers = parity.transformers_library()
    model = require_gpt(loaded)
    vocabulary_size = loaded.tokenizer.vocabulary_size
    settings, tensors = to_transformers(model.config, model_tensors(model), vocabulary_size)
    described = to_tokenizer_json(loaded.tokenizer)
    end = next((token for token in described["added_tokens"] if token["id"] == loaded.tokenizer.end), None)
    ends = dict.fromkeys(("bos_token_id", "eos_token_id"), loaded.tokenizer.end)
    with new_folder(folder) as temporary:
        write_atomically(temporary / CONFIG_FILE, to_json(settings | ends))
        save_tensors(temporary / WEIGHTS_FILE, tensors, {"format": "pt"})
        write_atomically(temporary / FILE, to_json(described))
        named = dict.fromkeys(("bos_token", "eos_token"), end["content"]) if end else {}
        write_atomically(temporary / TOKENIZER_CONFIG_FILE, to_json(TOKENIZER_CONFIG | named))
        measured = asdict(parity.measure(loaded, temporary))
        certificate = {
            "format": 1,
            "run": loaded.run.name,
            "step": loaded.step,
            "model_type": settings["model_type"],
            "parity": measured,
            "versions": runs.versions() | {"transformers": transformers.__version__},
            "tokenizer_fingerprint": loaded.tokenizer.fingerprint,
            "sha256": {file.name: sha256(file) for file in sorted(temporary.iterdir())},
        }
        write_atomically(temporary / CERTIFICATE_FILE, to_json(certificate))
        checked = CHECKED.format(**measured, transformers=transformers.__version__)
        write_atomically(temporary / CARD_FILE, _card(loaded, folder, model.context_length, checked))
    return certificate


TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "clean_up_tokenization_spaces": False,
    # A text that spells the name of a special is a text, as it is here.
    "split_special_tokens": True,
}


def require_gpt(loaded: Loaded) -> GPT:
    """Return a run's model, if it is a GPT.

    Raises:
        UserError: it is another kind of model.
    """
    if not isinstance(loaded.model, GPT):
        kind = loaded.description["config"]["model"]["kind"]
        raise UserError(f'{loaded.run.name} is a model of kind "{kind}", and only those of kind "gpt" can be exported.')
    return loaded.model


def _card(loaded: Loaded, folder: Path, context_length: int, checked: str) -> str:
    licence = loaded.run.data().get("licence")
    front = {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["clearhead"]}
    prompt = parity.prompt_of(loaded)
    num_tokens = max(1, context_length - len(loaded.tokenizer.encode(prompt)))
    return card(
        loaded,
        front=({"license": licence.lower()} if licence else {}) | front,
        loading=LOADING.format(folder=folder.name, prompt=prompt, num_tokens=min(100, num_tokens)),
        parity=checked,
    )
