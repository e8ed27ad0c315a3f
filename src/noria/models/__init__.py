"""What a model is: its task and signature, its split, its features, its two forms, and the frameworks behind them.

Promises that the compiled form answers as the original does, or is not used, and that training never sees a held-out row.
Exports ``signature.Signature``, ``split.split``, ``forms``, ``conversion``, ``frameworks.registry`` and what runs in step
processes.
"""
