"""Errors of the training room."""

from __future__ import annotations


class TrainingError(Exception):
    """A manifest, recipe, checkpoint or run that cannot be used; the message says what, where and what to do."""

    exit_status = 10
