"""What training fits: probes per layer, the fused risk, calibration maps, the domain."""
