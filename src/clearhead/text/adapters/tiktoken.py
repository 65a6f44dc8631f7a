"""Byte pairs ranked elsewhere, merged by the library tiktoken; and our own pairs in its form."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Int32

from clearhead.core.errors import UserError, nearest
from clearhead.core.files import write_atomically
from clearhead.text.bpe import BpeTokenizer, byte_alphabet, cut_long_runs, read_companion, spelled_bytes
from clearhead.text.config import TiktokenConfig
from clearhead.text.tokenizer import Tokenizer, without_surrogates

RANKS_FILE = "ranks.tiktoken"
GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""

_BESIDE = {"vocab.bpe": "encoder.json", "merges.txt": "vocab.json"}

Ranks = dict[bytes, int]


class TiktokenTokenizer(Tokenizer):
    """Byte-pair encoding where the pair whose union has the lowest id is merged first.

    A run of more than 8,192 characters with, or without, white space is cut there, which changes ids, never text.
    Source: Radford et al. 2019, section 2.2.
    """

    kind = "tiktoken"

    def __init__(self, ranks: Ranks, *, pattern: str, specials: Mapping[str, int], end: bool) -> None:
        """Build the tokenizer.

        Args:
            ranks: the id of each token; all 256 bytes are among them.
            pattern: splits text before pairs are merged.
            specials: ids that are no ranks, by name.
        """
        self._ranks, self._pattern, self._own_specials = ranks, pattern, dict(specials)
        self._library = _library().Encoding(
            "clearhead", pat_str=pattern, mergeable_ranks=ranks, special_tokens=self._own_specials
        )
        token_bytes = [b""] * (max([*ranks.values(), *specials.values()]) + 1)
        for token, id_ in ranks.items():
            token_bytes[id_] = token
        super().__init__(token_bytes, names={}, end=end, specials=specials)

    @classmethod
    def read(cls, config: TiktokenConfig, *, end: bool) -> TiktokenTokenizer:
        """Return the tokenizer of a name or a file.

        Raises:
            UserError: there is no such name or file, it is not in the library's cache, it is no list of ranks, or the
                library refuses a rank or the pattern.
        """
        ranks, pattern, specials = _chosen(config)
        try:
            return cls(ranks, pattern=config.pattern or pattern, specials=specials, end=end)
        except (ValueError, OverflowError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"tiktoken refuses the ranks or tokenizer.pattern ({reason}); mend the one or the other."
            ) from None

    @classmethod
    def load(cls, folder: Path, stored: Mapping[str, Any]) -> TiktokenTokenizer:
        """Return the tokenizer of which `stored` is the checked description.

        Raises:
            DamagedFile: the file of ranks is missing or is not what was written.
        """
        ranks = _parse_ranks(read_companion(folder / RANKS_FILE, stored["ranks_sha256"]))
        return cls(ranks, pattern=stored["pattern"], specials=stored["specials"], end=stored["end"])

    def encode(self, text: str) -> Int32[np.ndarray, " N"]:
        """Return the ids of the merged byte pairs."""
        pieces = map(self._library.encode_ordinary, cut_long_runs(without_surrogates(text)))
        return np.fromiter(chain.from_iterable(pieces), dtype=np.int32)

    def save(self, folder: Path) -> None:
        """Write the tokenizer and, beside it, its ranks in the library's own form."""
        super().save(folder)
        (folder / RANKS_FILE).write_bytes(_spell_ranks(self._ranks))

    def _content(self) -> dict[str, Any]:
        return {
            "ranks_sha256": hashlib.sha256(_spell_ranks(self._ranks)).hexdigest(),
            "pattern": self._pattern,
            "specials": self._own_specials,
            "end": self.end is not None,
        }


def cached_names() -> list[str]:
    """Return the encodings that the library knows and has in its cache."""
    found = []
    for name in _library().list_encoding_names():
        with suppress(UserError):
            _named(name)
            found.append(name)
    return found


def export(tokenizer: Tokenizer, texts: Iterable[str], path: Path) -> int:
    """Write our byte pairs as a `.tiktoken` file, and return how many tokens of the texts were found to be equal.

    Raises:
        UserError: the tokenizer has no pairs, or the file would give a text other ids.
    """
    content = ranks_of(tokenizer)
    exported = TiktokenTokenizer(_ranks_of(tokenizer), pattern=GPT2_PATTERN, specials={}, end=False)
    compared = 0
    for text in texts:
        ids = tokenizer.encode(text)
        if not np.array_equal(exported.encode(text), ids):
            raise UserError(
                f"{path} is not written: tiktoken would give a text other ids, since two pairs of this tokenizer "
                "have the same union."
            )
        compared += len(ids)
    write_atomically(path, content)
    return compared


