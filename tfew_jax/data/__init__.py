"""Rows to text to tokens to batches, in plain Python and numpy (design.md §4).

The way of a row: `sources.load_rows` reads it, `templates.Template` renders it,
`tokenizer.Tokenizer` spells it, `batching.TrainBatches` and `batching.eval_batches`
put it into batches. `fewshot` describes a task and draws its rows; `tasks` holds the
example tasks.
"""
