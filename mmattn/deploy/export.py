"""Networks as graphs: ONNX by both of torch's exporters, and TorchScript, checked by running them.

What is exported takes a normalised batch of images and has no Python left in it: of a detector
the backbone and the neck, of a classifier all of it. Batch, height and width stay free.
"""

import contextlib
import copy
import importlib.util
import io
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mmattn.core.modes import eval_mode, hooks

__all__ = ['KINDS', 'ExportedPart', 'difference', 'export', 'load_exported']

OPSET = 17
# how each is made; the file's name ends in it
KINDS = {
    'onnx': ('.onnx', "torch's exporter on TorchScript"),
    'dynamo': ('.dynamo.onnx', "torch's exporter on torch.export"),
    'torchscript': ('.torchscript.pt', 'torch.jit.trace'),
}
_NEEDED = {'onnx': ('onnx', 'onnxruntime'), 'dynamo': ('onnx', 'onnxscript', 'onnxruntime')}


class ExportedPart(nn.Module):
    """The part of a model that is exported, with tensors in and a tuple of tensors out.

    Args:
        model: a detector (its backbone and neck are taken), a classifier (all of it, without the
            softmax), or any network that turns images into tensors.
        size: side of the image it is tried with, for the names of its outputs.

    Shape: ``(N, 3, H, W)`` -> maps ``(N, C, H', W')`` of every level, or ``(N, classes)``.
    """

    def __init__(self, model: nn.Module, size: int = 224) -> None:
        super().__init__()
        self.model = model
        head = getattr(model, 'head', None)
        self.whole = not hasattr(model, 'extract_feat') or head is not None
        weight, children, called = next(self.parameters()), dict(model.named_children()), set()
        with eval_mode(self), torch.no_grad(), hooks(children, lambda name, *_: called.add(name)):
            outputs = self(torch.zeros(1, 3, size, size, dtype=weight.dtype, device=weight.device))
        self.names = self._names(len(outputs))
        if not self.whole:  # without the heads, whose weights a file would hold
            self.model = copy.copy(model)
            self.model._modules = {k: v for k, v in model._modules.items() if k in called}

    def _names(self, count: int) -> list[str]:
        if not self.whole:
            return [f'level{i}' for i in range(count)]
        return ['scores'] if count == 1 else [f'out{i}' for i in range(count)]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        found = self.model(images) if self.whole else self.model.extract_feat(images)
        return tuple(_tensors(found))


def _tensors(outputs: object) -> Iterator[Tensor]:
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, dict):
        yield from _tensors(list(outputs.values()))
    else:
        for part in outputs:
            yield from _tensors(part)


def export(
    part: ExportedPart,
    folder: Path,
    stem: str,
    kinds: Iterable[str] = tuple(KINDS),
    size: int = 224,
) -> dict[str, Path]:
    """Write a network as graphs that run without mmattn, mmdet or this Python.

    Args:
        part: what is exported, left in the mode it is in.
        folder: where the files go; it is made.
        stem: start of their names.
        kinds: of :data:`KINDS`.
        size: side of the two images the graph is recorded with; others can be given to it. A map
            that is one row high or wide then stays so in a file of the kind ``dynamo``.

    Returns:
        The files by kind.

    Raises:
        ValueError: an unknown kind.
        ImportError: a package that a kind needs is missing (onnx, onnxscript, onnxruntime).
        RuntimeError: torch cannot export the network that way; the sentence names the cause.
    """
    kinds = list(kinds)
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f'kind must be one of {", ".join(KINDS)}, got {kind!r}')
        missing = [name for name in _NEEDED.get(kind, ()) if not importlib.util.find_spec(name)]
        if missing:
            raise ImportError(
                f'export to {kind} needs {", ".join(missing)}: pip install {" ".join(missing)}'
            )
    folder.mkdir(parents=True, exist_ok=True)
    weight = next(part.parameters())
    images = torch.randn(2, 3, size, size, dtype=weight.dtype, device=weight.device)
    files = {kind: folder / f'{stem}{KINDS[kind][0]}' for kind in kinds}
    with eval_mode(part), torch.no_grad(), _quiet():
        for kind, file in files.items():
            try:
                _WRITERS[kind](part, images, file)
            except Exception as error:
                reason = str(error).strip().splitlines() or [type(error).__name__]
                raise RuntimeError(
                    f'torch {torch.__version__} cannot export this network to {kind}: {reason[0]}'
                ) from error
    return files


