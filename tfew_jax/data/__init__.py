"""Rows to text to tokens to batches, in plain Python and numpy.

The way of a row: `sources.load_rows` reads it, `fewshot.render_rows` makes it text,
`tokenized.tokenize` spells it, `batching.TrainBatches` and `batching.eval_batches` put
it into batches. `fewshot` also describes a task and draws its rows; `tasks` holds the
example tasks.
"""
