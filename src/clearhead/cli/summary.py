"""What `train` says before the first step and after the last one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from clearhead.show.readable import byte_size, count, short_count
from clearhead.training.preflight import explain_first_loss, first_loss, measure_sizes

if TYPE_CHECKING:
    from clearhead.training.range_test import RangeTest
    from clearhead.training.session import Session

END_SAMPLES = 3
END_SAMPLE_TOKENS = 400


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
            "sampled": self._final.get("sampled"),
            "baselines": self._measured.get("baselines"),
            "floor": self._measured.get("floor"),
            "best_step": best.step if best else None,
        }

    def print_beginning(self, out: Console, *, verbose: bool) -> None:
        """Say what was read, what will be trained and whether the first loss is right."""
        session = self.session
        sources, parts = session.data.sources, session.data.sources["split"]
        tokenizer, model = session.data.tokenizer, session.config.model
        shown = sources["sources"] if verbose else []
        for source in shown[:50]:
            out.print(f"  {source['name']}: {byte_size(source['bytes'])}, {source['encoding']}", soft_wrap=True)
        documents = f"{count(sources['documents'])} documents, " if sources["documents"] > 1 else ""
        out.print(f"Text      {documents}{byte_size(sources['utf8_bytes'])}; {parts['description']}", soft_wrap=True)
        out.print(
            f"Tokens    {tokenizer.kind}, {count(tokenizer.vocabulary_size)} ids; "
            f"{short_count(parts['training_tokens'])} to train on, {short_count(parts['validation_tokens'])} kept back"
        )
        sizes = measure_sizes(session.model, session.batches.tokens_per_step)
        roles = ", ".join(f"{role} {short_count(number)}" for role, number in sizes.by_role.items())
        out.print(
            f"Model     {model.kind}, {count(sizes.parameters)} parameters ({roles}), context {model.context_length}, "
            f"{short_count(sizes.flops_per_token)} FLOPs a token, about {byte_size(sizes.memory_bytes)} of memory",
            soft_wrap=True,
        )
        plan, runtime = session.state.plan, session.runtime
        out.print(
            f"Plan      {count(plan.steps)} steps of {count(session.batches.tokens_per_step)} tokens "
            f"({plan.steps * session.batches.tokens_per_step / max(1, parts['training_tokens']):.1f} epochs) "
            f"on {runtime.device}, {runtime.precision}, {runtime.threads} threads",
            soft_wrap=True,
        )
        if not session.state.step:
            loss = first_loss(session.model, session.objective, session.batches(0), runtime.device)
            out.print(f"Check     {explain_first_loss(loss, tokenizer.vocabulary_size)}", soft_wrap=True)

    def print_end(self, out: Console, program: str) -> None:
        """Say how good the model is, let it write, and name the next commands."""
        run, state = self.session.run, self.session.state
        if not state.step:
            out.print("Nothing was learned yet.")
            return
        if self._final:
            out.print()
            out.print(self._comparison())
        if self.reason in ("budget", "patience") and state.step >= state.plan.steps:
            self._print_samples(out)
        where = run.path
        out.print(
            f"\nThe run lies in {where}, at step {state.step}; its report is {where / 'report.html'}.", soft_wrap=True
        )
        self._print_next(out, program)

    def _comparison(self) -> Table:
        table = Table("", "nats per token", "bits per byte", title=None, box=None, pad_edge=False)
        unfinished = " (a part of it)" if self._final.get("sampled") else ""
        rows: list[tuple[str, Mapping[str, Any]]] = [
            (name, values) for name, values in self._measured.get("baselines", {}).items()
        ]
        rows.append((f"this model, on the validation part{unfinished}", self._final))
        if "floor" in self._measured:
            beyond = self._measured["floor"]["beyond_window"]
            rows.append(
                (
                    f"the floor, for a reader of whole tales ({beyond:.0%} lie beyond the window)",
                    self._measured["floor"],
                )
            )
        rows.sort(key=lambda row: -float(row[1]["nats_per_token"]))
        for name, values in rows:
            bits = values.get("bits_per_byte")
            style = "bold" if values is self._final else ""
            table.add_row(
                Text(name, style), Text(f"{values['nats_per_token']:.4f}", style), "" if bits is None else f"{bits:.4f}"
            )
        return table

    def _print_samples(self, out: Console) -> None:
        from clearhead.generation.engine import Request, prompt_ids, write

        tokenizer = self.session.data.tokenizer
        number = END_SAMPLES if tokenizer.end is not None else 1
        request = Request(
            prompt=prompt_ids(tokenizer, ""), samples=number, num_tokens=END_SAMPLE_TOKENS * (1 + number // 2)
        )
        self.session.model.eval()
        for text in write(self.session.model, tokenizer, request):
            out.rule(style="dim")
            out.print(Text(text.strip("\n")))
        out.rule(style="dim")

    def _print_next(self, out: Console, program: str) -> None:
        name = self.session.run.path.name if self._in_runs_folder() else str(self.session.run.path)
        unfinished = self.session.state.step < self.session.state.plan.steps
        more = self.session.state.plan.steps * 2
        commands = [
            f"{program} train --resume {name}" if unfinished else f"{program} sample {name} --samples 3",
            f"{program} eval {name}",
            f"{program} sample {name}" if unfinished else f"{program} train --resume {name} --steps {more}",
        ]
        out.print("Next:")
        for command in commands:
            out.print(f"  {command}", soft_wrap=True)

    def _in_runs_folder(self) -> bool:
        from clearhead.core.run import runs_folder

        return self.session.run.path.parent.resolve() == runs_folder().resolve()


def print_range_test(out: Console, session: Session, found: RangeTest) -> None:
    """Show the loss at growing learning rates, and the rate that the test suggests."""
    out.print("\nLearning-rate range test: the loss while all rates grow from 0.01 to 100 times their settings")
    lowest, highest = float(found.losses.min()), float(found.losses.max())
    for factor, loss in list(zip(found.factors, found.losses, strict=True))[:: max(1, len(found.losses) // 24)]:
        width = round(50 * (loss - lowest) / max(1e-9, highest - lowest))
        out.print(f"  x{factor:<9.3g} {loss:6.3f}  {'█' * width}")
    peak = session.config.optimizer.learning_rate
    out.print(
        f"Suggested: {found.suggested:.2g} times the rates; "
        f"--optimizer.learning_rate {found.suggested * peak:.3g}, where {peak:g} stands now.",
        soft_wrap=True,
    )
