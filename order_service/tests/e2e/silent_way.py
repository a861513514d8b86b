"""A TCP proxy whose connections can be silenced: no bytes pass, and neither end sees an error."""

import asyncio
import threading

from ports import free_port


class SilentWay:
    """Forwards `port` to `target`. After `silence()` those connections that are open then say nothing for ever; new ones work."""

    def __init__(self, target: int):
        self.port, self.silenced, self._target = free_port(), 0, target
        self._open: set[asyncio.Event] = set()
        self._loop, ready = asyncio.new_event_loop(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(10)

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", self.port))
        ready.set()
        self._loop.run_forever()

    async def _serve(self, reader, writer) -> None:
        silent = asyncio.Event()
        self._open.add(silent)
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        await asyncio.gather(self._forward(reader, back, silent), self._forward(there, writer, silent))
        self._open.discard(silent)

    async def _forward(self, source, sink, silent: asyncio.Event) -> None:
        try:
            while data := await source.read(1 << 16):
                if silent.is_set():
                    # Both sockets stay open.
                    await asyncio.Event().wait()
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        if not silent.is_set():
            sink.close()

    def silence(self) -> int:
        """How many connections are silent from now on."""

        async def mark() -> int:
            for silent in self._open:
                silent.set()
            marked = len(self._open)
            self._open.clear()
            return marked

        marked = asyncio.run_coroutine_threadsafe(mark(), self._loop).result(10)
        self.silenced += marked
        return marked

    def stop(self) -> None:
        async def end() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            self._loop.call_soon(self._loop.stop)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._thread.join(10)
