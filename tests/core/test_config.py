"""The one validator: what it takes, what it refuses, and with which sentence."""

from __future__ import annotations

import datetime
import json
import random
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearhead.core.config import build, describe, merge, parse_flags, to_dict
from clearhead.core.errors import UserError
from clearhead.core.toml import to_toml


@dataclass(frozen=True, kw_only=True, slots=True)
class Learned:
    kind: Literal["learned"] = "learned"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rotary:
    """Turned by an angle.

    Args:
        base: how slow the slowest turn is,
            in positions.
    """

    kind: Literal["rotary"] = "rotary"
    base: float = 10_000.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Plain:
    """Two maps.

    Args:
        kind: the activation.
    """

    kind: Literal["relu", "gelu"] = "relu"
    factor: float = 4.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Gated:
    kind: Literal["gated"] = "gated"
    factor: float = 2.5
    gain: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpt:
    """A transformer.

    Equations are written elsewhere.

    Args:
        num_heads: must divide the width.
        softcap: bends "large" logits.

    Raises:
        ValueError: num_heads: the heads do not divide the width.
    """

    kind: Literal["gpt"] = "gpt"
    num_layers: int = 2
    num_heads: int = 3
    num_kv_heads: int | None = None
    width: int = 21
    context_length: int = 11
    softcap: float | None = 15.0
    positions: Learned | Rotary = field(default_factory=Rotary)
    feed_forward: Plain | Gated = field(default_factory=Plain)

    def __post_init__(self) -> None:
        if self.width < 1 or self.num_heads < 1 or self.width % self.num_heads:
            raise ValueError(f"num_heads = {self.num_heads} does not divide width = {self.width}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Bigram:
    kind: Literal["bigram"] = "bigram"
    context_length: int = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    field: str = "text"
    encoding: str | None = None
    normalize: tuple[Literal["lf", "nfc"], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Average:
    decay: float = 0.99


@dataclass(frozen=True, kw_only=True, slots=True)
class Train:
    steps: int | None = None
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    compile: bool = False
    seed: int = 1
    save_every: int = 100
    milestones: tuple[int, ...] = ()
    tags: tuple[str, ...] | None = ("first",)
    level: Literal[1, 2] = 1
    average: Average | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Everything.

    Args:
        model: what is trained.
    """

    name: str = "run"
    text: Text = field(default_factory=Text)
    model: Gpt | Bigram = field(default_factory=Gpt)
    train: Train = field(default_factory=Train)


@dataclass(frozen=True, kw_only=True, slots=True)
class Needy:
    """What has no default must be given."""

    seed: int
    positions: Learned | Rotary


FULL = Run(train=Train(average=Average()))
"""Every section is there."""

WHOLE = st.integers(-(2**63) + 1, 2**63 - 1)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(max_size=7) | st.sampled_from(["none", "123", "true", '"quoted"', "a,b", "1e400", "\x7f\x00\r\n", "😀"])
POSITIONS = st.builds(Learned) | st.builds(Rotary, base=NUMBERS)
PLAINS = st.builds(Plain, kind=st.sampled_from(["relu", "gelu"]), factor=NUMBERS)
GPTS = st.builds(
    Gpt,
    num_heads=st.sampled_from([1, 3, 7]),  # what divides the width
    num_kv_heads=st.none() | WHOLE,
    softcap=st.none() | NUMBERS,
    positions=POSITIONS,
    feed_forward=PLAINS | st.builds(Gated, factor=NUMBERS, gain=st.booleans()),
)
TRAINS = st.builds(
    Train,
    steps=st.none() | WHOLE,
    learning_rate=NUMBERS,
    betas=st.tuples(NUMBERS, NUMBERS),
    compile=st.booleans(),
    seed=WHOLE,
    milestones=st.lists(WHOLE, max_size=3).map(tuple),
    tags=st.none() | st.lists(TEXTS, max_size=3).map(tuple),
    level=st.sampled_from([1, 2]),
    average=st.none() | st.builds(Average, decay=NUMBERS),
)
NORMALIZE = st.lists(st.sampled_from(["lf", "nfc"]), max_size=2).map(tuple)
RUNS = st.builds(
    Run,
    name=TEXTS,
    text=st.builds(Text, field=TEXTS, encoding=st.none() | TEXTS, normalize=NORMALIZE),
    model=GPTS | st.builds(Bigram, context_length=WHOLE),
    train=TRAINS,
)


def same(one: object, other: object) -> bool:
    """Tell whether two configs are the same to the bit: equality alone takes 1 for True and 1.0, and 0.0 for -0.0."""
    return one == other and repr(one) == repr(other)


def message_of(action: Callable[[], object]) -> str:
    """Return the sentence of the error that an action ends with."""
    with pytest.raises(UserError) as caught:
        action()
    return str(caught.value)


def changed(*pairs: tuple[str, str], base: Run | None = None) -> Run:
    return merge(base or Run(), parse_flags(pairs))


def refused(*pairs: tuple[str, str], base: Run | None = None) -> str:
    return message_of(lambda: changed(*pairs, base=base))


# There and back.


@settings(max_examples=60, deadline=None)
@given(run=RUNS, other=RUNS, comments=st.booleans())
def test_every_written_form_gives_the_same_config_back(run: Run, other: Run, comments: bool) -> None:
    assert same(build(Run, to_dict(run)), run)
    assert same(build(Run, json.loads(json.dumps(to_dict(run), allow_nan=False))), run)
    assert same(build(Run, tomllib.loads(to_toml(run, comments=comments))), run)
    assert same(merge(other, to_dict(run)), run)


def flags_of(values: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, str]]:
    """Write a nested dict as dotted flags, texts quoted."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flags_of(value, f"{where}{name}.")
        else:
            text = "none" if value is None else json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
            yield f"{where}{name}".replace("_", "-"), text


@settings(max_examples=60, deadline=None)
@given(run=RUNS)
def test_flags_give_the_same_config_back(run: Run) -> None:
    assert same(changed(*flags_of(to_dict(run))), run)


@settings(max_examples=60, deadline=None)
@given(text=TEXTS.filter(lambda text: not text.strip().startswith(('"', "'"))))
def test_a_text_field_keeps_any_bare_text(text: str) -> None:
    assert changed(("name", text)).name == text


def test_what_is_left_out_keeps_its_default() -> None:
    assert build(Run, {}) == Run()
    assert build(Run, {"model": {"width": 35, "num_heads": 5}}) == Run(model=Gpt(width=35, num_heads=5))
    assert merge(Run(name="kept"), {"train": {"seed": 7}}) == Run(name="kept", train=Train(seed=7))


def test_what_has_no_default_must_be_given() -> None:
    assert build(Needy, {"seed": 3, "positions": {"kind": "rotary"}}) == Needy(seed=3, positions=Rotary())
    assert message_of(lambda: build(Needy, {"seed": 3})) == "positions is missing; give it a section."
    assert message_of(lambda: build(Needy, {"seed": 3, "positions": {}}, where="twin")) == (
        'twin.positions.kind is missing; give it "learned" or "rotary".'
    )
    assert message_of(lambda: build(Needy, {})) == "seed is missing; give it a whole number."


# Names.


TOLD = {
    "model.width": "n_embd d_model hidden_size embed_dim",
    "model.context_length": "block_size seq_len max_seq_len n_positions n_ctx max_position_embeddings",
    "model.num_layers": "n_layer n_layers num_hidden_layers depth",
    "model.num_heads": "n_head n_heads num_attention_heads",
    "model.num_kv_heads": "n_kv_head num_key_value_heads",
    "train.learning_rate": "lr",
}


@pytest.mark.parametrize("prefix", ["", "model.", "train."])
@pytest.mark.parametrize(("ours", "names"), TOLD.items())
def test_foreign_names_are_told_ours_at_any_level(ours: str, names: str, prefix: str) -> None:
    for foreign in names.split():
        assert refused((prefix + foreign, "7")) == f"{prefix}{foreign} is called {ours} here."


def test_our_own_names_at_the_wrong_level_are_sent_home() -> None:
    assert refused(("width", "7")) == "width is called model.width here."
    assert refused(("train.positions.kind", "learned")) == "train.positions is called model.positions here."


def test_unknown_names_get_the_nearest_valid_one() -> None:
    assert refused(("model.widht", "7")) == 'There is no model.widht. Did you mean "model.width"?'
    assert refused(("modle.width", "7")) == 'There is no modle. Did you mean "model"?'
    assert refused(("vocab_size", "7")) == "There is no vocab_size; there is name, text, model, train."
    assert refused(("text.qqq", "7")) == "There is no text.qqq; text has field, encoding, normalize."


def test_names_of_another_kind_say_which() -> None:
    learned = Run(model=Gpt(positions=Learned()))
    assert refused(("model.positions.base", "5"), base=learned) == (
        'model.positions.base needs model.positions.kind "rotary".'
    )
    bigram = Run(model=Bigram())
    assert refused(("model.positions.kind", "learned"), base=bigram) == 'model.positions needs model.kind "gpt".'
    assert refused(("model.n_embd", "7"), base=bigram) == "model.n_embd is called model.width here."


def test_odd_names_are_quoted_and_cut() -> None:
    assert 'There is no model."a b\\n"' in message_of(lambda: build(Run, {"model": {"a b\n": 1}}))
    assert 'There is no ""' in refused(("", "1"))
    assert 'There is no model.""' in refused(("model..width", "1"))
    assert len(refused(("x" * 10_000, "1"))) < 200
    assert "There is no 7" in message_of(lambda: build(Run, {7: 1}))  # type: ignore[dict-item]


# Kinds.


def test_a_change_of_kind_drops_the_old_siblings() -> None:
    base = Run(model=Gpt(width=35, num_heads=5, positions=Rotary(base=3.0), feed_forward=Plain(factor=7.0)))
    assert changed(("model.kind", "bigram"), base=base).model == Bigram()
    positions = changed(("model.positions.kind", "learned"), base=base).model
    assert positions == Gpt(width=35, num_heads=5, positions=Learned(), feed_forward=Plain(factor=7.0))
    gelu = changed(("model.feed_forward.kind", "gelu"), base=base).model
    assert isinstance(gelu, Gpt)
    assert gelu.feed_forward == Plain(kind="gelu")
    gated = merge(base, {"model.feed_forward": {"kind": "gated", "gain": True}}).model
    assert isinstance(gated, Gpt)
    assert gated.feed_forward == Gated(gain=True)


def test_the_present_kind_keeps_its_siblings() -> None:
    base = Run(model=Gpt(width=35, num_heads=5, positions=Rotary(base=3.0)))
    assert changed(("model.kind", "gpt"), ("model.positions.kind", '"rotary"'), base=base) == base
    assert changed(("model.num_layers", "7"), base=base).model == Gpt(
        width=35, num_heads=5, num_layers=7, positions=Rotary(base=3.0)
    )


def test_unknown_kinds_get_the_list_and_the_nearest() -> None:
    assert refused(("model.positions.kind", "rotry")) == (
        'model.positions.kind must be "learned" or "rotary", not \'rotry\'. Did you mean "rotary"?'
    )
    assert refused(("model.kind", "7")) == 'model.kind must be "gpt" or "bigram", not 7.'
    assert message_of(lambda: build(Run, {"model": {"kind": ["gpt"]}})) == (
        'model.kind must be "gpt" or "bigram", not [\'gpt\'].'
    )


def test_a_section_may_be_absent() -> None:
    assert changed(("train.average", "none"), base=FULL) == Run()
    assert changed(("train.average.decay", "0.5")).train.average == Average(decay=0.5)
    assert changed(("train.average", "{decay = 0.5}")).train.average == Average(decay=0.5)


@pytest.mark.parametrize("value", ["rotary", 3, None, [], True])
def test_a_section_is_no_value(value: object) -> None:
    message = message_of(lambda: build(Run, {"model": {"positions": value}}))
    assert message.startswith("model.positions is a section; set its keys, such as model.positions.kind, not ")


# Values.


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("train.steps", "many", "train.steps must be a whole number or none, not 'many'."),
        ("train.seed", "3", "train.seed must be a whole number, not '3'."),
        ("train.seed", True, "train.seed must be a whole number, not true."),
        ("train.seed", 3.0, "train.seed must be a whole number, not 3.0."),
        ("train.seed", None, "train.seed must be a whole number, not none."),
        ("train.seed", 2**63, "train.seed must be a whole number, not a number of more than 64 bits."),
        ("train.seed", {"x": 1}, "train.seed must be a whole number, not a section."),
        ("train.learning_rate", float("nan"), "train.learning_rate must be a number, not nan."),
        ("train.learning_rate", float("-inf"), "train.learning_rate must be a number, not -inf."),
        ("train.learning_rate", False, "train.learning_rate must be a number, not false."),
        ("train.learning_rate", 10**400, "train.learning_rate must be a number, not a number of more than 64 bits."),
        ("train.compile", 1, "train.compile must be true or false, not 1."),
        ("train.compile", "yes", "train.compile must be true or false, not 'yes'."),
        ("train.level", True, "train.level must be 1 or 2, not true."),
        ("train.betas", [0.9], "train.betas must be [a number, a number], not [0.9]."),
        ("train.betas", [0.9, float("inf")], "Item 2 of train.betas must be a number, not inf."),
        ("train.betas", [1, 2, 10**400], "train.betas must be [a number, a number], not [1, 2, a number of more"),
        ("train.milestones", 3, "train.milestones must be [a whole number, ...], not 3."),
        ("train.milestones", [1, [2]], "Item 2 of train.milestones must be a whole number, not [2]."),
        ("train.tags", "none, of", "train.tags must be [text, ...] or none, not 'none, of'."),
        ("text.field", datetime.date(2024, 1, 1), "text.field must be text, not a value of type date."),
        ("text.field", b"text", "text.field must be text, not a value of type bytes."),
        ("text.field", "\ud800", "text.field must be text, not '\\ud800'."),
        ("text.normalize", ["lf", "nfd"], 'Item 2 of text.normalize must be "lf" or "nfc", not \'nfd\'. Did you'),
        ("text.normalize", "lf", 'text.normalize must be ["lf" or "nfc", ...], not \'lf\'.'),
    ],
)
def test_values_of_the_wrong_type_are_named_with_what_is_expected(key: str, value: object, sentence: str) -> None:
    section, _, name = key.partition(".")
    assert message_of(lambda: build(Run, {section: {name: value}})).startswith(sentence)
    assert message_of(lambda: merge(Run(), {key: value})).startswith(sentence)


