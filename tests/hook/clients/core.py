"""An ordinary program on cuda-core: a kernel compiled by NVRTC, pools of stream-ordered memory, libraries,
cuLaunchKernelEx; `name value` lines."""

import sys
import warnings

import numpy as np
from cuda.core import Device, EventOptions, LaunchConfig, Program, ProgramOptions, launch

SPIN_US = 5000
MIB = 1 << 20
SOURCE = """
extern "C" __global__ void egpu_spin_us(unsigned microseconds) {
    const long long until = clock64() + microseconds * 1000ll;
    while (clock64() < until) {}
}
"""


def tell(name, value):  # type: ignore[no-untyped-def]
    print(name, value, flush=True)


def allocate(device, stream, mib):  # type: ignore[no-untyped-def]
    """The buffer, or the name of the error."""
    try:
        return device.allocate(mib * MIB, stream=stream)
    except Exception as error:
        return str(error).partition(":")[0]


def main() -> None:
    # It says that a 12.8 driver is older than its bindings, which is what is tried.
    warnings.filterwarnings("ignore", message="cuda-bindings was built for CUDA major version 13")
    warnings.filterwarnings("ignore", message="The CUDA driver version is older than the backend version")
    device = Device()
    device.set_current()
    stream = device.create_stream()
    code = Program(SOURCE, "c++", ProgramOptions(arch="sm_80")).compile("cubin")
    spin = code.get_kernel("egpu_spin_us")
    buffer = allocate(device, stream, 64)
    tell("allocated_mib", buffer.size // MIB)
    large = allocate(device, stream, int(sys.argv[1]))
    tell("large", large if isinstance(large, str) else "allocated")
    timed = EventOptions(timing_enabled=True)
    begin = stream.record(options=timed)
    launch(stream, LaunchConfig(grid=1, block=32), spin, np.uint32(SPIN_US))
    end = stream.record(options=timed)
    end.sync()
    tell("spin_ms", f"{end - begin:.1f}")
    buffer.close(stream)
    stream.sync()


if __name__ == "__main__":
    main()
