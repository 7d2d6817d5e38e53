"""More processes of a run on this machine: a crew that talks through pipes and ends with its first process."""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, Pipe
from multiprocessing.reduction import ForkingPickler
from typing import Any

from distill.parallel import Crew, working_in

WATCH_SECONDS = 1.0  # between two looks at whether the first process lives
ENDING_SECONDS = 10.0  # until a process that was asked to end is killed

Heard = Callable[[int, str, int, int], None]
"""Called with (rank, what is done, how much of it is done, how much there is in all)."""


class Elsewhere(Exception):
    """The traceback of an error in another process."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class First:
    """The first process's end: a pipe to each of the others, and a thread that reads what they say."""

    listens = True

    def __init__(self, pipes: list[Connection], inboxes: "list[queue.SimpleQueue[Any]]", heard: Heard):
        self.pipes, self.inboxes, self.heard = pipes, inboxes, heard

    @classmethod
    def listening(cls, pipes: list[Connection], heard: Heard) -> "First":
        """To all of them."""
        made = cls(pipes, [queue.SimpleQueue() for _ in pipes], heard)
        for rank in range(1, len(pipes) + 1):
            threading.Thread(target=made._listen, args=(rank,), daemon=True).start()
        return made

    def part(self, size: int) -> "First":
        return First(self.pipes[: size - 1], self.inboxes[: size - 1], self.heard)

    def hand_out(self, answer: Any) -> Any:
        for inbox, pipe in zip(self.inboxes, self.pipes, strict=True):
            try:
                pipe.send(answer)
            except OSError:
                self._there(inbox)
        return answer

    def meet(self) -> None:
        for inbox in self.inboxes:
            self._there(inbox)
        self.hand_out(None)

    def tell(self, text: str, done: int, total: int) -> None:
        self.heard(0, text, done, total)

    def _there(self, inbox: "queue.SimpleQueue[Any]") -> None:
        """Wait for a process; raises its error where it had one."""
        error, where = inbox.get()
        if error is not None:
            inbox.put((error, where))  # whoever asks again is told again
            raise error from Elsewhere(where)

    def _listen(self, rank: int) -> None:
        pipe, inbox = self.pipes[rank - 1], self.inboxes[rank - 1]
        with suppress(OSError, EOFError):
            while True:
                kind, *message = pipe.recv()
                if kind == "tell":
                    self.heard(rank, *message)
                else:
                    inbox.put(tuple(message))
        gone = RuntimeError(
            f"process {rank} of this run has ended, perhaps for want of memory: workers=1 is one process"
        )
        inbox.put((gone, ""))


class Other:
    """Another process's end of its pipe to the first."""

    listens = True

    def __init__(self, pipe: Connection):
        self.pipe = pipe

    def part(self, size: int) -> "Other":
        return self

    def hand_out(self, answer: Any = None) -> Any:
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            sys.exit(1)  # the first has ended

    def meet(self) -> None:
        self._say("here", None, "")
        self.hand_out()

    def tell(self, text: str, done: int, total: int) -> None:
        self._say("tell", text, done, total)

    def fail(self, error: Exception, where: str) -> None:
        """Let the first process raise ``error``, which was raised here."""
        self._say("failed", error, where)

    def _say(self, *message: Any) -> None:
        try:
            self.pipe.send(message)
        except OSError:
            sys.exit(1)


@contextmanager
def beside(job: Callable[[], object], size: int, heard: Heard) -> Iterator[Crew]:
    """A crew of this process and of others that do ``job`` in it; they end where the block is left.

    What they raise is raised here, where this process next waits for them or tells them something.

    Args:
        job: can be pickled.
        size: processes in all.
    """
    pipes, processes = [], []
    try:
        for rank in range(1, size):
            ours, theirs = Pipe()
            with theirs:
                told = f"{theirs.fileno()}, {rank}, {size}, {os.getpid()}"
                begin = (
                    f"import sys; sys.argv, sys.path = {sys.argv}, {sys.path}; import {__name__} as b; b.main({told})"
                )
                command = [sys.executable, "-c", begin]
                processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]))
            pipes.append(ours)
            with suppress(OSError):  # it has ended already, which is told as the first waits for it
                ours.send(job)
        yield Crew(0, size, 0, First.listening(pipes, heard))
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(ENDING_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        for pipe in pipes:
            pipe.close()


def main(file: int, rank: int, size: int, parent: int) -> None:
    """One of the others; ``file`` is its end of the pipe."""
    end_with(parent)
    first = Other(Connection(file))
    try:
        job = first.hand_out()
        with working_in(Crew(rank, size, rank, first)):
            job()
    except Exception as error:
        first.fail(portable(error), "".join(traceback.format_exception(error)))
    first.hand_out()  # until the first ends


def portable(error: Exception) -> Exception:
    """``error``, or a RuntimeError of its text where it cannot be sent to another process."""
    try:
        ForkingPickler.loads(ForkingPickler.dumps(error))
    except Exception:  # whatever its class does when it is made anew
        return RuntimeError(str(error))
    return error


def end_with(parent: int) -> None:
    """Let this process end once ``parent`` is not its parent any more, or asks it to; Ctrl-C is left to that one.

    A killed parent cannot tell anybody, and what computes does not read its pipe.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the whole group
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # files that are being written go
    threading.Thread(target=watch, daemon=True).start()
