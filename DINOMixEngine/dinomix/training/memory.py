"""How much memory a training step may take on this machine."""

import psutil
import torch


def training_memory(device: torch.device) -> int:
    """Bytes: nine tenths of the free GPU memory, or half of the main memory that is available."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(0.9 * free)
    return int(0.5 * psutil.virtual_memory().available)
