"""The demo backend: a fake model behind an OpenAI-compatible server that wakes slowly, streams words, and fails on request.

Used by ``--demo``, ``txsse demo``, the docs and the tests; ``python -m txsse.demo --port 8001`` runs it alone.
"""

from __future__ import annotations

from txsse.demo.backend import DemoBackend, DemoService
from txsse.demo.settings import DemoSettings

__all__ = ["DemoBackend", "DemoService", "DemoSettings"]
