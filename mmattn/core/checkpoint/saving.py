"""A training that loses nothing: whole checkpoint files, old ones deleted last, found again."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmattn.core.checkpoint.reading import load_checkpoint
from mmattn.core.checkpoint.report import bad_weights
from mmattn.core.front import Front
from mmattn.core.names import shorten
from mmattn.core.text import read_text

__all__ = ['SafeCheckpointHook', 'WholeFileBackend', 'newest_checkpoint', 'register_once']

_BACKEND = 'mmattn.whole'
_ASIDE = '.unfinished'


class WholeFileBackend(LocalBackend):
    """mmengine's local storage, but a file is there as a whole or not at all.

    It is written aside, flushed to the disk and then renamed, so that a kill, a full disk or a
    power cut leaves the file that was there before.
    """

    def put(self, obj: bytes | memoryview, filepath: str | os.PathLike) -> None:
        """Write bytes.

        Raises:
            OSError: The disk is full, or the folder cannot be written.
        """
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f'{path.name}.', suffix=_ASIDE)
        try:
            with os.fdopen(handle, 'wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(aside, 0o666 & ~_umask())
            os.replace(aside, path)
        except BaseException as error:
            Path(aside).unlink(missing_ok=True)
            if isinstance(error, OSError) and error.filename is None:  # writing names no file
                error.filename = str(path)
            raise


register_backend(_BACKEND, WholeFileBackend, force=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


class _DeleteLast:
    """A storage that notes what to delete and deletes it at the end."""

    def __init__(self, storage: Any) -> None:
        self.storage = storage
        self.waiting: list[tuple[str, str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.storage, name)

    def remove(self, path: str) -> None:
        self.waiting.append(('remove', path))

    def rmtree(self, path: str) -> None:
        self.waiting.append(('rmtree', path))

    def finish(self, kept: set[str]) -> None:
        for how, path in self.waiting:
            if path not in kept:
                getattr(self.storage, how)(path)


class _SafeCheckpoints(Front):
    """In front of mmengine's CheckpointHook: writes whole files, deletes an old one last."""

    def before_train(self, runner: Any) -> None:
        """Choose the storage, forget a best checkpoint that lies in another folder."""
        if self.file_client_args is None and self.backend_args is None:
            folder = str(self.out_dir or runner.work_dir)
            if '://' not in folder and ':s3' not in folder:
                self.backend_args = dict(backend=_BACKEND)
        super().before_train(runner)
        if is_main_process() and '://' not in str(self.out_dir):
            for file in Path(self.out_dir).glob(f'*{_ASIDE}'):  # of a run that was killed
                file.unlink(missing_ok=True)
        self._own_best(runner)

    def _own_best(self, runner: Any) -> None:
        """Forget the best checkpoint of the run that this one was copied from."""
        info = runner.message_hub.runtime_info
        for key in [key for key in info if key.startswith('best_ckpt')]:
            path = Path(str(info[key]))
            here = Path(self.out_dir) / path.name
            own = str(here) if here.is_file() else None
            if path.parent.resolve() == Path(self.out_dir).resolve():
                continue
            if key == 'best_ckpt':
                self.best_ckpt_path = own
            else:
                self.best_ckpt_path_dict[key.removeprefix('best_ckpt_')] = own
            if own:
                runner.message_hub.update_info(key, own)

    def _save_checkpoint_with_step(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        refuse_to_save(runner)
        with self._deleting_last():
            super()._save_checkpoint_with_step(runner, *args, **kwargs)

    def _save_best_checkpoint(self, runner: Any, metrics: dict) -> None:
        with self._deleting_last():
            super()._save_best_checkpoint(runner, metrics)

    @contextmanager
    def _deleting_last(self) -> Iterator[None]:
        if isinstance(self.file_backend, _DeleteLast):  # the best one saves the last one too
            yield
            return
        storage, self.file_backend = self.file_backend, _DeleteLast(self.file_backend)
        try:
            yield
            best = [getattr(self, 'best_ckpt_path', None)]
            best += list((getattr(self, 'best_ckpt_path_dict', None) or {}).values())
            self.file_backend.finish({self.last_ckpt, *best})
        finally:
            self.file_backend = storage


def refuse_to_save(runner: Any) -> None:
    """End a training whose weights are not finite, before they replace good ones.

    Raises:
        FloatingPointError: A weight is NaN or infinite.
    """
    if bad := bad_weights(runner.model):
        raise FloatingPointError(
            f'the weights hold NaN or infinity at step {runner.iter + 1} (epoch '
            f'{runner.epoch + 1}), {len(bad)} tensors: {shorten(bad, 3)}; they are not saved'
            f'{last_good(runner)}'
        )


def last_good(runner: Any) -> str:
    """Return the end of a sentence about a training that diverged."""
    newest = newest_checkpoint(runner.work_dir, say=False)
    kept = f'; {newest} stays as it is' if newest else '; no checkpoint was saved yet'
    return (
        f'{kept}; lower the learning rate, lengthen its warm-up or clip the gradients '
        '(optim_wrapper.clip_grad)'
    )


class SafeCheckpointHook(Hook):
    """Lets mmengine's ``CheckpointHook`` write whole files and delete old ones last.

    With ``max_keep_ckpts=1`` mmengine deletes the old checkpoint before it writes the new one, in
    place: a run that is killed meanwhile has none. It needs no place in a config that is trained
    with ``tools/train.py``; elsewhere: ``custom_hooks=[dict(type='mmattn.SafeCheckpointHook')]``.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Any) -> None:
        """Go in front of the runner's checkpoint hooks."""
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook) and not isinstance(hook, _SafeCheckpoints):
                _SafeCheckpoints.in_front_of(hook)


