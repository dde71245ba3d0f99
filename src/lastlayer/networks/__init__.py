"""f = f_L ∘ … ∘ f_1: networks whose last layer is the linear classifier."""
