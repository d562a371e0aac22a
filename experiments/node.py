"""Seconds from the first C-STORE to the result in the archive, of a series of real size.

    python -m experiments.node T1w.nii.gz --model brain-t1-t2 --quiet-seconds 2

A volume is pushed, slice by slice, to a node that sends the result to an archive in memory; all
three are in one process, and talk over the network. Docs: docs/performance.md, "A DICOM node".
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from pathlib import Path

from tests.helpers.archives import Archive, free_port, push, until
from tests.helpers.dicom import head_series

from syndiff.io.formats import read
from syndiff.node.config import checked_config
from syndiff.node.log import Log
from syndiff.node.service import Node


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("volume", type=Path)
    parser.add_argument("--model", default="brain-t1-t2")
    parser.add_argument("--quiet-seconds", type=float, default=2.0)
    asked = parser.parse_args()
    volume = read(asked.volume)
    source = head_series(volume.like(volume.array * (2000 / volume.array.max())))
    size = sum(len(data.PixelData) for data in source.slices) / 1e6
    print(f"{len(source.slices)} slices of {source.values.shape[:2]}, {size:.0f} MB")
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as folder, Archive() as archive:
        config = checked_config(
            {
                "port": free_port(),
                "folder": folder,
                "send_to": [str(archive)],
                "models": [{"model": asked.model}],
                "quiet_seconds": asked.quiet_seconds,
            }
        )
        node = Node(config, Log(lines.append))
        node.start()
        began = time.monotonic()
        assert set(push(config.port, source.slices)) == {0}
        pushed = time.monotonic() - began
        until(lambda: len(archive.held) == len(source.slices), "the result", 3600)
        ended = time.monotonic() - began
        node.stop()
    print(*lines, sep="\n")
    networks = next(float(m[1]) for line in lines if (m := re.search(r"in ([\d.]+) s$", line)))
    print(f"pushed and acknowledged: {pushed:.1f} s")
    print(
        f"translation: {networks:.1f} s; first C-STORE to last image in the archive: {ended:.1f} s"
    )


if __name__ == "__main__":
    main()
