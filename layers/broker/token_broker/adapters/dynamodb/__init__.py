"""The stores over DynamoDB. Formats of keys and items are known here and nowhere else."""
