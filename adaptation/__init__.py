"""Detectors under domain shift: the floor beside `evolution`, on the ground of `robustkit`.

Its rooms are detectors, attacks on detection losses, feature alignment, the distance between two
domains, and evaluation. It may import `robustkit`, never `evolution` or `experiments`.
"""
