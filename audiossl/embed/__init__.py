"""From recordings to rows of embeddings: what is named, cut, decoded, embedded and written, one topic a file."""
