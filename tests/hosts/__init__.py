"""Test hosts: namespaces of this machine that boot from user data as EC2's machines do.

Each has its own network, mount, PID and host-name namespace over a copy-on-write root in memory.
They stand on a bridge in a network namespace of their own, where `services` answers: moto behind
checks of signatures and policies, and a metadata service. systemd does not run inside: `manager`
is a stand-in for what the node's programs ask of it.
"""
