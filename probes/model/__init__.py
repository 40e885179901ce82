"""What training leaves and serving loads: probe, risk, certificate, policy, bundle."""
