_base_ = './_base_/wsdan_cub_80e.py'
