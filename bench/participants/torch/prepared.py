class Prepared:
    """What can be timed, by mode, and the results to be checked."""

    def __init__(self, run, results):
        self.run = run
        self.results = results
