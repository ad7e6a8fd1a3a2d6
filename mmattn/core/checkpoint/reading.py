"""One way to read every checkpoint: tensors and plain values only, unless a person trusts it.

A pickle may run any code when it is read. ``torch.load(weights_only=True)`` builds tensors, plain
containers and the few classes below, and refuses the rest; :func:`load_checkpoint` answers with a
sentence. :func:`guarded_loading` makes mmengine read its checkpoints (``load_from``, ``resume``,
``init_cfg`` of type ``Pretrained``) the same way.
"""

import argparse
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

__all__ = ['find_state', 'guarded_loading', 'load_checkpoint']

# torch's own switch: every torch.load of this process, whoever calls it and however
_ONLY_WEIGHTS = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
# where people keep the weights, the usual ones first
_STATE_KEYS = ('state_dict', 'model', 'model_state_dict', 'net', 'network', 'module', 'weights')
_trusting: ContextVar[bool] = ContextVar('trusting', default=False)
_TRUST = 'if you know where it comes from, read it all the same with --trust (trust=True)'
_DAMAGED = re.compile(
    'central directory|unexpected EOF|Ran out of input|invalid magic|PytorchStreamReader|'
    'unpickling stack underflow|pickle data was truncated|storage has wrong byte size',
)


def load_checkpoint(
    path: str | os.PathLike, trust: bool | None = None, map_location: Any = 'cpu'
) -> dict[str, Any]:
    """Read a checkpoint file, or one that mmengine finds by its address.

    Args:
        path: A file (``.pth``, ``.pt``, ``.ckpt``, ``.safetensors``) or an address such as
            ``torchvision://resnet50``, ``https://...``.
        trust: Build whatever classes the file asks for, which may run code of the file. ``None``:
            as the :func:`guarded_loading` around says, else not.
        map_location: As for :func:`torch.load`.

    Returns:
        What was saved; a whole network (which needs ``trust``) as its ``state_dict``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, is no checkpoint, or asks for more than plain values.
    """
    name = os.fspath(path)
    trust = _trusting.get() if trust is None else trust
    if '://' in name:
        with guarded_loading(trust):
            return CheckpointLoader.load_checkpoint(name, map_location, logger='silent')
    found = _read_file(Path(name).expanduser(), trust, map_location)
    if isinstance(found, nn.Module):
        found = {'state_dict': found.state_dict()}
    if not isinstance(found, dict):
        raise ValueError(f'checkpoint {name} must hold a dict, got {type(found).__name__}')
    return found


@contextmanager
def guarded_loading(trust: bool = False) -> Iterator[None]:
    """Let mmengine read every checkpoint as :func:`load_checkpoint` does.

    Args:
        trust: Build whatever classes a file asks for.
    """
    hosts = dict(CheckpointLoader._schemes)
    token = _trusting.set(trust)
    for scheme, host in hosts.items():
        loader = _explaining(host) if scheme else _careful(trust)
        loader.__name__ = host.__name__  # mmengine logs it
        CheckpointLoader.register_scheme(scheme, loader, force=True)
    try:
        with _environment(_ONLY_WEIGHTS, '0' if trust else '1'):
            yield
    finally:
        _trusting.reset(token)
        for scheme, host in hosts.items():
            CheckpointLoader.register_scheme(scheme, host, force=True)


def _careful(trust: bool) -> Callable:
    """Return the loader of local files that mmengine shall use."""

    def load(filename: str, map_location: Any = None) -> dict:
        return load_checkpoint(filename, trust, map_location)

    return load


def _explaining(host: Callable) -> Callable:
    """Return a loader of mmengine whose failures are sentences."""

    def load(filename: str, map_location: Any = None) -> Any:
        try:
            return host(filename, map_location)
        except pickle.UnpicklingError as error:
            raise ValueError(_explain(filename, error)) from error
        except KeyError as error:
            raise ValueError(f'there is no checkpoint {filename} (no {error})') from error
        except OSError as error:
            raise ValueError(
                f'the checkpoint {filename} cannot be downloaded ({error}): download it where '
                'there is a network and give the path of the file'
            ) from error

    return load


