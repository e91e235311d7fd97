"""txsse keeps a streaming client alive while the backend behind it is silent."""

__version__ = "0.1.0"
