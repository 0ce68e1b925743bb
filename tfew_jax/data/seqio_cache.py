"""SeqIO's offline cache, written without Apache Beam.

SeqIO's own tool needs Beam, which the package index offers for few versions of Python.
The files are the ones that it writes, but that examples keep their order: read without
shuffling, a cached task gives what the task itself gives, one for one.
"""

import json
import os
import pathlib
import shutil
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

_BLOCK = 16  # SeqIO reads as many examples of a file, then of the next
_MAX_SHARDS = 16  # files that SeqIO reads in turns; of more the order would be another


def write(
    name: str,
    directory: str | os.PathLike[str],
    *,
    num_shards: int = _MAX_SHARDS,
    seed: int | None = None,
) -> pathlib.Path:
    """Writes all splits of a task to a cache directory.

    SeqIO finds it with `seqio.add_global_cache_dirs([directory])`.

    Args:
        name: A task in SeqIO's registry.
        directory: Holds a folder for each cached task.
        num_shards: Files of each split: as many hosts can read without reading twice.
        seed: Of what is random before the cache, nothing in the tasks of this package.

    Returns:
        The folder of the task.

    Raises:
        ValueError: The task is unknown or cannot be cached, its folder is there
            already, or there are no files or more than 16.
    """
    if name not in seqio.TaskRegistry.names():
        raise ValueError(f"unknown SeqIO task {name!r}; register it first")
    task = seqio.TaskRegistry.get(name)
    if not task.supports_caching:
        raise ValueError(
            f"{name} has no seqio.CacheDatasetPlaceholder among its preprocessors, so "
            "it cannot be cached; add one"
        )
    if not 1 <= num_shards <= _MAX_SHARDS:
        raise ValueError(
            f"num_shards={num_shards}; take 1 to {_MAX_SHARDS}, as many as SeqIO reads "
            "in turns"
        )
    folder = pathlib.Path(directory) / seqio.get_task_dir_from_name(name)
    if folder.exists():
        raise ValueError(f"{folder}: is there already; remove it to cache {name} again")
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for split in task.splits:
        _write_split(task, split, unfinished, num_shards, seed)
    (unfinished / "COMPLETED").write_text("")
    unfinished.rename(folder)
    return folder


def _write_split(
    task: seqio.Task,
    split: str,
    folder: pathlib.Path,
    num_shards: int,
    seed: int | None,
) -> None:
    dataset = task.source.get_dataset(split=split, shuffle=False)
    dataset = task.preprocess_precache(dataset, seed=seed)
    path = seqio.get_cached_tfrecord_prefix(os.fspath(folder), split)
    writers = [
        tf.io.TFRecordWriter(f"{path}-{shard:05d}-of-{num_shards:05d}")
        for shard in range(num_shards)
    ]
    stats: dict[str, int] = {"examples": 0}
    for number, example in enumerate(dataset.as_numpy_iterator()):
        record = seqio.dict_to_tfexample(example).SerializeToString()
        writers[number // _BLOCK % num_shards].write(record)
        _count(stats, example, task)
    for writer in writers:
        writer.close()
    info = {
        "num_shards": num_shards,
        "features": {k: _described(s) for k, s in dataset.element_spec.items()},
        "seqio_version": seqio.__version__,
    }
    for where, content in (
        (seqio.get_cached_info_path(os.fspath(folder), split), info),
        (seqio.get_cached_stats_path(os.fspath(folder), split), stats),
    ):
        pathlib.Path(where).write_text(json.dumps(content, indent=2), encoding="utf-8")


def _described(spec: tf.TensorSpec) -> dict[str, Any]:
    shape = spec.shape.as_list()
    return {
        "shape": [None, *shape[1:]] if shape else [],
        "dtype": spec.dtype.name,
    }


def _count(stats: dict[str, int], example: dict[str, Any], task: seqio.Task) -> None:
    """Adds an example to SeqIO's statistics: tokens of each feature, in all and most.

    They do not count pads.
    """
    stats["examples"] += 1
    for feature in task.output_features:
        if feature in example:
            size = int(np.count_nonzero(example[feature]))
            total, most = f"{feature}_tokens", f"{feature}_max_tokens"
            stats[total] = stats.get(total, 0) + size
            stats[most] = max(stats.get(most, 0), size)
