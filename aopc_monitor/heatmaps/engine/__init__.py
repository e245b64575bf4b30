"""How rules reach the operations of a network: the op-level engine."""