def test_whole_numbers_become_floats_where_one_is_asked_for() -> None:
    assert same(build(Train, {"learning_rate": 3, "betas": [0, 1]}), Train(learning_rate=3.0, betas=(0.0, 1.0)))


def test_none_is_a_text_only_where_a_text_is_asked_for() -> None:
    assert build(Text, {"encoding": "none"}).encoding == "none"
    assert build(Gpt, {"softcap": "none"}).softcap is None
    assert changed(("text.encoding", "none"), base=Run(text=Text(encoding="latin-1"))).text.encoding is None
    assert changed(("text.encoding", '"none"')).text.encoding == "none"


def test_endless_and_recursive_input_is_refused_by_name() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    ring: dict[str, Any] = {}
    ring["positions"] = ring
    cycle: list[Any] = []
    cycle.append(cycle)
    assert message_of(lambda: build(Train, {"seed": deep})) == "seed must be a whole number, not [a list]."
    assert message_of(lambda: build(Gpt, {"positions": ring})) == "positions.positions is called positions here."
    assert message_of(lambda: build(Run, {"train": {"milestones": cycle}})).startswith("Item 1 of train.milestones")
    assert refused((".".join(["model"] + ["x"] * 3000), "1")).startswith("There is no model.x; model has kind, ")
    assert message_of(lambda: build(Train, {"seed": 10**5000})).endswith("not a number of more than 64 bits.")
    assert refused(("train.seed", "[" * 100_000)).startswith("train.seed must be a whole number, not '[[[")


