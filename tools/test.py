"""Test a checkpoint, as mmdet's own tools/test.py does; one that does not fit is refused.

python tools/test.py configs/aw_fpn/CONFIG.py work_dirs/CONFIG/epoch_12.pth
"""

import argparse
import os
import sys

from mmengine.config import Config, ConfigDict
from mmengine.hooks import EMAHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmattn.cli import command_line
from mmattn.core.checkpoint import LoadReportHook
from mmattn.deploy import fuse

SPLITS = ('test',)


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--work-dir', help='where the metrics go')
    parser.add_argument('--out', help='write the predictions to this pickle file (.pkl)')
    parser.add_argument('--show', action='store_true', help='show predictions in a window')
    parser.add_argument('--show-dir', help='save painted pictures here, below the work dir')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds a window stays')
    parser.add_argument('--tta', action='store_true', help='average over the mirrored picture')
    parser.add_argument(
        '--allow-partial',
        action='store_true',
        help='go on though keys of the checkpoint and of the config differ',
    )
    parser.add_argument(
        '--fuse', action='store_true', help='fold norms into convolutions first (faster)'
    )
    command_line.add_shared_options(parser)
    args = parser.parse_args(argv)
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        parser.error(f'--out must end in .pkl or .pickle, got {args.out}')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def show_pictures(cfg: Config, args: argparse.Namespace) -> None:
    """Turn on the hook that paints predictions."""
    hook = cfg.default_hooks.get('visualization')
    if hook is None:
        raise ValueError(
            '--show and --show-dir need default_hooks=dict(visualization=dict('
            "type='DetVisualizationHook')) in the config"
        )
    hook.draw = True
    if args.show:
        hook.show, hook.wait_time = True, args.wait_time
    if args.show_dir:
        hook.test_out_dir = args.show_dir


def use_tta(cfg: Config) -> None:
    """Wrap the model so that it sees each picture also mirrored; the config may say how."""
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    if 'tta_model' not in cfg:
        nms = dict(type='nms', iou_threshold=0.5)
        cfg.tta_model = dict(type='DetTTAModel', tta_cfg=dict(nms=nms, max_per_img=100))
    if 'tta_pipeline' not in cfg:
        pack = dataset.pipeline[-1].to_dict()
        pack['meta_keys'] = (
            *('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
            *('flip', 'flip_direction'),
        )
        flips = [dict(type='RandomFlip', prob=prob) for prob in (1.0, 0.0)]
        last = dict(type='TestTimeAug', transforms=[flips, [pack]])
        cfg.tta_pipeline = [*dataset.pipeline[:-1], last]
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    dataset.pipeline = cfg.tta_pipeline


class FuseHook(Hook):
    """Fuses the loaded model, after every other hook has had its say on the weights."""

    def before_test_epoch(self, runner: Runner) -> None:
        model = runner.model
        fuse(model.module if is_model_wrapper(model) else model, channels_last=True)
        # averaged weights have just been swapped in and cannot be swapped back any more
        runner._hooks = [hook for hook in runner.hooks if not isinstance(hook, EMAHook)]


def test(args: argparse.Namespace, known: dict) -> None:
    """Build the runner and test; ``known['cfg']`` receives the config."""
    if '://' not in args.checkpoint and not os.path.isfile(args.checkpoint):
        raise FileNotFoundError(f'the checkpoint {args.checkpoint} does not exist')
    cfg = command_line.load_config(
        args.config,
        args.cfg_options,
        args.launcher,
        args.work_dir,
        args.attention,
        args.checkpoint,
    )
    known['cfg'] = cfg
    cfg.load_from, cfg.resume = args.checkpoint, False
    if args.show or args.show_dir:
        show_pictures(cfg, args)
    if not args.skip_data_checks:
        command_line.check_and_report(cfg, SPLITS)
    if args.tta:
        use_tta(cfg)
    command_line.start_processes(cfg)
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    runner.register_hook(
        LoadReportHook(
            partial=args.allow_partial, way_out='--allow-partial tests it all the same.'
        )
    )
    if args.fuse:
        runner.register_hook(FuseHook(), priority='LOWEST')
    if args.out:
        from mmdet.evaluation import DumpDetResults

        runner.test_evaluator.metrics.append(DumpDetResults(out_file_path=args.out))
    runner.test()


def main(argv=None) -> int:
    """Run the tool; returns the exit code."""
    known: dict = {}
    args = parse_args(argv)
    return command_line.run('test', lambda: test(args, known), lambda: known.get('cfg'), SPLITS)


if __name__ == '__main__':
    sys.exit(main())
