"""Run a search: strategies, scheduler and trials over an executor."""
