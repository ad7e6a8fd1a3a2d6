"""The per-picture log: one line of JSON a picture, safe to cut off at any moment."""

from __future__ import annotations

import json
import os
from pathlib import Path

from mmattn.localization.structures import PictureResult

LOG_NAME = 'per_image.jsonl'


class ResultLog:
    """Appends results; whole lines only, flushed to disk batch by batch.

    Opening repairs what a killed run left: a cut last line is removed, so that the next line
    starts on its own.

    Args:
        path: The ``.jsonl`` file, made if missing.
    """

    def __init__(self, path):
        self.path = Path(path)
        _cut_to_whole_lines(self.path)
        self._file = self.path.open('a', encoding='utf-8')

    def append(self, results):
        """Writes results with one write call and waits until the disk has them."""
        self._file.write(''.join(json.dumps(r.to_dict()) + '\n' for r in results))
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self):
        """Closes the file."""
        self._file.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _cut_to_whole_lines(path):
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open('rb+') as f:
        f.seek(0, os.SEEK_END)
        end = f.tell()
        step = 1 << 16
        while end > 0:  # from the back: the file may be large
            start = max(0, end - step)
            f.seek(start)
            place = f.read(end - start).rfind(b'\n')
            if place >= 0:
                f.truncate(start + place + 1)
                return
            end = start
        f.truncate(0)


def read_log(path):
    """Yields ``(offset, PictureResult)``; a cut last line is left out.

    Raises:
        ValueError: A line that is not the last one cannot be read.
    """
    path = Path(path)
    offset = 0
    with path.open('rb') as f:
        for number, line in enumerate(f, 1):
            if not line.endswith(b'\n'):
                return
            try:
                yield offset, PictureResult.from_dict(json.loads(line))
            except (ValueError, TypeError) as error:
                raise ValueError(f'{path} line {number} cannot be read: {error}') from error
            offset += len(line)


def log_files(work_dir):
    """Every log in a work dir: the merged one first, then one for each process."""
    work_dir = Path(work_dir)
    merged = [work_dir / LOG_NAME] if (work_dir / LOG_NAME).exists() else []
    return merged + sorted(work_dir.glob('per_image.rank*.jsonl'))


def done_keys(work_dir):
    """Keys of all pictures that a work dir already has results for."""
    return {result.key for file in log_files(work_dir) for _, result in read_log(file)}


def merge_logs(work_dir, keys):
    """Joins all logs of a work dir into one, in the given order, each picture once.

    Only offsets are kept in memory. The merged file replaces the parts in one step.

    Args:
        work_dir: Folder with the logs.
        keys: All keys in the order of the data set.

    Yields:
        Each :class:`PictureResult` in that order.

    Raises:
        ValueError: A picture has no result.
    """
    work_dir = Path(work_dir)
    files = log_files(work_dir)
    places = {}
    for number, file in enumerate(files):
        for offset, result in read_log(file):
            places.setdefault(result.key, (number, offset))
    missing = [key for key in keys if key not in places]
    if missing:
        raise ValueError(f'{len(missing)} pictures have no result, first {missing[0]}')
    target = work_dir / (LOG_NAME + '.tmp')
    handles = [file.open('rb') for file in files]
    try:
        with target.open('wb') as out:
            for key in keys:
                number, offset = places[key]
                handles[number].seek(offset)
                line = handles[number].readline()
                out.write(line)
                yield PictureResult.from_dict(json.loads(line))
            out.flush()
            os.fsync(out.fileno())
    finally:
        for handle in handles:
            handle.close()
    os.replace(target, work_dir / LOG_NAME)
    for file in files:
        if file.name != LOG_NAME:
            file.unlink()
