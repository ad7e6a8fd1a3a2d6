"""Evaluation in memory: COCO's figures by hotcoco, as a metric of mmdet."""
