"""Flight delays: will a flight arrive more than 15 minutes late? Known before departure."""