def newest_checkpoint(folder: str | os.PathLike, say: bool = True) -> str | None:
    """Return the newest checkpoint of a run from which it can be resumed.

    The folder is looked at, not only its ``last_checkpoint``: that file may be older than a
    checkpoint that was written just before a kill, or name the folder a run was copied from.

    Args:
        folder: The run's work dir.
        say: Log a sentence for every file that is skipped.

    Returns:
        Its path, or ``None`` where there is none.
    """
    files = _by_age(Path(folder))
    if not files and (elsewhere := _last_named(Path(folder))):  # the hook's out_dir
        files = [Path(elsewhere)] if Path(elsewhere).is_file() else []
    for path in files:
        try:
            content = load_checkpoint(path)
        except (ValueError, OSError) as error:
            reason = str(error)
        else:
            if 'optimizer' in content and 'iter' in content.get('meta', {}):
                return str(path)
            reason = f'{path} holds no state of an optimizer'
        if say:
            print_log(f'--resume skips a checkpoint: {reason}', logger='current', level=30)
    return None


def _by_age(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, the newest first.

    The number in the name tells, unless ``last_checkpoint`` names a lower one that was written
    later: then a longer run was there before.
    """
    found = {path: _number(path) for path in folder.glob('*.pth')}
    found = {path: n for path, n in found.items() if n >= 0 and not path.name.startswith('best_')}
    newest = sorted(found, key=found.get, reverse=True)
    named = _last_named(folder)
    last = folder / re.split(r'[\\/]', named)[-1]  # wherever it says that the file lies
    if last not in found:
        return newest
    later = [
        path
        for path in newest
        if found[path] > found[last] and path.stat().st_mtime >= last.stat().st_mtime
    ]
    before = [path for path in newest if found[path] < found[last]]
    rest = [path for path in newest if path not in (*later, last, *before)]
    return [*later, last, *before, *rest]


def _number(path: Path) -> int:
    numbers = re.findall(r'\d+', path.stem)
    return int(numbers[-1]) if numbers else -1


def _last_named(folder: Path) -> str:
    """Return what mmengine's ``last_checkpoint`` says; nothing where it is missing or torn."""
    try:
        return read_text(folder / 'last_checkpoint').strip('\0\n ')
    except (OSError, ValueError):
        return ''


def register_once(runner: Runner, hook: Hook) -> None:
    """Register a hook, unless the config has one of its class already."""
    if not any(type(other) is type(hook) for other in runner.hooks):
        runner.register_hook(hook)
