"""What a study has tried: the ledger, its records, warm start and samplers."""