def test_what_a_config_says_of_itself_is_passed_on_with_its_place() -> None:
    assert refused(("model.num_heads", "4")) == "model: num_heads = 4 does not divide width = 21."
    assert message_of(lambda: build(Gpt, {"num_heads": 4})) == "num_heads = 4 does not divide width = 21."
    assert message_of(lambda: build(Gpt, {"num_heads": 4}, where="draft")).startswith("draft: num_heads = 4")
    assert message_of(lambda: build(Gpt, {"widht": 4}, where="draft")) == (
        'There is no draft.widht. Did you mean "draft.width"?'
    )
    assert message_of(lambda: build(Gpt, {"n_embd": 4}, where="draft")) == "draft.n_embd is called draft.width here."


# Flags.


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("train.steps", "250", 250),
        ("train.steps", "1_000", 1000),
        ("train.steps", "none", None),
        ("train.learning_rate", "1e-3", 1e-3),
        ("train.learning_rate", "1", 1.0),
        ("train.compile", "true", True),
        ("train.save-every", "13", 13),
        ("train.milestones", "2,3, 5", [2, 3, 5]),
        ("train.milestones", "7", [7]),
        ("train.milestones", "", []),
        ("train.betas", "0.5,1", [0.5, 1.0]),
        ("train.tags", "1,a,true", ["1", "a", "true"]),
        ("train.tags", '["a,b"]', ["a,b"]),
        ("train.tags", "none", None),
        ("text.normalize", "lf,nfc", ["lf", "nfc"]),
        ("text.field", "body", "body"),
        ("text.field", "123", "123"),
        ("text.field", "nan", "nan"),
        ("text.field", "[1, 2]", "[1, 2]"),
        ("text.field", "{a = 1}", "{a = 1}"),
        ("text.field", "'quoted'", "quoted"),
        ("text.field", "3 # three", "3 # three"),
        ("text.field", "1\nother = 2", "1\nother = 2"),
    ],
)
def test_flags_are_read_by_the_type_of_their_field(key: str, text: str, value: object) -> None:
    section, _, name = key.replace("-", "_").partition(".")
    assert same(to_dict(changed((key, text)))[section][name], value)


