"""What PyTorch itself says of a reply: the kernels that ran, whether CUDA graphs were replayed, what was compiled and when."""

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

# The operators that SDPA may end in, as PyTorch's profiler names them. On a CPU the name of the first means a kernel for CPUs.
SDPA_OPERATORS = {
    "aten::_scaled_dot_product_flash_attention": "flash",
    "aten::_scaled_dot_product_flash_attention_for_cpu": "flash",
    "aten::_scaled_dot_product_efficient_attention": "efficient",
    "aten::_scaled_dot_product_cudnn_attention": "cudnn",
    "aten::_scaled_dot_product_attention_math": "math",
}
# How PyTorch's profiler names what the package flash-attn calls, none of it SDPA's: its operators since 2.7, its autograd functions always.
FLASH_ATTN_OPERATORS, FLASH_ATTN_FUNCTIONS = "flash_attn::", "FlashAttn"
# How the profiler names the replay of a CUDA graph.
GRAPH_LAUNCHES = ("cudaGraphLaunch", "cuGraphLaunch")
# What a kernel's own time is called, since PyTorch 2.4 and before.
DEVICE_TIMES = ("self_device_time_total", "self_cuda_time_total")
# How torch.compile words that it gives a function up: in PyTorch 2.11 and 2.13, and in 2.1.
GIVEN_UP = re.compile("recompile limit exceeded|cache_size_limit reached")
# Variables of the environment with which torch.compile leaves everything as it is, and with one of which it hands its graphs to others.
SWITCHED_OFF = ("TORCHDYNAMO_DISABLE", "TORCH_COMPILE_DISABLE")
HANDED_ON = "TORCH_COMPILE_OVERRIDE_BACKENDS"
# So many of the kernels that took most of the time are kept, and so many characters of their names, which templates make long.
MOST, NAME = 5, 80


def profiled(reply: Callable[[], object], on_gpu: bool) -> dict:
    """Run `reply` under PyTorch's profiler: `sdpa_kernels` with their calls, `top_kernels`, `flash_attn_calls` where there were any, and
    `cuda_graph_launches` on a GPU.

    `top_kernels` are the kernels of the device, on a CPU the operators, that took most of its time, with their share of it in %.
    """
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as watched:
        reply()
    events = watched.key_averages()
    calls = {event.key: event.count for event in events}
    seen = {"sdpa_kernels": sdpa_kernels(calls), "top_kernels": top(own_times(events, on_gpu))}
    if flash_attn := flash_attn_calls(calls):
        seen["flash_attn_calls"] = flash_attn
    if on_gpu:
        seen["cuda_graph_launches"] = sum(calls.get(name, 0) for name in GRAPH_LAUNCHES)
    return seen


def sdpa_kernels(calls: dict[str, int]) -> dict[str, int]:
    """From the calls of every operator those of SDPA's kernels, by our names for them."""
    found: Counter = Counter()
    for operator, kernel in SDPA_OPERATORS.items():
        if calls.get(operator):
            found[kernel] += calls[operator]
    return dict(found)


def flash_attn_calls(calls: dict[str, int]) -> int:
    """From the calls of every operator those of the package flash-attn; an operator within one of its functions counts once."""
    operators, functions = (
        sum(count for name, count in calls.items() if name.startswith(start)) for start in (FLASH_ATTN_OPERATORS, FLASH_ATTN_FUNCTIONS)
    )
    return operators or functions


def attention_not_as_asked(asked: str | None, kernel: str | None, seen: Mapping) -> str:
    """What of the attention that was `asked` for, and of the kernel of SDPA, is not among what `profiled` has seen; empty where all is."""
    if asked == "flash_attention_2" and not seen.get("flash_attn_calls"):
        return "asked for the kernels of flash-attn, and none of its operators ran"
    if asked == "sdpa" and not seen["sdpa_kernels"]:
        return "asked for sdpa attention, and SDPA was never called"
    if kernel and set(seen["sdpa_kernels"]) != {kernel}:
        return f"SDPA ran its kernel {' and '.join(sorted(seen['sdpa_kernels']))}, not {kernel} alone"
    return ""


def top(times: Sequence[tuple[str, float]]) -> dict[str, str]:
    """The names that took most time, with their share of all time, such as {"aten::mm": "61 %"}; empty where none took any."""
    whole = sum(time for _, time in times)
    ranked = sorted(times, key=lambda pair: -pair[1])[:MOST]
    return {name[:NAME]: f"{100 * time / whole:.0f} %" for name, time in ranked if whole and time > 0}


def compiled() -> dict[str, int]:
    """What torch.compile has made in this process, by its own counters.

    `compiled_graphs`; `graph_breaks`, where a graph ended early; and `functions_given_up`: those that it would have had to compile more
    often than `torch._dynamo.config.recompile_limit` allows, and runs as they are wherever what it has does not fit.
    """
    from torch._dynamo.utils import counters

    return {
        "compiled_graphs": counters["stats"]["unique_graphs"],
        "graph_breaks": sum(counters["graph_break"].values()),
        "functions_given_up": sum(count for words, count in counters["unimplemented"].items() if GIVEN_UP.search(words)),
    }


def not_compiled(seen: Mapping[str, int], called: str = "") -> str:
    """Why what `compiled` has seen is not what was asked of torch.compile; empty where it is. `called`: what ran in its place."""
    if not seen["compiled_graphs"]:
        return f"no compiled code ran: {variable_against_compiling() or called}".removesuffix(": ")
    return _set_to(HANDED_ON)


def variable_against_compiling() -> str:
    """The variable of the environment that keeps torch.compile from what it is asked for, in words; empty where none is set."""
    # Any other value than 1 leaves PyTorch compiling.
    off = [name for name in SWITCHED_OFF if os.environ.get(name) == "1"]
    return next(filter(None, map(_set_to, (*off, HANDED_ON))), "")


def _set_to(name: str) -> str:
    return f"{name}={os.environ[name]} is set in the environment" if os.environ.get(name) else ""


class Compiled:
    """What torch.compile has made, looked at after each reply: whether it was still compiling when replies were counted."""

    def __init__(self):
        self.graphs: list[int] = []

    def look(self) -> None:
        """Note how many graphs there are by now; to be called after each reply."""
        from torch._dynamo.utils import counters

        self.graphs.append(counters["stats"]["unique_graphs"])

    def evidence(self, warmup_replies: int) -> dict:
        """What `compiled` says, and `compiled_while_counting`: the graphs that came after the warm-up replies."""
        return {**compiled(), "compiled_while_counting": self.since(warmup_replies)}

    def since(self, replies: int) -> int:
        """The graphs that came after so many replies."""
        return self.graphs[-1] - (self.graphs[replies - 1] if replies else 0) if len(self.graphs) > replies else 0


def own_times(events: Sequence, on_gpu: bool) -> list[tuple[str, float]]:
    """The names and own times, in microseconds, of the kernels of the GPU among the profiler's averages, or of the operators on a CPU.

    An operator has the time of the kernels that it started as its own on the device, and so has a range of code that somebody named:
    either would be counted beside the kernels themselves. PyTorch's own table leaves both out of its sum, too.
    """
    if not on_gpu:
        return [(event.key, event.self_cpu_time_total) for event in events]
    kernels = [event for event in events if event.device_type.name != "CPU" and not getattr(event, "is_user_annotation", False)]
    return [(event.key, getattr(event, next(name for name in DEVICE_TIMES if hasattr(event, name)))) for event in kernels]
