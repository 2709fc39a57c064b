"""mtdnn: multi-task fine-tuning of text encoders with SMART regularization."""

__version__ = "0.1.0"
