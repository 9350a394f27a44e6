"""Images of installed systems: a catalogue of the official ones, fetched and verified once, and what guests start from.

:mod:`catalogue` knows what there is, :mod:`download` fetches and verifies, :mod:`store` keeps images in a storage pool.
"""
