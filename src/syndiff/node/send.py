"""Results to their destinations, image by image; what a destination has confirmed is noted.

A destination that does not answer, or has no space, is tried again without end, with growing
pauses. One that answers and refuses an image is tried a few times; then the study is set aside.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from syndiff.node.config import Destination
from syndiff.node.folder import Job, NodeFolder
from syndiff.node.log import Log

FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 600.0
CONNECT_S, ANSWER_S = 10, 60
MOST_REFUSALS = 5
OUT_OF_RESOURCES = range(0xA700, 0xA800)
WARNINGS = range(0xB000, 0xC000)  # stored all the same, with coerced or odd elements


@dataclass
class _State:
    """When a destination is tried next."""

    pause_s: float = 0.0
    next_at: float = 0.0


class RefusedError(Exception):
    """A destination refuses an image for good."""


class UnreachableError(Exception):
    """A destination cannot take an image now."""


class Sender:
    """Sends what is on its way out.

    Args:
        aet: the node's own title.
        destinations: each of them gets every result.
        folder: of the node.
        log: receives a line for each study that was sent, and for each failure.
        clock: seconds; another one in tests.
        first_pause_s: between the first failure and the next try; doubled at each further one.
    """

    def __init__(
        self,
        aet: str,
        destinations: list[Destination],
        folder: NodeFolder,
        log: Log,
        clock: Callable[[], float] = time.monotonic,
        first_pause_s: float = FIRST_PAUSE_S,
    ) -> None:
        self._aet, self._folder, self._log = aet, folder, log
        self._clock, self._first_pause_s = clock, first_pause_s
        self._states = {destination: _State() for destination in destinations}
        self._refusals: dict[tuple[str, Destination], int] = {}

    def send_all(self, going_on: Callable[[], bool] = lambda: True) -> list[Job]:
        """Send what can be sent now.

        Args:
            going_on: asked before each image; False ends the work.

        Returns:
            The jobs that every destination has confirmed.
        """
        from syndiff.node.folder import OUTGOING

        finished = []
        for job in self._folder.jobs(OUTGOING):
            wanted = {str(path.relative_to(job.results)) for path in job.images()}
            for destination, state in self._states.items():
                left = wanted - job.sent(str(destination))
                if left and going_on() and state.next_at <= self._clock():
                    self._try(job, destination, sorted(left), going_on)
                if not job.folder.exists():
                    break  # set aside
            else:
                if all(wanted <= job.sent(str(each)) for each in self._states):
                    finished.append(job)
        return finished

    def _try(
        self,
        job: Job,
        destination: Destination,
        images: list[str],
        going_on: Callable[[], bool],
    ) -> None:
        state = self._states[destination]
        try:
            count = self._send(job, destination, images, going_on)
        except UnreachableError as error:
            self._wait(state)
            self._log.warn(
                f"study {job.key}: {destination} {error}; tried again in {state.pause_s:.0f} s"
            )
        except RefusedError as error:
            self._wait(state)
            times = self._refusals[job.folder.name, destination] = (
                self._refusals.get((job.folder.name, destination), 0) + 1
            )
            self._log.warn(f"study {job.key}: {destination} {error} ({times} of {MOST_REFUSALS})")
            if times >= MOST_REFUSALS:
                self._log.warn(f"study {job.key}: in quarantine: {destination} {error}")
                self._folder.quarantine(job, f"{destination} {error}")
        else:
            state.pause_s = state.next_at = 0.0
            if count == len(images):
                self._log.say(f"study {job.key}: {count} images sent to {destination}")

    def _wait(self, state: _State) -> None:
        state.pause_s = min(LONGEST_PAUSE_S, 2 * state.pause_s or self._first_pause_s)
        state.next_at = self._clock() + state.pause_s

    def _send(
        self,
        job: Job,
        destination: Destination,
        images: list[str],
        going_on: Callable[[], bool],
    ) -> int:
        """Send images over one association; how many were confirmed.

        Raises:
            UnreachableError, RefusedError: as they say.
        """
        association = self._associate(destination)
        count = 0
        try:
            for name in images:
                if not going_on():
                    break
                _store(association, job, name)
                job.note_sent(str(destination), name)
                count += 1
        finally:
            if association.is_established:
                association.release()
        return count

    def _associate(self, destination: Destination) -> Any:
        from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
        from pynetdicom import AE

        from syndiff.dicom.datasets import CT_IMAGE, MR_IMAGE

        entity = AE(ae_title=self._aet)
        entity.connection_timeout = CONNECT_S
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = ANSWER_S
        for image in (MR_IMAGE, CT_IMAGE):
            for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
                entity.add_requested_context(image, syntax)
        association = entity.associate(
            destination.host, destination.port, ae_title=destination.title
        )
        if not association.is_established:
            raise UnreachableError(
                "rejects the association" if association.is_rejected else "does not answer"
            )
        return association


def _store(association: Any, job: Job, name: str) -> None:
    """Send one image and wait for the confirmation."""
    from pydicom import dcmread

    try:
        status = association.send_c_store(dcmread(job.results / name))
    except ValueError as error:  # no presentation context was accepted for its class
        raise RefusedError("does not take images of this class") from error
    except (OSError, RuntimeError) as error:  # the association broke meanwhile
        raise UnreachableError("broke the connection") from error
    code = status.get("Status") if status else None
    if code is None:
        raise UnreachableError("does not confirm an image")
    if code in OUT_OF_RESOURCES:
        raise UnreachableError(f"has no space (status 0x{code:04X})")
    if code != 0 and code not in WARNINGS:
        raise RefusedError(f"refuses an image with status 0x{code:04X}")
