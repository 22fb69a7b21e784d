"""The networks that an actor can be trained with, by name: the paper's, and what it was compared with (Sec. 5.1).

Names stand in model files and configurations. Without torch, so that the command line can list them.
"""

from .errors import UnderstudyError

PAPER = "convolutional"
STABILISED = "fully-connected"
ARCHITECTURES = {
    PAPER: "the paper's network: six pairs of convolutions",
    "convolutional-narrow": "half as many channels in every convolution",
    "convolutional-wide": "one and a half times as many channels in every convolution",
    "convolutional-shallow": "without the convolutions of stride 1",
    "convolutional-deep": "with two convolutions of stride 1 in every pair",
    "convolutional-whitened-each": "with every picture whitened by itself, which undoes brightness and contrast",
    STABILISED: "three layers on 3000 principal components of the picture, the head kept in its place",
    "fully-connected-unstabilised": "the same, with the head where it moves to",
}
CONVOLUTIONAL = tuple(name for name in ARCHITECTURES if name.startswith(PAPER))


def check_architecture(name: str) -> None:
    """Raise UnderstudyError for a name that there is not."""
    if name not in ARCHITECTURES:
        raise UnderstudyError(f"There is no architecture {name!r}; there are {', '.join(ARCHITECTURES)}.")
