"""Uses of a trained model: evaluate, predict, translate, export, describe."""
