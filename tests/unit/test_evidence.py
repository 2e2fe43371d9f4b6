"""What counts as engaged in the engine `transformers`, from what was seen of a reply."""

from types import SimpleNamespace
from urllib.error import URLError

import pytest
from speedgrid.engines import attention as attention_kernels
from speedgrid.engines import evidence, transformers
from speedgrid.engines.gptq import why_no_kernel
from speedgrid.engines.transformers import not_as_asked
from speedgrid.engines.vllm import not_as_asked as vllm_not_as_asked
from speedgrid.workloads import attention as attention_work

PROMPT = 24
SHORT = {"first_step_positions": PROMPT, "last_step_positions": 1, "cache": "DynamicCache", "sdpa_kernels": {}}
EAGER = {"attention": "eager", **SHORT}
SDPA = {**SHORT, "attention": "sdpa", "sdpa_kernels": {"flash": 16}}
PACKAGE = {**SHORT, "attention": "flash_attention_2"}


@pytest.mark.parametrize(
    ("seen", "options"),
    [
        (EAGER, {"attention": "eager"}),
        (SDPA, {"attention": "sdpa"}),
        (SDPA, {"attention": "sdpa", "sdpa_kernel": "flash"}),
        (EAGER | {"last_step_positions": PROMPT + 3, "cache": "none"}, {"attention": "eager", "use_cache": False}),
        (PACKAGE | {"flash_attn_calls": 64}, {"attention": "flash_attention_2"}),
        (SDPA | {"cache": "StaticCache"}, {"attention": "sdpa", "cache": "static"}),
        # Compiled code may hold attention that is no call of SDPA any more.
        ({"attention": "sdpa", "compiled_graphs": 1, "sdpa_kernels": {}}, {"attention": "sdpa", "compile": "static_cache"}),
        ({"attention": "sdpa", "passes": 9, "passes_with_guesses": 2}, {"attention": "sdpa", "prompt_lookup": 3}),
    ],
)
def test_what_was_asked_for_and_seen_is_engaged(seen, options):
    assert not_as_asked(seen, options, PROMPT) == ""


@pytest.mark.parametrize(
    ("seen", "options", "reason"),
    [
        (EAGER, {"attention": "sdpa"}, "asked for sdpa attention and got eager"),
        (SDPA | {"sdpa_kernels": {}}, {"attention": "sdpa"}, "SDPA was never called"),
        (SDPA | {"sdpa_kernels": {"math": 16}}, {"attention": "sdpa", "sdpa_kernel": "flash"}, "its kernel math, not flash alone"),
        (PACKAGE, {"attention": "flash_attention_2"}, "none of its operators ran"),
        (SDPA | {"sdpa_kernels": {"math": 1, "flash": 9}}, {"attention": "sdpa", "sdpa_kernel": "flash"}, "flash and math"),
        (EAGER | {"first_step_positions": 1}, {"attention": "eager"}, "the first step computed 1 of the prompt's 24 tokens"),
        (EAGER | {"last_step_positions": 27}, {"attention": "eager"}, "the last step computed 27 positions"),
        (EAGER, {"attention": "eager", "use_cache": False}, "the last step computed 1 positions"),
        (SDPA, {"attention": "sdpa", "cache": "static"}, "asked for a static cache and got DynamicCache"),
        (EAGER | {"compiled_graphs": 0}, {"attention": "eager", "compile": "module"}, "no compiled code ran"),
        ({"attention": "sdpa", "passes_with_guesses": 0}, {"attention": "sdpa", "prompt_lookup": 3}, "nothing could be guessed"),
        (EAGER | {"quantized_layers": {}}, {"attention": "eager"}, "no quantized layer was loaded"),
    ],
)
def test_what_was_asked_for_and_not_seen_is_told(seen, options, reason):
    assert reason in not_as_asked(seen, options, PROMPT)