@pytest.mark.parametrize(
    ("key", "text", "sentence"),
    [
        ("train.steps", "many", "train.steps must be a whole number or none, not 'many'."),
        ("train.steps", "1e3", "train.steps must be a whole number or none, not 1000.0."),
        ("train.seed", "9" * 30, "train.seed must be a whole number, not a number of more than 64 bits."),
        ("train.seed", "9" * 5000, "train.seed must be a whole number, not '99999"),
        ("train.learning_rate", "nan", "train.learning_rate must be a number, not nan."),
        ("train.learning_rate", "1e400", "train.learning_rate must be a number, not inf."),
        ("train.compile", "True", "train.compile must be true or false, not 'True'."),
        ("train.betas", "0.5", "train.betas must be [a number, a number], not ['0.5']."),
        ("train.milestones", "2,x", "Item 2 of train.milestones must be a whole number, not 'x'."),
        ("model", "gpt", "model is a section; set its keys, such as model.kind, not 'gpt'."),
        ("train.seed.x", "1", "train.seed must be a whole number, not a section."),
    ],
)
def test_flags_that_do_not_fit_are_refused(key: str, text: str, sentence: str) -> None:
    assert refused((key, text)).startswith(sentence)


def test_flags_are_nested_and_given_once() -> None:
    assert parse_flags({"a.b-c": "1", "a.d": "x"}) == {"a": {"b_c": "1", "d": "x"}}
    assert message_of(lambda: parse_flags([("a.b", "1"), ("a.b", "2")])) == "a.b is given twice; keep one of them."
    for pairs in ([("a", "1"), ("a.b", "2")], [("a.b", "2"), ("a", "1")]):
        message = message_of(lambda pairs=pairs: parse_flags(pairs))
        assert message == "a.b cannot be set beside a value for the whole of a."


