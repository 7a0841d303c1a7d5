"""Kong at the ingress, without a database: a whole document rendered, handed over, and read back."""
