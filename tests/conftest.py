"""Fixtures of all tests: eight fake CPU devices, strict ranks, the shared folder."""

import atexit
import gc
import hashlib
import io
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping

# Tests compile many small programs once each: optimizing them takes longer than
# running them as they are.
_FLAGS = (
    "--xla_force_host_platform_device_count=8",
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    # The older emitters, which compile a training step of toy size in half the time.
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
)


def _set_flags() -> None:
    """Adds the flags that this version of XLA knows; it aborts at another."""
    given = os.environ.get("XLA_FLAGS", "").split()
    added = [flag for flag in _FLAGS if flag not in given]
    if not added:  # a worker of pytest, whose flags are those of its parent
        return
    os.environ["XLA_FLAGS"] = " ".join([*given, *added])
    probe = [sys.executable, "-c", "import jax; jax.devices()"]
    found = subprocess.run(probe, capture_output=True, text=True).stderr
    if "Unknown flag" in found:
        known = [flag for flag in added if flag not in found]
        os.environ["XLA_FLAGS"] = " ".join([*given, *known])


_set_flags()

# A program that several tests compile is compiled once by each worker of pytest.
_CACHE = tempfile.mkdtemp(prefix="tfew_jax_tests_")
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"

import hypothesis  # noqa: E402 -- the flags must stand before jax is imported
import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")

# Tracing makes many objects, and what is imported stays: collecting garbage as often as
# Python does by itself takes three or four percent of the time.
gc.freeze()
gc.set_threshold(100_000, 20, 50)

# The first call of an example compiles, so a deadline would measure XLA.
# A commit passes or fails the same way each time; `--hypothesis-profile=explore` draws
# other examples.
hypothesis.settings.register_profile("explore", deadline=None, max_examples=100)
hypothesis.settings.register_profile(
    "tfew_jax", deadline=None, max_examples=25, derandomize=True
)
hypothesis.settings.load_profile("tfew_jax")

_ROOT = pathlib.Path(__file__).resolve().parents[1]
# Not tests/ itself, whose folder peft would stand in for a library that is not there.
sys.path.insert(0, str(_ROOT / "tests" / "common"))


@pytest.fixture(scope="session")
def repository() -> pathlib.Path:
    """The root of the clone."""
    return _ROOT


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """The folder of fixtures and data beside the repository, which few clones have."""
    folder = _ROOT.parent / "shared"
    if not (folder / "fixtures").is_dir():
        pytest.skip("needs the folder ../shared beside the repository")
    return folder


@pytest.fixture
def key() -> jax.Array:
    """A typed PRNG key, the same in every test."""
    return jax.random.key(0)


@pytest.fixture(scope="session")
def base_directory(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A model directory: random weights of toy size, a vocabulary of a few words."""
    import sentencepiece

    from tfew_jax import checkpoint, models

    folder = tmp_path_factory.mktemp("toy")
    words = "review sentiment bad good awful lovely dull great plot film no yes maybe"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words.split() * 3),
        model_prefix=str(folder / "vocabulary"),
        model_type="bpe",  # whole words, so that rows are of a length: fewer programs
        vocab_size=320,
        byte_fallback=True,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    config = models.T5Config(
        vocab_size=448,  # pieces and 100 sentinels
        emb_dim=16,
        num_heads=2,
        head_dim=8,
        mlp_dim=32,
        num_encoder_layers=2,
        num_decoder_layers=2,
        dropout_rate=0.0,  # a program of half the size; tests that want it ask for it
    )
    checkpoint.save_model(
        folder / "base",
        config=config,
        params=models.unstack_layers(models.init(config, None, jax.random.key(0))),
        vocabulary=folder / "vocabulary.model",
    )
    return folder / "base"


@pytest.fixture
def make_archive(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., pathlib.Path]:
    """Writes a source archive in promptsource's layout that passes for the one.

    The user's cache is a folder of the test.
    """
    from tfew_jax.data import promptsource_archive as archive

    monkeypatch.setenv("TFEW_JAX_CACHE", str(tmp_path / "cache"))

    def make(files: Mapping[str, str | tarfile.TarInfo]) -> pathlib.Path:
        path = tmp_path / "elsewhere" / "promptsource-0.2.3.tar.gz"
        path.parent.mkdir(exist_ok=True)
        with tarfile.open(path, "w:gz") as tar:
            for name, content in files.items():
                if isinstance(content, tarfile.TarInfo):
                    tar.addfile(content)
                    continue
                info = tarfile.TarInfo(f"promptsource-0.2.3/{name}")
                info.size = len(content.encode())
                tar.addfile(info, io.BytesIO(content.encode()))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        monkeypatch.setattr(archive, "SHA256", digest)
        monkeypatch.setattr(archive, "NUM_BYTES", path.stat().st_size)
        return path

    return make


@pytest.fixture(scope="session")
def promptsource_directory(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """promptsource's templates: the user's, or fetched ones that go with the tests."""
    from tfew_jax.data import promptsource_archive

    found = promptsource_archive.directory()
    if found.is_dir():
        return found
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFEW_JAX_CACHE", str(tmp_path_factory.mktemp("promptsource")))
        for name, value in {"RETRIES": 0, "TIMEOUT": 10, "DEFAULT_TIMEOUT": 10}.items():
            patch.setenv(f"PIP_{name}", str(value))
        try:
            promptsource_archive.fetch()
        except ValueError as error:
            pytest.skip(f"promptsource's templates cannot be had: {error}")
        return promptsource_archive.directory()
