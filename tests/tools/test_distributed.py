"""Two processes on the CPU, started by the shell scripts; no GPU, no slurm needed."""

import os
import socket
import subprocess
import sys

import pytest

from mmattn.cli.run_log import read_scalars
from tests.commands import ROOT, TOOLS

pytest.importorskip('mmdet')


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def run_script(name, *args, cwd, **variables):
    environment = {
        **os.environ,
        'PYTHON': sys.executable,
        'PORT': str(free_port()),
        'OMP_NUM_THREADS': '1',
        'CUDA_VISIBLE_DEVICES': '',
        **variables,
    }
    return subprocess.run(
        ['bash', str(TOOLS / name), *map(str, args)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_two_processes_train_together_over_gloo(tiny_config, tmp_path):
    """The script works from any folder, and both processes take part in each step."""
    options = ['param_scheduler=None', 'auto_scale_lr.base_batch_size=8', 'train_cfg.max_iters=2']
    done = run_script(
        'dist_train.sh',
        *(tiny_config, 2, '--work-dir', tmp_path / 'run', '--auto-scale-lr'),
        *('--cfg-options', *options, 'train_cfg.val_interval=2'),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    curves = read_scalars(tmp_path / 'run')
    assert [step for step, _ in curves['loss']] == [1, 2]
    # 2 processes x 2 images = 4, half the base batch size: half the learning rate
    assert curves['lr'] == [(1, 5e-4), (2, 5e-4)]
    assert 'GPU number: 2' in next((tmp_path / 'run').glob('*/*.log')).read_text()
    assert 'the processes run on the CPU and talk over gloo' in done.stdout + done.stderr
    assert (tmp_path / 'run' / 'iter_2.pth').is_file()
    assert 'coco/bbox_mAP' in curves


@pytest.mark.parametrize('name', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh'])
def test_too_few_arguments_show_the_usage(name, tmp_path):
    done = run_script(name, 'config.py', cwd=tmp_path)
    assert done.returncode == 2
    assert f'{name} ' in done.stderr
    assert 'usage: ' in done.stderr


@pytest.mark.parametrize('name', ['slurm_train.sh', 'slurm_test.sh'])
def test_the_slurm_scripts_hand_everything_to_srun(name, tmp_path):
    """A stand-in for srun prints what it would start."""
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    srun.chmod(0o755)
    done = run_script(
        name,
        *('gpu', 'job', 'c.py', 'where', '--cfg-options', 'a.b=with blank'),
        cwd=tmp_path,
        PATH=f'{tmp_path}:{os.environ["PATH"]}',
        GPUS='4',
        GPUS_PER_NODE='2',
        SRUN_ARGS='--exclusive --mem 0',
    )
    assert done.returncode == 0
    words = done.stdout.splitlines()
    for word in ('gpu', '--job-name=job', '--ntasks=4', '--gres=gpu:2', '--mem', 'a.b=with blank'):
        assert word in words
    tool = name.replace('slurm_', '').replace('.sh', '.py')
    assert words[words.index('-u') + 1] == str(ROOT / 'tools' / tool)
    assert words[words.index('--launcher') + 1] == 'slurm'
