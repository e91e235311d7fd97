"""The lowest layer: how sockets are set up, and the transports that relay."""

from txsse.sockets.adoption import adopt
from txsse.sockets.transports import half_close
from txsse.sockets.tuning import KEEPALIVE_IDLE, deepen, hold_little, tune

__all__ = ["KEEPALIVE_IDLE", "adopt", "deepen", "half_close", "hold_little", "tune"]
