"""Copies, checkpoints and recorded graphs."""

import copy
import io
import warnings
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mmattn.testing.case import Case, close, flat, randomise, run

__all__ = ['OTHERS', 'RECORDED', 'compiles', 'copies', 'exports', 'keeps_checkpoint', 'traces']

RECORDED = (2, 9, 10)  # the map a graph is recorded with
OTHERS = ((3, 8, 13), (1, 11, 9))  # maps it must be right for as well


def keeps_checkpoint(case: Case) -> None:
    module, other = case.random(seed=1), case.random(seed=2)
    inputs, file = case.inputs(2, 5, 6), io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    close(run(other.eval(), inputs), run(module.eval(), inputs), 0)


def copies(case: Case) -> None:
    module, inputs = case.random().eval(), case.inputs(2, 5, 6)
    out = run(module, inputs)
    twin = copy.deepcopy(module)
    close(run(twin, inputs), out, 0)
    randomise(twin, seed=9)
    close(run(module, inputs), out, 0)


def traces(case: Case) -> None:
    module, file = case.random().eval(), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', torch.jit.TracerWarning)
        traced = torch.jit.trace(module, case.inputs(*RECORDED), check_trace=False)
    torch.jit.save(traced, file)
    file.seek(0)
    loaded = torch.jit.load(file)
    for size in (RECORDED, *OTHERS):
        inputs = case.inputs(*size)
        close(run(loaded, inputs), run(module, inputs))


def compiles(case: Case, backend: str, calls: Iterable[tuple], fixed: bool = False) -> None:
    torch._dynamo.reset()
    module = case.random()
    dynamic = False if fixed and not case.any_size else None
    twin = copy.deepcopy(module)
    compiled = torch.compile(twin, fullgraph=True, backend=backend, dynamic=dynamic)
    for size, training in calls:
        module.train(training)
        compiled.train(training)
        inputs = case.inputs(*size)
        close(run(compiled, inputs), run(module, inputs))


class _Flat(nn.Module):
    """Tensors in, one tensor out: the signature of an ONNX graph."""

    def __init__(self, module: nn.Module, gather: bool) -> None:
        super().__init__()
        self.module = module
        self.gather = gather

    def forward(self, *inputs: Tensor) -> Tensor:
        return run(self.module, (inputs,) if self.gather else inputs)


def exports(case: Case) -> None:
    import onnxruntime

    module, recorded = case.random().eval(), case.inputs(*RECORDED)
    names = [f'x{i}' for i in range(len(flat(recorded)))]
    axes = {
        name: {0: 'n', **({2: f'h_{name}', 3: f'w_{name}'} if t.dim() == 4 else {})}
        for name, t in zip(names, flat(recorded))
    }
    file = io.BytesIO()
    legacy = dict(dynamo=False) if torch.__version__ >= '2.5' else {}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.onnx.export(
            _Flat(module, isinstance(recorded[0], tuple)).eval(),
            tuple(flat(recorded)),
            file,
            input_names=names,
            output_names=['out'],
            dynamic_axes=axes,
            opset_version=17,
            **legacy,
        )
    session = onnxruntime.InferenceSession(file.getvalue(), providers=['CPUExecutionProvider'])
    for size in (RECORDED, *OTHERS):
        inputs = case.inputs(*size)
        (out,) = session.run(None, {n: t.numpy() for n, t in zip(names, flat(inputs))})
        close(torch.from_numpy(out), run(module, inputs))
