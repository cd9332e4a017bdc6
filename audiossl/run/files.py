"""Names of the files in a run folder, in one place."""

CONFIG = "config.yaml"  # what the run was asked to do; resume, probe and featurize take it
METRICS = "metrics.jsonl"  # one JSON object a line: `kind` "step" or "epoch", `epoch`, `step`, numbers
ENVIRONMENT = "environment.txt"  # versions, device, commit
FEATURES = "features.npz"  # of all clips, while they are probed: `audiossl.run.stages`
SCORES = "scores.json"  # the final table: `audiossl.run.report.Scores`
VIEWS = "views.npz"  # pictures of a few clips and their views: `audiossl.run.pictures`
REPORT = "report.html"
ENCODER = "encoder"  # what `load_model` opens
CHECKPOINTS = "checkpoints"
