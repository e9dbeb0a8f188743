"""iMuJoCo: Gymnasium's hopper, half cheetah and walker with one part altered."""
