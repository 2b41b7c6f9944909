"""`make rehearse`: the built stack is deployed to an emulator of AWS by `make deploy`'s own script, and then used.

`rehearsal.py` is the script of steps. `adaptations.py` lists all that differs from a deployment to AWS.
"""
