"""The configuration: one model with every default, read from TOML and the command line, checked whole before anything starts."""

from txsse.config.check import complete
from txsse.config.errors import ConfigError
from txsse.config.load import load, loads
from txsse.config.model import Configuration, Route, Upstream
from txsse.config.options import from_options
from txsse.config.render import render
from txsse.config.secret import Secret

__all__ = ["ConfigError", "Configuration", "Route", "Secret", "Upstream", "complete", "from_options", "load", "loads", "render"]
