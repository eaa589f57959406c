"""What every option of `robustkit evolve` means, as its help says it."""

HELPS = {
    "reference": "R: a trained model, taken as it is (a .safetensors file, "
    "torchvision:NAME?weights=DEFAULT or FILE, a factory that returns a trained net), or an "
    "architecture, to be trained (a name in the zoo, torchvision:NAME, package.module:factory)",
    "surrogate": "net that takes no part in the penalty and attacks all others",
    "population": "candidates of a generation",
    "generations": "generations, the first, sampled one included",
    "strategy": "nsga2, mu_plus_lambda, ageing or random",
    "mode": "generational, or steady: no worker waits for a generation to end",
    "in_flight": "candidates under way in steady mode; none: as many as --workers",
    "halving": "of so many candidates one goes on to so many times more epochs, up to --epochs, in "
    "steady mode; as many epochs in all as without; none: all have --epochs",
    "inherit": "trials of the search start from weights of their parents; promoted candidates and "
    "finalists from scratch",
    "screen": "possible children, of which the one with the best forecast is tried; 1 leaves the "
    "strategy as published",
    "objectives": "NAME:max|min[:WEIGHT][>=BOUND|<=BOUND],... over accuracy, transfer, macs, "
    "params, cos_abs, grad_norm",
    "floor": "accuracy a candidate may lie below R's architecture at trial budget and still be "
    "feasible for the search",
    "tolerance": "accuracy that E may lie below its yardstick when it is chosen",
    "promote": "how many of each search are trained again at the finalists' budget before one is "
    "chosen; 0 chooses from the trials",
    "train_size": "training images of a trial, classes kept even; null: all",
    "epochs": "epochs of a trial",
    "final_epochs": "epochs of the reference, promoted candidates and finalists",
    "final_seeds": "trainings of every finalist",
    "test_size": "test images of the final comparison, classes kept even; null: all",
    "lam": "weight of the misalignment penalty",
    "phi": "square, abs, relu or logsumexp of the cosine",
    "grad_loss": "loss whose gradients are compared: ce or margin",
    "penalty_stats": "batch norm in the penalty's gradients: batch (cheap) or running (uncoupled)",
    "attack": "fgsm, pgd or mifgsm",
    "norm": "linf or l2",
    "eps": "radius of the attack, in units of images in [0,1]; fractions such as 8/255 are read",
    "attack_steps": "steps of the attack",
    "batch_size": "images of a training step",
    "bf16": "forward passes of trainings in bfloat16, for GPUs; R's gradients, attacks and scores "
    "stay in float32",
    "channels_last": "weights and batches of trainings in memory with channels innermost, for GPUs",
    "optimizer": "sgd or adam",
    "lr": "peak learning rate",
    "weight_decay": "weight decay",
    "augment": "none, flip, crop or crop_flip; as stored views, since R's gradients are",
    "views": "stored views of each image, the first being the image itself",
    "min_blocks": "fewest blocks with weights",
    "max_blocks": "most blocks",
    "max_params": "most parameters",
    "max_macs": "most multiply-accumulates per image; null: as many as R takes",
    "kinds": "kinds of blocks",
    "norms": "normalisations",
    "activations": "activations",
    "channels": "widths of blocks, ascending",
    "kernels": "kernel sizes, odd and ascending",
    "seed": "seed of everything",
}
