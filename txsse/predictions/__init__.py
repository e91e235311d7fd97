"""Predictions: replicate/cog's HTTP API, over whatever streams: an upstream of the proxy, or a Python function of an embedding service.

In the order in which one is made: ``app.py`` (the paths, as a Klein application), ``asked.py`` (what the body says), ``jobs.py`` (is there
one of this id?), ``model.py`` (who makes it: ``upstream.py``, ``handlers.py``), ``job.py`` (the prediction, what is written down of it, who
follows it), ``reading.py`` (somebody's place in it). Of an upstream's answer ``deltas.py`` takes the text, for ``asker.py``.
"""
