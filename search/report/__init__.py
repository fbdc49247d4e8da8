"""What a results folder says, for people: tables, sentences, plots and pages.

Here: statistics (``estimators``), what they support (``evidence``), their wording (``sentences``, ``sweep_sentences``,
``figures``), what a page shows of each (``exercise_view``, ``search_view``, ``drawings``), their looks (``plots``, ``page``, ``console``,
``progress``), and TensorBoard's files.
Not here: training, and how a file is laid out; all that a page says is read through ``search.results``.
"""
