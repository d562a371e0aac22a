"""Translate every T1w scan of a folder: python translate_folder.py MODEL IN_FOLDER OUT_FOLDER."""

import sys
from pathlib import Path

import syndiff


def main(model: str, source: str, target: str) -> None:
    translate = syndiff.load_translator(model)
    for path in sorted(Path(source).rglob("*T1w.nii.gz")):
        result = translate(syndiff.read_volume(path), seed=0, batch_size=8)
        syndiff.write_volume(result, Path(target) / path.name.replace("T1w", "T2w"))
        print(path.name)


if __name__ == "__main__":
    main(*sys.argv[1:])
