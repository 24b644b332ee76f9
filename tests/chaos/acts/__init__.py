"""What is done to the system in each case: a module a kind of fault, a function a case."""
