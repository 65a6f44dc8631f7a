"""How good the encoder is beside logistic regression, on a table of your own: seeds, means and standard errors.

    python benchmarks/classify.py train.tsv dev.tsv --seeds 5 --json result.json

The regression counts words and pairs of words (scikit-learn); its form and its penalty are chosen by cross-validation
on the training rows. Nothing of the encoder is chosen on the second table either: it is scored once, after the last
step. Both read the same rows.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from clearhead.text.config import TextConfig
from clearhead.text.records import Row, named_input, read_rows
from clearhead.training import fit
from clearhead.training.config import ClassifyTaskConfig, override
from clearhead.training.labelled import table_of
from clearhead.training.recipes import recipe

ARMS: Mapping[str, Mapping[str, Any]] = {
    "bidirectional": {},
    "causal": {"model.mask.kind": "causal"},
}
PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
FOLDS = 5


def read_table(name: str) -> tuple[list[str], list[str]]:
    """Return the texts and the labels of a table."""
    rows: Sequence[Row] = read_rows([named_input(name)], table_of(ClassifyTaskConfig()).columns, TextConfig())
    return [row.first for row in rows], [row.second for row in rows]


def regression(training: str, validation: str) -> dict[str, Any]:
    """Return the accuracy of logistic regression on words and pairs of words, tuned on the training rows alone."""
    texts, labels = read_table(training)
    words = {"ngram_range": (1, 2), "token_pattern": r"\S+"}
    vectorizers = [
        CountVectorizer(**words),
        CountVectorizer(**words, binary=True),
        TfidfVectorizer(**words, sublinear_tf=True),
    ]
    pipeline = Pipeline([("words", vectorizers[0]), ("regression", LogisticRegression(max_iter=2000))])
    grid = {"words": vectorizers, "regression__C": PENALTIES}
    began = time.perf_counter()
    search = GridSearchCV(pipeline, grid, cv=FOLDS).fit(texts, labels)
    accuracy = float(search.score(*read_table(validation)))
    chosen = {"words": str(search.best_params_["words"]), "C": search.best_params_["regression__C"]}
    return {"accuracy": accuracy, "cross_validated": float(search.best_score_), "chosen": chosen} | {
        "seconds": time.perf_counter() - began
    }


def train(training: str, validation: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Train one encoder and return its figures after the last step."""
    config = override(
        recipe("classify"), {"train.patience": 0, **changes, "task.validation": [str(Path(validation).absolute())]}
    )
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="clearhead-benchmark-") as folder:
        session = fit.create([training], config, Path(folder) / "run")
        last: dict[str, Any] = {}
        for event in fit.train(session, baselines=False):
            line = event.to_dict()
            if line["event"] == "evaluated" and line["split"] == "validation":
                last = line
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "steps": last["step"], "nats": last["nats_per_token"], **last["metrics"]}


def summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean accuracy of some seeds and its standard error."""
    found = [run["accuracy"] for run in runs]
    error = float(np.std(found, ddof=1)) / math.sqrt(len(found)) if len(found) > 1 else math.nan
    return {"accuracy": float(np.mean(found)), "standard_error": error, "seconds": max(run["seconds"] for run in runs)}


def main() -> None:
    """Train, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("training")
    parser.add_argument("validation")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting, as TOML")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    changes = {key: json.loads(value) for key, value in (pair.split("=", 1) for pair in args.set)}
    result: dict[str, Any] = {"regression": regression(args.training, args.validation)}
    print(f"regression      {result['regression']['accuracy']:.4f}  {result['regression']['chosen']}", flush=True)
    for arm in args.arms.split(","):
        runs = []
        for seed in range(1, args.seeds + 1):
            runs.append(train(args.training, args.validation, {**changes, **ARMS[arm], "train.seed": seed}))
            print(f"  {arm}, seed {seed}: {runs[-1]['accuracy']:.4f} in {runs[-1]['seconds']:.0f} s", flush=True)
        result[arm] = {**summary(runs), "runs": runs}
        print(
            f"{arm:15} {result[arm]['accuracy']:.4f} ± {result[arm]['standard_error']:.4f} (standard error)", flush=True
        )
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