def test_nested_and_dotted_changes_go_together_and_are_left_as_they_were() -> None:
    inner: dict[str, object] = {"width": 35}
    changes = {"model.num_heads": 5, "model": inner}
    assert merge(Run(), changes).model == merge(Run(), dict(reversed(changes.items()))).model
    assert merge(Run(), changes).model == Gpt(width=35, num_heads=5)
    assert inner == {"width": 35}


# What can be set.


def test_describe_lists_what_build_takes() -> None:
    fields = list(describe(Run))
    by_key = {(found.key, *found.when.values()): found for found in fields}
    assert len(by_key) == len(fields)
    base = by_key["model.positions.base", ("gpt",), ("rotary",)]
    assert (base.type, base.default) == ("a number", 10_000.0)
    assert base.help == "how slow the slowest turn is, in positions."
    kind = by_key["model.positions.kind", ("gpt",)]
    assert (kind.type, kind.default) == ('"learned" or "rotary"', "rotary")
    assert by_key["model.kind",].help == "what is trained."
    assert by_key["model.feed_forward.factor", ("gpt",), ("relu", "gelu")].default == 4.0
    assert by_key["model.feed_forward.factor", ("gpt",), ("gated",)].default == 2.5
    assert {found.key for found in fields} > {key.replace("-", "_") for key, _ in flags_of(to_dict(FULL))}


