"""TrainingService: trainings, tunings and turns of the loop, and what becomes of their results."""
