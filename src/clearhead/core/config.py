"""The one reader of settings: TOML files and dotted flags become frozen dataclasses, or one sentence says why not.

A config is a frozen, keyword-only dataclass. Its fields are scalars (bool, int, float, str, `Literal`, or None beside
them), tuples of scalars, other configs ("sections"), and unions of sections that differ in their `kind`. The sections
are walked here, because only here a sentence can name the dotted key and the nearest valid name; pydantic, in strict
mode, judges each value. TOML has no None: the word "none" stands for it, but where a text is asked for it is a text.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from clearhead.core.errors import UserError, closest, nearest

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from pydantic import TypeAdapter

C = TypeVar("C", bound="DataclassInstance")

FOREIGN_NAMES = {
    foreign: ours
    for ours, names in {
        "width": "n_embd n_embed embed_dim embedding_dim emb_dim d_model hidden_size dim",
        "context_length": "block_size seq_len seq_length sequence_length max_seq_len max_seq_length n_positions n_ctx"
        " max_position_embeddings context_size context",
        "num_layers": "n_layer n_layers num_hidden_layers depth layers",
        "num_heads": "n_head n_heads num_attention_heads heads",
        "num_kv_heads": "n_kv_head n_kv_heads num_key_value_heads kv_heads",
        "tied_head": "tie_weights tie_embeddings tie_word_embeddings",
        "base": "rope_theta rope_base",
        "vocabulary_size": "vocab_size n_vocab",
        "learning_rate": "lr",
        "warmup_steps": "warmup_iters num_warmup_steps",
        "steps": "max_iters max_steps num_iterations",
        "sequences_per_step": "batch_size",
        "micro_batches": "gradient_accumulation_steps grad_accum_steps",
        "clip_norm": "grad_clip max_grad_norm",
        "evaluate_every": "eval_interval eval_every",
        "save_every": "save_interval",
        "log_every": "log_interval",
    }.items()
    for foreign in names.split()
}
"""What other projects call a setting, and what it is called here."""


class FlagText(str):
    """A value as it was typed on the command line; what it means is decided by the field it is given to."""

    __slots__ = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """One thing that can be set.

    Args:
        key: its dotted name.
        type: what it takes, in words.
        default: its value when nobody sets it; `dataclasses.MISSING` where somebody must.
        help: what it does, from the docstring of its dataclass.
        when: the kinds that have it, by the dotted name of each `kind` that it depends on.
    """

    key: str
    type: str
    default: object
    help: str
    when: Mapping[str, tuple[str, ...]]


def build(cls: type[C], values: Mapping[str, object], *, where: str = "") -> C:
    """Make a config of a nested mapping; what is left out keeps its default.

    Args:
        where: the dotted name of the section that `values` stands for, which errors name.

    Raises:
        UserError: the sentence names the dotted key of the first mistake.
    """
    return _Reader(cls, where).section(cls, values, None, where)


def merge(base: C, changes: Mapping[str, object]) -> C:
    """Return `base` with changes, given by nested or dotted keys.

    A section whose `kind` changes starts from the defaults of the new kind; without a `kind` it keeps the present one.

    Raises:
        UserError: the sentence names the dotted key of the first mistake.
    """
    return _Reader(type(base), "").section(type(base), _nest(changes.items()), base, "")


def parse_flags(pairs: Mapping[str, str] | Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Nest dotted flags for `build` or `merge`, which read each text by the type of its field.

    A text is a TOML literal if the field takes it as one, else a string; a list may be written with commas alone. In
    names, hyphens are underscores.

    Raises:
        UserError: a key is given twice, or both as a value and as a section.
    """
    named = pairs.items() if isinstance(pairs, Mapping) else pairs
    return _nest((key.replace("-", "_"), FlagText(text)) for key, text in named)


