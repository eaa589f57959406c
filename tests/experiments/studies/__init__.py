"""The reproductions: their rules on figures made up, and every one of them as a rehearsal."""
