"""Install a wheel into an empty environment and translate a phantom with it.

    .venv/bin/python .ci/wheel.py dist

The environment holds the wheel alone. Its dependencies come, by a .pth file, from the environment
that runs this script, where `make install` has put them; so nothing is downloaded again, and a
file that the wheel lacks is missed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path


def main(folder: Path) -> None:
    """Check the only wheel in `folder`."""
    (wheel,) = folder.resolve().glob("syndiff-*.whl")
    with tempfile.TemporaryDirectory(prefix="syndiff-wheel-") as made:
        check(wheel, Path(made))
    print(f"{wheel.name} translates a phantom")


def check(wheel: Path, place: Path) -> None:
    """Install it in `place`/env, run its commands in `place`."""
    venv.create(place / "env", with_pip=False)
    binaries = place / "env" / ("Scripts" if sys.platform == "win32" else "bin")
    python = binaries / Path(sys.executable).name

    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def run(*words: object) -> str:
        line = [str(word) for word in words]
        done = subprocess.run(line, cwd=place, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(line)} ended with {done.returncode}:\n{done.stderr}")
        return done.stdout

    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    run(*pip, "install", "--no-deps", "--no-index", "--quiet", wheel)
    purelib = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(run(python, "-c", purelib).strip())
    lend(Path(sysconfig.get_path("purelib")), packages, place / "dependencies")
    where = run(python, "-c", "import syndiff; print(syndiff.__file__)").strip()
    if packages not in Path(where).parents:
        raise SystemExit(f"syndiff comes from {where}, not from the wheel")

    syndiff = binaries / "syndiff"
    run(syndiff, "phantom", "raw", "--subjects", 1, "--modalities", "T1,T2", "--spacing-mm", 6)
    scan = place / "raw" / "sub-001" / "anat" / "sub-001_T1w.nii.gz"
    run(syndiff, "translate", "demo", scan, "T2.nii.gz")
    if not (place / "T2.nii.gz").is_file():
        raise SystemExit("nothing was translated")


def lend(source: Path, packages: Path, links: Path) -> None:
    """Let `packages` see everything in `source` but syndiff, through a folder of links."""
    links.mkdir()
    for path in source.iterdir():
        if not path.name.startswith("syndiff") and path.suffix != ".pth":
            (links / path.name).symlink_to(path)
    (packages / "dependencies.pth").write_text(f"{links}\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
