"""Evaluation suites: which models, datasets and measurements; run once, cached, collected into `EvalResults`.

spec           records of a suite: models, datasets, a table per measurement
suite_file     TOML -> spec
datasets       corpus -> utterances to score
runner         what all measurements share: systems, datasets, cached results, failures
measurements   error rates, latency, memory, speculative decoding, results of other commands
run_suite      all measurements of a suite -> `EvalResults`
ablation       rows of an ablation table
"""