def ranks_of(tokenizer: Tokenizer) -> bytes:
    """Return byte-pair merges of our own as the content of a `.tiktoken` file, to be used with `GPT2_PATTERN`.

    tiktoken merges any two neighbours whose union is a token, we only the pairs that were merged in training: where
    two pairs have the same union the ids can differ, so `export` compares them.

    Raises:
        UserError: the tokenizer is of another kind.
    """
    return _spell_ranks(_ranks_of(tokenizer))


def _ranks_of(tokenizer: Tokenizer) -> Ranks:
    if not isinstance(tokenizer, BpeTokenizer | TiktokenTokenizer):
        raise UserError(f'A tokenizer of kind "{tokenizer.kind}" has no ranks; only "bpe" and "tiktoken" have.')
    ids = [id_ for id_ in range(tokenizer.vocabulary_size) if tokenizer.byte_lengths[id_]]
    return {tokenizer.decode_bytes([id_]): id_ for id_ in ids}


def _library() -> ModuleType:
    try:
        import tiktoken.load
    except ImportError:
        raise UserError("This needs the library tiktoken: pip install 'clearhead[tiktoken]'.") from None
    return tiktoken


def _named(name: str) -> Any:
    """Return an encoding that the library knows, from its cache."""
    library = _library()
    known = library.list_encoding_names()
    if name not in known:
        raise UserError(f'tiktoken knows no encoding "{name}"; it knows {", ".join(known)}.{nearest(name, known)}')
    with _offline(library, name):
        return library.get_encoding(name)


def _chosen(config: TiktokenConfig) -> tuple[Ranks, str, dict[str, int]]:
    """Return the ranks, the pattern and the specials of a name or a file."""
    if (config.name is None) == (config.path is None):
        raise UserError('tokenizer.kind "tiktoken" needs either tokenizer.name, such as gpt2, or tokenizer.path.')
    if config.name is not None:
        known = _named(config.name)
        return known._mergeable_ranks, known._pat_str, known._special_tokens
    path = Path(str(config.path))
    ranks, specials = _read_ranks(path)
    missing = {bytes([value]) for value in range(256)} - ranks.keys()
    if missing or len(set(ranks.values()) | set(specials.values())) != len(ranks) + len(specials):
        raise UserError(f'"{path}" does not give each of the 256 bytes, and each token, an id of its own.')
    return ranks, GPT2_PATTERN, specials


@contextmanager
def _offline(library: ModuleType, name: str) -> Iterator[None]:
    """Let the library read its cache and nothing else."""

    def refuse(path: str) -> bytes:
        raise UserError(
            f'The encoding "{name}" is not in tiktoken\'s cache, and nothing is fetched here: put {path} into '
            "$TIKTOKEN_CACHE_DIR, or give a file by --tokenizer.path."
        )

    fetch = library.load.read_file
    library.load.read_file = refuse
    try:
        yield
    finally:
        library.load.read_file = fetch


def _read_ranks(path: Path) -> tuple[Ranks, dict[str, int]]:
    """Return the ids of the tokens and of the specials of a file."""
    try:
        content = path.read_bytes()
        beside = next((path.with_name(path.name.replace(a, b)) for a, b in _BESIDE.items() if a in path.name), None)
        if beside is None:
            return _parse_ranks(content), {}
        spelled = json.loads(beside.read_bytes()) if beside.is_file() else None
        return _merged_ranks(content.decode(), spelled)
    except OSError as error:
        raise UserError(f'Cannot read "{path}": {error.strerror}.') from None
    except (ValueError, KeyError, AttributeError):
        raise UserError(f'"{path}" is not a file of ranks, or the JSON beside it does not fit it.') from None


def _parse_ranks(content: bytes) -> Ranks:
    """Read lines of a token in base 64 and its id."""
    pairs = (line.split() for line in content.splitlines() if line)
    try:
        return {base64.b64decode(token, validate=True): int(id_) for token, id_ in pairs}
    except binascii.Error as error:
        raise ValueError from error


def _spell_ranks(ranks: Ranks) -> bytes:
    lines = (b"%s %d\n" % (base64.b64encode(token), id_) for token, id_ in sorted(ranks.items(), key=lambda r: r[1]))
    return b"".join(lines)


def _merged_ranks(merges: str, spelled: Mapping[str, int] | None) -> tuple[Ranks, dict[str, int]]:
    """Number the bytes in the order of GPT-2's alphabet, then the pairs in the order of their merges.

    Args:
        spelled: the ids that the file beside the merges gives; they have to agree, and what is no merge is a special.
    """
    pairs = [line.split(" ") for line in merges.splitlines() if line and not line.startswith("#version")]
    tokens = [*byte_alphabet(), *(first + second for first, second in pairs)]
    ranks = {spelled_bytes(token): id_ for id_, token in enumerate(tokens)}
    given = dict(enumerate(tokens)) if spelled is None else {id_: token for token, id_ in spelled.items()}
    if any(given.pop(id_, None) != token for id_, token in enumerate(tokens)):
        raise ValueError
    return ranks, {name: id_ for id_, name in given.items()}
