"""The head of a GGUF file, read without any package."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from speedgrid import gguf_header
from speedgrid.gguf_header import Damaged


def text(said: str) -> bytes:
    return struct.pack("<Q", len(said.encode())) + said.encode()


def file_of(fields: dict[str, tuple[int, bytes]], tensors: dict[str, tuple[tuple[int, ...], int]]) -> bytes:
    """A GGUF file without its weights: values as (kind, bytes), tensors as (shape, type)."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(fields))
    head += b"".join(text(name) + struct.pack("<I", kind) + raw for name, (kind, raw) in fields.items())
    for name, (shape, kind) in tensors.items():
        head += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", kind, 0)
    return head


LIST = struct.pack("<IQ", 8, 2) + text("a") + text("b")
WHOLE = file_of(
    {
        "general.architecture": (8, text("llama")),
        "llama.block_count": (4, struct.pack("<I", 30)),
        "tokenizer.ggml.tokens": (9, LIST),
        "llama.rope.freq_base": (6, struct.pack("<f", 10000)),
    },
    {"token_embd.weight": ((64, 100), 8), "blk.0.attn_q.weight": ((64, 64), 3), "output_norm.weight": ((64,), 0)},
)


def test_what_a_file_says_of_its_model(tmp_path):
    path = tmp_path / "a.gguf"
    path.write_bytes(WHOLE)
    found = gguf_header.read(path)
    assert found.fields == {
        "general.architecture": "llama",
        "llama.block_count": 30,
        "tokenizer.ggml.tokens": 2,
        "llama.rope.freq_base": 10000,
    }
    assert found.tensors == {"token_embd.weight": 6400, "blk.0.attn_q.weight": 4096, "output_norm.weight": 64}
    assert found.types == {"Q8_0": 6400, "Q4_1": 4096, "F32": 64}
    assert found.parameters == 6400 + 4096 + 64


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04", "does not begin as a GGUF file"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version, 1, is not known"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0), "or it is damaged"),
        (file_of({"x": (99, b"")}, {}), "unknown kind 99"),
        (file_of({"x": (8, struct.pack("<Q", 2**62))}, {}), "has a text of"),
        (file_of({"x": (9, struct.pack("<IQ", 0, 2**62))}, {}), "has a list of"),
    ],
)
def test_what_is_no_gguf_file_is_said(tmp_path, content, said):
    path = tmp_path / "a.gguf"
    path.write_bytes(content)
    with pytest.raises(Damaged, match=said):
        gguf_header.read(path)


@given(at=st.integers(0, len(WHOLE) - 1), other=st.integers(0, 255), end=st.integers(0, len(WHOLE)))
def test_a_damaged_head_is_read_to_its_end_or_refused_and_never_anything_else(tmp_path_factory, at, other, end):
    path = tmp_path_factory.mktemp("damaged") / "a.gguf"
    path.write_bytes((WHOLE[:at] + bytes([other]) + WHOLE[at + 1 :])[:end])
    try:
        assert gguf_header.read(path).parameters >= 0
    except Damaged as error:
        assert str(error)