def find_state(checkpoint: Mapping) -> dict[str, torch.Tensor]:
    """Return the state dict in what was saved, wherever it lies.

    Args:
        checkpoint: A state dict, or a dict that holds one (as ``state_dict``, ``model``, ``net``,
            ``model_state_dict`` or under any other name).

    Returns:
        Its tensors by name.

    Raises:
        ValueError: There is none; names what is there.
    """
    state = _tensors(checkpoint)
    if state:
        return state
    usual = [checkpoint[key] for key in _STATE_KEYS if key in checkpoint]
    others = [value for key, value in checkpoint.items() if key not in _STATE_KEYS]
    for value in usual:
        if isinstance(value, nn.Module):
            return dict(value.state_dict())
        if isinstance(value, Mapping) and (state := _tensors(value) or _deeper(value)):
            return state
    found = [_tensors(value) for value in others if isinstance(value, Mapping)]
    if any(found):
        return max(found, key=len)
    keys = ', '.join(map(str, list(checkpoint)[:6])) or 'nothing'
    raise ValueError(f'checkpoint must hold a state dict of tensors, got a dict of: {keys}')


def _deeper(value: Mapping) -> dict:
    try:
        return find_state(value)
    except ValueError:
        return {}


def _tensors(value: Mapping) -> dict[str, torch.Tensor]:
    """Return the tensors of a state dict, nothing if it holds other things too."""
    tensors = {k: v for k, v in value.items() if isinstance(v, torch.Tensor)}
    named = all(isinstance(key, str) for key in tensors)
    return tensors if named and 2 * len(tensors) > len(value) else {}


def _read_file(path: Path, trust: bool, map_location: Any) -> Any:
    if not path.exists():
        raise FileNotFoundError(f'the checkpoint {path} does not exist')
    if path.is_dir():
        raise ValueError(f'checkpoint must be a file, got the folder {path}')
    if path.suffix == '.safetensors':
        return _read_safetensors(path)
    try:
        return _load(path, trust, map_location)
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(_explain(str(path), error, path, trust)) from error


def _read_safetensors(path: Path) -> dict:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise ValueError(f'{path} needs the package safetensors to be read') from error
    try:
        return load_file(path)
    except Exception as error:  # its own class, which only its compiled part names
        raise ValueError(
            f'the checkpoint {path} cannot be read, it is damaged ({error})'
        ) from error


def _load(path: Path, trust: bool, map_location: Any) -> Any:
    if trust:
        with _environment(_ONLY_WEIGHTS, '0'):
            return torch.load(path, map_location, weights_only=False)
    if hasattr(torch.serialization, 'safe_globals'):  # torch 2.5
        try:
            with torch.serialization.safe_globals(_safe_globals()):
                return torch.load(path, map_location, weights_only=True)
        except pickle.UnpicklingError as error:
            if 'operand' not in str(error):  # a newer pickle protocol than torch's reader knows
                raise
    if _is_script(path):
        raise pickle.UnpicklingError('a TorchScript archive')
    with _environment(_ONLY_WEIGHTS, '0'):  # the unpickler is the restriction here
        return torch.load(path, map_location, pickle_module=_restricted(), weights_only=False)


def _is_script(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith('/constants.pkl') for name in archive.namelist())


def _safe_globals() -> list:
    """Return what a checkpoint may build beside tensors and plain containers.

    Torch knows each by its ``__module__`` and ``__qualname__``, the name that a pickle asks for.
    """
    rebuild, scalar = np.zeros(1).__reduce__()[0], np.float64(1).__reduce__()[0]
    numpys = {type(np.dtype(kind)) for kind in '?bBhHiIlLqQefdFD'} | {np.ndarray, np.dtype}
    renamed = [
        _named(f'numpy.{core}.multiarray', name, function)
        for core in ('core', '_core')  # as numpy 1 and numpy 2 write it
        for name, function in (('_reconstruct', rebuild), ('scalar', scalar))
    ]
    method = _named('builtins', 'getattr', _method_of_history)
    encode = _named('_codecs', 'encode', _latin1)  # bytes, as numpy 1 and older pickles write them
    kinds = [HistoryBuffer, OneCycleParamScheduler, argparse.Namespace, set, slice]
    return [*renamed, *numpys, method, encode, *kinds]


