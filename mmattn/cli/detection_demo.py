"""The detection half of the demo: a Faster R-CNN with AW-FPN on drawn scenes, by the tools."""

import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.fileio import load

from mmattn.analysis.sheets import draw_curves, draw_sheet
from mmattn.cli.run_log import read_scalars, write_json
from mmattn.cli.steps import run_step, unfinished
from mmattn.core.text import read_json, read_text

__all__ = ['Detected', 'detect_digits']

SPLITS = ('train', 'val', 'test')


class Detected(NamedTuple):
    """What the detection half found.

    Args:
        checkpoint: The trained detector's.
        table: The lines of the COCO table.
        figures: AP and AP50.
    """

    checkpoint: Path
    table: list[str]
    figures: dict[str, float]


def detect_digits(
    tools: Path,
    config: Path,
    root: Path,
    scenes: int = 1200,
    val_scenes: int = 200,
    steps: int | None = None,
) -> Detected:
    """Draw, train or resume, test, draw the result, printing the progress.

    Args:
        tools: The folder of the tools, which are run.
        config: Of the detector.
        root: Folder of the demo; the figures also go into ``root/summary.json``.
        scenes: Scenes to train on.
        val_scenes: Scenes to test on.
        steps: Training steps; None for the config's.

    Raises:
        StepFailed: A tool did; the message ends with the end of its output.
    """
    data, run_dir, log = root / 'digits', root / 'detection', root / 'detection.log'
    root.mkdir(parents=True, exist_ok=True)
    log.write_text('')
    options = _options(data, steps)
    print(f'1/4 scenes of handwritten digits -> {data}', flush=True)
    counts = ['--train', scenes, '--val', val_scenes]
    run_step([tools / 'dataset_converters' / 'make_digits.py', data, *counts], log)
    print(f'2/4 training Faster R-CNN R18 with AW-FPN from scratch -> {run_dir}', flush=True)
    checkpoint = _train(tools / 'train.py', config, run_dir, options, log)
    print(f'3/4 testing {checkpoint}', flush=True)
    dump, tested = run_dir / 'predictions.pkl', run_dir / 'test'
    command = [tools / 'test.py', config, checkpoint, '--work-dir', tested, '--out', dump]
    table = run_step(command + options, log)
    print('4/4 drawing', flush=True)
    metrics = _newest_metrics(tested)
    figures = {'AP': metrics['coco/bbox_mAP'], 'AP50': metrics['coco/bbox_mAP_50']}
    draw_curves(root / 'curves.png', read_scalars(run_dir), figures)
    truth = data / 'annotations' / 'instances_val.json'
    draw_sheet(root / 'predictions.png', truth, load(dump))
    write_json(root / 'summary.json', {'detection': figures}, merge=True)
    return Detected(checkpoint, table, figures)


def _options(data: Path, steps: int | None) -> list[str]:
    """Return the settings that point the config to these scenes."""
    options = [f'{split}_dataloader.dataset.data_root={data}/' for split in SPLITS]
    ann_file = data / 'annotations' / 'instances_val.json'
    options += [f'{split}_evaluator.ann_file={ann_file}' for split in SPLITS[1:]]
    if steps:
        options += [f'train_cfg.max_iters={steps}', f'train_cfg.val_interval={steps}']
        options += [f'default_hooks.checkpoint.interval={steps}']
        options += ['default_hooks.logger.interval=1']
    return ['--cfg-options', *options]


def _train(tool: Path, config: Path, work_dir: Path, options: list[str], log: Path) -> Path:
    """Train, or resume; returns the last checkpoint."""
    command = [tool, config, '--work-dir', work_dir]
    if unfinished(work_dir, config, options):
        print('  an interrupted training is here: resuming from its last checkpoint')
        command.append('--resume')
    else:
        shutil.rmtree(work_dir, ignore_errors=True)
    run_step(command + options, log)
    return Path(read_text(work_dir / 'last_checkpoint').strip())


def _newest_metrics(folder: Path) -> dict[str, Any]:
    """Read the figures that tools/test.py left."""
    return read_json(max(folder.glob('*/*.json'), key=os.path.getmtime))
