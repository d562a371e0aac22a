"""An archive in memory, and a scanner that pushes: the two neighbours of a DICOM node."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    MRImageStorage,
    Verification,
)

from tests.helpers.dicom import VirtualSeries, head_series
from tests.helpers.volumes import head

PATIENCE_S = 60.0  # for machines that are busy with something else
STUDY = "1.2.826.0.1.3680043.8.498.777"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(true: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """Wait until something is true; it."""
    end = monotonic() + patience_s
    while monotonic() < end:
        if found := true():
            return found
        sleep(0.02)
    raise AssertionError(f"not within {patience_s:g} s: {what}")


def a_study(number: int = 1, slices: int = 6, **tags: Any) -> VirtualSeries:
    """A T1 of a person; each number is another person's."""
    small = head((24, 28, slices), 8.0)
    study = f"{STUDY}.{number}"
    return head_series(small, uid=f"{study}.7", tags={"StudyInstanceUID": study} | tags)


class Archive:
    """Keeps what is stored, by SOP Instance UID.

    Attributes:
        held: UID → data set.
        stores: how many images were stored, repeated ones included.
        answer: the status of the next stores.
    """

    def __init__(self, title: str = "ARCHIVE", port: int | None = None) -> None:
        self.title, self.port = title, port or free_port()
        self.held: dict[str, Dataset] = {}
        self.stores, self.answer = 0, 0x0000
        self._server: Any = None

    def __enter__(self) -> Archive:
        entity = AE(ae_title=self.title)
        for context in (MRImageStorage, CTImageStorage, Verification):
            entity.add_supported_context(context)
        entity.require_called_aet = True
        self._server = entity.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()

    def __str__(self) -> str:
        return f"{self.title}@127.0.0.1:{self.port}"

    def _store(self, event: Any) -> int:
        if self.answer == 0:
            data = event.dataset
            data.file_meta = event.file_meta
            self.held[str(data.SOPInstanceUID)] = data
            self.stores += 1
        return self.answer

    def write(self, folder: Path) -> Path:
        """What it holds, as files."""
        folder.mkdir(parents=True)
        for number, data in enumerate(self.held.values()):
            data.save_as(folder / f"{number}.dcm", enforce_file_format=True)
        return folder


class Scanner:
    """Pushes images to a node."""

    def __init__(self, port: int, called: str = "SYNDIFF", title: str = "SCANNER") -> None:
        entity = AE(ae_title=title)
        for context in (MRImageStorage, CTImageStorage, Verification):
            entity.add_requested_context(context, ExplicitVRLittleEndian)
        self.association = entity.associate("127.0.0.1", port, ae_title=called)

    def push(self, slices: Sequence[Dataset]) -> list[int]:
        """The status of each."""
        return [self._push(data) for data in slices]

    def _push(self, data: Dataset) -> int:
        whole = deepcopy(data)
        whole.file_meta = FileMetaDataset()
        whole.file_meta.TransferSyntaxUID = UID(ExplicitVRLittleEndian)
        return int(self.association.send_c_store(whole).get("Status", -1))

    def end(self) -> None:
        self.association.release()


def push(port: int, slices: Sequence[Dataset], **how: str) -> list[int]:
    """Push images over an association of their own; the status of each."""
    scanner = Scanner(port, **how)
    assert scanner.association.is_established
    found = scanner.push(slices)
    scanner.end()
    return found
