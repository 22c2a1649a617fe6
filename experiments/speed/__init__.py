"""How fast does the study train, beside other loops and the machine's limit?

Question.   How many steps of runs per second does a sweep make, with and without measuring,
            against a bare JAX loop on the same devices, a Python loop around one jitted
            step, PyTorch, and the rate at which the machine multiplies such matrices?
Prediction. 100 runs of Adam on Digits (width 64): 16 times PyTorch (SGD: 8 times), 0.95 of
            the bare loop without metrics, 0.85 with every metric every 10 steps, 0.6 with
            every metric at every step, quantiles every 100 steps in both; half of the
            floor of products. Adam tracked every 10 steps: 0.95 of the same loop (width
            256, batches of 512).
Varied.     Four problems, 1 to 1,000 runs, no metrics, every 10 steps, every step. All of a
            row run alternately in one process after a warm-up that compiles; a ratio is
            the median over rounds, with the smallest and the largest. Nobody evaluates.
Cost.       A quarter to half an hour on two CPU cores; PyTorch where it is installed.

    python -m experiments.speed                        print
    python -m experiments.speed --publish              and write results/speed/speed.json
    python -m experiments.speed --runs 100 --problems "Digits 64"
"""
