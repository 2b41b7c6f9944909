"""The command line `token-broker`, for those who answer for the broker; needs the package's extra `cli`.

It knows the broker by its HTTP interface, and beside it Secrets Manager, CloudFormation and what `doctor` looks at, by
boto3. A secret or a leaked token comes from a hidden prompt or standard input, never from the command line.
"""
