"""What watches a host of the stack and serves whoever is on call: watchdog, status, doctor and the command `senex`. Standard library only."""
