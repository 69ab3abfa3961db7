"""A provider's own figures beside the ledger's: exports read, days and models compared, differences explained."""
