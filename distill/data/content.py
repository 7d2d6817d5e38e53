"""Many files, known by what is in them: read once, then remembered by what the file system says of them."""

import hashlib
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from distill.files import read_record, write_record

LARGE = 10**9  # bytes: seconds of reading, which a user is told of

SETTLED = (
    2 * 10**9
)  # ns: a file that changed later than this before it was read may change again within one tick of a clock


def content_of(files: Sequence[Path], cache: Path, workers: int) -> str:
    """SHA-256 over the bytes of every file, in order; where they lie and how they are called has no part in it.

    The files are read whole, by ``workers`` threads, unless each is as it was when they were last read: size, inode, times
    of modification and of change. No program sets the last, so that a copy that keeps the first is seen, too.

    Args:
        cache: folder where the result is kept; it may be one that cannot be written.
    """
    began = time.time_ns()
    seen = hashlib.sha256()
    latest = total = 0
    for file in files:
        state = file.stat()
        seen.update(
            repr((str(file.absolute()), state.st_size, state.st_ino, state.st_mtime_ns, state.st_ctime_ns)).encode()
        )
        latest, total = max(latest, state.st_mtime_ns, state.st_ctime_ns), total + state.st_size
    path = cache / f"content-{seen.hexdigest()[:32]}.json"
    if path.is_file():
        try:
            return read_record(path, "the files are read again")["content"]
        except (ValueError, KeyError) as error:
            print(f"warning: {error}", file=sys.stderr)
    if total > LARGE:
        print(f"reading {len(files)} files, {total / 1e9:.0f} GB, to know them by their content", file=sys.stderr)
    with ThreadPoolExecutor(workers) as pool:  # in parts: a million waiting tasks would take a gigabyte
        parts = (pool.map(_digest, files[first : first + 1000]) for first in range(0, len(files), 1000))
        whole = hashlib.sha256(b"".join(digest for part in parts for digest in part)).hexdigest()
    if latest < began - SETTLED:
        try:
            write_record(path, {"content": whole})
        except OSError as error:
            print(f"warning: the files' content is read again next time: {error}", file=sys.stderr)
    return whole


def _digest(file: Path) -> bytes:
    return hashlib.sha256(file.read_bytes()).digest()
