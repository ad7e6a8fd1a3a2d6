"""One reader of data sets: COCO, VOC and image files, and the checks before a run."""
