"""A Redis (or Valkey, 6.2 or later) that several machines share: answers kept for all of them, streams that any of them can go on reading.

Needs the extra ``txsse[redis]``; nothing outside imports this package unless ``store.kind`` is ``redis``. What is served by the process
that asked the model never waits for Redis, nor fails with it.
"""
