"""Images, codes and tokenizers: what the models are trained on."""
