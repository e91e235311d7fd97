"""A streaming proxy as one writes it with starlette and httpx. usage: starlette_proxy.py PORT UPSTREAM_PORT"""

from __future__ import annotations

import sys

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "host"}
BACKEND = httpx.AsyncClient(
    base_url=f"http://127.0.0.1:{sys.argv[2]}",
    timeout=None,
    limits=httpx.Limits(max_connections=None, max_keepalive_connections=1024),
)


async def relay(request: Request) -> StreamingResponse:
    headers = [(name, value) for name, value in request.headers.raw if name.decode("latin-1") not in HOP_BY_HOP]
    outgoing = BACKEND.build_request(request.method, request.url.path, headers=headers, content=await request.body())
    answer = await BACKEND.send(outgoing, stream=True)
    kept = {name: value for name, value in answer.headers.items() if name not in HOP_BY_HOP}
    return StreamingResponse(answer.aiter_raw(), answer.status_code, kept, background=BackgroundTask(answer.aclose))


if __name__ == "__main__":
    app = Starlette(routes=[Route("/{path:path}", relay, methods=["GET", "POST"])])
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), loop="uvloop", http="httptools", log_level="error", backlog=4096)
