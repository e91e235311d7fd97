"""The console script ``txsse``: ``demo``, ``watch``, ``check``."""
