"""Compiled kernels.  No checks here: the operations in the layers above validate before they call.

The sources are in ``kernels/`` at the top of the project; ``cuda`` is that folder's own ``cuda``.
"""
