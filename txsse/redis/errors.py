"""What can go wrong with a command."""

from __future__ import annotations


class RedisError(Exception):
    """A command has failed."""


class Unavailable(RedisError):
    """There was no answer: no connection, or not in time. It may have been done, or may yet be."""


class CommandRefused(RedisError):
    """Redis answered with an error: nothing was done."""
