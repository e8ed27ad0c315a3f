"""The stack of Noria's server without Noria: raw ASGI that reads a body and answers the same words: `python echo.py PORT`."""

import sys

import uvicorn
import uvloop

ANSWER = b'{"predictions":[{"id":"p-0197a3c2e5f1-9c1b7e22-00002a","prediction":1,"probability":0.5}],"release":"v1"}'
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())],
}


async def app(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await send(START)
    await send({"type": "http.response.body", "body": ANSWER})


if __name__ == "__main__":
    uvloop.install()
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        http="httptools",
        loop="uvloop",
        access_log=False,
        log_level="warning",
        lifespan="off",
    )
