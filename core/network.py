"""The convolutional network of the paper (Laine et al. 2017, Sec. 3.1), and what it was compared with (Sec. 5.1).

A whitened 240 x 320 gray picture goes through six pairs of 3 x 3 convolutions with ReLU, the first of each pair with
stride 2, then dropout, a linear layer to 160 components and a linear output layer to every coordinate of the animated
vertices. For 5,000 vertices that is 10.28 M parameters and 2.17 GMAC a frame.
"""

import torch
import torch.nn.functional as F
from torch import nn

from .architectures import CONVOLUTIONAL, PAPER, STABILISED, check_architecture
from .crop import HEIGHT, WIDTH

WIDTHS = (64, 96, 144, 216, 324, 486)  # output channels of the pairs conv1 .. conv6
COMPONENTS = 160
DROPOUT = 0.2
INNER = 2000, 1000  # widths of the fully connected network (Sec. 5.1)
PAD = 32  # channels are padded to a multiple of this when computing in bf16
SMALL = 80  # pixels of a layer's output up to which a matrix product gives its weights' gradient faster
WHITENED_EACH = "convolutional-whitened-each"
_CONVOLUTIONS = {  # channels of the pairs, and the letters of the layers in each: a has stride 2, others 1
    PAPER: (WIDTHS, "ab"),
    "convolutional-narrow": (tuple(width // 2 for width in WIDTHS), "ab"),
    "convolutional-wide": (tuple(3 * width // 2 for width in WIDTHS), "ab"),
    "convolutional-shallow": (WIDTHS, "a"),
    "convolutional-deep": (WIDTHS, "abc"),
    WHITENED_EACH: (WIDTHS, "ab"),
}


def make_network(architecture: str, outputs: int, components: int = COMPONENTS,
                 image_components: int = 0) -> "Network | FullyConnected":
    """An untrained network by the name of its architecture.

    image_components : what a fully connected network sees a picture as; 0 for others.
    Raises UnderstudyError for a name that there is not.
    """
    check_architecture(architecture)
    if architecture in CONVOLUTIONAL:
        return Network(outputs, components, architecture)
    return FullyConnected(outputs, components, image_components, stabilised=architecture == STABILISED)


class Network(nn.Module):
    """A convolutional network, regressing `outputs` = 3 A coordinates through `components` linear components.

    Layers carry the paper's names: conv1a ... conv6b, fc, output. Weights are float32 whatever the arithmetic.
    convolutions : names of the layers in order.    channels : of the last one.    feature_count : 9720 in the paper's.
    droppable : how many numbers of a frame dropout decides about.
    """

    stabilised = False

    def __init__(self, outputs: int, components: int = COMPONENTS, architecture: str = PAPER):
        super().__init__()
        self.architecture = architecture
        widths, letters = _CONVOLUTIONS[architecture]
        names, before = [], 1
        for pair, width in enumerate(widths, 1):
            for letter in letters:
                names.append(f"conv{pair}{letter}")
                self.add_module(names[-1], nn.Conv2d(before, width, 3, stride=2 if letter == "a" else 1, padding=1))
                before = width
        self.convolutions, self.channels = tuple(names), before
        self.feature_count = self.droppable = before * (HEIGHT // 64) * -(-WIDTH // 64)  # halved six times, rounded up
        self.fc = nn.Linear(self.feature_count, components)
        self.output = nn.Linear(components, outputs)

    def forward(self, inputs: torch.Tensor, reduced: bool = False, keep: torch.Tensor | None = None) -> torch.Tensor:
        """Vertex coordinates from whitened pictures.

        inputs : (N, 1, 320, 240) float32.    reduced : run the convolutions in bfloat16; the two linear layers
        always run in float32 (in bfloat16 they alone move vertices by up to 0.8 mm).
        keep : (N, droppable) float32, 0 for features that dropout leaves out and 1 for others; None = as chance has it
        when training, all otherwise.
        Returns (N, outputs) float32, centimetres.
        """
        features = self.features(inputs, reduced)
        if keep is None:
            features = F.dropout(features, DROPOUT, self.training)
        else:
            features = features * keep / (1 - DROPOUT)
        return self.output(self.fc(features))

    def features(self, inputs: torch.Tensor, reduced: bool = False) -> torch.Tensor:
        """What lies behind the last convolution, (N, feature_count) float32, in channel, row, column order."""
        x = whiten_each(inputs) if self.architecture == WHITENED_EACH else inputs
        x = x.to(torch.bfloat16 if reduced else x.dtype).contiguous(memory_format=torch.channels_last)
        for name in self.convolutions:
            layer = getattr(self, name)
            if reduced:
                x = _ReducedConvReLU.apply(x, layer.weight, layer.bias, layer.stride[0])
            else:
                x = F.relu(layer(x), inplace=True)
        return x[:, :self.channels].float().flatten(1)


class FullyConnected(nn.Module):
    """The fully connected network that the paper held against its own (Sec. 5.1), with the same interface.

    A picture is seen as coefficients of the principal components of the training pictures, `image_mean` and
    `image_basis`, which training does not change. Layers: fc1 with ReLU and dropout, fc2 with tanh and dropout, fc (the
    paper's fc3), output; all in float32. `features` are what lies behind fc2.
    stabilised : whether pictures must be stabilised first, with `place` and `usual` of core/steady.py.
    """

    convolutions = ()

    def __init__(self, outputs: int, components: int, image_components: int, stabilised: bool):
        super().__init__()
        self.architecture = STABILISED + ("" if stabilised else "-unstabilised")
        self.stabilised = stabilised
        self.register_buffer("image_mean", torch.zeros(HEIGHT * WIDTH))
        self.register_buffer("image_basis", torch.zeros(image_components, HEIGHT * WIDTH))
        if stabilised:
            self.register_buffer("place", torch.zeros(2))
            self.register_buffer("usual", torch.eye(3))
        self.fc1 = nn.Linear(image_components, INNER[0])
        self.fc2 = nn.Linear(*INNER)
        self.fc = nn.Linear(INNER[1], components)
        self.output = nn.Linear(components, outputs)
        self.feature_count, self.droppable = INNER[1], sum(INNER)

    def forward(self, inputs: torch.Tensor, reduced: bool = False, keep: torch.Tensor | None = None) -> torch.Tensor:
        """Vertex coordinates, (N, outputs) float32, centimetres.

        inputs : (N, 1, 320, 240) float32 whitened pictures, or what `coefficients` made of them.    reduced : ignored.
        keep : (N, droppable) float32, for both dropouts, as in Network.
        """
        if keep is None and self.training:
            keep = torch.empty(len(inputs), self.droppable, device=inputs.device).bernoulli_(1 - DROPOUT)
        first, second = (None, None) if keep is None else keep.split(INNER, 1)
        features = self.features(inputs, reduced, first)
        return self.output(self.fc(features if second is None else features * second / (1 - DROPOUT)))

    def features(self, inputs: torch.Tensor, reduced: bool = False, keep: torch.Tensor | None = None) -> torch.Tensor:
        """What lies behind fc2, (N, 1000) float32.    keep : (N, 2000), for the first dropout; None = without."""
        x = F.relu(self.fc1(inputs if inputs.dim() == 2 else self.coefficients(inputs)))
        return torch.tanh(self.fc2(x if keep is None else x * keep / (1 - DROPOUT)))

    def coefficients(self, inputs: torch.Tensor) -> torch.Tensor:
        """Whitened pictures (N, 1, 320, 240) float32 as coefficients of the image components, (N, K) float32."""
        return (inputs.flatten(1) - self.image_mean) @ self.image_basis.T


def whiten_each(inputs: torch.Tensor) -> torch.Tensor:
    """Pictures (N, 1, H, W), each with mean 0 and variance 1: what the paper advises against (Sec. 3.1)."""
    deviation, mean = torch.std_mean(inputs, (1, 2, 3), correction=0, keepdim=True)
    return (inputs - mean) / deviation.clamp(min=1e-3)


class _ReducedConvReLU(torch.autograd.Function):
    """Convolution and ReLU in bfloat16 with as few passes over memory as possible.

    Memory, not arithmetic, bounds the first layers: ReLU is done in place (or by the convolution itself on CPUs) and
    its gradient is masked by the output, so that neither keeps a tensor of its own. Channels are padded with zeros
    to full vector registers; padded channels stay exactly zero.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, stride):
        ctx.sizes, ctx.stride = weight.shape[:2], [stride, stride]
        weight, bias = _padded(weight, x.shape[1]), F.pad(bias.to(x.dtype), (0, -len(bias) % PAD))
        if x.device.type == "cpu":
            y = torch.ops.mkldnn._convolution_pointwise(x, weight, bias, [1, 1], ctx.stride, [1, 1], 1, "relu", [], "")
        else:
            y = F.conv2d(x, weight, bias, stride, 1).relu_()
        ctx.save_for_backward(x, weight, y)
        return y

    @staticmethod
    def backward(ctx, gradient):
        x, weight, y = ctx.saved_tensors
        (outputs, inputs), wanted = ctx.sizes, ctx.needs_input_grad
        gradient = torch.ops.aten.threshold_backward(gradient, y, 0)  # in place it would take twice as long
        small = x.device.type == "cpu" and y.shape[2] * y.shape[3] <= SMALL
        gx, gw, gb = torch.ops.aten.convolution_backward(
            gradient, x, weight, [weight.shape[0]], ctx.stride, [1, 1], [1, 1], False, [0, 0], 1,
            [wanted[0], not small, not small])
        if small:
            gw, gb = _weight_gradient(gradient, x, ctx.stride[0])
        return gx, gw[:outputs, :inputs].float(), gb[:outputs].float(), None


def _padded(weight: torch.Tensor, inputs: int) -> torch.Tensor:
    """A layer's weights in bfloat16, zeros for channels that are only padding, channels last in memory.

    Made by permuting: for one input channel torch takes any memory for channels last, oneDNN does not, and runs the
    first two layers three times slower.
    """
    result = weight.new_zeros((-(-len(weight) // PAD) * PAD, 3, 3, inputs), dtype=torch.bfloat16)
    result[:len(weight), :, :, :weight.shape[1]] = weight.permute(0, 2, 3, 1)
    return result.permute(0, 3, 1, 2)


def _weight_gradient(gradient: torch.Tensor, x: torch.Tensor, stride: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of weights and bias as a matrix product, which for small pictures beats oneDNN's own three times."""
    rows = gradient.permute(0, 2, 3, 1).flatten(0, 2)
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    count, _, _, channels = padded.shape
    image, line, pixel, _ = padded.stride()
    columns = padded.as_strided((count, *gradient.shape[2:], 3, 3, channels),
                                (image, stride * line, stride * pixel, line, pixel, 1)).reshape(len(rows), -1)
    return ((rows.T @ columns).view(-1, 3, 3, channels).permute(0, 3, 1, 2),
            rows.sum(0, dtype=torch.float32))
