"""From a commit and its data to a trained model: steps, their graph, what is stale, executors, search, experiments.

Promises that a step runs only when something it depends on has changed, by content, and that a result is remembered whole or
not at all.
Exports ``context.PipelineContext`` (what every stage works with), ``pin``, ``graph``, ``train``, ``search``, ``experiment`` and
``executors``.
"""
