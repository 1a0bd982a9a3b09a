"""What users read: summaries as tables.

Nothing here measures or computes: the numbers come from `mnistbench.summary`.
"""
