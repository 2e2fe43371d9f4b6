"""Which errors are results, and which are bugs."""

import pytest
from speedgrid import outcomes
from speedgrid.schema import MEASURED, STATUSES


class OutOfMemoryError(RuntimeError):
    """Named like PyTorch's own, which the test environment does not have."""


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (MemoryError(), "oom"),
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"), "oom"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
            "oom",
        ),
        (ModuleNotFoundError("No module named 'bitsandbytes'", name="bitsandbytes"), "missing_dependency"),
        (RuntimeError("No available kernel. Aborting execution."), "unsupported"),
        (outcomes.Unsupported("no"), "unsupported"),
        (outcomes.Timeout("late"), "timeout"),
    ],
)
def test_expected_failures_get_a_status_and_a_reason_of_one_line(error, status):
    outcome = outcomes.expected(error)
    assert outcome.status == status
    assert str(outcome)
    assert "\n" not in str(outcome)
    assert status in STATUSES
    assert status not in MEASURED


def test_the_reason_of_an_oom_says_what_was_asked_for_and_leaves_the_advice_out():
    asked = "CUDA out of memory. Tried to allocate 596.05 GiB. GPU 0 has a total capacity of 139.80 GiB of which 27.16 GiB is free"
    advice = ". Including non-PyTorch memory, this process has 112.64 GiB memory in use. If reserved memory is large try something"
    assert str(outcomes.expected(OutOfMemoryError(asked + advice))) == asked


def raised_in(package: str, error: BaseException) -> BaseException:
    """The error as it comes out of a package."""
    place: dict = {"__name__": f"{package}.somewhere"}
    exec("def call(error): raise error", place)
    try:
        place["call"](error)
    except BaseException as caught:
        return caught


SDPA = (
    "GPTJForCausalLM does not support an attention implementation through torch.nn.functional.scaled_dot_product_attention yet."
    " Please request the support for this architecture: https://github.com/huggingface/transformers/issues/28005. If you believe"
)
REMOTE = (
    "The repository for /x contains custom code which must be executed to correctly load the model. You can inspect the repository content"
    " at https://hf.co/x.\nPlease pass the argument `trust_remote_code=True` to allow custom code to be run."
)
UNKNOWN = (
    "The checkpoint you are trying to load has model type `frob` but Transformers does not recognize this architecture. This could be"
    " because of an issue with the checkpoint, or because your version of Transformers is out of date.\n\nYou can update"
)
PIECES = (
    "\nT5Tokenizer requires the SentencePiece library but it was not found in your environment. Check out the instructions on the\n"
    "installation page of its repo"
)


@pytest.mark.parametrize(
    ("package", "error", "status", "reason"),
    [
        (
            "transformers",
            RuntimeError("expected scalar type Float but found BFloat16"),
            "unsupported",
            "the number format that was asked for",
        ),
        ("transformers", ValueError(SDPA), "unsupported", f"transformers: {SDPA.split('. Please')[0]}"),
        ("transformers", ValueError(REMOTE), "unsupported", "the study says `models.mine.trust_remote_code: true`"),
        ("transformers", ValueError(UNKNOWN), "unsupported", "model type `frob` but Transformers does not recognize this architecture"),
        ("transformers", ImportError(PIECES), "missing_dependency", "requires the SentencePiece library but it was not found"),
        ("transformers", ValueError("`tiktoken` is required to read a `tiktoken` file. Install it"), "missing_dependency", "`tiktoken` is"),
        ("vllm", ValueError("Model architectures ['X'] are not supported for now."), "unsupported", "vllm: Model architectures ['X'] are"),
        (
            "transformers",
            ValueError("Unknown quantization type, got fp8 - supported types are: ['awq']"),
            "unsupported",
            "type, got fp8 - ",
        ),
        (
            "transformers",
            ValueError("`get_seq_length` can only be called on Attention layers, and the cache has none."),
            "unsupported",
            "only be",
        ),
        ("gptqmodel", TypeError("x is not supported"), None, ""),
        ("transformers", ValueError("too many values to unpack"), None, ""),
        ("somewhere", ValueError("x is not supported"), None, ""),
        ("torch", NotImplementedError('"addmm_impl_cpu_" not implemented for "Half"'), "unsupported", "torch: "),
        ("torch", NotImplementedError(""), None, ""),
    ],
)
def test_what_a_library_says_that_it_cannot_do_is_its_reason(package, error, status, reason):
    outcome = outcomes.expected(raised_in(package, error), "mine")
    assert (outcome and outcome.status) == status
    assert outcome is None or (reason in str(outcome) and "\n" not in str(outcome))


def test_what_our_own_code_says_is_not_taken_for_a_librarys():
    """Ours is called back by a library: the error is ours."""
    place: dict = {"__name__": "speedgrid.engines.one"}
    exec("def call(error): raise error", place)
    back: dict = {"__name__": "transformers.trainer", "call": place["call"]}
    exec("def through(error): call(error)", back)
    with pytest.raises(ValueError, match="not supported") as caught:
        back["through"](ValueError("x is not supported"))
    assert outcomes.expected(caught.value) is None


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        RuntimeError("shape mismatch"),
        KeyError("x"),
        ModuleNotFoundError("no speedgrid.foo", name="speedgrid.foo"),
        AssertionError(),
    ],
)
def test_everything_else_is_a_bug(error):
    assert outcomes.expected(error) is None


def test_what_ran_out_of_memory_is_so_whatever_a_library_makes_of_it():
    failed = RuntimeError("The post-processing of the export failed.")
    assert outcomes.expected(failed) is None
    failed.__cause__ = ValueError("while reading")
    failed.__cause__.__cause__ = MemoryError()
    assert outcomes.expected(failed).status == "oom"
    assert [type(cause) for cause in outcomes.causes(failed)] == [ValueError, MemoryError]
    failed.__cause__ = failed
    assert list(outcomes.causes(failed)) == []
