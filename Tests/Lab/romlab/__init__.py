"""Two real Xen hosts on one machine, for the tests of Romulus."""
