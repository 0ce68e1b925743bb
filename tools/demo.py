"""The main job: the embedded base, tuned on the two embedded tasks.

    python tools/demo.py [--steps N] [--learning-rate X] [--shots N] [--out DIR]
        [--overwrite]

Each of five seeds draws its own 50 rows of a task's training half and is scored on its
test half, every row by a random one of the task's templates, as in T-Few. Beside the
tuned model stand the same model without tuning, the majority class, and TF-IDF with
logistic regression on the same rows. The tasks run at once, each on its share of the
cores. What was stopped goes on where it was; what is finished is only shown again.
"""

import argparse
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import threading
import time
from typing import Any

TASKS = ("customer_intent", "product_reviews")
SEEDS = (0, 1, 32, 42, 1024)
_REFUSED = 2  # exit status
KINDS = {
    "majority": "majority class",
    "zero_shot": "zero-shot",
    "tfidf": "TF-IDF",
    "tuned": "(IA)^3",
}


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=200, help="updates of a run")
    # A model this small wants a higher rate than T-Few's 3e-3; found on TweetEval's
    # emotions, on which nothing here is measured.
    parser.add_argument("--learning-rate", type=float, default=1e-2, help="peak rate")
    parser.add_argument("--shots", type=int, default=50, help="rows drawn a seed")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("demo_output"))
    parser.add_argument("--base", help="another base model; default the embedded one")
    parser.add_argument("--overwrite", action="store_true", help="begin anew")
    parser.add_argument("--task", choices=TASKS, help="run one task, in this process")
    return parser.parse_args()


def run_task(options: argparse.Namespace) -> None:
    """Tunes and scores one task into its folder."""
    from tfew_jax.cli import memory

    memory.keep_freed_memory()
    import tfew_jax
    from tfew_jax import experiment
    from tfew_jax.data import tasks

    task = tasks.get(options.task)
    experiment.train(
        model_dir=options.out / options.task,
        base=tfew_jax.load_base(options.base),
        task=task,
        recipe=experiment.Recipe(
            num_steps=options.steps, learning_rate=options.learning_rate
        ),
        seeds=SEEDS,
        num_shots=options.shots,
        eval_templates="random",
        checkpoint_period=options.steps,
        overwrite=options.overwrite,
    )


def start_task(
    name: str, options: argparse.Namespace, cores: list[int]
) -> tuple[subprocess.Popen[str], threading.Thread]:
    """Starts a task in a process of its own, and a thread that shows what it says."""
    command = [sys.executable, __file__, "--task", name, "--out", str(options.out)]
    command += ["--steps", str(options.steps), "--shots", str(options.shots)]
    command += ["--learning-rate", str(options.learning_rate)]
    command += ["--base", options.base] if options.base else []
    command += ["--overwrite"] if options.overwrite else []
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        bufsize=1,
    )
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(process.pid, cores)

    def show() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            print(f"{name:16} {line}", end="", flush=True)

    thread = threading.Thread(target=show)
    thread.start()
    return process, thread


def run_tasks(options: argparse.Namespace) -> None:
    """Runs all tasks at once, each on its share of the cores."""
    cores = list(range(os.cpu_count() or 1))
    if hasattr(os, "sched_getaffinity"):
        cores = sorted(os.sched_getaffinity(0))
    started = [
        start_task(name, options, cores[i :: len(TASKS)] or cores)
        for i, name in enumerate(TASKS)
    ]
    try:
        for process, thread in started:
            process.wait()
            thread.join()
    except KeyboardInterrupt:  # the tasks have got it too, and save what they reached
        for process, _ in started:
            with contextlib.suppress(KeyboardInterrupt):
                process.wait()
        raise SystemExit(130) from None
    if any(process.returncode == _REFUSED for process, _ in started):
        raise SystemExit(_REFUSED)  # a line above says what to change
    failed = [
        f"{name} (exit status {process.returncode})"
        for name, (process, _) in zip(TASKS, started, strict=True)
        if process.returncode
    ]
    if failed:
        raise SystemExit(
            f"{', '.join(failed)} failed; where it gave a reason, that stands above. "
            "The same command goes on from here"
        )


def print_table(summaries: dict[str, Any], shots: int) -> None:
    """Prints accuracies with their spread, and how large an adapter is."""
    import rich.console
    import rich.table

    table = rich.table.Table(
        title=f"accuracy on the test half: median (quartiles) of {len(SEEDS)} seeds, "
        f"{shots} rows each"
    )
    table.add_column("task")
    for name in KINDS.values():
        table.add_column(name, justify="right")
    table.add_column("adapter", justify="right")
    for task, summary in summaries.items():
        cells = [
            f"{numbers['median']:.3f} ({numbers['q1']:.3f}–{numbers['q3']:.3f})"
            if (numbers := summary[kind])["n"] > 1
            else f"{numbers['median']:.3f}"
            for kind in KINDS
        ]
        table.add_row(task, *cells, f"{summary['adapter']['num_bytes']:,} bytes")
    width = None if sys.stdout.isatty() else 120
    rich.console.Console(width=width).print(table)


def draw_chart(summaries: dict[str, Any], path: pathlib.Path) -> None:
    """Draws the accuracies as bars, with quartiles as whiskers."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    colours = ("#bbbbbb", "#8da0cb", "#fc8d62", "#1b7837")
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    width = 0.8 / len(KINDS)
    for i, (kind, name) in enumerate(KINDS.items()):
        numbers = [summary[kind] for summary in summaries.values()]
        medians = [n["median"] for n in numbers]
        low = [n["median"] - n["q1"] for n in numbers]
        high = [n["q3"] - n["median"] for n in numbers]
        places = [t + (i - (len(KINDS) - 1) / 2) * width for t in range(len(numbers))]
        axes.bar(places, medians, width * 0.92, label=name, color=colours[i])
        axes.errorbar(places, medians, [low, high], fmt="none", color="#333333")
        for place, n in zip(places, numbers, strict=True):  # above the whisker
            label = f"{n['median']:.2f}"
            axes.text(place, n["q3"] + 0.015, label, ha="center", fontsize=8)
    axes.set_xticks(range(len(summaries)), [n.replace("_", " ") for n in summaries])
    axes.set_ylim(0, 1.05)
    axes.set_ylabel("accuracy on the test half")
    axes.legend(loc="upper left", ncols=len(KINDS), fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def main() -> None:
    """Runs the tasks, then shows and saves what came out."""
    options = parse_arguments()
    if options.task:
        try:
            run_task(options)
        except ValueError as error:  # what was given cannot work
            message = " ".join(str(error).split())
            print(f"demo.py: error: {message}", file=sys.stderr)
            raise SystemExit(_REFUSED) from None
        return
    start = time.monotonic()
    options.out.mkdir(parents=True, exist_ok=True)
    run_tasks(options)
    summaries = {
        name: json.loads((options.out / name / "summary.json").read_text())
        for name in TASKS
    }
    print_table(summaries, options.shots)
    chart = options.out / "accuracy.png"
    draw_chart(summaries, chart)
    for name in TASKS:
        print(f"{name}: predictions in {options.out / name / 'predictions.csv'}")
    print(f"chart: {chart}")
    whole = {
        "tasks": summaries,
        "chart": chart.name,
        "wall_time_s": round(time.monotonic() - start, 1),
    }
    path = options.out / "summary.json"
    path.write_text(json.dumps(whole, indent=2) + "\n")
    print(path)


if __name__ == "__main__":
    main()
