"""Self-supervised methods, one `nn.Module` each."""
