"""The networks that tools/try_stacks.py compares to measure what a blind spot costs."""

import try_stacks
from torch import nn

from pixelprior.course.causality import before, seen_by


def after_its_embedding(network):
    """A network as a function of features, since there is no gradient by a code."""

    def logits(v):
        h = v
        for block in network.blocks:
            v, h = block(v, h)
        return network.head(h)

    return network[1:] if isinstance(network, nn.Sequential) else logits


def test_stacks_are_of_equal_size_and_see_what_they_should():
    made = [make(5) for make in try_stacks.NETWORKS.values()]
    sizes = [try_stacks.weights_in_use(network) for network in made]
    assert max(sizes) < 1.03 * min(sizes)
    for at in ((5, 2), (7, 0)):
        single, two, blinded = (
            seen_by(after_its_embedding(network), at, (8, 8), 32) for network in made
        )
        assert blinded.equal(single) and single.sum() < two.sum()
        assert not (single & ~two).any() and not (two & ~before(at, (8, 8))).any()
