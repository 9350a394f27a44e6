"""Host bridges, made safely: a network card becomes a port of a bridge, and the host keeps its addresses and its way out.

:mod:`plan` works out what has to change, :mod:`change` makes the change under a guardian that takes it back,
:mod:`kernel` moves addresses and routes, and :mod:`systems` with its siblings write what a host's own configuration
system reads at the next boot.
"""
