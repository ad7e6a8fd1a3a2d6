"""Commands that run other commands: one step after the other, with short progress and one log."""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mmattn.cli.command_line import parse_options
from mmattn.cli.run_log import child_environment
from mmattn.core.config import read_config
from mmattn.core.progress import Progress

__all__ = ['StepFailed', 'progress', 'run_step', 'unfinished']

STEP = re.compile(r'(?:Iter|Epoch)\((train|val|test)\)(?: *\[\d+\])? *\[ *(\d+)/(\d+)\](.*)')
TABLE = re.compile(r'Average (Precision|Recall) ')


class StepFailed(RuntimeError):
    """A step ended with an error; the end of its own words is in the message."""


def progress(line: str) -> str | None:
    """Shorten a line of mmengine's log to what a person needs to see; None for most lines.

    Args:
        line: as mmengine's logger writes it.
    """
    found = STEP.search(line)
    if found:
        mode, step, total, rest = found.groups()
        values = dict(re.findall(r'(\S+): +(\S+)', rest))
        if 'coco/bbox_mAP' in values:
            ap, ap50 = values['coco/bbox_mAP'], values['coco/bbox_mAP_50']
            return f'  {"validation" if mode == "val" else mode}: AP {ap}, AP50 {ap50}'
        if 'accuracy/top1' in values:
            right = float(values['accuracy/top1'])
            return f'  {right:.1f} % of the validation images classified right'
        loss = f'  loss {values["loss"]}' if 'loss' in values else ''
        left = f'  time left {values["eta"]}' if 'eta' in values else ''
        return f'  {mode} {step}/{total}{loss}{left}'
    return line.rstrip() if TABLE.search(line) else None


def run_step(command: Sequence, log: Path) -> list[str]:
    """Run a tool in a process of its own, show its progress, keep every word in the log.

    Args:
        command: the tool and its arguments.
        log: a file, which is added to.

    Returns:
        The lines of the COCO table, where the step printed one.

    Raises:
        StepFailed: it did; the message ends with the end of its output.
    """
    lines, table = [], []
    with open(log, 'a', buffering=1, encoding='utf-8') as file:
        process = subprocess.Popen(
            [sys.executable, '-u', *map(str, command)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=child_environment(OMP_WAIT_POLICY='PASSIVE'),  # many times faster on a busy CPU
        )
        bars = _Bars()
        try:
            for line in process.stdout:
                file.write(line)
                lines.append(line)
                shown = progress(line)
                if shown and TABLE.search(line):
                    table.append(shown.strip())
                elif shown:
                    bars.show(line, shown)
        finally:
            bars.close()
            if process.poll() is None:
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    process.kill()
            process.stdout.close()
    if process.returncode:
        said = ''.join(lines[-25:])
        raise StepFailed(f'{said}\n{Path(command[0]).name} failed; everything it said is in {log}')
    return table


class _Bars:
    """The progress of a step: a bar for each loop of its log on a terminal, lines elsewhere."""

    def __init__(self) -> None:
        self.bar: Progress | None = None

    def show(self, line: str, shown: str) -> None:
        """Show a line of the log, of which ``shown`` is what a person needs to see."""
        found = STEP.search(line)
        if not sys.stdout.isatty() or not found or f' {found[2]}/' not in shown:
            self.close()
            print(shown, flush=True)
            return
        mode, step, total, rest = found.groups()
        if self.bar is None or (self.bar.what, self.bar.total) != (mode, int(total)):
            self.close()
            self.bar = Progress(mode, int(total))
        loss = re.search(r' loss: +(\S+)', rest)
        self.bar.update(int(step), f'loss {loss[1]}' if loss else '')

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self.bar is not None:
            self.bar.__exit__()
            self.bar = None


def unfinished(work_dir: Path, config: Path, options: Sequence[str]) -> bool:
    """Whether an interrupted training of the same config lies in a work dir.

    Args:
        work_dir: of ``tools/train.py``.
        config: of iterations, not epochs.
        options: ``--cfg-options`` and the settings after it.
    """
    dumped = work_dir / config.name
    if not dumped.is_file() or not (work_dir / 'last_checkpoint').is_file():
        return False
    now = read_config(config)
    now.merge_from_dict(parse_options(options[1:]))
    before = read_config(dumped)
    same = all(
        before.get(key) == now.get(key)
        for key in ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler')
    )
    return same and not (work_dir / f'iter_{now.train_cfg.max_iters}.pth').is_file()
