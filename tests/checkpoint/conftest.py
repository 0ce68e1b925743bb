import contextlib
import resource

import numpy as np
import pytest

from tfew_jax import checkpoint, models, peft
from tfew_jax.checkpoint import layout


@pytest.fixture
def config():
    """Sizes of a tiny model whose every dimension is different."""
    return models.T5Config(
        vocab_size=11,
        emb_dim=6,
        num_heads=2,
        head_dim=4,
        mlp_dim=10,
        num_encoder_layers=2,
        num_decoder_layers=1,
        relpos_buckets=4,
    )


@pytest.fixture
def params(config):
    """Random unstacked parameters of that model."""
    rng = np.random.default_rng(0)
    flat = {
        path: rng.normal(size=shape).astype(np.float32)
        for path, shape in layout.model_shapes(config).items()
    }
    return layout.unflatten(flat)


@pytest.fixture(scope="session")
def make_adapter():
    """Makes adapters of random arrays: those of a seed are always the same."""

    def make(config, method="ia3", *, seed=0, task=None, metadata=None, **settings):
        method = peft.get(method)(**settings)
        rng = np.random.default_rng(seed)
        arrays = {
            path: rng.uniform(0.3, 1.7, shape).astype(np.float32)
            for path, shape in layout.adapter_shapes(config, method).items()
        }
        return checkpoint.Adapter(
            method=method,
            params=layout.unflatten(arrays),
            config=config,
            task=task,
            metadata=metadata or {},
        )

    return make


@pytest.fixture(scope="session")
def full_disk():
    """Makes writing more than some bytes to a file fail, as a full disk does."""

    @contextlib.contextmanager
    def limit(size):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit
