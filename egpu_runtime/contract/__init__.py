"""What every later stage may rely on: the names of the outside world and the manners of a process."""