def _named(module: str, name: str, function: Callable) -> Callable:
    def called(*args: Any) -> Any:
        return function(*args)

    called.__module__, called.__qualname__ = module, name
    return called


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != 'latin1':
        raise pickle.UnpicklingError(f'Unsupported global: GLOBAL _codecs.encode to {encoding}')
    return text.encode(encoding)


def _method_of_history(kind: type, name: str) -> Callable:
    """Return what mmengine's message hub and one-cycle schedules ask of ``getattr`` alone."""
    annealing = kind is OneCycleParamScheduler and name.startswith('_annealing_')
    if not annealing and (kind is not HistoryBuffer or name.startswith('_')):
        raise pickle.UnpicklingError(f'Unsupported global: GLOBAL builtins.getattr of {name}')
    return getattr(kind, name)


def _restricted() -> SimpleNamespace:
    """Return the pickle module where torch's own restricted reader knows too little."""
    from torch._weights_only_unpickler import _get_allowed_globals

    own = {f'{entry.__module__}.{entry.__qualname__}': entry for entry in _safe_globals()}
    allowed = {**_get_allowed_globals(), **own}
    for name in [name for name in own if name.startswith('builtins.')]:
        allowed[f'__builtin__{name[len("builtins") :]}'] = own[name]

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            full = f'{module}.{name}'
            if full not in allowed:
                raise pickle.UnpicklingError(f'Unsupported global: GLOBAL {full}')
            return allowed[full]

    def load(file: Any, **options: Any) -> Any:
        return Unpickler(file, **options).load()

    return SimpleNamespace(__name__='restricted', Unpickler=Unpickler, load=load)


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


def _explain(name: str, error: Exception, path: Path | None = None, trust: bool = False) -> str:
    """One sentence about a file that could not be read."""
    text = str(error).strip() or type(error).__name__
    start = _start_of(path)
    if path is not None and not start:
        return f'the checkpoint {name} cannot be read, its file is empty; take an older one'
    if start.lstrip()[:1] == b'<' or start.startswith(b'version https://git-lfs'):
        kind = 'a web page' if start.lstrip()[:1] == b'<' else "Git LFS's note of a file"
        return f'{name} is no checkpoint but {kind}: download the file itself'
    if path is not None and not start.startswith((b'PK', b'\x80')):  # zip, pickle
        return f'{name} is no checkpoint: neither torch nor pickle wrote this file'
    if 'TorchScript' in text:
        return (
            f'{name} is a TorchScript archive, no checkpoint: save the state_dict() of the '
            'network it was made from'
        )
    asked = re.search(r'(?:GLOBAL|[Cc]lass|type) (?:<class )?\W?([\w]+(?:\.[\w<>]+)+)', text)
    if isinstance(error, ModuleNotFoundError):
        return f'the checkpoint {name} needs the module {error.name!r}, which is not there'
    if asked and not trust:
        whole = ' (a whole network was saved: its state_dict() would be enough)'
        hint = whole if '__main__' in asked[1] or '.models.' in asked[1] else ''
        return (
            f'the checkpoint {name} holds more than weights: reading it would call {asked[1]}, '
            f'which may run any code{hint}; {_TRUST}'
        )
    reason = text.splitlines()[0][:200]
    if isinstance(error, EOFError | OSError) or _DAMAGED.search(text) or trust:
        return (
            f'the checkpoint {name} cannot be read, its file is damaged or was not written to the '
            f'end ({reason}); take an older one'
        )
    found = re.findall(r'WeightsUnpickler error: (.+)', text)
    return f'the checkpoint {name} holds more than weights ({(found or [reason])[-1]}); {_TRUST}'


def _start_of(path: Path | None) -> bytes:
    if path is None:
        return b'?'
    with path.open('rb') as file:
        return file.read(64)
