"""Wire formats, sans-I/O: HTTP heads, chunked coding, event streams. Imports nothing of ours outside this folder."""
