"""PyTorch with torch.compile, fp32, on the CPU: the merged model, compiled with a C++ compiler on opening."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from skinedge.core.errors import UnavailableError
from skinedge_bench.runtimes import torch_eager


class TorchCompileRuntime:
    """Runs merged .safetensors files with torch.compile's default settings, one image per call."""

    name = "torch-compile"
    suffixes = (".safetensors",)
    optional = False
    safe_format = True

    def version(self) -> str:
        """See `Runtime.version`."""
        return torch_eager.runtime.version()

    def open(self, path: Path, threads: int) -> torch_eager.TorchSession:
        """See `Runtime.open`."""
        network = torch_eager.read_network(path)
        import torch

        size = network.description.preprocess.size
        torch.set_num_threads(threads)  # part of the generated code
        try:
            compiled = torch.compile(network.model)
            with torch.inference_mode():
                compiled(torch.zeros(1, 3, size, size))
        except Exception as error:  # the errors of torch and of the compiler have no common base class
            reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
            raise UnavailableError(
                f"torch.compile does not work here ({reason})",
                where=str(path),
                todo="It needs a C++ compiler and Python's headers (Debian: apt install g++ python3-dev).",
            ) from None
        return torch_eager.TorchSession(replace(network, model=compiled), threads, batch=1)


runtime = TorchCompileRuntime()
