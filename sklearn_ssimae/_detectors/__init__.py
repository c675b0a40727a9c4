"""The estimators: what scikit-learn and users see, and the course of a fit."""
