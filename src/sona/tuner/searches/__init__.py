"""How nearest-neighbour searches run: what each way finds, as checks show it, and which one is quickest enough."""
