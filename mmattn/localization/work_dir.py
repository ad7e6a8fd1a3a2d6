"""The folder of a run: whether it can be written, and whether its results are of this run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from torch import nn

from mmattn.core.text import read_json, write_text
from mmattn.localization.classifiers import Classifier
from mmattn.localization.localizer import Settings
from mmattn.localization.results import log_files
from mmattn.localization.structures import AnnotatedImage

__all__ = ['fingerprint', 'images_of', 'open_work_dir', 'run_identity']


def run_identity(
    classifier: Classifier,
    images: Sequence[AnnotatedImage],
    settings: Settings,
    named: Mapping[str, Any],
) -> dict[str, Any]:
    """List what a resumed run must have in common with the first one, as JSON gives it.

    Args:
        classifier: The network with its preprocessing.
        images: The images of the run.
        settings: What decides the metrics.
        named: What the user named beside them, such as the weights.
    """
    return json.loads(
        json.dumps(
            dict(
                model=classifier.name,
                weights_hash=fingerprint(classifier.model),
                preprocess=asdict(classifier.preprocess),
                settings=asdict(settings),
                **images_of(images),
                **named,
            )
        )
    )


def images_of(images: Sequence[AnnotatedImage]) -> dict[str, int]:
    """Return what tells two sets of images apart: ``images``, how many, and ``images_crc``.

    The latter is of their keys, labels and boxes.
    """
    listed = ''.join(f'{p.key}|{p.label}|{p.boxes_xyxy}' for p in images)
    return dict(images=len(images), images_crc=zlib.crc32(listed.encode()))


def open_work_dir(work_dir: Path, identity: dict[str, Any], resume: bool) -> None:
    """Make the folder, or check that its results are of the same run; write ``run.json``.

    Args:
        work_dir: The folder.
        identity: What :func:`run_identity` gave.
        resume: Whether the folder may hold results.

    Raises:
        ValueError: The folder cannot be written, holds results without ``resume``, or holds those
            of another run.
    """
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        probe = work_dir / '.write_test'
        probe.write_text('')
        probe.unlink()
    except OSError as error:
        raise ValueError(f'work dir {work_dir} cannot be written: {error}') from error
    file = work_dir / 'run.json'
    if log_files(work_dir) and not resume:
        raise ValueError(
            f'work dir {work_dir} already holds results: continue them with --resume, or use '
            'another --work-dir'
        )
    if resume and file.exists():
        other = '; '.join(_differences(_read_identity(file), identity))
        if other:
            raise ValueError(
                f'cannot resume in {work_dir}, settings differ ({other}): use another --work-dir'
            )
    elif resume and log_files(work_dir):
        print_log(f'{file} is missing: its results are taken for those of this run', 'current', 30)
    write_text(file, json.dumps(identity, indent=1) + '\n')


def _read_identity(file: Path) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        found = read_json(file)
        if isinstance(found, dict):
            return found
    raise ValueError(
        f'{file} is damaged, so it is not known what the results beside it were made with: use '
        'another --work-dir, or delete the file to take them for those of this run'
    )


def fingerprint(model: nn.Module) -> str:
    """Hash the weights and buffers of a network, names and values: 32 hexadecimal digits."""
    found = hashlib.blake2b(digest_size=16)
    for name, value in sorted(model.state_dict().items()):
        found.update(name.encode())
        if isinstance(value, torch.Tensor):
            found.update(f'{value.dtype}{tuple(value.shape)}'.encode())
            raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            found.update(raw.numpy())
    return found.hexdigest()


def _differences(before: Mapping, now: Mapping, name: str = '') -> Iterator[str]:
    """List what a run was started with and is resumed with, where they differ."""
    for key, value in now.items():
        if isinstance(value, dict) and isinstance(before.get(key), dict):
            yield from _differences(before[key], value, f'{name}{key}.')
        elif before.get(key) != value:
            yield f'{name}{key} was {before.get(key)!r}, is {value!r}'
