"""The kinds of tasks, by name: the one place where a name becomes a task."""

from __future__ import annotations

from clearhead.training.classification import ClassificationTask
from clearhead.training.language import LanguageTask
from clearhead.training.task import Task
from clearhead.training.translation import TranslationTask

TASKS: dict[str, type[Task]] = {task.kind: task for task in (LanguageTask, ClassificationTask, TranslationTask)}
