"""What commands print: tables, live views, results of tools, JSON."""
