"""C++ of ours, compiled once for this machine's processor and loaded; where there is no compiler, callers do without."""

import ctypes
import os
import platform
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from distill.files import cache_folder, digest, replacing
from distill.progress import stage

# What a vectorised sum needs: sums in any order. Infinities and NaN keep their meaning.
FLAGS = (
    *("-std=c++17", "-O3", "-march=native", "-shared", "-fPIC"),
    *("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math", "-Wno-psabi"),
)


@cache
def compiled(source: Path) -> ctypes.CDLL | None:
    """The library made of ``source``, from the user's cache folder if it was compiled before; None if it cannot be made.

    A machine without a compiler is told so once on standard error.
    """
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        _warn(source, "no C++ compiler was found (c++, or what CXX names)")
        return None
    key = digest({"source": source.read_text(), "flags": FLAGS, "compiler": compiler, "processor": _processor()})
    try:
        path = cache_folder() / "native" / f"{source.stem}-{key}.so"
        if not path.exists():
            with stage(f"compiling {source.name}"):
                _compile(compiler, source, path)
        return ctypes.CDLL(str(path))
    except (OSError, RuntimeError) as error:
        _warn(source, str(error))
        return None


def _compile(compiler: str, source: Path, path: Path) -> None:
    """With OpenMP, or without where the compiler has none.

    Raises:
        RuntimeError: neither went well.
    """
    with replacing(path) as part:
        for threads in (("-fopenmp",), ()):
            made = subprocess.run(
                [compiler, *FLAGS, *threads, str(source), "-o", str(part)], capture_output=True, text=True
            )
            if made.returncode == 0:
                return
        raise RuntimeError(f"{compiler} failed: {(made.stderr.strip().splitlines() or ['without a word'])[0]}")


def _processor() -> str:
    """What ``-march=native`` stands for here: homes are shared by machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())


def _warn(source: Path, why: str) -> None:
    print(f"warning: {source.name} is left out, networks go a slower way: {why}", file=sys.stderr)