def to_dict(config: DataclassInstance) -> dict[str, Any]:
    """Return a config as nested dicts, lists and scalars; `build` makes the same config of them."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def describe(cls: type[DataclassInstance]) -> Iterator[Field]:
    """List all that can be set in a config, the fields of every kind included."""
    return _describe(cls, None, "", {})


# What a dataclass asks for.


@functools.cache
def field_types(cls: type[DataclassInstance]) -> dict[str, Any]:
    """Return the type of each field, in order."""
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        may_be_absent = {str, NoneType} <= set(members(hints[field.name]))
        assert not may_be_absent or field.default is None, f"{cls}.{field.name}: TOML can only leave out such a None"
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def members(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the one type that is not a union."""
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def sections(annotation: Any) -> dict[str, type[DataclassInstance]]:
    """Return the dataclasses that a field takes, by kind; a field of scalars takes none."""
    classes: list[Any] = [member for member in members(annotation) if dataclasses.is_dataclass(member)]
    if len(classes) == 1:
        return {"": classes[0]}
    return {kind: cls for cls in classes for kind in get_args(field_types(cls)["kind"])}


def one_of(choices: Iterable[object]) -> Any:
    """Return the type of a field that takes one of these values."""
    return Literal[tuple(choices)]


def in_words(annotation: Any) -> str:
    """Say what a field takes."""
    *first, last = dict.fromkeys(word for member in members(annotation) for word in _words(member))
    return f"{', '.join(first)} or {last}" if first else last


def _words(member: Any) -> list[str]:
    """Say what a type that is no union takes: one phrase for each choice."""
    if get_origin(member) is Literal:
        return [json.dumps(choice) for choice in get_args(member)]
    if get_origin(member) is tuple:
        return [f"[{', '.join('...' if item is Ellipsis else in_words(item) for item in get_args(member))}]"]
    if dataclasses.is_dataclass(member):
        return ["a section"]
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text", NoneType: "none"}
    return [words[member]]


def field_help(cls: type) -> dict[str, str]:
    """Return the `Args:` entries of a docstring, each on one line."""
    _, _, entries = inspect.cleandoc(cls.__doc__ or "").partition("\nArgs:\n")
    entries = re.split(r"\n\s*\n", entries)[0]
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", entries, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def summary(cls: type) -> str:
    """Return the first line of a docstring that somebody wrote; dataclasses without one get a signature instead."""
    first = (cls.__doc__ or "").partition("\n")[0]
    return "" if first.startswith(f"{cls.__name__}(") else first


def _default(field: dataclasses.Field[Any]) -> object:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _describe(
    cls: type[DataclassInstance], current: object, where: str, when: Mapping[str, tuple[str, ...]]
) -> Iterator[Field]:
    """Describe one section; the defaults are those of `current` if it is such a section, else of the class."""
    helps, types = field_help(cls), field_types(cls)
    for field in dataclasses.fields(cls):
        key, annotation, help_ = _join(where, field.name), types[field.name], helps.get(field.name, "")
        default = getattr(current, field.name) if isinstance(current, cls) else _default(field)
        alternatives, kind_key = sections(annotation), f"{key}.kind"
        if len(alternatives) > 1:
            choice = one_of(alternatives) | None if NoneType in members(annotation) else one_of(alternatives)
            yield Field(
                key=kind_key, type=in_words(choice), default=getattr(default, "kind", default), help=help_, when=when
            )
        elif not alternatives and key not in when:
            yield Field(key=key, type=in_words(annotation), default=default, help=help_, when=when)
        for section in dict.fromkeys(alternatives.values()):
            kinds = tuple(kind for kind, owner in alternatives.items() if kind and owner is section)
            yield from _describe(section, default, key, {**when, kind_key: kinds} if kinds else when)


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


# Names.


def _join(where: str, name: object) -> str:
    """Return a dotted key; what could not stand bare in TOML is quoted, what is endless is cut."""
    text = str(name) if len(str(name)) <= 60 else f"{str(name)[:60]}..."
    bare = text if re.fullmatch(r"[\w-]+", text) else json.dumps(text)
    return f"{where}.{bare}" if where else bare


def _dotted(key: object) -> str:
    return functools.reduce(_join, str(key).split("."), "")