def test_help_is_answered_without_pydantic() -> None:
    code = (
        "import sys, clearhead.core.config as config, clearhead.core.toml\n"
        "config.parse_flags({'a.b': '1'})\n"
        "assert 'pydantic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Random mistakes.

Reader = Callable[[Mapping[str, Any]], Run]

STRANGE: list[Any] = [
    float("nan"), float("inf"), 1e308, -1e308, 0, -1, 7, 10**400, 2**63, 0.5, True, False, None, "", "none", "many",
    "gpt", "bigram", "learned", "gated", [], [1], [0.5, 1], ["lf"], [None], [[[[[]]]]], {}, {"kind": "rotary"},
    {"a": {"b": {"c": {}}}}, b"x", "\ud800", datetime.date(2024, 1, 1), object(), {1, 2}, "x" * 1000,
]  # fmt: skip
UNKNOWN = ["widht", "n_embd", "kind", "seed", "depth", "lr", "Name", "a_b", "model", "zzz", "num-heads", "base"]


def mutations() -> Iterator[tuple[dict[str, Any], str]]:
    """Yield 500 configs as nested dicts, each with one key changed or added, and the dotted name of that key."""
    draw = random.Random(11)
    for _ in range(500):
        values = to_dict(replace(FULL, model=draw.choice([Gpt(), Bigram()])))
        place, where = values, ""
        while draw.random() < 0.7 and (inner := [name for name in place if isinstance(place[name], dict)]):
            name = draw.choice(inner)
            place, where = place[name], f"{where}{name}."
        unknown = [name for name in UNKNOWN if name not in place]
        name = draw.choice(unknown) if draw.random() < 0.3 else draw.choice(list(place))
        place[name] = draw.choice(STRANGE)
        yield values, f"{where}{name}"


def holds(read: Any, given: Any) -> bool:
    """Tell whether what was read says all that was given."""
    if isinstance(given, dict):
        return isinstance(read, dict) and all(name in read and holds(read[name], given[name]) for name in given)
    if isinstance(given, list):
        return isinstance(read, list) and len(read) == len(given) and all(map(holds, read, given))
    if read is None:
        return given is None or given == "none"
    return read == given and isinstance(read, bool) == isinstance(given, bool)


def is_one_sentence(message: str) -> bool:
    main = re.sub(r' Did you mean "[^"]+"\?$', "", message)
    return "\n" not in message and len(re.findall(r"[.?!](?=\s|$)", main)) == 1


def check(reader: Reader) -> int:
    """Hold a reader to its word for every mutation; return how many it took.

    Either the config says all that was given, or one sentence names the key (or the section and the name, where a
    value is refused by the config itself).
    """
    taken = 0
    for values, key in mutations():
        try:
            config = reader(values)
        except UserError as error:
            section, _, name = key.rpartition(".")
            message = str(error)
            assert is_one_sentence(message), message
            assert key in message or (message.startswith(f"{section}: ") and name in message), (key, message)
        else:
            assert holds(to_dict(config), values), (key, values)
            taken += 1
    return taken


def test_five_hundred_mutations_are_taken_whole_or_refused_by_name() -> None:
    assert 20 < check(lambda values: build(Run, values)) < 250
    assert 20 < check(lambda values: merge(Run(name="base"), values)) < 250


def test_a_reader_that_ignores_unknown_keys_is_caught() -> None:
    known = {name for found in describe(Run) for name in found.key.split(".")}

    def known_only(values: Mapping[str, Any]) -> dict[str, Any]:
        inner = {name: value for name, value in values.items() if name in known}
        return {name: known_only(value) if isinstance(value, dict) else value for name, value in inner.items()}

    with pytest.raises(AssertionError, match="holds"):
        check(lambda values: build(Run, known_only(values)))
