"""An ordinary program on cuda-bindings: what it sees of its card, one `name value` a line."""

import ctypes

from cuda.bindings import driver

SPIN_US = 5000
MIB = 1 << 20


def ask(answer):  # type: ignore[no-untyped-def]
    """The results of a call without its code. Raises RuntimeError for a code that is not success."""
    code, *results = answer
    if code != driver.CUresult.CUDA_SUCCESS:
        raise RuntimeError(code.name)
    return results[0] if len(results) == 1 else tuple(results)


def tell(name, value):  # type: ignore[no-untyped-def]
    print(name, value, flush=True)


def code_of(answer):  # type: ignore[no-untyped-def]
    return answer[0].name


def main() -> None:
    tell("before_init", code_of(driver.cuDeviceGetCount()))
    ask(driver.cuInit(0))
    tell("without_context", code_of(driver.cuMemAlloc(MIB)))
    device = ask(driver.cuDeviceGet(0))
    context = ask(driver.cuDevicePrimaryCtxRetain(device))
    ask(driver.cuCtxSetCurrent(context))
    tell("version", ask(driver.cuDriverGetVersion()))
    tell("total_mib", ask(driver.cuDeviceTotalMem(device)) // MIB)
    free, total = ask(driver.cuMemGetInfo())
    tell("info_total_mib", total // MIB)
    tell("context_mib", (total - free) // MIB)
    address = ask(driver.cuMemAlloc(64 * MIB))
    tell("allocated_mib", (free - ask(driver.cuMemGetInfo())[0]) // MIB)
    sent, received = bytes(range(256)) * 4096, bytearray(MIB)
    ask(driver.cuMemcpyHtoD(address, sent, MIB))
    ask(driver.cuMemcpyDtoH(received, address, MIB))
    tell("copied", sent == bytes(received))
    tell("too_much", code_of(driver.cuMemAlloc(1 << 50)))
    tell("gibibyte", code_of(driver.cuMemAlloc(1 << 30)))
    ask(driver.cuMemFree(address))
    tell("spin_ms", f"{spin():.1f}")
    ask(driver.cuDevicePrimaryCtxRelease(device))


def spin() -> float:
    """Milliseconds between events around a kernel of declared time, on a stream of its own."""
    module = ask(driver.cuModuleLoadData(b"any image\0"))
    function = ask(driver.cuModuleGetFunction(module, b"egpu_spin_us"))
    stream = ask(driver.cuStreamCreate(driver.CUstream_flags.CU_STREAM_NON_BLOCKING.value))
    begin, end = ask(driver.cuEventCreate(0)), ask(driver.cuEventCreate(0))
    ask(driver.cuEventRecord(begin, stream))
    parameters = ((SPIN_US,), (ctypes.c_uint32,))
    ask(driver.cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, stream, parameters, 0))
    ask(driver.cuEventRecord(end, stream))
    ask(driver.cuEventSynchronize(end))
    milliseconds = float(ask(driver.cuEventElapsedTime(begin, end)))
    ask(driver.cuStreamDestroy(stream))
    return milliseconds


if __name__ == "__main__":
    main()
