"""C-ECHO and C-STORE: whom the node serves, and what it acknowledges.

Success (0x0000) is answered when the object is on disk under its name, and not before. Objects of
every storage class are taken, so that a sender can push whole studies; what is no MR or CT image
is passed over later. Status codes: DICOM PS3.4, B.2.3.
"""

from __future__ import annotations

import io
import socket
import threading
from typing import Any

from syndiff.errors import OptionError, UserError
from syndiff.node.config import NodeConfig
from syndiff.node.folder import GIGABYTE, NodeFolder, is_full
from syndiff.node.log import Log

SUCCESS, NO_SPACE, NOT_OF_CLASS, NO_SENSE, FAILURE = 0x0000, 0xA700, 0xA900, 0xC000, 0x0110
NO_SUCH_CALLER = (0x01, 0x01, 0x03)  # permanent; service user; calling AE title not recognised
MOST_ASSOCIATIONS = 20
IDLE_S = 60  # after which a silent connection is closed
UIDS = ("StudyInstanceUID", "SOPInstanceUID", "SOPClassUID")


class Receiver:
    """The listening side of a node.

    Args:
        config: the node.
        folder: where objects go.
        log: receives a line for each connection that brought something or was refused.
    """

    def __init__(self, config: NodeConfig, folder: NodeFolder, log: Log) -> None:
        self._config, self._folder, self._log = config, folder, log
        self._peers = config.peers
        self._counts: dict[Any, dict[str, int]] = {}  # connection → study → objects
        self._warned: set[tuple[Any, str]] = set()
        self._lock = threading.Lock()
        self._server: Any = None

    def start(self) -> None:
        """Listen.

        Raises:
            UserError: the port is in use, or the address is not this machine's.
        """
        from pynetdicom import evt

        place = (self._config.address, self._config.port)
        handlers = [
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_REJECTED, self._rejected),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_CONN_CLOSE, self._closed),
        ]
        try:
            self._server = self._entity().start_server(place, block=False, evt_handlers=handlers)
        except OSError as error:
            raise _unusable(place, error) from error

    def stop(self) -> None:
        """Close the port and the connections."""
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    def _entity(self) -> Any:
        from pynetdicom import AE, AllStoragePresentationContexts
        from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

        entity = AE(ae_title=self._config.aet)
        entity.require_called_aet = True
        entity.maximum_associations = MOST_ASSOCIATIONS
        entity.network_timeout = IDLE_S
        entity.add_supported_context(Verification)
        for context in AllStoragePresentationContexts:
            entity.add_supported_context(str(context.abstract_syntax), _readable_syntaxes())
        return entity

    def _requested(self, event: Any) -> None:
        """Refuse a caller who is not served."""
        caller = event.assoc.requestor
        title = str(caller.primitive.calling_ae_title).strip()
        address = str(caller.address)
        if not any(peer.may(title, address) for peer in self._peers):
            self._log.warn(f"refused {title}@{address}, which is not in `accept`")
            event.assoc.acse.send_reject(*NO_SUCH_CALLER)
            event.assoc.kill()  # once the refusal has gone out

    def _rejected(self, event: Any) -> None:
        """Say that somebody called another title than the node's, or that too many call."""
        caller = event.assoc.requestor
        called = str(caller.primitive.called_ae_title).strip()
        why = "too many calls at once" if called == self._config.aet else f"it called {called}"
        title = str(caller.primitive.calling_ae_title).strip()
        self._log.warn(f"refused {title}@{caller.address}: {why}")

    def _store(self, event: Any) -> int:
        """Keep one object; the status to answer."""
        try:
            content = event.encoded_dataset()
            uids = _uids(content)
        except Exception:  # pydicom raises many types; each means "not a DICOM object"
            return self._refused(event, "an object that cannot be read", NO_SENSE)
        study, instance, sop_class = uids
        asked = str(event.request.AffectedSOPInstanceUID)
        if not (study and instance) or (instance, sop_class) != (
            asked,
            str(event.request.AffectedSOPClassUID),
        ):
            return self._refused(event, "an object whose UIDs are missing or differ", NOT_OF_CLASS)
        least = self._config.min_free_gb
        if self._folder.free_gb() - len(content) / GIGABYTE < least:
            return self._refused(event, f"objects: less than {least:g} GB are free", NO_SPACE)
        try:
            key = self._folder.keep(content, study, instance, event.assoc)
        except OSError as error:
            status = NO_SPACE if is_full(error) else FAILURE
            return self._refused(event, f"an object ({error.strerror})", status)
        with self._lock:
            counts = self._counts.setdefault(event.assoc, {})
            counts[key] = counts.get(key, 0) + 1
        return SUCCESS

    def _refused(self, event: Any, what: str, status: int) -> int:
        """One line for each reason and connection."""
        with self._lock:
            new = (event.assoc, what) not in self._warned
            self._warned.add((event.assoc, what))
        if new:
            self._log.warn(f"refused {what} with status 0x{status:04X}")
        return status

    def _closed(self, event: Any) -> None:
        with self._lock:
            counts = self._counts.pop(event.assoc, {})
            self._warned = {entry for entry in self._warned if entry[0] is not event.assoc}
        title = str(getattr(event.assoc.requestor, "ae_title", "")).strip()
        for key, count in counts.items():
            self._log.say(f"study {key}: {count} objects from {title}")


def _uids(content: bytes) -> tuple[str, ...]:
    from pydicom import dcmread

    data = dcmread(io.BytesIO(content), stop_before_pixels=True, specific_tags=list(UIDS))
    return tuple(str(data.get(keyword) or "").strip() for keyword in UIDS)


def _readable_syntaxes() -> list[str]:
    """The transfer syntaxes whose pixels can be decoded here."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import (
        DeflatedExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
    )
    from pynetdicom import ALL_TRANSFER_SYNTAXES

    found: list[str] = [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
        ExplicitVRBigEndian,
    ]
    for syntax in ALL_TRANSFER_SYNTAXES:
        if syntax in found:
            continue
        try:
            if get_decoder(syntax).is_available:
                found.append(syntax)
        except NotImplementedError:  # of films, and of data that are not images
            continue
    return found


def check_port(config: NodeConfig) -> None:
    """Check that a node could listen, before its models are loaded.

    Raises:
        OptionError: the port is in use, or the address is not this machine's.
    """
    place = (config.address, config.port)
    family = socket.AF_INET6 if ":" in config.address else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except OSError as error:
        raise _unusable(place, error) from error


def _unusable(place: tuple[str, int], error: OSError) -> OptionError:
    return OptionError(
        f"`port` {place[1]} of {place[0]} cannot be used ({error.strerror})",
        "a free port and an address of this machine",
        "stop the program that uses it, or choose another; ports below 1024 need root",
    )


def need_pynetdicom() -> None:
    """Check that pynetdicom is installed.

    Raises:
        UserError: it is not.
    """
    try:
        import pynetdicom  # noqa: F401
    except ImportError as error:
        raise UserError(
            "a DICOM node needs pynetdicom", remedy="pip install 'syndiff[node]'"
        ) from error
