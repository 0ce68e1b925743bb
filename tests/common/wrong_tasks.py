"""What an adapter may not say of its task and its metadata, and what is said of it."""

CASES = [
    ({"task": 5}, "task must be an object with fields, found 5"),
    ({"task": []}, "task must be an object with fields, found []"),
    ({"task": {"templates": 5}}, "templates of the task must be text or a list"),
    ({"task": {"choices": ["a", 1]}}, "choices of the task must be text or a list"),
    ({"task": {"lengths": 5}}, "lengths of the task must be an object of whole n"),
    ({"task": {"lengths": {"inputs": "64"}}}, "of whole numbers, found {'inputs'"),
    ({"task": {"target_prefix": 3}}, "target_prefix of the task must be text, fo"),
    ({"task": {"input_eos": 1}}, "input_eos of the task must be true or false, f"),
    ({"task": {"normalization": "median"}}, "must be 'mean' or 'sum', found 'med"),
    ({"metadata": ["seed"]}, "metadata must be an object with fields, found ['s"),
]
