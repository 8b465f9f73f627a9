"""The drivers: Nix, systemd, plain processes and what the host says of itself."""
