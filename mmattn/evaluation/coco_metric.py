"""``mmattn.CocoMetric``: mmdet's COCO metric without files, by hotcoco."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.fileio import get_local_path
from mmengine.logging import MMLogger, print_log

from mmattn.core.hosts import require_host
from mmattn.data.coco import as_coco_boxes
from mmattn.evaluation import coco
from mmattn.registry import METRICS

require_host('mmdet')
from mmdet.evaluation import CocoMetric as _MMDetCocoMetric  # noqa: E402

__all__ = ['CocoMetric']

_METRICS = ('bbox', 'segm', 'proposal')
_PRECISIONS = tuple(coco.FIGURES)[:6]
_RECALLS = tuple(coco.FIGURES)[6:]


@METRICS.register_module()
class CocoMetric(_MMDetCocoMetric):
    """COCO's average precision and recall, computed in memory.

    In a config, ``val_evaluator.type = 'mmattn.CocoMetric'`` replaces mmdet's metric; options,
    result names and values stay. mmdet writes all detections to a JSON file and reads it back for
    every evaluation; here they go to the evaluator as arrays. The evaluator is hotcoco, whose
    precision and recall are those of pycocotools bit for bit, or pycocotools where hotcoco is not
    installed.

    Differs from mmdet: a detector that finds nothing has AP 0 (mmdet returns no figures);
    ``classwise`` rows belong to their categories also where the file does not list them by id;
    an image that the annotations do not hold is an error; there is no ``proposal_fast``.

    Args:
        ann_file: Annotations in COCO's layout. None: those of the test data set, which needs
            ``instances`` among the ``meta_keys`` of its pipeline.
        metric: ``'bbox'``, ``'segm'``, ``'proposal'``, or a list of them.
        digits: Decimals of the results, 3 as in mmdet; None keeps all.
        engine: ``'hotcoco'``, ``'pycocotools'``, or None for the first of them that is installed.
        **options: mmdet's other options: ``classwise``, ``proposal_nums``, ``iou_thrs``,
            ``metric_items``, ``format_only``, ``outfile_prefix``, ``sort_categories``,
            ``backend_args``, ``prefix``. ``use_mp_eval`` changes nothing: hotcoco uses all cores.
            Several processes gather in memory, which is mmengine's ``collect_device='gpu'`` (over
            gloo on CPUs); ``collect_device='cpu'`` is through files.

    Raises:
        ValueError: An option has a value that is not allowed.
        ImportError: ``engine='hotcoco'`` without hotcoco.
    """

    def __init__(
        self,
        ann_file: str | None = None,
        metric: str | list[str] = 'bbox',
        digits: int | None = 3,
        engine: str | None = None,
        **options: Any,
    ) -> None:
        for name in [metric] if isinstance(metric, str) else metric:
            if name not in _METRICS:
                hint = ": 'proposal' gives its recalls" if name == 'proposal_fast' else ''
                raise ValueError(f'metric must be one of {_METRICS}, got {name!r}{hint}')
        numbers = options.get('proposal_nums', (100, 300, 1000))
        if len(numbers) != 3:
            raise ValueError(f'proposal_nums must be three numbers, got {numbers!r}')
        for name in options.get('metric_items') or ():
            if name not in coco.FIGURES:
                raise ValueError(f'metric_items must be among {tuple(coco.FIGURES)}, got {name!r}')
        if isinstance(options.get('iou_thrs'), int | float):
            options['iou_thrs'] = [options['iou_thrs']]
        if options.get('format_only') and not options.get('outfile_prefix'):
            raise ValueError('format_only=True needs outfile_prefix, where the files go')
        self._numbers: dict | None = None  # of a data set without a file: its ids to ours
        self._by_id = options.get('sort_categories', False)
        self.digits = digits
        self.engine = coco.choose_engine(engine)
        options.setdefault('collect_device', 'gpu')  # mmengine's word for: in memory
        super().__init__(None, metric, **options)
        if self.engine == 'pycocotools' and engine is None:
            print_log(
                'mmattn.CocoMetric: hotcoco is not installed, pycocotools evaluates (the same '
                'figures, many times slower): pip install hotcoco',
                logger='current',
            )
        if ann_file is not None:
            with get_local_path(ann_file, backend_args=self.backend_args) as path:
                self._coco_api = self._read(path)

    def _read(self, content: str | dict) -> Any:
        """Read the truth; where hotcoco cannot take it, by pycocotools."""
        try:
            return coco.load_truth(content, self.engine)
        except (TypeError, ValueError, OverflowError) as error:
            if self.engine == 'pycocotools':
                raise
            print_log(f'hotcoco: {error}; pycocotools evaluates instead', logger='current')
            self.engine = 'pycocotools'
            return coco.load_truth(content, self.engine)

    def compute_metrics(self, results: list[tuple[dict, dict]]) -> dict[str, float]:
        """Compute the figures of all images.

        Args:
            results: What ``process`` kept of every image: its truth and its detections.

        Returns:
            Figures under mmdet's names, such as ``bbox_mAP`` and ``AR@100``.
        """
        truths, found = zip(*results)
        image_ids = [one['img_id'] for one in found]
        if self._coco_api is None:
            self._numbers = {name: number for number, name in enumerate(sorted(set(image_ids)))}
            self._coco_api = self._read(self._collect_truth(truths))
        if self._numbers is not None:
            image_ids = [self._numbers[name] for name in image_ids]
        self._look_up_ids(image_ids)
        if self.outfile_prefix is not None:
            self.results2json(found, self.outfile_prefix)
        if self.format_only:
            return {}
        values: dict[str, float] = {}
        for metric in self.metrics:
            values.update(self._evaluate(metric, image_ids, found))
        return values

    def _collect_truth(self, truths: Sequence[dict]) -> dict:
        """Return the data set's own boxes in COCO's layout, as mmdet writes them."""
        instances = [(self._numbers[t['img_id']], one) for t in truths for one in t['anns']]
        annotations = as_coco_boxes(instances)
        for annotation, (_, one) in zip(annotations, instances):
            if one.get('mask'):
                annotation['segmentation'] = one['mask']
        return dict(
            images=[
                dict(
                    id=self._numbers[one['img_id']],
                    width=int(one['width']),
                    height=int(one['height']),
                    file_name='',
                )
                for one in truths
            ],
            categories=[dict(id=i, name=n) for i, n in enumerate(self.dataset_meta['classes'])],
            annotations=annotations,
        )

    def _look_up_ids(self, image_ids: list) -> None:
        """Labels count the categories of the file that are among the classes, in its order."""
        if self.cat_ids is None:
            classes = self.dataset_meta['classes']
            names = {i: one['name'] for i, one in self._coco_api.cats.items()}
            self.cat_ids = [i for i, name in names.items() if name in classes]
            if self._by_id:
                self.cat_ids.sort()
            self._names = [names[i] for i in self.cat_ids]
        if self.img_ids is None:
            self.img_ids = self._coco_api.getImgIds()
        foreign = set(image_ids).difference(self.img_ids)
        if foreign:
            raise ValueError(
                f'{len(foreign)} tested images are not among the {len(self.img_ids)} of the '
                f"evaluator's annotations, such as id {min(foreign, key=str)}: ann_file of the "
                'evaluator and of the test data set must be the same'
            )

    def _boxes(self, image_ids: list, found: Sequence[dict], masks: bool) -> coco.Boxes:
        """All detections as columns; differences of corners are taken in float64 as by mmdet."""
        counts = [len(one['labels']) for one in found]
        corners = np.concatenate([np.reshape(one['bboxes'], (-1, 4)) for one in found]).astype(
            float
        )
        labels = np.concatenate([one['labels'] for one in found]).astype(int)
        scores = [
            one.get('mask_scores', one['scores']) if masks else one['scores'] for one in found
        ]
        encoded = [mask for one in found for mask in one.get('masks', ())] if masks else None
        if masks and len(encoded) != len(labels):
            raise ValueError(
                "metric 'segm' needs masks in the predictions; this model gives boxes only"
            )
        return coco.Boxes(
            [image for image, count in zip(image_ids, counts) for _ in range(count)],
            np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1),
            np.concatenate(scores).astype(float),
            np.asarray(self.cat_ids, int)[labels],
            encoded,
        )

    def _evaluate(self, metric: str, image_ids: list, found: Sequence[dict]) -> dict[str, float]:
        """One of ``bbox``, ``segm`` and ``proposal``."""
        logger = MMLogger.get_current_instance()
        logger.info(f'Evaluating {metric}...')
        iou_type = 'segm' if metric == 'segm' else 'bbox'
        evaluator = coco.evaluate(
            self._coco_api,
            self._boxes(image_ids, found, iou_type == 'segm'),
            self.engine,
            iou_type,
            cat_ids=self.cat_ids,
            max_dets=self.proposal_nums,
            iou_thrs=self.iou_thrs,
            use_cats=metric != 'proposal',
        )
        exact = coco.figures(evaluator)
        logger.info('  '.join(f'{name} {value:.3f}' for name, value in exact.items()))
        if metric == 'proposal':
            return {name: self._round(exact[name]) for name in self.metric_items or _RECALLS}
        values = self._classwise(evaluator) if self.classwise else {}
        for name in self.metric_items or _PRECISIONS:
            values[f'{metric}_{name}'] = self._round(exact[name])
        line = ' '.join(f'{exact[name]:.3f}' for name in _PRECISIONS)
        logger.info(f'{metric}_mAP_copypaste: {line}')
        return values

    def _classwise(self, evaluator: Any) -> dict[str, float]:
        """Average precision of each category, logged as a table."""
        rows = coco.category_figures(evaluator)
        names = dict(zip(self.cat_ids, self._names))
        width = max(map(len, names.values()), default=0)
        lines = [f'{"":{width}}  ' + '  '.join(f'{name:>6}' for name in _PRECISIONS)]
        lines += [
            f'{names[i]:{width}}  ' + '  '.join(f'{rows[i][name]:6.3f}' for name in _PRECISIONS)
            for i in self.cat_ids
        ]
        MMLogger.get_current_instance().info('\n'.join(['', *lines]))
        return {f'{names[i]}_precision': self._round(rows[i]['mAP']) for i in self.cat_ids}

    def _round(self, value: float) -> float:
        return value if self.digits is None else round(value, self.digits)
