"""Running an ONNX network: one image at a time on one thread, so that nothing but the image decides its row.

That costs nothing: of four networks tried, batches of 32 took more processor time on the two largest, and less only on
the smallest (0.22 ms an image against 0.29).
"""

from __future__ import annotations

from typing import Any

from lastlayer._arrays import Array, InputError


def open_session(content: bytes) -> Any:
    """A network ready to run on one thread.

    Raises
    ------
    InputError
        LL060 when onnxruntime is not installed; otherwise when it cannot run the network.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(
            f"phi onnx needs the package onnxruntime ({error})", "pip install 'lastlayer[onnx]'", "LL060"
        ) from None
    onnxruntime.disable_telemetry_events()
    how = onnxruntime.SessionOptions()
    how.intra_op_num_threads = how.inter_op_num_threads = 1
    how.use_deterministic_compute = True
    how.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(content, how, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own types
        raise InputError(f"onnx: the network cannot be run: {str(error)[:300]}") from None


def run_session(session: Any, x: Array) -> Any:
    """The network's one output for a batch of one image."""
    try:
        return session.run(None, {session.get_inputs()[0].name: x})[0]
    except Exception as error:  # the runtime's own types
        raise InputError(f"onnx: the network fails on an image of {x.shape[1:]}: {str(error)[:300]}") from None