def _write_onnx(part: ExportedPart, images: Tensor, file: Path) -> None:
    axes = {'images': {0: 'batch', 2: 'height', 3: 'width'}}
    with torch.no_grad():
        for name, out in zip(part.names, part(images)):
            axes[name] = {0: 'batch'}
            if out.dim() == 4:
                axes[name] |= {2: f'{name}_height', 3: f'{name}_width'}
    options = dict(dynamo=False) if torch.__version__ >= '2.5' else {}
    torch.onnx.export(
        *(part, (images,), str(file)),
        input_names=['images'],
        output_names=part.names,
        dynamic_axes=axes,
        opset_version=OPSET,
        **options,
    )


def _write_dynamo(part: ExportedPart, images: Tensor, file: Path) -> None:
    free = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    program = torch.onnx.export(
        *(part, (images,)),
        input_names=['images'],
        output_names=part.names,
        dynamic_shapes=(free,),
        dynamo=True,
        verbose=False,
    )
    program.save(str(file), external_data=False)


def _write_torchscript(part: ExportedPart, images: Tensor, file: Path) -> None:
    torch.jit.save(torch.jit.trace(part, images, check_trace=False), str(file))


_WRITERS = dict(onnx=_write_onnx, dynamo=_write_dynamo, torchscript=_write_torchscript)


def load_exported(file: Path) -> Callable[[Tensor], list[Tensor]]:
    """Read a file that :func:`export` wrote; ONNX runs in onnxruntime on the CPU.

    Returns:
        A function of images ``(N, 3, H, W)`` that gives the list of outputs.
    """
    if file.suffix == '.pt':
        script = torch.jit.load(str(file))
        return lambda images: list(script(images))
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(file), options, providers=['CPUExecutionProvider'])
    (name,) = (one.name for one in session.get_inputs())
    return lambda images: [
        torch.from_numpy(out) for out in session.run(None, {name: images.cpu().numpy()})
    ]


def difference(
    part: ExportedPart,
    file: Path,
    sizes: Sequence[tuple[int, int]],
    batches: Sequence[int] = (1, 3),
) -> float:
    """Run a written file beside the network, and return how far their outputs are apart.

    Args:
        part: the network.
        file: what :func:`export` made of it.
        sizes: heights and widths of random images.
        batches: images at each of the sizes, in turn.

    Returns:
        The largest difference of an output's values over the largest of its values.

    Raises:
        ValueError: the file cannot take such images, or gives outputs of another number or shape.
    """
    run, largest = load_exported(file), 0.0
    weight = next(part.parameters())
    for number, size in enumerate(sizes):
        images = torch.randn(batches[number % len(batches)], 3, *size, dtype=weight.dtype)
        with eval_mode(part), torch.no_grad():
            wanted = [out.cpu() for out in part(images.to(weight.device))]
        try:
            found = run(images)
        except Exception as error:  # of onnxruntime or TorchScript
            raise ValueError(
                f'{file} cannot take {len(images)} images of {size[0]} x {size[1]}; a graph '
                'recorded with larger images may: in that one each map should have several rows '
                f'and columns ({str(error).strip().splitlines()[0][:200]})'
            ) from error
        shapes = [[tuple(out.shape) for out in outs] for outs in (found, wanted)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f'{file} gives the shapes {shapes[0]} for images of {size[0]} x {size[1]}, the '
                f'network {shapes[1]}'
            )
        for a, b in zip(found, wanted):
            gap = (a.detach() - b).abs().max() / b.abs().max().clamp(min=1e-12)
            largest = max(largest, float(gap))
    return largest


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what the exporters say as they go, of their own parts alone."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(level)
