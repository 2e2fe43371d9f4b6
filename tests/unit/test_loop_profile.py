"""What tests/benchmarks/loop_profile.py reads from a trace."""

import loop_profile
import pytest


def trace(steps: int) -> list[dict]:
    """Steps of 100 µs: a product of 40 µs, attention of 10 µs that begins 2 µs later on its own, a norm of 6 µs beside its end, a copy."""
    events: list[dict] = [
        {"ph": "M", "name": "process_name"},
        {"ph": "X", "cat": "kernel", "name": "prefill_gemm", "ts": 0.0, "dur": 50.0, "args": {"correlation": 1}},
    ]
    for number in range(steps):
        at, call = 1000.0 + 100 * number, 10 + number
        events += [
            # Not in the order of time, as on several streams.
            {"ph": "X", "cat": "gpu_memcpy", "name": "Memcpy DtoD", "ts": at + 70, "dur": 5.0, "args": {"correlation": 1000 + number}},
            {"ph": "X", "cat": "kernel", "name": "nvjet_tst_64x8", "ts": at, "dur": 40.0, "args": {"correlation": call}},
            {"ph": "X", "cat": "kernel", "name": "flash_fwd_splitkv", "ts": at + 42, "dur": 10.0, "args": {"correlation": call}},
            {"ph": "X", "cat": "kernel", "name": "triton_red_fused_rms", "ts": at + 48, "dur": 6.0, "args": {"correlation": call}},
            {"ph": "X", "cat": "cuda_runtime", "name": "cudaGraphLaunch", "ts": at - 200, "dur": 3.0, "args": {"correlation": call}},
        ]
    return events


def test_a_step_reaches_from_a_replay_to_the_next():
    found = loop_profile.steps(trace(10), 10)
    # Neither the first, after the prompt, nor the last, which nothing ends.
    assert len(found) == 8
    assert [kernel.name for kernel in found[0]] == ["nvjet_tst_64x8", "flash_fwd_splitkv", "triton_red_fused_rms", "Memcpy DtoD"]


def test_the_parts_of_a_step():
    found = loop_profile.steps(trace(10), 10)
    parts = loop_profile.accounting(found, weights_us=30.0)
    assert parts == {
        "step": 100.0,
        "weights at the speed of a copy": 30.0,
        "products slower than that": 10.0,
        "attention": 10.0,
        "other kernels": 7.0,
        # 2 before attention, 16 before the copy; the norm ends 2 µs after attention, and its 4 µs beside it count as attention's
        "between kernels of a step": 18.0,
        "between steps": 25.0,
    }
    assert sum(parts.values()) == 2 * parts["step"]
    assert loop_profile.by_name(found)[0] == ("products", "nvjet_tst_64x8", 1.0, 40.0)


def test_a_step_of_two_graphs_is_one_step():
    found = loop_profile.steps(trace(10), 5)
    assert [len(step) for step in found] == [8, 8, 8]
    with pytest.raises(ValueError, match="10 replays of CUDA graphs with kernels in 4 steps"):
        loop_profile.steps(trace(10), 4)


def test_events_without_args_and_other_names_of_a_replay_are_read():
    events = [{**event, "name": event["name"].replace("cudaGraphLaunch", "cudaGraphLaunch_v10000")} for event in trace(10)]
    events += [{"ph": "X", "cat": "kernel", "name": "stray", "ts": 1.0, "args": None}, {"ph": "X", "name": "cudaGraphLaunch"}]
    assert len(loop_profile.steps(events, 10)) == 8


def test_a_trace_without_replays_is_refused():
    with pytest.raises(ValueError, match="2 replays"):
        loop_profile.steps(trace(2), 2)


def test_of_the_least_steps_one_is_accounted_for_and_of_fewer_none():
    """Fewer ended in a division by zero, after the reply had been profiled."""
    assert loop_profile.accounting(loop_profile.steps(trace(4), 4), weights_us=30.0)["step"] == 100.0
    with pytest.raises(ValueError, match="3 replays of CUDA graphs with kernels; 4 are the least"):
        loop_profile.steps(trace(3), 3)


def test_a_reply_that_is_too_short_is_refused_before_anything_runs(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["loop_profile.py", "checkpoint", "--new-tokens", "4"])
    with pytest.raises(SystemExit):
        loop_profile.main()
    assert "--new-tokens takes a number from 5 on" in capsys.readouterr().err


def test_kernels_are_told_apart_by_their_names():
    kinds = {
        "void gemvx::kernel<int, int, __nv_bfloat16>": "products",
        "triton_tem_fused_mm_3": "products",
        "triton_red_fused__to_copy_add_mean_mul_pow_rsqrt_0": "other kernels",
        "triton_poi_fused_mul_silu_4": "other kernels",
        "fmha_cutlassF_bf16_aligned_64x64_rf_sm80": "attention",
        "Memcpy DtoH (Device -> Pinned)": "other kernels",
    }
    assert {name: loop_profile.Kernel(name, 0, 1, None).kind for name in kinds} == kinds
