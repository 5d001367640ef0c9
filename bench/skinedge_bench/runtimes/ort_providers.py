"""ONNX Runtime's other execution providers: accelerators, or other CPU kernels, if the installed build has them.

Each provider is a runtime with its own row. The CPU fallback is disabled: a file with nodes that the provider does not
support is refused, since its latency would not be the provider's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from skinedge.core.errors import BundleError, UnavailableError
from skinedge_bench.runtimes import ort


class ProviderRuntime:
    """Runs .onnx files entirely in one provider. threads_option: its setting for the number of threads, if any."""

    suffixes = (".onnx",)
    optional = True

    def __init__(self, name: str, provider: str, threads_option: str | None = None, **settings: str) -> None:
        self.name = f"onnxruntime-{name}"
        self._provider = provider
        self._threads_option = threads_option
        self._settings: Mapping[str, str] = settings

    def version(self) -> str:
        """See `Runtime.version`."""
        library = ort.library()
        available = library.get_available_providers()
        if self._provider not in available:
            raise UnavailableError(
                f"this build of ONNX Runtime has no {self._provider}", todo=f"It has: {', '.join(available)}."
            )
        return str(library.__version__)

    def open(self, path: Path, threads: int) -> ort.OrtSession:
        """See `Runtime.open`."""
        self.version()
        settings = dict(self._settings)
        if self._threads_option:
            settings[self._threads_option] = str(threads)
        options = ort.session_options(threads)
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        try:
            return ort.open_session(path, options, [(self._provider, settings)])
        except BundleError as error:
            raise UnavailableError(f"not wholly in {self._provider}: {error.what}", where=str(path)) from None


cuda = ProviderRuntime("cuda", "CUDAExecutionProvider")
coreml = ProviderRuntime("coreml", "CoreMLExecutionProvider")
openvino = ProviderRuntime("openvino", "OpenVINOExecutionProvider", "num_of_threads", device_type="CPU")
xnnpack = ProviderRuntime("xnnpack", "XNNPACKExecutionProvider", "intra_op_num_threads")
directml = ProviderRuntime("directml", "DmlExecutionProvider")
