"""What a lookup is set against: the emptiest route FastAPI can have, on the server and with the options of the API."""

import sys

import uvicorn
from fastapi import FastAPI

app = FastAPI()


@app.get("/")
async def read_nothing() -> None:
    """Nothing is asked, nothing is answered."""


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=False, server_header=False)
