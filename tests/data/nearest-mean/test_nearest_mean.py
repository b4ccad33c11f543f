from ascmodels.testing.trainers import TrainerContract


class TestNearestMean(TrainerContract):
    kind = "nearest_mean"
