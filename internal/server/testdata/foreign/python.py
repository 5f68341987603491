# Python's websockets, as it comes and with the windows of 4 KiB that save its
# memory: it is sent back what it publishes.
import asyncio, json, sys
import websockets
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory


async def run(url, **settings):
    data = {"text": "äöü€ price " * 1000}
    async with websockets.connect(url + "?topic=foreign.python", **settings) as ws:
        await ws.send(json.dumps({"type": "publish", "topic": "foreign.python", "data": data}))
        while True:
            message = json.loads(await ws.recv())
            if message["type"] == "message":
                break
        problem = None if message["data"] == data else "differs"
        extensions = ws.response_headers.get("Sec-WebSocket-Extensions", "")
        print(json.dumps({"extensions": extensions, "problem": problem}))


async def main(url):
    await run(url)
    small = ClientPerMessageDeflateFactory(server_max_window_bits=12, client_max_window_bits=12)
    await run(url, compression=None, extensions=[small])


asyncio.run(main(sys.argv[1]))
