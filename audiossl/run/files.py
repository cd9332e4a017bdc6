"""Names of the files in a run folder, in one place."""

CONFIG = "config.yaml"  # what the run was asked to do; resume, probe and featurize take it
METRICS = "metrics.jsonl"  # one JSON object a line: `kind` "step" or "epoch", `epoch`, `step`, numbers
ENVIRONMENT = "environment.txt"  # versions, device, commit
FEATURES = "features.npz"  # of all clips, while they are probed: `audiossl.run.stages`
SCORES = "scores.json"  # the final table: `audiossl.probes.table.ProbeTable`
VIEWS = "views.npz"  # pictures of a few clips and their views: `audiossl.run.pictures`
LINEAR_PROBE = "linear_probe"  # the classifier that fine-tuning begins with
CLASSIFICATION = "classification.json"  # of a fine-tuned classifier: `audiossl.run.conclude_classifier`
WORST = "worst_errors.npz"  # sounds that it named wrongly: `audiossl.run.classifier_page`
REPORT = "report.html"
MAP = "map.html"  # of the validation clips: `audiossl.map.of_run`
ENCODER = "encoder"  # what `load_model` opens
CLASSIFIER = "classifier"  # what `load_classifier` opens
CHECKPOINTS = "checkpoints"
FOLDS = "folds.json"  # of several runs, beside their folders: `audiossl.run.cross_validation`
NOT_FINITE = "not_finite"  # a folder for each step whose loss or gradient was not finite: `audiossl.run.not_finite`
BATCH = "batch.json"  # of such a step: places, losses and clips
AGAIN = "again.yaml"  # ... what `--config` takes to run it again
