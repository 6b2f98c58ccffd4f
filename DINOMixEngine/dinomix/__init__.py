"""DINOMix: semi-supervised, class-imbalanced 3D medical image segmentation (DINO-Mix, arXiv 2602.07819).

Importing this package imports neither torch nor MONAI; each verb loads what it needs.
"""

__version__ = "0.1.0"