@pytest.mark.parametrize("name", ["TORCHDYNAMO_DISABLE", "TORCH_COMPILE_DISABLE"])
def test_a_variable_that_keeps_torch_compile_from_compiling_is_the_reason(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    said = f"{name}=1 is set in the environment"
    assert evidence.not_compiled({"compiled_graphs": 0}) == f"no compiled code ran: {said}"
    assert not_as_asked(EAGER | {"compiled_graphs": 0}, {"attention": "eager"}, PROMPT) == f"no compiled code ran: {said}"
    # With another value than 1 PyTorch compiles.
    assert evidence.not_compiled({"compiled_graphs": 2}) == ""
    vllm = {"layers": {}, "prefix_caching": False, "cached_prompt_tokens": 0, "enforce_eager": False, "cuda_graphs": "NONE"}
    assert said in vllm_not_as_asked(vllm, "", False, False)
    assert vllm_not_as_asked(vllm | {"enforce_eager": True}, "", True, False) == ""
    monkeypatch.setenv(name, "0")
    assert vllm_not_as_asked(vllm, "", False, False) == ""


def test_graphs_that_a_variable_hands_to_another_backend_are_not_what_was_asked_for(monkeypatch):
    monkeypatch.setenv("TORCH_COMPILE_OVERRIDE_BACKENDS", ">=0:eager")
    assert evidence.not_compiled({"compiled_graphs": 2}) == "TORCH_COMPILE_OVERRIDE_BACKENDS=>=0:eager is set in the environment"


@pytest.mark.parametrize("options", [{"attention": "flex_attention"}, {"attention": "eager", "compile": "module"}, {"attention": "eager"}])
def test_a_kernel_that_torch_compile_makes_is_engaged_where_it_compiled_one(monkeypatch, options):
    monkeypatch.setattr(evidence, "profiled", lambda run, on_gpu: {"sdpa_kernels": {}})
    kernel = attention_kernels.Engine.__new__(attention_kernels.Engine)
    kernel.options, kernel.device = options, SimpleNamespace(is_gpu=False)
    work = SimpleNamespace(engine=kernel, errors={}, run=lambda: None)
    for graphs in (0, 2):
        monkeypatch.setattr(evidence, "compiled", lambda graphs=graphs: {"compiled_graphs": graphs})
        assert attention_work.Work.prove(work).engaged == (graphs > 0 or options == {"attention": "eager"})


def test_where_nothing_was_compiled_and_no_variable_says_why_what_ran_is_told():
    assert evidence.not_compiled({"compiled_graphs": 0}) == "no compiled code ran"
    assert evidence.not_compiled({"compiled_graphs": 0}, "the module") == "no compiled code ran: the module"
    assert evidence.not_compiled({"compiled_graphs": 1}, "the module") == ""


def test_a_kernel_of_gptqmodel_that_could_not_be_built_says_what_it_lacked_and_what_needs_no_compiler():
    # As GPT-QModel 7.6.0 said it on an H200 whose nvcc had been killed.
    error = ModuleNotFoundError(
        "Marlin torch.ops kernels are not properly installed. Error: Marlin bf16: failed to build torch.ops JIT extension: Error building"
        " extension 'gptqmodel_marlin_bf16_ops': [1/11] /opt/gcc/bin/g++ -MMD -MF marlin_torch_bf16.o.d"
    )
    reason = why_no_kernel(error, "NVIDIA H200", "awq")
    assert "could not build its kernel Marlin for NVIDIA H200" in reason
    assert "nvcc" in reason
    assert "kernel: awq_torch" in reason
    assert "/opt/gcc" not in reason


def test_a_kernel_of_gptqmodel_whose_sources_cannot_be_downloaded_says_where_to_put_them():
    reason = why_no_kernel(URLError("no route to host"), "NVIDIA H200", "gptq")
    assert "no route to host" in reason
    assert "GPTQMODEL_CUTLASS_DIR" in reason
    assert "gptq_marlin" in reason


@pytest.mark.parametrize(
    ("said", "told"),
    [
        # As GPT-QModel 7.6.0 says it.
        (
            "Machete: GPTQMODEL_CUTLASS_DIR is authoritative and must point to a read-only, compatible CUTLASS v4.7.1 checkout: Machete: "
            "CUTLASS checkout `/opt/cutlass` is incomplete; GPTQModel requires CUTLASS v4.7.1.",
            "must point to a read-only, compatible CUTLASS v4.7.1 checkout",
        ),
        (
            "Machete: GPTQMODEL_OFFLINE=1 and no verified CUTLASS v4.7.1 source cache is available; archive `a` is missing.",
            "GPTQMODEL_OFFLINE=1",
        ),
    ],
)
def test_a_copy_of_the_sources_that_gptqmodel_does_not_take_is_told_in_its_words(said, told):
    reason = why_no_kernel(RuntimeError(said), "NVIDIA H200", "gptq")
    assert told in reason
    assert "gptq_marlin" in reason
    assert why_no_kernel(RuntimeError("CUDA error: an illegal memory access was encountered"), "NVIDIA H200", "gptq") == ""


@pytest.mark.parametrize(
    ("calls", "count"),
    [
        ({"aten::mm": 9, "aten::_scaled_dot_product_flash_attention": 16}, 0),
        # flash-attn 2.5 has no operators yet, and 2.7 has both.
        ({"FlashAttnFunc": 64, "aten::mm": 9}, 64),
        ({"FlashAttnFunc": 64, "flash_attn::_flash_attn_forward": 64}, 64),
        ({"flash_attn::_flash_attn_forward": 60, "flash_attn::_flash_attn_varlen_forward": 4}, 64),
    ],
)
def test_calls_of_the_package_flash_attn_are_counted_once(calls, count):
    assert evidence.flash_attn_calls(calls) == count


def averages(name, device, microseconds, *, old=False, **more):
    """What PyTorch's profiler says of a kernel or an operator, by the names of PyTorch before 2.4 or since."""
    times = {"self_cpu_time_total": 7.0, "self_cuda_time_total" if old else "self_device_time_total": microseconds}
    return SimpleNamespace(key=name, device_type=SimpleNamespace(name=device), **times, **more)


@pytest.mark.parametrize("old", [False, True])
def test_time_on_a_gpu_is_that_of_its_kernels_and_not_also_of_the_operators_that_started_them(old):
    events = [
        averages("aten::mm", "CPU", 30.0, old=old),
        averages("gemm", "CUDA", 30.0, old=old),
        averages("softmax", "CUDA", 10.0, old=old, is_user_annotation=False),
        averages("a part of the model", "CUDA", 40.0, old=old, is_user_annotation=True),
    ]
    assert evidence.top(evidence.own_times(events, on_gpu=True)) == {"gemm": "75 %", "softmax": "25 %"}
    assert ("aten::mm", 7.0) in evidence.own_times(events, on_gpu=False)


def test_another_missing_module_is_not_taken_for_a_kernel():
    assert why_no_kernel(ModuleNotFoundError("No module named 'flash_attn'", name="flash_attn"), "NVIDIA H200", "gptq") == ""


def test_the_kernels_of_sdpa_are_told_from_all_operators():
    calls = {"aten::_scaled_dot_product_flash_attention_for_cpu": 3, "aten::_scaled_dot_product_flash_attention": 2, "aten::mm": 50}
    assert evidence.sdpa_kernels(calls) == {"flash": 5}
    assert evidence.sdpa_kernels({"aten::mm": 50}) == {}


def test_kernels_are_ranked_by_their_time():
    times = [("a" * 200, 10.0), ("b", 60.0), ("c", 0.0), ("d", 30.0)]
    assert list(evidence.top(times).items()) == [("b", "60 %"), ("d", "30 %"), ("a" * evidence.NAME, "10 %")]
    assert evidence.top([("a", 0.0)]) == {}
    assert len(evidence.top([(str(i), 1.0) for i in range(20)])) == evidence.MOST


@pytest.mark.parametrize(("graphs", "tokens"), [(0, 4), (2, 128)])
def test_only_a_reply_that_was_compiled_is_watched_whole(monkeypatch, graphs, tokens):
    # Another length would be compiled anew. On an H200 the profiler took 53 s for the kernels of 128 tokens that nothing had compiled.
    asked = []
    monkeypatch.setattr(evidence, "profiled", lambda run, on_gpu: run() or {"sdpa_kernels": {}})
    engine = transformers.Engine.__new__(transformers.Engine)
    weight = SimpleNamespace(dtype="torch.bfloat16", is_floating_point=lambda: True)
    engine.model = SimpleNamespace(config=SimpleNamespace(_attn_implementation="eager"), parameters=lambda: iter([weight]))
    engine.method, engine.options, engine.device = None, {"attention": "eager", "compile": "module"}, SimpleNamespace(is_gpu=True)
    seen = {"compiled_graphs": graphs, "graph_breaks": 0, "functions_given_up": 0, "compiled_while_counting": 0}
    engine.compilation = SimpleNamespace(evidence=lambda warmups: dict(seen))
    engine.generate = lambda prompt, settings, number: asked.append(settings["max_new_tokens"])
    proof = engine.prove(range(16), {"warmup_replies": 3, "max_new_tokens": 128, "ignore_eos": True})
    assert asked == [tokens]
    assert proof.engaged == (graphs > 0)


def test_compilation_after_the_warm_up_is_counted():
    watched = evidence.Compiled()
    watched.graphs = [3, 3, 5, 5]
    assert [watched.since(replies) for replies in (0, 2, 3, 4)] == [5, 2, 0, 0]
