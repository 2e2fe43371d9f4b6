"""What is known of architectures by the `model_type` of a configuration, where the configuration itself does not say it; pure."""

# How many matrices the feed-forward part of each architecture has: up, gate and down, or up and down.
FEED_FORWARD = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3", "olmo2", "granite", "smollm3"), 3),
    **dict.fromkeys(("stablelm",), 3),
    **dict.fromkeys(("gpt2", "opt", "phi", "gpt_neox", "starcoder2"), 2),
}
# Those whose output head is their embedding unless the configuration says otherwise.
TIED_UNLESS_TOLD = ("gpt2", "opt", "gemma", "gemma2", "gemma3_text", "starcoder2")
