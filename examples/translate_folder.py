"""Translate every T1w scan of a folder: python translate_folder.py MODEL IN_FOLDER OUT_FOLDER."""

import sys
from pathlib import Path

import syndiff


def main(model: str, source: str, target: str) -> None:
    translator = syndiff.load_translator(model)
    options = syndiff.TranslationOptions(seed=0, batch_size=8)
    for path in sorted(Path(source).rglob("*T1w.nii.gz")):
        made = syndiff.translate(translator, path, options)
        syndiff.save_translation(made, Path(target) / path.name.replace("T1w", "T2w"))
        print(path.name, *made.warnings, sep="\n  ")


if __name__ == "__main__":
    main(*sys.argv[1:])
