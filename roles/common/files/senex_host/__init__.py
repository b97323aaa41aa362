"""What the programs on a host share: backup, pitr, the watchdog and the command senex. Root's, installed once, standard library alone.

A run limited by tags brings this library up to date and leaves programs of an earlier version beside it. So a function stays as it is called, and a constant
where it is: arguments are added with a default, and what nobody needs any more goes a version after its last user.
"""
