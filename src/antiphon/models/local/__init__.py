"""Models in folders of this machine, run here by `onnxruntime`: embedding and reranking without a host."""
