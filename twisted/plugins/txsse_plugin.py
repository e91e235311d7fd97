"""Tells twistd that ``sse-proxy`` exists. Imports nothing of ours: every start of every twistd program reads this file."""

from twisted.application.service import ServiceMaker

txsse = ServiceMaker(
    "txsse",
    "txsse.tap",
    "A reverse proxy that keeps streaming clients alive while the backend is silent.",
    "sse-proxy",
)
