"""Kong as the ingress, without a database: a whole document is rendered, posted, and read back."""
