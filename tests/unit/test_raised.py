"""Errors of other programs: texts as vLLM 0.10 to 0.32, PyTorch, CUDA, Triton and llama.cpp's converter print them."""

import pytest
from speedgrid.outcomes import Fault, MissingDependency, OutOfMemory, Unsupported
from speedgrid.raised import Raised

VLLM = "/usr/local/lib/python3.12/dist-packages/vllm"
TORCH = "/opt/envs/vllm/lib/python3.11/site-packages/torch"


def trace(file: str, code: str, error: str) -> str:
    """A log that ends with a traceback through vLLM to a line of code."""
    return (
        "EngineCore failed to start.\n"
        "Traceback (most recent call last):\n"
        f'  File "{VLLM}/v1/engine/core.py", line 709, in run_engine_core\n'
        "    engine_core = EngineCoreProc(*args, **kwargs)\n"
        "                  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n"
        f'  File "{file}", line 531, in a_function\n'
        f"    {code}\n"
        f"    {'^' * len(code)}\n"
        f"{error}\n"
    )


def outcome(file: str, code: str, error: str):
    found = Raised.last(trace(file, code, error))
    assert found is not None
    return found.outcome("vLLM", "load the model")


@pytest.mark.parametrize(
    ("file", "code", "error", "said"),
    [
        (
            f"{VLLM}/model_executor/models/glm4_moe.py",
            "param = params_dict[name_mapped]",
            "KeyError: 'layers.1.mlp.experts.w13_weight'",
            "KeyError: 'layers.1.mlp.experts.w13_weight'",
        ),
        (
            f"{TORCH}/cuda/__init__.py",
            "torch._C._cuda_synchronize()",
            "torch.AcceleratorError: CUDA error: an illegal memory access was encountered\n"
            "Search for `cudaErrorIllegalAddress' in https://docs.nvidia.com/cuda/cuda-runtime-api/ for more information.\n"
            "For debugging consider passing CUDA_LAUNCH_BLOCKING=1\n",
            "AcceleratorError: CUDA error: an illegal memory access was encountered",
        ),
        (
            f"{VLLM}/_custom_ops.py",
            "torch.ops._C.gptq_marlin_gemm(a, b)",
            "RuntimeError: CUDA error: operation not supported on global/shared address space",
            "CUDA error: operation not supported on global/shared address space",
        ),
        (f"{VLLM}/v1/core/kv_cache_utils.py", "assert len(groups) == 1", "AssertionError", "AssertionError: assert len(groups) == 1"),
        (f"{VLLM}/v1/worker/gpu_model_runner.py", "hidden = out.last_hidden", "AttributeError: 'NoneType' object has no attribute 'x'", ""),
        (f"{VLLM}/config/model.py", "raise NotImplementedError", "NotImplementedError", "NotImplementedError: raise NotImplementedError"),
        # A ValueError that Python raises, or one of a library that is asked for something odd, says nothing of what can be done.
        (f"{VLLM}/config/model.py", "major, minor = version.split('.')", "ValueError: too many values to unpack (expected 2)", "too many"),
        ("/usr/lib/python3.11/enum.py", "raise ve_exc", "ValueError: 'x' is not a valid CompilationMode", "is not a valid"),
        (f"{TORCH}/distributions/categorical.py", "raise ValueError(", "ValueError: Expected parameter probs (Tensor of shape (1, 4))", ""),
        (f"{VLLM}/env_override.py", "import vllm._C", "ModuleNotFoundError: No module named 'vllm._C'", "No module named 'vllm._C'"),
        (
            f"{VLLM}/env_override.py",
            "import vllm._C",
            f"ImportError: {VLLM}/_C.abi3.so: undefined symbol: _ZN3c104cuda9SetDeviceEab",
            "undefined symbol",
        ),
        (
            f"{VLLM}/config/vllm.py",
            "s.__pydantic_validator__.validate_python(ArgsKwargs(args, kwargs), self_instance=s)",
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig\nmax_num_seqs\n"
            "  Input should be a valid integer [type=int_type, input_value='a', input_type=str]\n",
            "ValidationError: 1 validation error for VllmConfig max_num_seqs Input should be a valid integer",
        ),
        (
            f"{VLLM}/v1/engine/core_client.py",
            "raise TimeoutError(",
            "TimeoutError: Timed out waiting for engine core processes to start",
            "",
        ),
        (f"{TORCH}/_inductor/codecache.py", "raise err", "torch._inductor.exc.InductorError: CppCompileError: C++ compile error", ""),
    ],
)
def test_what_nobody_meant_to_say_is_a_bug(file, code, error, said):
    found = outcome(file, code, error)
    assert type(found) is Fault, found
    assert str(found).startswith("vLLM cannot load the model: ")
    assert said in str(found)
    assert "\n" not in str(found)


