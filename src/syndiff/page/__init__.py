"""Self-contained HTML pages: templates, and pictures inside them."""
