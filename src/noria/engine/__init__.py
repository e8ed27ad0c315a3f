"""The wheel: triggers become turns, turns run under a lease, rollouts are driven to their end."""
