"""Between the fronts and the upstreams: what happens to a request from its complete body to its line in the log.

In the order in which a request meets them: ``handler.py`` (the proxy itself), ``auth.py``, ``admission.py`` (does it stream? for which
model?), ``routes.py``, ``conductor.py`` (drives ``txsse/exchange`` with sockets and clocks), ``hold.py`` and ``timers.py`` beside it,
``forwarded.py`` (the head upstream gets), ``answers.py`` and ``cors.py`` (what we say ourselves), ``ledger.py`` (the account).
Before anything starts, ``verify.py`` looks into the files that a configuration names.
"""