def _nest(pairs: Iterable[tuple[Any, object]]) -> dict[str, Any]:
    """Nest the values of dotted keys; the mappings passed in are not changed."""
    nested: dict[str, Any] = {}
    # Shallow keys first, so that the order in which a section and keys inside it are given does not matter.
    for key, value in sorted(pairs, key=lambda pair: str(pair[0]).count(".")):
        *outer, name = str(key).split(".")
        place = nested
        for section in outer:
            inner = place.get(section, {})
            if not isinstance(inner, Mapping):
                raise UserError(f"{_dotted(key)} cannot be set beside a value for the whole of {_dotted(section)}.")
            place[section] = dict(inner)
            place = place[section]
        if name in place:
            raise UserError(f"{_dotted(key)} is given twice; keep one of them.")
        place[name] = value
    return nested


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the sections of one config; it knows them all, so that it can say where a misplaced name belongs."""

    root: type[DataclassInstance]
    where: str

    def section(self, cls: type[C], values: object, current: object, where: str) -> C:
        """Read one section; what `values` leaves out is as in `current`, else as the class has it."""
        types = field_types(cls)
        if not isinstance(values, Mapping):
            example = _join(where, "kind" if "kind" in types else next(iter(types), ""))
            raise UserError(
                f"{where or 'A config'} is a section; set its keys, such as {example}, not {_shown(values)}."
            )
        for name in values:
            if name not in types:
                raise self.unknown(cls, name, where)
        chosen = {}
        for field in dataclasses.fields(cls):
            key, annotation = _join(where, field.name), types[field.name]
            old = _default(field) if current is None else getattr(current, field.name)
            if field.name in values:
                chosen[field.name] = self.value(annotation, values[field.name], old, key)
            elif old is MISSING:
                raise UserError(f"{key} is missing; give it {in_words(annotation)}.")
            else:
                chosen[field.name] = old
        try:
            return cls(**chosen)
        except ValueError as error:
            raise UserError(f"{where}: {error}" if where else str(error)) from error

    def value(self, annotation: Any, value: object, current: object, key: str) -> object:
        """Read what was given for one field."""
        alternatives = sections(annotation)
        if not alternatives:
            return _scalar(annotation, value, key)
        if isinstance(value, FlagText):
            value = _literal(value)
        if _is_none(annotation, value):
            return None
        cls, start = _chosen(alternatives, value, current, key)
        return self.section(cls, value, start, key)

    def unknown(self, cls: type[DataclassInstance], name: object, where: str) -> UserError:
        """Say that a section has no such name, and which one it has, here or elsewhere."""
        key, ours = _join(where, name), FOREIGN_NAMES.get(str(name), str(name))
        places = [(place, f.when) for f in _describe(self.root, None, self.where, {}) for place in _prefixes(f.key)]
        kind_key = _join(where, "kind")
        kinds = {kind for place, when in places if place == key for kind in when.get(kind_key, ())}
        if kinds:
            return UserError(f"{key} needs {kind_key} {in_words(one_of(sorted(kinds)))}.")
        homes = {place for place, _ in places if place.rpartition(".")[2] == ours and place != key}
        here = _join(where, ours)
        if here in homes or len(homes) == 1:
            return UserError(f"{key} is called {here if here in homes else homes.pop()} here.")
        names = field_types(cls)
        if match := closest(str(name), names):
            return UserError(f'There is no {key}. Did you mean "{_join(where, match)}"?')
        return UserError(f"There is no {key}; {f'{where} has' if where else 'there is'} {', '.join(names)}.")


def _prefixes(key: str) -> Iterator[str]:
    parts = key.split(".")
    return (".".join(parts[: end + 1]) for end in range(len(parts)))


def _chosen(
    alternatives: Mapping[str, type[DataclassInstance]], values: object, current: object, key: str
) -> tuple[type[DataclassInstance], object]:
    """Choose the dataclass of a section, and what it starts from: the present section if its kind stays."""
    if "" in alternatives or not isinstance(values, Mapping):
        cls = next(iter(alternatives.values()))
        return cls, current if type(current) is cls else None
    kinds, present = one_of(alternatives), getattr(current, "kind", None)
    if present is None and "kind" not in values:
        raise UserError(f"{key}.kind is missing; give it {in_words(kinds)}.")
    kind = _scalar(kinds, values["kind"], f"{key}.kind") if "kind" in values else present
    return alternatives[str(kind)], current if kind == present else None


# Values.


@functools.cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    from pydantic import ConfigDict, TypeAdapter

    return TypeAdapter(annotation, config=ConfigDict(strict=True, allow_inf_nan=False))


def _accepted(annotation: Any, value: object) -> object:
    """Return the value as a field of this type holds it (a whole number becomes a float where one is asked for).

    Raises:
        ValueError: it is not of the type, or no TOML file could hold it.
    """
    result = _adapter(annotation).validate_python(value)
    for before, after in zip(_items(value), _items(result), strict=True):
        # pydantic's Literal[1] takes True, and its int takes any size.
        if isinstance(before, bool) != isinstance(after, bool) or (isinstance(after, int) and abs(after) >= 2**63):
            raise ValueError
        if isinstance(after, str):
            after.encode()  # half of a surrogate pair, as in a badly encoded argument, raises UnicodeEncodeError
    return result


def _items(value: object) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else (value,)


def _fits(annotation: Any, value: object) -> bool:
    try:
        _accepted(annotation, value)
    except ValueError:
        return False
    return True


def _scalar(annotation: Any, value: object, key: str) -> object:
    """Read the value of a field that is no section."""
    if isinstance(value, FlagText):
        value = _meant(annotation, value)
    if _is_none(annotation, value):
        return None
    if isinstance(value, list):
        value = tuple(value)
    try:
        return _accepted(annotation, value)
    except ValueError:
        raise _mismatch(annotation, value, key) from None


def _is_none(annotation: Any, value: object) -> bool:
    """Tell whether None is meant; where a text is asked for, "none" is one."""
    is_word = isinstance(value, str) and value == "none" and str not in members(annotation)
    return NoneType in members(annotation) and (value is None or is_word)


def _meant(annotation: Any, text: str) -> object:
    """Return what a text of the command line means for a field of this type."""
    if text == "none" and NoneType in members(annotation):
        return None
    literal = _literal(text)
    tuple_types = [member for member in members(annotation) if get_origin(member) is tuple]
    if tuple_types and not isinstance(literal, list):
        items = text.split(",") if text else []
        item_types = _item_types(tuple_types[0], len(items)) or (str,) * len(items)
        return [_meant(item_type, item.strip()) for item_type, item in zip(item_types, items, strict=True)]
    if not isinstance(literal, str) and not _fits(annotation, literal) and _fits(annotation, str(text)):
        return str(text)
    return literal


def _literal(text: str) -> object:
    """Read a TOML literal; what is none is a string."""
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return str(text)
    return table["value"] if len(table) == 1 else str(text)


def _item_types(annotation: Any, count: int) -> tuple[Any, ...]:
    """Return what a tuple type asks of each of `count` items; nothing if it is for another number of them."""
    arguments = get_args(annotation)
    if Ellipsis in arguments:
        return (arguments[0],) * count
    return arguments if len(arguments) == count else ()


def _mismatch(annotation: Any, value: object, key: str) -> UserError:
    """Say what a field takes and what was given instead; of a list, which item is wrong."""
    for member in members(annotation):
        if get_origin(member) is tuple and isinstance(value, tuple):
            for index, item_type in enumerate(_item_types(member, len(value))):
                if not _fits(item_type, value[index]):
                    return _mismatch(item_type, value[index], f"Item {index + 1} of {key}")
    choices = [c for member in members(annotation) if get_origin(member) is Literal for c in get_args(member)]
    hint = nearest(value, map(str, choices)) if isinstance(value, str) else ""
    return UserError(f"{key} must be {in_words(annotation)}, not {_shown(value)}.{hint}")


def _shown(value: object) -> str:
    """Show what was given, in at most a few words."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else f"{value[:40]}...")
    if isinstance(value, int):
        return str(value) if abs(value) < 2**63 else "a number of more than 64 bits"
    if isinstance(value, float):
        return str(value)
    if isinstance(value, tuple | list):
        items = [_shown(item) if not isinstance(item, tuple | list) else "a list" for item in value[:5]]
        return f"[{', '.join([*items, '...'] if len(value) > 5 else items)}]"
    return "a section" if isinstance(value, Mapping) else f"a value of type {type(value).__name__}"