@pytest.mark.parametrize(
    ("file", "code", "error", "said"),
    [
        (
            f"{VLLM}/model_executor/layers/quantization/auto_awq.py",
            "raise ValueError(",
            "ValueError: The input size is not aligned with the quantized weight shape."
            " This can be caused by too large tensor parallel size.",
            "vLLM cannot load the model: The input size is not aligned with the quantized weight shape."
            " This can be caused by too large tensor parallel size",
        ),
        (
            f"{VLLM}/model_executor/models/utils.py",
            "raise ValueError(msg)",
            "ValueError: There is no module or parameter named 'lm_head2' in LlamaForCausalLM",
            "vLLM cannot load the model: There is no module or parameter named 'lm_head2' in LlamaForCausalLM",
        ),
        (
            f"{VLLM}/platforms/cpu.py",
            'raise NotImplementedError("Sparse Attention is not supported on CPU.")',
            "NotImplementedError: Sparse Attention is not supported on CPU.",
            "vLLM cannot load the model: Sparse Attention is not supported on CPU",
        ),
        (
            f"{VLLM}/model_executor/layers/mamba/mamba_mixer.py",
            "assert num_heads % size == 0, 'only supported for whole groups'",
            "AssertionError: only supported for whole groups",
            "vLLM cannot load the model: AssertionError: only supported for whole groups",
        ),
        (
            f"{VLLM}/config/vllm.py",
            "s.__pydantic_validator__.validate_python(ArgsKwargs(args, kwargs), self_instance=s)",
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n"
            "  Value error, Model architectures ['RwkvForCausalLM'] are not supported for now. Supported architectures: dict_keys([])"
            " [type=value_error, input_value=ArgsKwargs((), {}), input_type=ArgsKwargs]\n    For further information visit https://x\n",
            "vLLM cannot load the model: Model architectures ['RwkvForCausalLM'] are not supported for now."
            " Supported architectures: dict_keys([])",
        ),
        (
            f"{VLLM}/_custom_ops.py",
            "return torch.ops._C.marlin_gemm(a, b)",
            "RuntimeError: size_n = 100 is not divisible by min_thread_n = 64",
            "vLLM cannot load the model: size_n = 100 is not divisible by min_thread_n = 64",
        ),
        (
            f"{TORCH}/_ops.py",
            "return self._op(*args, **kwargs)",
            "torch.AcceleratorError: CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors might ...\n",
            "vLLM cannot load the model: AcceleratorError: CUDA error: no kernel image is available for execution on the device",
        ),
        (
            "/opt/envs/vllm/lib/python3.11/site-packages/triton/compiler/compiler.py",
            "raise OutOfResources(self.metadata.shared, max_shared, 'shared memory')",
            "triton.runtime.errors.OutOfResources: out of resource: shared memory, Required: 114688, Hardware limit: 101376.",
            "vLLM cannot load the model: OutOfResources: out of resource: shared memory, Required: 114688, Hardware limit: 101376",
        ),
        (
            "/opt/envs/vllm/lib/python3.11/site-packages/transformers/models/auto/configuration_auto.py",
            "raise ValueError(",
            "ValueError: The checkpoint you are trying to load has model type `new_one` but Transformers does not recognize this"
            " architecture.",
            "vLLM cannot load the model: The checkpoint you are trying to load has model type `new_one` but Transformers does not recognize"
            " this architecture",
        ),
    ],
)
def test_what_a_program_says_that_it_does_not_do_is_unsupported(file, code, error, said):
    found = outcome(file, code, error)
    assert type(found) is Unsupported, found
    assert str(found) == said


