"""From files and frames to the arrays the verbs take: readers and writers, splits, and id maps."""

from fastrec.data.encode import IdMap, Interactions, encode
from fastrec.data.files import (
    read_arrays,
    read_features,
    read_frame,
    read_labels,
    read_matrix,
    read_run,
    read_truth,
    read_vector,
)
from fastrec.data.splits import leave_last_out, random_holdout, temporal_split, user_split
from fastrec.data.writing import write_frame, write_run, write_topk, write_truth

__all__ = [
    "IdMap",
    "Interactions",
    "encode",
    "leave_last_out",
    "random_holdout",
    "read_arrays",
    "read_features",
    "read_frame",
    "read_labels",
    "read_matrix",
    "read_run",
    "read_truth",
    "read_vector",
    "temporal_split",
    "user_split",
    "write_frame",
    "write_run",
    "write_topk",
    "write_truth",
]
