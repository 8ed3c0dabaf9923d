"""``fastrec bench``: the four verbs on real and synthetic data, checked first, then timed beside their peers.

``harness`` times, ``roofs`` measures what the machine could do at most, ``peers`` knows the other libraries,
``references`` holds the readable float64 answers, ``cases`` says what is run (one file a verb), ``tables`` and ``page``
show the result, and ``command`` ties them together.
"""
