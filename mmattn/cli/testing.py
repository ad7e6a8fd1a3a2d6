"""Test the checkpoint of a config: what ``tools/test.py`` does."""

import os

from mmengine.config import Config, ConfigDict
from mmengine.hooks import EMAHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmattn.cli.command_line import check_and_report, start_processes
from mmattn.cli.training import build_runner
from mmattn.core.checkpoint import LoadReportHook
from mmattn.deploy import fuse as fuse_model

__all__ = ['SPLITS', 'check_checkpoint', 'evaluate', 'show_predictions', 'use_tta']

SPLITS = ('test',)


def evaluate(
    cfg: Config,
    checkpoint: str,
    out: str | None = None,
    show: bool = False,
    show_dir: str | None = None,
    wait_time: float = 2,
    tta: bool = False,
    fuse: bool = False,
    allow_partial: bool = False,
    skip_data_checks: bool = False,
) -> dict:
    """Test a checkpoint; one that does not fit the config is refused.

    Args:
        cfg: The config, from :func:`mmattn.cli.command_line.load_config`.
        checkpoint: The checkpoint file, or an address.
        out: A pickle file for the predictions.
        show: Show predictions in a window.
        show_dir: Save painted images here, below the work dir.
        wait_time: Seconds a window stays.
        tta: Average over the mirrored image.
        fuse: Fold norms into convolutions first.
        allow_partial: Continue though keys of the checkpoint and of the config differ.
        skip_data_checks: Do not look at the data.

    Returns:
        The metrics.

    Raises:
        ValueError: An option, the data or the checkpoint cannot be used.
        FileNotFoundError: The checkpoint does not exist.
    """
    check_checkpoint(checkpoint)
    cfg.load_from, cfg.resume = checkpoint, False
    if show or show_dir:
        show_predictions(cfg, show, show_dir, wait_time)
    if not skip_data_checks:
        check_and_report(cfg, SPLITS)
    if tta:
        use_tta(cfg)
    start_processes(cfg)
    runner = build_runner(cfg)
    way_out = '--allow-partial tests it all the same.'
    runner.register_hook(LoadReportHook(partial=allow_partial, way_out=way_out))
    if fuse:
        runner.register_hook(FuseHook(), priority='LOWEST')
    if out:
        from mmdet.evaluation import DumpDetResults

        runner.test_evaluator.metrics.append(DumpDetResults(out_file_path=out))
    return runner.test()


def check_checkpoint(checkpoint: str) -> None:
    """Refuse a file that is not there, before anything else is done.

    Raises:
        FileNotFoundError: It does not exist.
    """
    if '://' not in checkpoint and not os.path.isfile(checkpoint):
        raise FileNotFoundError(f'the checkpoint {checkpoint} does not exist')


def show_predictions(cfg: Config, show: bool, show_dir: str | None, wait_time: float) -> None:
    """Turn on the hook that paints predictions.

    Raises:
        ValueError: The config has none.
    """
    hook = cfg.default_hooks.get('visualization')
    if hook is None:
        raise ValueError(
            '--show and --show-dir need default_hooks=dict(visualization=dict('
            "type='DetVisualizationHook')) in the config"
        )
    hook.draw = True
    if show:
        hook.show, hook.wait_time = True, wait_time
    if show_dir:
        hook.test_out_dir = show_dir


def use_tta(cfg: Config) -> None:
    """Wrap the model so that it sees each image also mirrored; the config may say how."""
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
        """Fold the norms."""
        model = runner.model
        fuse_model(model.module if is_model_wrapper(model) else model, channels_last=True)
        # averaged weights have just been swapped in and cannot be swapped back any more
        runner._hooks = [hook for hook in runner.hooks if not isinstance(hook, EMAHook)]
