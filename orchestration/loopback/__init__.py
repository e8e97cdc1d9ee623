"""An Azure ML workspace served on 127.0.0.1."""
