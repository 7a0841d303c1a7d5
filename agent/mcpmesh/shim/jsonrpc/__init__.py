"""JSON-RPC messages as bytes, and the lines that carry them."""
