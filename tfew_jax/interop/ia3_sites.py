"""Which Hugging Face module carries which (IA)^3 vector."""

from tfew_jax.interop import names

_SITES = {"k": "key", "v": "value"}
_HIDDEN = "ia3_mlp_hidden"


def module_of(path: str, *, hidden: str) -> str:
    """The Hugging Face module that other formats name a vector after.

    Args:
        path: Path of one of our vectors.
        hidden: What they name the feed-forward vector after: `wo`, whose input it
            scales, or `wi_1`, whose output it scales; on the gated block both are the
            same function.
    """
    layer, vector, _ = path.rsplit("/", 2)
    kernel = hidden if vector == _HIDDEN else vector.removeprefix("ia3_")
    return names.module_of(f"{layer}/{kernel}/kernel")


def path_of(module: str, *, scales_input: bool, gated: bool) -> str | None:
    """Path of our vector for a scaled module, or None if (IA)^3 has none there."""
    path = names.path_of(module)
    name = module.rsplit(".", 1)[-1]
    if path is None:
        return None
    layer = path.rsplit("/", 2)[0]
    if name in _SITES and not scales_input:
        return f"{layer}/ia3_{_SITES[name]}/scale"
    if (name == "wo" and scales_input) or (
        name == "wi_1" and gated and not scales_input
    ):
        return f"{layer}/{_HIDDEN}/scale"
    return None


def sites_of(paths: set[str]) -> tuple[str, ...]:
    """The sites that the given vectors are at."""
    order = ("key", "value", "mlp_hidden")
    return tuple(s for s in order if any(f"/ia3_{s}/" in path for path in paths))