@pytest.mark.parametrize(
    ("code", "error", "kind", "said"),
    [
        (
            "return torch.empty(size)",
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 15.70 GiB.",
            OutOfMemory,
            "vLLM: CUDA out of memory. Tried to allocate 2.00 GiB",
        ),
        ("raise ValueError(", "ValueError: No available memory for the cache blocks.", OutOfMemory, "vLLM: No available memory for"),
        ("raise RuntimeError(", "RuntimeError: CUDA out of memory occurred when warming up sampler with 256 requests", OutOfMemory, "CUDA"),
        ("data = bytearray(n)", "MemoryError", OutOfMemory, "vLLM: MemoryError"),
        ("import tilelang", "ModuleNotFoundError: No module named 'tilelang'", MissingDependency, "vLLM: No module named 'tilelang'"),
        (
            "raise ImportError(",
            "ImportError: tilelang is required for mhc but is not installed. Install it with `pip install tilelang`.",
            MissingDependency,
            "vLLM: tilelang is required for mhc but is not installed",
        ),
        (
            "raise ImportError(",
            "ImportError: gptqmodel requires optimum version `1.24.0` or higher to be installed.",
            MissingDependency,
            "vLLM: gptqmodel requires optimum version `1.24.0` or higher to be installed",
        ),
        (
            "raise RuntimeError(",
            "RuntimeError: Failed to find C compiler. Please specify via CC environment variable or set triton.knobs.build.impl.",
            MissingDependency,
            "vLLM: Failed to find C compiler",
        ),
    ],
)
def test_want_of_memory_and_of_packages(code, error, kind, said):
    found = outcome(f"{VLLM}/worker.py", code, error)
    assert type(found) is kind
    assert said in str(found)


def test_a_long_error_is_cut_to_a_line():
    text = str(outcome(f"{VLLM}/config.py", "raise ValueError(", f"ValueError: Supported: {'x, ' * 500}"))
    assert len(text) < 350
    assert text.endswith("…")


def test_the_outer_one_of_errors_within_errors():
    inner = trace(f"{VLLM}/a.py", "params[name]", "KeyError: 'layers.0'")
    chained = "\nThe above exception was the direct cause of the following exception:\n\n"
    found = Raised.last(inner + chained + trace(f"{VLLM}/b.py", "raise ValueError(", "ValueError: the checkpoint lacks layers.0"))
    assert (found.kind, found.code) == ("ValueError", "raise ValueError(")


def test_no_error_where_there_is_no_traceback():
    assert Raised.last("") is None
    assert Raised.last("ValueError: said without a traceback") is None


def test_an_error_without_words_takes_none_from_the_log_that_goes_on():
    found = Raised.last(trace(f"{VLLM}/a.py", "assert ready", "AssertionError") + "Writing: 0%\nINFO: done\n")
    assert (found.kind, found.text, found.code) == ("AssertionError", "", "assert ready")


def test_an_error_of_this_process_is_told_by_its_last_line_of_code():
    try:
        {}["layers.0"]
    except KeyError as error:
        found = Raised.of(error)
    assert (found.kind, found.text, found.code) == ("KeyError", "'layers.0'", '{}["layers.0"]')
    assert type(found.outcome("vLLM", "answer")) is Fault
