"""What a technique costs in quality: tasks of lm-evaluation-harness, the distance to the unmodified model, and paired tests."""
