"""Two runs over the same images beside each other."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from mmattn.core.text import read_json
from mmattn.localization.metrics import LocalizationMetrics, interval_95
from mmattn.localization.results import LOG_NAME, read_log
from mmattn.localization.structures import AnnotatedImage, ImageResult
from mmattn.localization.work_dir import images_of

__all__ = ['check_other', 'compare_runs', 'compared_table']

SHOWN = ('top1_loc', 'top5_loc', 'gt_known', 'max_box_acc', 'max_box_acc_v2', 'top1_cls')


def check_other(other: str | Path, images: Sequence[AnnotatedImage]) -> None:
    """Check that a folder holds a finished run over these images, before another one starts.

    Raises:
        ValueError: It does not.
    """
    _check_images(other, _read(other)[0], images_of(images))


def _read(other: str | Path) -> tuple[dict[str, Any], str]:
    """Read what a finished run says of itself: its images, and how its boxes were made."""
    wrong = f'compare must be the work dir of a finished run, got {other}: '
    for name in ('run.json', 'summary.json', LOG_NAME):
        if not (Path(other) / name).is_file():
            raise ValueError(f'{wrong}it has no {name}')
    run, summary = (read_json(Path(other) / name) for name in ('run.json', 'summary.json'))
    try:
        made = f'{summary["model"]} ({summary["cam"]}, {summary["rule"]["name"]})'
        return {name: run[name] for name in ('images', 'images_crc')}, made
    except (LookupError, TypeError) as error:
        raise ValueError(f'{wrong}its run.json or summary.json is of something else') from error


def _check_images(other: str | Path, theirs: dict[str, Any], mine: dict[str, Any]) -> None:
    for name, value in theirs.items():
        if mine[name] != value:
            raise ValueError(
                f'compare must be a run over the same images with the same boxes, got {other}: '
                f'{name} is {value}, here it is {mine[name]}'
            )


def compare_runs(
    work_dir: str | Path,
    other: str | Path,
    iou_thr: float = 0.5,
    step: float = 0.001,
    wanted: Collection[str] = (),
) -> tuple[dict[str, Any], dict[str, ImageResult]]:
    """Compare two runs image by image.

    Both runs count each image equally often in each resampled data set, so the interval of a
    difference leaves out what both share: it is narrower than the two intervals suggest.

    Args:
        work_dir: Folder of a run.
        other: Folder of the run to compare it with.
        iou_thr: IoU from which a box is right, in both.
        step: Distance of the MaxBoxAcc thresholds.
        wanted: Keys of images whose results in the other run are wanted.

    Returns:
        ``(comparison, {key: the other run's result})``; the comparison holds ``other``,
        ``work_dir``, ``images`` (readable in both) and ``rows`` of ``key``, ``value``, ``other``,
        ``difference`` (this run less the other) and its ``interval`` of 95 %.

    Raises:
        ValueError: No finished run there, or one of other images or boxes.
    """
    work_dir, other = Path(work_dir), Path(other)
    theirs, made = _read(other)
    _check_images(other, theirs, read_json(work_dir / 'run.json'))
    mine, theirs = (LocalizationMetrics(iou_thr, step or 0.5) for _ in range(2))
    kept = {}
    for one, two in _pairs(work_dir, other):
        if two.key in wanted and two.error is None:
            kept[two.key] = two
        if one.error is None and two.error is None:
            mine.update(one)
            theirs.update(two)
    values, others = mine.summary(), theirs.summary()
    drawn, drawn_other = mine.replicated(), theirs.replicated()
    rows = [
        dict(
            key=key,
            value=values[key],
            other=others[key],
            difference=values[key] - others[key],
            interval=interval_95(drawn[key] - drawn_other[key]),
        )
        for key in SHOWN
        if key in drawn and key in drawn_other
    ]
    return dict(other=made, work_dir=str(other), images=mine.images, rows=rows), kept


def _pairs(work_dir: Path, other: Path) -> Iterator[tuple[ImageResult, ImageResult]]:
    logs = (read_log(folder / LOG_NAME) for folder in (work_dir, other))
    for (_, one), (_, two) in zip_longest(*logs, fillvalue=(0, None)):
        if one is None or two is None:
            raise ValueError(
                f'compare must be a finished run, got {other}: its {LOG_NAME} has another number '
                'of images'
            )
        if one.key != two.key:
            raise ValueError(
                f'compare must be a finished run, got {other}: its results are in another order '
                f'({two.key} where {one.key} is expected)'
            )
        yield one, two


def compared_table(compared: dict[str, Any]) -> str:
    """Write the comparison as lines of text."""
    lines = [
        f'beside {compared["other"]} in {compared["work_dir"]}, '
        f'the same {compared["images"]} images:',
        f'{"metric":<16}{"this":>8}{"other":>8}{"difference":>12}   95 % interval of it',
    ]
    for row in compared['rows']:
        low, high = row['interval']
        lines.append(
            f'{row["key"]:<16}{row["value"]:>8.4f}{row["other"]:>8.4f}'
            f'{row["difference"]:>+12.4f}   {low:+.3f} to {high:+.3f}'
        )
    return '\n'.join(lines)
