"""tools/demo.py where it cannot go on."""

import pathlib
import sys
import threading
import types

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))

import demo


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["demo.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        demo.main()
    return stop.value.code


def test_other_steps_over_a_finished_demo_are_one_line(tmp_path, monkeypatch, capsys):
    task = tmp_path / demo.TASKS[0]
    task.mkdir()
    settings = '{"base": "0123", "recipe.num_steps": 300}'
    (task / "settings.json").write_text(settings)
    given = ("--steps", 10, "--out", tmp_path, "--task", demo.TASKS[0])
    assert run(monkeypatch, *given) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"demo.py: error: {task} holds a run with other settings")
    assert "--overwrite" in line


@pytest.mark.parametrize(
    ("status", "code"), [(2, 2), (1, "product_reviews (exit status 1) failed; where")]
)
def test_what_a_task_refused_ends_the_demo_with_its_status(
    tmp_path, monkeypatch, status, code
):
    def start_task(name, options, cores):
        returned = status if name == "product_reviews" else 0
        process = types.SimpleNamespace(returncode=returned, wait=lambda: None)
        thread = threading.Thread(target=lambda: None)
        thread.start()
        return process, thread

    monkeypatch.setattr(demo, "start_task", start_task)
    found = run(monkeypatch, "--out", tmp_path)
    assert found == code or str(found).startswith(str(code))
