"""A Throughline agent that survives restarts of the gateway.
Run: pip install -r requirements.txt && python agent.py http://127.0.0.1:8080 python-pool [agent key]"""
import asyncio, contextlib, random, socketio, sys, uuid

PIECE, IN_FLIGHT, TAIL, NS = 4_000, 64, 1000, "/agents"  # 64 events of 4,000 characters always fit one frame


class Turn:
    """One request: its events, numbered from 1, kept until well after their acknowledgement."""

    def __init__(self, agent, message):
        self.agent, self.message = agent, message
        self.session, self.request, self.ended, self.gone = message["session"], message["request"], False, False
        self.kept, self.forgotten, self.last, self.acked, self.sent, self.refused = [], 0, 0, 0, 0, False
        self.room, self.sending = asyncio.Event(), asyncio.Lock()

    async def text(self, text, entry="text"):
        for at in range(0, len(text), PIECE):
            await self.say({"type": "entry.append", "entry": entry, "text": text[at : at + PIECE]})

    async def say(self, event):
        if self.ended or self.gone:
            raise RuntimeError("the turn is over")
        self.kept.append(event)
        self.last += 1
        self.ended = event["type"] in ("completed", "failed")
        await self.flush()
        while self.last - self.acked >= IN_FLIGHT and not self.gone:  # back-pressure
            self.room.clear()
            await self.room.wait()

    async def flush(self):
        async with self.sending:
            while self.agent.sio and not self.gone and self.sent < min(self.last, self.acked + IN_FLIGHT):
                first, self.sent = self.sent + 1, min(self.last, self.acked + IN_FLIGHT)
                events = self.kept[first - 1 - self.forgotten : self.sent - self.forgotten]
                await self.agent.send("events", {"request": self.request, "first": first, "events": events})

    async def ack(self, after):
        self.acked = max(self.acked, min(after, self.last))
        self.sent = max(self.sent, self.acked)
        if (surplus := self.acked - self.forgotten - TAIL) > 0:
            del self.kept[:surplus]
            self.forgotten += surplus
        if self.ended and self.acked == self.last:
            asyncio.get_running_loop().call_later(30, self.agent.turns.pop, self.request, None)
        self.room.set()
        await self.flush()

    async def rewind(self, after):
        """The log ends at `after`: what follows goes out again."""
        if self.refused or not self.forgotten <= after <= self.last:  # all we can truthfully say is that it went wrong
            self.kept = [{"type": "failed", "code": "agent_output_lost", "message": "A part of the answer is lost."}]
            self.forgotten, self.last, self.ended = after, after + 1, True
        self.acked = self.sent = after
        await self.ack(after)


class Agent:
    def __init__(self, url, pool, answer, capacity=4, key=None, agent=None):
        self.url, self.pool, self.answer, self.capacity = url, pool, answer, capacity
        self.auth, self.id = {"key": key} if key else {}, agent or f"py-{uuid.uuid4().hex}"
        self.turns, self.tasks, self.sio = {}, {}, None  # turns by request; the last handler by session

    async def run(self):
        delay = 0.5
        while True:
            sio = socketio.AsyncClient(reconnection=False)
            for name in ("turn", "ack", "resend", "cancel", "move", "notice"):
                sio.on(name, getattr(self, "on_" + name), namespace=NS)
            try:
                await sio.connect(self.url, auth=self.auth, transports=["websocket"], namespaces=[NS], wait_timeout=3)
                held = [{"session": t.session, "request": t.request, "acked": t.acked} for t in self.turns.values()]
                hello = {"protocol": 1, "agent": self.id, "pool": self.pool, "capacity": self.capacity, "holding": held}
                reply = await sio.call("hello", hello, namespace=NS, timeout=6)
                if not reply["ok"] and not reply["retry"]:
                    sys.exit(reply["message"])
                if reply["ok"]:
                    self.sio, delay = sio, 0.5
                    for it in reply["ended"]:
                        await self.on_cancel(it)
                    for it in reply["resumed"]:
                        await self.on_resend(it)
                    await sio.wait()  # until it breaks
            except (socketio.exceptions.SocketIOError, OSError) as err:
                print("connection:", err, file=sys.stderr)
            self.sio = None
            await sio.disconnect()
            await asyncio.sleep(random.uniform(0, delay))  # full jitter
            delay = min(5, delay * 2)

    async def send(self, name, message):
        with contextlib.suppress(socketio.exceptions.SocketIOError):  # the next welcome says from where to go on
            if self.sio:
                await self.sio.emit(name, message, namespace=NS)

    async def on_turn(self, message):
        await self.send("accepted", {"request": message["request"]})
        if message["request"] not in self.turns:  # else it is known: accepted again, not run again
            turn = self.turns[message["request"]] = Turn(self, message)
            turn.task = self.tasks[turn.session] = asyncio.create_task(self.handle(turn, self.tasks.get(turn.session)))

    async def handle(self, turn, before):
        try:
            if before and not before.done():  # the session's last handler goes first
                before.cancel()
                await asyncio.wait([before], timeout=10)
            await self.answer(turn)
            if not turn.ended:
                await turn.say({"type": "completed"})
        except Exception as err:
            if not turn.ended and not turn.gone:
                await turn.say({"type": "failed", "code": "agent_error", "message": str(err)[:8000]})
        finally:
            if self.tasks.get(turn.session) is turn.task:
                del self.tasks[turn.session]
            await self.send("settled", {"request": turn.request})

    async def on_ack(self, message):
        if turn := self.turns.get(message["request"]):
            await turn.ack(message["after"])

    async def on_resend(self, message):
        if turn := self.turns.get(message["request"]):
            await turn.rewind(message["after"])

    async def on_cancel(self, message):
        if turn := self.turns.pop(message["request"], None):
            turn.gone = True
            turn.task.cancel()

    async def on_notice(self, message):
        print(message["code"], message["message"], file=sys.stderr)
        if turn := self.turns.get(message.get("request")):  # what was dropped would be again: ask how far the log is
            turn.refused = True
            await self.send("events", {"request": turn.request, "first": turn.sent + 1, "events": []})

    async def on_move(self, _message):
        if self.sio:
            await self.sio.disconnect()  # the next one is opened at once; opening it first would spare the pause


async def answer(turn):
    for word in f"You said: {turn.message['input']}".split():
        await turn.text(word + " ")
        await asyncio.sleep(0.05)


asyncio.run(Agent(sys.argv[1], sys.argv[2], answer, key=(sys.argv[3:] or [None])[0]).run())
