# Python's websockets, as it comes, which asks for a window of 4 KiB: it is sent
# back what it publishes.
import asyncio, json, sys
import websockets


async def main(url):
    data = {"text": "äöü€ price " * 1000}
    async with websockets.connect(url + "?topic=foreign.python") as ws:
        await ws.send(json.dumps({"type": "publish", "topic": "foreign.python", "data": data}))
        while True:
            message = json.loads(await ws.recv())
            if message["type"] == "message":
                break
        problem = None if message["data"] == data else "differs"
        extensions = ws.response_headers.get("Sec-WebSocket-Extensions", "")
        print(json.dumps({"extensions": extensions, "problem": problem}))


asyncio.run(main(sys.argv[1]))
