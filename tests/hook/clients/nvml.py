"""An ordinary program on nvidia-ml-py: what it sees of its card, one `name value` a line. Waits for a line first."""

import sys

import pynvml

MIB = 1 << 20


def tell(name: str, value: object) -> None:
    print(name, value, flush=True)


def code_of(function: object, *arguments: object) -> str:
    try:
        function(*arguments)  # type: ignore[operator]
    except pynvml.NVMLError as error:
        return type(error).__name__
    return "success"


def main() -> None:
    tell("before_init", code_of(pynvml.nvmlDeviceGetCount))
    pynvml.nvmlInit()
    sys.stdin.readline()
    device = pynvml.nvmlDeviceGetHandleByIndex(0)
    tell("count", pynvml.nvmlDeviceGetCount())
    tell("name", pynvml.nvmlDeviceGetName(device))
    uuid = pynvml.nvmlDeviceGetUUID(device)
    tell("uuid", uuid)
    tell("by_uuid", pynvml.nvmlDeviceGetIndex(pynvml.nvmlDeviceGetHandleByUUID(uuid)))
    bus = pynvml.nvmlDeviceGetPciInfo(device).busId
    tell("bus", bus)
    tell("by_bus", pynvml.nvmlDeviceGetIndex(pynvml.nvmlDeviceGetHandleByPciBusId(bus)))
    memory = pynvml.nvmlDeviceGetMemoryInfo(device)
    tell("total_mib", memory.total // MIB)
    tell("used_mib", memory.used // MIB)
    second = pynvml.nvmlDeviceGetMemoryInfo(device, version=pynvml.nvmlMemory_v2)
    tell("same_in_v2", (second.total, second.used, second.free) == (memory.total, memory.used, memory.free))
    for version in ("_v2", "_v3"):
        ask = getattr(pynvml, f"nvmlDeviceGetComputeRunningProcesses{version}")
        tell(f"processes{version}", [(one.pid, one.usedGpuMemory // MIB) for one in ask(device)])
    tell("graphics", pynvml.nvmlDeviceGetGraphicsRunningProcesses(device))
    rates = pynvml.nvmlDeviceGetUtilizationRates(device)
    tell("busy", 0 <= rates.gpu <= 100)
    tell("celsius", pynvml.nvmlDeviceGetTemperature(device, pynvml.NVML_TEMPERATURE_GPU))
    tell("milliwatts", pynvml.nvmlDeviceGetPowerUsage(device))
    tell("cuda", pynvml.nvmlSystemGetCudaDriverVersion())
    tell("bad_index", code_of(pynvml.nvmlDeviceGetHandleByIndex, 99))
    tell("mig", code_of(pynvml.nvmlDeviceGetMigMode, device))
    pynvml.nvmlShutdown()
    tell("after_shutdown", code_of(pynvml.nvmlDeviceGetCount))


if __name__ == "__main__":
    main()
