"""A node at work: it receives, translates and sends, in threads of their own, until stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from syndiff.io.locks import only_writer
from syndiff.node.config import NodeConfig
from syndiff.node.folder import QUEUE, Job, NodeFolder
from syndiff.node.log import Log, silence_libraries
from syndiff.node.receive import Receiver, need_pynetdicom
from syndiff.node.send import FIRST_PAUSE_S, Sender
from syndiff.node.work import SECONDS_PER_HOUR, Worker, digests, load

PAUSE_S = 0.25  # between two looks at the queue
FAILED_PAUSE_S = 30.0  # after an error of the file system
STOP_S = 5.0  # how long a stop waits for the image or the study at hand


class Node:
    """A node; `start` and `stop` may be called by any thread.

    Args:
        config: what it does.
        log: receives its lines.
        first_pause_s: see `Sender`.

    Raises:
        UserError: a model or the folder cannot be used, or pynetdicom is not installed.
    """

    def __init__(self, config: NodeConfig, log: Log, first_pause_s: float = FIRST_PAUSE_S) -> None:
        need_pynetdicom()
        silence_libraries()
        self._config, self._log = config, log
        self._again_after_s = config.again_after_hours * SECONDS_PER_HOUR
        self._models = load(config)
        self.folder = NodeFolder(Path(config.folder))
        self._receiver = Receiver(config, self.folder, log)
        self._worker = Worker(self._models, self.folder, log, self._again_after_s)
        self._sender = Sender(
            config.aet, config.destinations, self.folder, log, first_pause_s=first_pause_s
        )
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._loop, args=(turn,), name=turn.__name__, daemon=True)
            for turn in (self._collect, self._translate, self._send)
        ]

    def start(self) -> None:
        """Begin.

        Raises:
            UserError: the port cannot be used.
        """
        self._receiver.start()
        config = self._config
        names = ", ".join(loaded.name for loaded in self._models)
        self._log.say(
            f"{config.aet} listens on {config.address} port {config.port}; models: {names}; "
            f"results go to {', '.join(map(str, config.destinations))}"
        )
        waiting = {name: n for name, n in self.folder.waiting().items() if n}
        if waiting:
            held = ", ".join(f"{n} in {name}" for name, n in waiting.items())
            self._log.say(f"studies on disk: {held}")
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Close the port and end; what was not finished stays in the queue."""
        self._receiver.stop()
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(STOP_S)
        for job in self.folder.jobs(QUEUE):
            job.forget_attempts()
        self._log.say("stopped")

    def wait(self) -> None:
        """Wait until `stop`."""
        while not self._stop.wait(1.0):  # short waits, so that signals get through
            pass

    def _loop(self, turn: Callable[[], bool]) -> None:
        """Take turns until the stop; an error of one turn never ends the node."""
        while not self._stop.is_set():
            try:
                fine = turn()
            except Exception as error:
                self._log.warn(f"{turn.__name__.strip('_')} failed ({type(error).__name__})")
                fine = False
            self._stop.wait(PAUSE_S if fine else FAILED_PAUSE_S)

    def _collect(self) -> bool:
        for job, objects, back in self.folder.take_quiet(self._config.quiet_seconds):
            more = f", {back} of them from quarantine" if back else ""
            self._log.say(f"study {job.key}: complete with {objects} objects{more}")
        return True

    def _translate(self) -> bool:
        fine = True
        # Those whose translation may have ended the program come last, and hold nobody up.
        for job in sorted(self.folder.jobs(QUEUE), key=Job.attempts):
            if self._stop.is_set():
                break
            fine = self._worker.translate(job) and fine
        return fine

    def _send(self) -> bool:
        for job in self._sender.send_all(lambda: not self._stop.is_set()):
            for digest in digests(job):
                self.folder.note_done(digest)
            if faults := job.faults():
                self._log.warn(f"study {job.key}: the rest in quarantine: {'; '.join(faults)}")
                self.folder.quarantine(job)
            else:
                self.folder.remove(job)
        if self._again_after_s:
            self.folder.forget_done(self._again_after_s)
        return True


def serve(config: NodeConfig, log: Log) -> None:
    """Run a node until it is interrupted.

    Raises:
        OptionError: another node works in its folder, or the port is in use.
        UserError: a model or the folder cannot be used.
    """
    # What a thread of a library dies of may quote a tag.
    threading.excepthook = lambda died: log.warn(f"a connection failed ({died.exc_type.__name__})")
    with only_writer(Path(config.folder)):
        node = Node(config, log)
        node.start()
        try:
            node.wait()
        finally:
            node.stop()
