"""What an ordinary program on nvidia-ml-py sees of a card that others use too, one `name value` a line.

view.py PID...   the processes whose names it asks for. Waits for a line of stdin between two looks at the utilisation.
"""

import sys

import pynvml

MIB = 1 << 20


def tell(name: str, value: object) -> None:
    print(name, value, flush=True)


def error_of(function: object, *arguments: object) -> str:
    try:
        function(*arguments)  # type: ignore[operator]
    except pynvml.NVMLError as error:
        return type(error).__name__
    return "success"


def look_at_memory(device: object) -> None:
    memory = pynvml.nvmlDeviceGetMemoryInfo(device)
    tell("v1", (memory.total // MIB, memory.used // MIB, memory.free // MIB))
    memory = pynvml.nvmlDeviceGetMemoryInfo(device, version=pynvml.nvmlMemory_v2)
    tell("v2", (memory.total // MIB, memory.used // MIB, memory.free // MIB, memory.reserved))


def look_at_processes(device: object) -> None:
    for version in ("", "_v2", "_v3"):
        ask = getattr(pynvml, f"nvmlDeviceGetComputeRunningProcesses{version}")
        tell(f"compute{version}", sorted((one.pid, one.usedGpuMemory // MIB) for one in ask(device)))
    tell("graphics", pynvml.nvmlDeviceGetGraphicsRunningProcesses(device))
    tell("mps", pynvml.nvmlDeviceGetMPSComputeRunningProcesses(device))
    try:
        samples = pynvml.nvmlDeviceGetProcessUtilization(device, 0)
        tell("samples", sorted({sample.pid for sample in samples}))
    except pynvml.NVMLError as error:
        tell("samples", type(error).__name__)


def main() -> None:
    pynvml.nvmlInit()
    device = pynvml.nvmlDeviceGetHandleByIndex(0)
    look_at_memory(device)
    look_at_processes(device)
    for pid in sys.argv[1:]:
        tell(f"name_{pid}", error_of(pynvml.nvmlSystemGetProcessName, int(pid)))
    pynvml.nvmlDeviceGetUtilizationRates(device)
    tell("ready", "")
    sys.stdin.readline()
    tell("gpu", pynvml.nvmlDeviceGetUtilizationRates(device).gpu)
    pynvml.nvmlShutdown()


if __name__ == "__main__":
    main()
