"""Streams that are kept: recorded once, told again to many readers (cache, coalescing, resume)."""
