"""What `train` says before the first step and after the last one."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from clearhead.cli.terminal import bar, print_written, rule
from clearhead.core.run import Selection, runs_folder
from clearhead.core.words import counted
from clearhead.show.about import USES, is_still_gaining
from clearhead.show.readable import byte_size, count, short_count
from clearhead.training.fit import COMPLETE_ALREADY
from clearhead.training.preflight import explain_first_loss, first_loss, measure_sizes

if TYPE_CHECKING:
    from clearhead.training.range_test import RangeTest
    from clearhead.training.session import Session

LISTED_SOURCES = 50
RANGE_TEST_LINES = 24


def beginning(session: Session) -> dict[str, Any]:
    """Return what will be trained, on what, for how long, and where its loss begins."""
    data, parts, batches = session.data, session.data.sources["split"], session.batches
    sizes = measure_sizes(session.model, batches.tokens_per_step)
    steps, runtime = session.state.plan.steps, session.runtime
    first = first_loss(session.model, session.objective, batches(0), runtime.device)
    return {
        "text": {
            "documents": data.sources["documents"],
            "bytes": data.sources["utf8_bytes"],
            "split": parts["description"],
            "training_tokens": parts["training_tokens"],
            "validation_tokens": parts["validation_tokens"],
        },
        "tokenizer": {"kind": data.tokenizer.kind, "vocabulary_size": data.tokenizer.vocabulary_size},
        "model": {
            "kind": session.config.model.kind,
            "parameters": sizes.parameters,
            "parameters_by_role": sizes.by_role,
            "context_length": session.config.model.context_length,
            "flops_per_token": sizes.flops_per_token,
            "memory_bytes": sizes.memory_bytes,
        },
        "plan": {
            "steps": steps,
            "tokens_per_step": batches.tokens_per_step,
            "epochs": steps * batches.tokens_per_step / max(1, parts["training_tokens"]),
            "device": runtime.device,
            "precision": runtime.precision,
            "threads": runtime.threads,
        },
        "first_loss": first,
        "log_vocabulary": math.log(session.task.choices),
        "check": explain_first_loss(first, session.task.choices, session.task.alternative),
    }


def print_sources(out: Console, session: Session) -> None:
    """Name the files that were read."""
    sources = session.data.sources["sources"]
    for source in sources[:LISTED_SOURCES]:
        out.print(f"  {source['name']}: {byte_size(source['bytes'])}, {source['encoding']}")
    if len(sources) > LISTED_SOURCES:
        out.print(f"  ... and {count(len(sources) - LISTED_SOURCES)} more")


def print_beginning(out: Console, facts: Mapping[str, Any], *, new: bool) -> None:
    """Say what was read, what will be trained and, of a new model, whether the first loss is right."""
    text, tokenizer, model, plan = facts["text"], facts["tokenizer"], facts["model"], facts["plan"]
    documents = f"{counted(text['documents'], 'document')}, " if text["documents"] > 1 else ""
    roles = ", ".join(f"{role} {short_count(number)}" for role, number in model["parameters_by_role"].items())
    epochs = f"{plan['epochs']:.1f}" if plan["epochs"] >= 0.1 else f"{plan['epochs']:.1g}"
    lines = {
        "Text": f"{documents}{byte_size(text['bytes'])}; {text['split']}",
        "Tokens": f"{tokenizer['kind']}, {counted(tokenizer['vocabulary_size'], 'id')}; "
        f"{short_count(text['training_tokens'])} to train on, {short_count(text['validation_tokens'])} kept back",
        "Model": f"{model['kind']}, {count(model['parameters'])} parameters ({roles}), "
        f"context {model['context_length']}, {short_count(model['flops_per_token'])} FLOPs a token, "
        f"about {byte_size(model['memory_bytes'])} of memory beside the program's own",
        "Plan": f"{counted(plan['steps'], 'step')} of {counted(plan['tokens_per_step'], 'token')} ({epochs} epochs) "
        f"on {plan['device']}, {plan['precision']}, {counted(plan['threads'], 'thread')}",
    }
    if new:
        lines["Check"] = facts["check"]
    for name, line in lines.items():
        out.print(f"{name:<9} {line}")


class Summary:
    """Collects a run's events and says what they amount to."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.reason = ""
        self._final: Mapping[str, Any] = {}
        self._measured: dict[str, Mapping[str, Any]] = {}
        self._last: Mapping[str, Any] = {}

    def take(self, event: Mapping[str, Any]) -> None:
        """Take an event in."""
        self._last = event
        if event["event"] == "measured":
            self._measured[event["name"]] = event["values"]
        elif event["event"] == "evaluated" and event["split"] == "validation":
            self._final = event
        elif event["event"] == "stopped":
            self.reason = event["reason"]

    def figures(self) -> dict[str, Any]:
        """Return what the run amounts to, for --json."""
        best = self.session.state.best
        return {
            "run": str(self.session.run.path),
            "step": self.session.state.step,
            "reason": self.reason,
            "seconds": self._last.get("seconds"),
            "train_seconds": self.session.state.train_seconds,
            "nats_per_token": self._final.get("nats_per_token"),
            "bits_per_byte": self._final.get("bits_per_byte"),
            "tokens_scored": self._final.get("tokens_scored"),
            "metrics": self._final.get("metrics"),
            "sampled": self._final.get("sampled"),
            "baselines": self._measured.get("baselines"),
            "floor": self._measured.get("floor"),
            "expected": self._measured.get("expected"),
            "best_step": best.step if best else None,
        }

    def print_end(self, out: Console, program: str) -> None:
        """Say how good the model is, let it write, and name the next commands."""
        path, state = self.session.run.path, self.session.state
        if not state.step:
            out.print("Nothing was learned yet.")
            return
        if self._last.get("message") == COMPLETE_ALREADY:
            longer = f"--resume {self._name()} --steps {state.plan.steps * 2}"
            out.print(
                f"The run is complete already, at step {state.step}; {program} train {longer} makes it longer.",
                soft_wrap=True,
            )
        if self._final:
            out.print()
            out.print(self._comparison())
            self._print_verdict(out)
        if state.best and state.best.step < state.step:
            out.print(
                f"The best step was {count(state.best.step)}, with {state.best.nats_per_token:.4f} nats per "
                f"{self.session.task.unit} on a part of the validation text; what uses the run takes that one."
            )
        if self.reason in ("budget", "patience") and state.step >= state.plan.steps:
            self._print_samples(out)
        report = path / "report.html"
        out.print(f"\nThe run lies in {path}, at step {state.step}; its report is {report}.", soft_wrap=True)
        self._print_next(out, program)

    def _comparison(self) -> Table:
        metrics = list(self._final.get("metrics") or {})[:1]  # the first says most
        unit = self.session.task.unit
        table = Table("", f"nats per {unit}", *(metrics or ["bits per byte"]), title=None, box=None, pad_edge=False)
        unfinished = " (a part of it)" if self._final.get("sampled") else ""
        rows = list(self._measured.get("baselines", {}).items())
        rows.append((f"this model, on the validation part{unfinished}", self._final))
        if floor := self._measured.get("floor"):
            beyond = f"{floor['beyond_window']:.0%} lie beyond the window"
            rows.append((f"the floor, for a reader of whole tales ({beyond})", floor))
        rows.sort(key=lambda row: -float(row[1]["nats_per_token"]))
        for name, values in rows:
            style = "bold" if values is self._final else ""
            figure = values["metrics"].get(metrics[0]) if metrics else values.get("bits_per_byte")
            said = "" if figure is None else f"{figure:.4f}"
            table.add_row(Text(name, style), Text(f"{values['nats_per_token']:.4f}", style), Text(said, style))
        return table

    def _print_verdict(self, out: Console) -> None:
        """Say whether the loss is what was to be expected of the whole run."""
        from clearhead.training.expectation import Expectation

        measured = self._final.get("bits_per_byte")
        if "expected" in self._measured and measured is not None and self.reason == "budget":
            expected = Expectation(**self._measured["expected"])
            out.print(f"Expected: {expected}; it came to {measured:.2f}, {expected.verdict(measured)}.")

    def _print_samples(self, out: Console) -> None:
        """Show what the best step can do, read back from the disk."""
        from clearhead.store.load import load_selection

        best = load_selection(Selection(self.session.run, "best"))
        for text in self.session.task.demonstrate(best.model):
            rule(out)
            print_written(out, text)
        rule(out)

    def _name(self) -> str:
        """Return the run's name as it can be typed."""
        path = self.session.run.path
        is_below = path.parent.resolve() == runs_folder().resolve()
        return shlex.quote(path.name if is_below else str(path))

    def _print_next(self, out: Console, program: str) -> None:
        state, name = self.session.state, self._name()
        use = USES[self.session.task.kind].command.format(run=name)
        if state.step < state.plan.steps:
            commands = [f"train --resume {name}", f"eval {name}", use]
        else:
            still_gaining = is_still_gaining(None if state.best is None else state.best.step, state.step)
            more = f"train --resume {name} --steps {state.plan.steps * 2}"
            commands = [use, f"eval {name}", more if still_gaining else f"runs show {name}"]
        out.print("Next:")
        for command in commands:
            out.print(f"  {program} {command}", soft_wrap=True)


def print_range_test(out: Console, session: Session, found: RangeTest) -> None:
    """Show the loss at growing learning rates, and the rate that the test suggests."""
    out.print("\nLearning-rate range test: the loss while all rates grow from 0.01 to 100 times their settings")
    if found.sequences_per_step < session.batches.sequences_per_step:
        out.print(
            f"To end in about half a minute, its steps have {counted(found.sequences_per_step, 'sequence')}, "
            f"not {count(session.batches.sequences_per_step)}; the whole batch may bear somewhat higher rates."
        )
    lowest, highest = float(found.losses.min()), float(found.losses.max())
    pairs = list(zip(found.factors, found.losses, strict=True))
    for factor, loss in pairs[:: max(1, len(pairs) // RANGE_TEST_LINES)]:
        out.print(f"  x{factor:<9.3g} {loss:6.3f}  {bar(out, (loss - lowest) / max(1e-9, highest - lowest))}")
    peak = session.config.optimizer.learning_rate
    out.print(
        f"Suggested: {found.suggested:.2g} times the rates; "
        f"--optimizer.learning_rate {found.suggested * peak:.3g}, where {peak:g} stands now."
    )
