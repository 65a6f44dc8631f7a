"""A model's outline has the shapes of the model, and nothing is drawn for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch.overrides import TorchFunctionMode

from clearhead.model.build import FILLS, Model, build_model, build_outline
from clearhead.training.recipes import RECIPES, recipe


@pytest.mark.parametrize("preset", sorted(RECIPES))
def test_an_outline_has_the_shapes_of_its_model(preset: str) -> None:
    config = recipe(preset).model
    shapes, outlined = (
        {name: (parameter.shape, parameter.dtype) for name, parameter in build(config, 61).named_parameters()}
        for build in (build_model, build_outline)
    )
    assert shapes == outlined


class Fills(TorchFunctionMode):
    """Counts what fills tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.count += func in FILLS
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("build", "fills"), [(build_model, True), (build_outline, False)])
def test_only_a_model_is_filled(build: Callable[..., Model], fills: bool) -> None:
    with Fills() as seen:
        build(recipe("tiny").model, 61)
    assert bool(seen.count) == fills
