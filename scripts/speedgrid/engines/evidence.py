"""What PyTorch itself says of a reply: the kernels that ran, whether CUDA graphs were replayed, what was compiled and when."""

from collections import Counter
from collections.abc import Callable, Sequence

# The operators that SDPA may end in, as PyTorch's profiler names them. On a CPU the name of the first means a kernel for CPUs.
SDPA_OPERATORS = {
    "aten::_scaled_dot_product_flash_attention": "flash",
    "aten::_scaled_dot_product_flash_attention_for_cpu": "flash",
    "aten::_scaled_dot_product_efficient_attention": "efficient",
    "aten::_scaled_dot_product_cudnn_attention": "cudnn",
    "aten::_scaled_dot_product_attention_math": "math",
}
# The operators of the package flash-attn (since 2.7), which are not SDPA's.
FLASH_ATTN = "flash_attn::"
# How the profiler names the replay of a CUDA graph.
GRAPH_LAUNCHES = ("cudaGraphLaunch", "cuGraphLaunch")
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
    seen = {"sdpa_kernels": sdpa_kernels(calls), "top_kernels": top([(event.key, _own_time(event, on_gpu)) for event in events])}
    if flash_attn := sum(count for name, count in calls.items() if name.startswith(FLASH_ATTN)):
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


def top(times: Sequence[tuple[str, float]]) -> dict[str, str]:
    """The names that took most time, with their share of all time, such as {"aten::mm": "61 %"}; empty where none took any."""
    whole = sum(time for _, time in times)
    ranked = sorted(times, key=lambda pair: -pair[1])[:MOST]
    return {name[:NAME]: f"{100 * time / whole:.0f} %" for name, time in ranked if whole and time > 0}


class Compiled:
    """What torch.compile has made, looked at after each reply: whether it was still compiling when replies were counted."""

    def __init__(self):
        self.graphs: list[int] = []

    def look(self) -> None:
        """Note how many graphs there are by now; to be called after each reply."""
        from torch._dynamo.utils import counters

        self.graphs.append(counters["stats"]["unique_graphs"])

    def evidence(self, warmup_replies: int) -> dict:
        """`compiled_graphs`, `graph_breaks`, and `compiled_while_counting`: the graphs that came after the warm-up replies."""
        from torch._dynamo.utils import counters

        return {
            "compiled_graphs": counters["stats"]["unique_graphs"],
            "graph_breaks": sum(counters["graph_break"].values()),
            "compiled_while_counting": self.since(warmup_replies),
        }

    def since(self, replies: int) -> int:
        """The graphs that came after so many replies."""
        return self.graphs[-1] - (self.graphs[replies - 1] if replies else 0) if len(self.graphs) > replies else 0


def _own_time(event, on_gpu: bool) -> float:
    """Time of an event without what it called, in microseconds; PyTorch renamed that of the device in 2.4."""
    if not on_gpu:
        return event.self_cpu_time_total
    return event.self_device_time_total if hasattr(event, "self_device_time_total") else event.self_cuda_time_total
