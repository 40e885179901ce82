"""What the documentation quotes about vLLM, measured. Every script prints its result last, as JSON.

``python3 -m benchmarks.vllm_gpu --help`` runs them; each part can be left out or made small.
"""
