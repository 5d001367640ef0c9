"""The network: backbone, LoRA adapters and faster layers. Needs torch."""
