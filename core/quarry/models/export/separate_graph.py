"""The graph of the layers that read each text by itself: from its tokens to their states."""

from pathlib import Path

from torch import Tensor, nn

from quarry.models.export.onnx_graph import Inputs, draw_tokens, write_graph
from quarry.models.run_settings import ModelRunSettings
from quarry.models.torch_modules.separate_layers import SeparateLayers
from quarry.models.two_steps.text_reader import APART_FILE


def write_separate_graph(
    module: SeparateLayers, settings: ModelRunSettings, vocabulary: int, target: Path
) -> None:
    """Writes the graph from single texts to their states. Raises ModelError if it cannot be made."""

    def make_texts(shape: tuple[int, int], seed: int) -> Inputs:
        inputs = draw_tokens(settings, shape, seed, vocabulary)
        return {name: inputs[name] for name in ("input_ids", "attention_mask")}

    write_graph(_Alone(module), make_texts, settings.max_tokens, target / APART_FILE, per_token=True)


class _Alone(nn.Module):
    def __init__(self, layers: SeparateLayers) -> None:
        super().__init__()
        self.layers = layers
        self.eval()  # an exporter leaves it as it finds it

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.layers.encode_alone(*inputs)
