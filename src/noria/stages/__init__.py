"""The stages of the delivery line: each reads facts, asks a judge in `decide/`, records the verdict."""
